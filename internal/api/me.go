package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// Me is who the caller is.
type Me struct {
	Kind  string `json:"kind" enum:"person,application"`
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Org   string `json:"org,omitempty" doc:"The only organisation the caller may act in; absent: all of them."`
	Admin bool   `json:"admin" doc:"An administrator of the installation."`
	Email string `json:"email,omitempty" doc:"With which the person signs in."`

	Verified bool `json:"verified,omitempty" doc:"This session was proved with a second factor."`
}

func (s *server) who(ctx context.Context, a registry.Actor) (Me, error) {
	m := Me{Kind: a.Principal.Kind.String(), ID: a.Principal.ID, Org: string(a.Principal.Org), Admin: a.Admin, Verified: a.Verified}
	if a.Principal.Kind != auth.Person {
		return m, nil
	}
	p, err := s.registry.Person(ctx, a, a.Principal.ID)
	m.Name, m.Email = p.Name, p.Email
	return m, err
}

func (s *server) me(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[Me], error) {
	m, err := s.who(ctx, actor)
	if err != nil {
		return nil, err
	}
	return &body[Me]{Body: m}, nil
}

// SignIn exchanges a one-time code.
type SignIn struct {
	Code string `json:"code" minLength:"1" maxLength:"512" doc:"The one-time code."`
}

// SignedIn is a new access token.
type SignedIn struct {
	Token string `json:"token" doc:"For Authorization: Bearer. Shown this once."`
	Me    Me     `json:"me"`
}

func (s *server) signIn(ctx context.Context, actor registry.Actor, in *struct{ Body SignIn }) (*body[SignedIn], error) {
	token, who, err := s.registry.SignIn(ctx, secret.New(in.Body.Code), actor.Address, requestOf(ctx).raw.UserAgent())
	if err != nil {
		return nil, err
	}
	m, err := s.who(ctx, who)
	if err != nil {
		return nil, err
	}
	return &body[SignedIn]{Body: SignedIn{Token: token.Reveal(), Me: m}}, nil
}

func (s *server) signOut(ctx context.Context, _ registry.Actor, _ *struct{}) error {
	token, ok := bearer(requestOf(ctx).raw)
	if !ok {
		return errs.E(errs.Invalid, "only an access token can be ended; delete an API key instead")
	}
	return s.registry.SignOut(ctx, token)
}

// NewSignInCode says what a code is for.
type NewSignInCode struct {
	Purpose string `json:"purpose" enum:"console,cli" doc:"console: for a link to /sign-in/{code}; cli: for keepmq login."`
}

// SignInCode is a one-time code.
type SignInCode struct {
	Code    string    `json:"code" doc:"Good once. Shown this once."`
	Expires time.Time `json:"expires"`
}

func (s *server) createSignInCode(ctx context.Context, actor registry.Actor, in *struct{ Body NewSignInCode }) (*body[SignInCode], error) {
	expires := time.Now().Add(registry.CodeLife)
	code, err := secret.String{}, error(nil)
	if in.Body.Purpose == registry.ForCLI {
		code, err = s.registry.NewAccessCode(ctx, actor)
	} else {
		code, err = s.registry.NewSignInCode(ctx, actor)
	}
	if err != nil {
		return nil, err
	}
	return &body[SignInCode]{Body: SignInCode{Code: code.Reveal(), Expires: utc(expires)}}, nil
}

// Session is where a person is signed in.
type Session struct {
	ID        string    `json:"id"`
	Purpose   string    `json:"purpose" enum:"console,cli"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	Address   string    `json:"address" doc:"Where it was signed in from."`
	UserAgent string    `json:"user_agent,omitempty"`
	Current   bool      `json:"current" doc:"The one that this request is made with."`
	Verified  bool      `json:"verified" doc:"Proved with a second factor."`
	Used      time.Time `json:"used" doc:"When it was last used, within a minute."`
	UsedFrom  string    `json:"used_from,omitempty" doc:"And from where."`
}

func (s *server) listSessions(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[list[Session]], error) {
	all, err := s.registry.Sessions(ctx, actor)
	if err != nil {
		return nil, err
	}
	return newList(all, "", func(x registry.Session) Session {
		return Session{ID: x.ID, Purpose: x.Purpose, Created: utc(x.Created), Expires: utc(x.Expires),
			Address: x.Address, UserAgent: x.UserAgent, Current: x.ID == actor.Session,
			Verified: x.Verified, Used: utc(x.Used), UsedFrom: x.UsedFrom}
	}), nil
}

func (s *server) deleteSession(ctx context.Context, actor registry.Actor, in *struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
}) error {
	return s.registry.RevokeSession(ctx, actor, in.ID)
}
