package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// LogIn is what a person signs in with.
type LogIn struct {
	Email    string `json:"email" minLength:"3" maxLength:"254"`
	Password string `json:"password" minLength:"1" maxLength:"512"`
	Code     string `json:"code,omitempty" maxLength:"32" doc:"Of a second factor, or a recovery code. If one is needed, the refusal has the type urn:keepmq:second-factor."`
}

func (s *server) logIn(ctx context.Context, actor registry.Actor, in *struct{ Body LogIn }) (*body[SignedIn], error) {
	l := registry.Login{Email: in.Body.Email, Password: secret.New(in.Body.Password), Code: secret.New(in.Body.Code), Purpose: registry.ForCLI}
	token, who, err := s.registry.LogIn(ctx, l, actor.Address, requestOf(ctx).raw.UserAgent())
	if err != nil {
		return nil, err
	}
	m, err := s.who(ctx, who)
	if err != nil {
		return nil, err
	}
	return &body[SignedIn]{Body: SignedIn{Token: token.Reveal(), Me: m}}, nil
}

// MeChange is what people change of themselves; what is left out stays.
type MeChange struct {
	Name  *string `json:"name,omitempty" minLength:"1" maxLength:"100"`
	Email *string `json:"email,omitempty" maxLength:"254" doc:"With which the person signs in. Empty: none."`
}

func (s *server) updateMe(ctx context.Context, actor registry.Actor, in *struct{ Body MeChange }) (*body[Me], error) {
	if _, err := s.registry.SetMe(ctx, actor, registry.PersonChange(in.Body)); err != nil {
		return nil, err
	}
	return s.me(ctx, actor, nil)
}

// NewPassword is a password, and the one before.
type NewPassword struct {
	Password string `json:"password" minLength:"1" maxLength:"512" doc:"At least 10 characters, and none of those that are tried first."`
	Present  string `json:"present,omitempty" maxLength:"512" doc:"The present one, if there is one."`
}

func (s *server) setPassword(ctx context.Context, actor registry.Actor, in *struct{ Body NewPassword }) error {
	return s.registry.SetPassword(ctx, actor, secret.New(in.Body.Present), secret.New(in.Body.Password))
}

func (s *server) deleteOtherSessions(ctx context.Context, actor registry.Actor, _ *struct{}) error {
	return s.registry.EndOtherSessions(ctx, actor)
}

// Factor is a second factor: an authenticator or a passkey.
type Factor struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind" enum:"totp,passkey" doc:"Passkeys are made in the console."`
	Name      string     `json:"name"`
	Confirmed bool       `json:"confirmed" doc:"A code of it was seen, and so it counts."`
	Created   time.Time  `json:"created"`
	Used      *time.Time `json:"used,omitempty" doc:"Of a passkey: last."`
}

func factor(f registry.Factor) Factor {
	x := Factor{ID: f.ID, Kind: f.Kind, Name: f.Name, Confirmed: f.Confirmed, Created: utc(f.Created)}
	if !f.Used.IsZero() {
		used := utc(f.Used)
		x.Used = &used
	}
	return x
}

// Factors are the second factors of a person.
type Factors struct {
	Items    []Factor `json:"items"`
	Recovery int      `json:"recovery_codes" doc:"How many recovery codes are left."`
}

func (s *server) listFactors(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[Factors], error) {
	all, left, err := s.registry.Factors(ctx, actor)
	if err != nil {
		return nil, err
	}
	return &body[Factors]{Body: Factors{Items: newList(all, "", factor).Body.Items, Recovery: left}}, nil
}

// NewFactor names an authenticator.
type NewFactor struct {
	Name string `json:"name,omitempty" maxLength:"50" doc:"To tell it from others."`
}

// FactorWithURL is a new authenticator.
type FactorWithURL struct {
	Factor
	URL string `json:"url" doc:"otpauth, for the authenticator: as a QR code, or to copy. It has the secret, and is shown this once."`
}

func (s *server) createFactor(ctx context.Context, actor registry.Actor, in *struct{ Body NewFactor }) (*body[FactorWithURL], error) {
	f, url, err := s.registry.AddFactor(ctx, actor, in.Body.Name)
	if err != nil {
		return nil, err
	}
	return &body[FactorWithURL]{Body: FactorWithURL{Factor: factor(f), URL: url.Reveal()}}, nil
}

type InFactor struct {
	ID string `path:"id" minLength:"1" maxLength:"64"`
}

// Code is one of a second factor.
type Code struct {
	Code string `json:"code" minLength:"1" maxLength:"32"`
}

// RecoveryCodes are good once each, in place of an authenticator.
type RecoveryCodes struct {
	Codes []string `json:"recovery_codes,omitempty" doc:"Shown this once. Absent: those from before are good."`
}

func recoveryCodes(all []secret.String) *body[RecoveryCodes] {
	var b body[RecoveryCodes]
	for _, c := range all {
		b.Body.Codes = append(b.Body.Codes, c.Reveal())
	}
	return &b
}

func (s *server) confirmFactor(ctx context.Context, actor registry.Actor, in *struct {
	InFactor
	Body Code
}) (*body[RecoveryCodes], error) {
	all, err := s.registry.ConfirmFactor(ctx, actor, in.ID, secret.New(in.Body.Code))
	if err != nil {
		return nil, err
	}
	return recoveryCodes(all), nil
}

func (s *server) deleteFactor(ctx context.Context, actor registry.Actor, in *InFactor) error {
	return s.registry.DeleteFactor(ctx, actor, in.ID)
}

func (s *server) renewRecovery(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[RecoveryCodes], error) {
	all, err := s.registry.RenewRecoveries(ctx, actor)
	if err != nil {
		return nil, err
	}
	return recoveryCodes(all), nil
}

func (s *server) verifyMe(ctx context.Context, actor registry.Actor, in *struct{ Body Code }) error {
	return s.registry.VerifySession(ctx, actor, secret.New(in.Body.Code))
}
