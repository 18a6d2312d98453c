package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/auth/jwt"
	"github.com/keepmq/keepmq/internal/registry"
)

// Issuer is an identity provider as the API shows it.
type Issuer struct {
	Name       string          `json:"name"`
	Issuer     string          `json:"issuer" doc:"What its tokens have in iss."`
	Audience   string          `json:"audience" doc:"What its tokens have in aud, maybe with others."`
	Claim      string          `json:"claim" doc:"The claim that names the client: type:id of a device or gateway, an API key, or the name of a plain MQTT user."`
	Algorithms []string        `json:"algorithms"`
	KeyIDs     []string        `json:"key_ids"`
	JWKS       json.RawMessage `json:"jwks" doc:"Its public keys (RFC 7517)."`
	Version    int             `json:"version" doc:"Counts its changes."`
	Created    time.Time       `json:"created"`
	Changed    time.Time       `json:"changed"`
}

func issuer(i registry.Issuer) Issuer {
	keys, _ := i.Keys.Document() // they were read from one
	return Issuer{Name: i.Name, Issuer: i.Issuer, Audience: i.Audience, Claim: i.Claim, Algorithms: i.Algorithms,
		KeyIDs: i.Keys.IDs(), JWKS: keys, Version: i.Version, Created: utc(i.Created), Changed: utc(i.Changed)}
}

type InIssuer struct {
	InOrg
	Name string `path:"name" minLength:"1" maxLength:"36" doc:"The issuer's name."`
}

func (s *server) listIssuers(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
}) (*body[list[Issuer]], error) {
	issuers, next, err := s.registry.Issuers(ctx, actor, in.org(), in.page())
	if err != nil {
		return nil, err
	}
	return newList(issuers, next, issuer), nil
}

// IssuerSettings are what an issuer is made of beside its name.
type IssuerSettings struct {
	Issuer     string   `json:"issuer,omitempty" maxLength:"500" doc:"What its tokens have in iss."`
	Audience   string   `json:"audience,omitempty" maxLength:"500" doc:"What its tokens must have in aud."`
	Claim      string   `json:"claim,omitempty" maxLength:"100" doc:"The claim that names the client; sub unless given."`
	Algorithms []string `json:"algorithms,omitempty" maxItems:"10" enum:"ES256,ES384,ES512,EdDSA,RS256,RS384,RS512,PS256,PS384,PS512" doc:"With which its tokens may be signed."`
	JWKS       any      `json:"jwks,omitempty" doc:"Its public keys (RFC 7517), each with a kid; nothing is fetched."`
}

// NewIssuer is what an issuer is created from.
type NewIssuer struct {
	Name string `json:"name" minLength:"1" maxLength:"36" pattern:"^[A-Za-z0-9._-]+$" patternDescription:"letters, digits, dot, underscore and hyphen"`
	IssuerSettings
}

func (s IssuerSettings) issuer(in InOrg, name string) (registry.Issuer, error) {
	i := registry.Issuer{Org: in.org(), Name: name, Issuer: s.Issuer, Audience: s.Audience, Claim: s.Claim, Algorithms: s.Algorithms}
	if s.JWKS == nil {
		return i, nil
	}
	document, err := json.Marshal(s.JWKS)
	if err != nil {
		return i, fmt.Errorf("encode key set: %w", err)
	}
	i.Keys, err = jwt.ParseKeys(document)
	return i, err
}

func (s *server) createIssuer(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewIssuer
}) (*created[Issuer], error) {
	i, err := in.Body.issuer(in.InOrg, in.Body.Name)
	if err != nil {
		return nil, err
	}
	if i, err = s.registry.CreateIssuer(ctx, actor, i); err != nil {
		return nil, err
	}
	return &created[Issuer]{Location: base + "/orgs/" + in.Org + "/issuers/" + url.PathEscape(i.Name), Body: issuer(i)}, nil
}

func (s *server) getIssuer(ctx context.Context, actor registry.Actor, in *InIssuer) (*body[Issuer], error) {
	i, err := s.registry.Issuer(ctx, actor, in.org(), in.Name)
	if err != nil {
		return nil, err
	}
	return &body[Issuer]{Body: issuer(i)}, nil
}

func (s *server) updateIssuer(ctx context.Context, actor registry.Actor, in *struct {
	InIssuer
	Body IssuerSettings
}) (*body[Issuer], error) {
	i, err := in.Body.issuer(in.InOrg, in.Name)
	if err != nil {
		return nil, err
	}
	if i, err = s.registry.UpdateIssuer(ctx, actor, i); err != nil {
		return nil, err
	}
	return &body[Issuer]{Body: issuer(i)}, nil
}

func (s *server) deleteIssuer(ctx context.Context, actor registry.Actor, in *InIssuer) error {
	return s.registry.DeleteIssuer(ctx, actor, in.org(), in.Name)
}
