package api

import (
	"context"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/registry"
)

// App is an API key as the API shows it.
type App struct {
	Key      string    `json:"key" doc:"The user name of the application, at MQTT and here."`
	Name     string    `json:"name,omitempty"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	AppRights
	Maker string `json:"maker,omitempty" doc:"The person or API key that stands behind it: it never may do more than that one. Absent: KeepMQ itself."`
}

// AppRights are what an API key may do.
type AppRights struct {
	Role        string   `json:"role" minLength:"1" maxLength:"36" doc:"What it may do at most: a role of the organisation."`
	Permissions []string `json:"permissions,omitempty" maxItems:"64" doc:"No more than these of the role; absent: all of it."`
	Limited     bool     `json:"limited,omitempty" doc:"With the devices of groups only."`
	Groups      []string `json:"groups,omitempty" maxItems:"10" doc:"Resource groups. Not in lists."`
}

func (r AppRights) of(a registry.Application) registry.Application {
	a.Role, a.Permissions, a.Limited, a.Groups = r.Role, r.Permissions, r.Limited, r.Groups
	return a
}

func app(a registry.Application) App {
	x := App{Key: a.Key, Name: a.Name, Disabled: a.Disabled, Created: utc(a.Created),
		AppRights: AppRights{Role: a.Role, Permissions: a.Permissions, Limited: a.Limited, Groups: a.Groups}}
	if a.Maker.Kind != auth.System {
		x.Maker = a.Maker.Kind.String() + ":" + a.Maker.ID
	}
	return x
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
	Name        string   `json:"name,omitempty" maxLength:"200" doc:"What the key is for."`
	Role        string   `json:"role,omitempty" maxLength:"36" doc:"What it may do at most: a role of the organisation. Absent: that of its service account, or else PD_STANDARD_APP. Nobody gives more rights than they have."`
	Permissions []string `json:"permissions,omitempty" maxItems:"64" doc:"No more than these of the role; absent: all of it."`
	Limited     bool     `json:"limited,omitempty" doc:"With the devices of groups only."`
	Groups      []string `json:"groups,omitempty" maxItems:"10" doc:"Resource groups."`

	Service string     `json:"service,omitempty" maxLength:"36" doc:"The service account that stands behind it, instead of the caller."`
	Expires *time.Time `json:"expires,omitempty" doc:"When its token ends; absent: never."`
}

func (x NewApp) of(org auth.OrgID) registry.Application {
	a := registry.Application{Org: org, Name: x.Name, Role: x.Role, Permissions: x.Permissions, Limited: x.Limited, Groups: x.Groups}
	if x.Service != "" {
		a.Maker = auth.Principal{Org: org, Kind: auth.Service, ID: x.Service}
	}
	if x.Expires != nil {
		a.Expires = *x.Expires
	}
	return a
}

func (s *server) createApp(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewApp
}) (*created[AppWithToken], error) {
	a, token, err := s.registry.CreateApplication(ctx, actor, in.Body.of(in.org()))
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

// AppChange is what to change of an API key; what is left out stays.
type AppChange struct {
	Disabled *bool      `json:"disabled,omitempty" doc:"Disabled: connections are closed at once and new ones refused, also those of API keys that were made with it."`
	Rights   *AppRights `json:"rights,omitempty" doc:"What it may do, instead of the present rights. The caller stands behind it then."`
}

func (s *server) updateApp(ctx context.Context, actor registry.Actor, in *struct {
	InApp
	Body AppChange
}) (*body[App], error) {
	if in.Body.Rights != nil {
		if err := s.registry.SetApplicationRights(ctx, actor, in.Body.Rights.of(registry.Application{Org: in.org(), Key: in.Key})); err != nil {
			return nil, err
		}
	}
	if in.Body.Disabled != nil {
		if err := s.registry.SetApplicationDisabled(ctx, actor, in.org(), in.Key, *in.Body.Disabled); err != nil {
			return nil, err
		}
	}
	return s.getApp(ctx, actor, &in.InApp)
}

func (s *server) deleteApp(ctx context.Context, actor registry.Actor, in *InApp) error {
	return s.registry.DeleteApplication(ctx, actor, in.org(), in.Key)
}

func (s *server) rotateAppToken(ctx context.Context, actor registry.Actor, in *struct {
	InApp
	Body *Rotation
}) (*body[Token], error) {
	token, err := s.registry.RotateToken(ctx, actor, in.who(), in.Body.of())
	if err != nil {
		return nil, err
	}
	return &body[Token]{Body: Token{Token: token.Reveal()}}, nil
}
