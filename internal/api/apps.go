package api

import (
	"context"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// App is an API key as the API shows it.
type App struct {
	Key      string    `json:"key" doc:"The user name of the application, at MQTT and here."`
	Name     string    `json:"name,omitempty"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
}

func app(a registry.Application) App {
	return App{Key: a.Key, Name: a.Name, Disabled: a.Disabled, Created: utc(a.Created)}
}

// AppWithToken is an API key together with its new token.
type AppWithToken struct {
	App
	Token string `json:"token" doc:"Shown this once; the server keeps a hash only."`
}

type InApp struct {
	InOrg
	Key string `path:"key" minLength:"1" maxLength:"64" doc:"The API key."`
}

func (s *server) listApps(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
}) (*body[list[App]], error) {
	apps, next, err := s.registry.Applications(ctx, actor, in.org(), in.page())
	if err != nil {
		return nil, err
	}
	return newList(apps, next, app), nil
}

// NewApp is what an API key is created from.
type NewApp struct {
	Name string `json:"name,omitempty" maxLength:"200" doc:"What the key is for."`
}

func (s *server) createApp(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewApp
}) (*created[AppWithToken], error) {
	a, token, err := s.registry.CreateApplication(ctx, actor, registry.Application{Org: in.org(), Name: in.Body.Name})
	if err != nil {
		return nil, err
	}
	return &created[AppWithToken]{
		Location: base + "/orgs/" + in.Org + "/apps/" + url.PathEscape(a.Key),
		Body:     AppWithToken{App: app(a), Token: token.Reveal()},
	}, nil
}

func (s *server) getApp(ctx context.Context, actor registry.Actor, in *InApp) (*body[App], error) {
	a, err := s.registry.Application(ctx, actor, in.org(), in.Key)
	if err != nil {
		return nil, err
	}
	return &body[App]{Body: app(a)}, nil
}

func (s *server) updateApp(ctx context.Context, actor registry.Actor, in *struct {
	InApp
	Body disable
}) (*body[App], error) {
	if err := s.registry.SetApplicationDisabled(ctx, actor, in.org(), in.Key, in.Body.Disabled); err != nil {
		return nil, err
	}
	return s.getApp(ctx, actor, &in.InApp)
}

func (s *server) deleteApp(ctx context.Context, actor registry.Actor, in *InApp) error {
	return s.registry.DeleteApplication(ctx, actor, in.org(), in.Key)
}

func (s *server) rotateAppToken(ctx context.Context, actor registry.Actor, in *InApp) (*body[Token], error) {
	token, err := s.registry.RotateApplicationToken(ctx, actor, in.org(), in.Key)
	if err != nil {
		return nil, err
	}
	return &body[Token]{Body: Token{Token: token.Reveal()}}, nil
}
