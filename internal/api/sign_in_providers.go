package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// GroupRole says which role a group of a provider stands for.
type GroupRole struct {
	Group string `json:"group" minLength:"1" maxLength:"300"`
	Role  string `json:"role" minLength:"1" maxLength:"64"`
}

// SignInProvider is an OpenID Connect provider through which people sign in to an
// organisation.
type SignInProvider struct {
	Name         string      `json:"name"`
	Issuer       string      `json:"issuer"`
	ClientID     string      `json:"client_id"`
	HasSecret    bool        `json:"has_secret"`
	Scopes       []string    `json:"scopes"`
	GroupsClaim  string      `json:"groups_claim"`
	Roles        []GroupRole `json:"roles"`
	SecondFactor []string    `json:"second_factor"`
	Days         int         `json:"days"`
	Disabled     bool        `json:"disabled"`
	Created      time.Time   `json:"created"`
	Changed      time.Time   `json:"changed"`
}

func signInProvider(p registry.SignInProvider) SignInProvider {
	x := SignInProvider{Name: p.Name, Issuer: p.Issuer, ClientID: p.ClientID, HasSecret: p.HasSecret(), Scopes: orNone(p.Scopes), GroupsClaim: p.GroupsClaim,
		SecondFactor: orNone(p.SecondFactor), Days: p.Days, Disabled: p.Disabled, Created: utc(p.Created), Changed: utc(p.Changed), Roles: []GroupRole{}}
	for _, g := range p.Roles {
		x.Roles = append(x.Roles, GroupRole(g))
	}
	return x
}

func orNone(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (s *server) listSignInProviders(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[SignInProvider]], error) {
	all, err := s.registry.SignInProviders(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all, "", signInProvider), nil
}

type InSignInProvider struct {
	InOrg
	Name string `path:"name" minLength:"1" maxLength:"36" doc:"The provider's name, which people see."`
}

// SignInSettings are what a provider is made of beside its name.
type SignInSettings struct {
	Issuer       string      `json:"issuer" minLength:"1" maxLength:"500" doc:"Its URL, https, as its tokens have it in iss."`
	ClientID     string      `json:"client_id" minLength:"1" maxLength:"500" doc:"As which we are registered there, with the redirect URI https://HOST/sign-in/callback."`
	Secret       string      `json:"secret,omitempty" maxLength:"1000" doc:"Of that client; it is sealed and never shown. Absent: as it is."`
	Scopes       []string    `json:"scopes,omitempty" maxItems:"20" doc:"Asked for beside openid, as profile or groups."`
	GroupsClaim  string      `json:"groups_claim,omitempty" maxLength:"200" doc:"The claim, of the ID token or else of the user info, that lists somebody's groups; groups unless given."`
	Roles        []GroupRole `json:"roles" minItems:"1" maxItems:"50" doc:"Which role each group stands for; of several the first that somebody is in counts. Without one nobody comes in."`
	SecondFactor []string    `json:"second_factor,omitempty" maxItems:"20" doc:"What of the provider's amr or acr counts as a second factor here, as mfa or hwk. Without any, people prove one here where the organisation asks for it."`
	Days         int         `json:"days,omitempty" minimum:"1" maximum:"90" default:"30" doc:"For how long after a sign-in a membership, and with it the API keys of its person, holds."`
	Disabled     bool        `json:"disabled,omitempty"`
}

func (s *server) putSignInProvider(ctx context.Context, actor registry.Actor, in *struct {
	InSignInProvider
	Body SignInSettings
}) (*body[SignInProvider], error) {
	b := in.Body
	p := registry.SignInProvider{Org: in.org(), Name: in.Name, Issuer: b.Issuer, ClientID: b.ClientID, Scopes: b.Scopes, GroupsClaim: b.GroupsClaim,
		SecondFactor: b.SecondFactor, Days: b.Days, Disabled: b.Disabled}
	for _, g := range b.Roles {
		p.Roles = append(p.Roles, registry.GroupRole(g))
	}
	p, err := s.registry.PutSignInProvider(ctx, actor, p, secret.New(b.Secret))
	if err != nil {
		return nil, err
	}
	return &body[SignInProvider]{Body: signInProvider(p)}, nil
}

func (s *server) deleteSignInProvider(ctx context.Context, actor registry.Actor, in *InSignInProvider) error {
	return s.registry.DeleteSignInProvider(ctx, actor, in.org(), in.Name)
}
