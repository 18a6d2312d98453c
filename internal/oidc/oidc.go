// Package oidc has people sign in through an OpenID Connect provider (OpenID
// Connect Core 1.0, authorization code flow) with PKCE (RFC 7636).
//
// What it returns was signed by the provider, for us, in answer to this very
// attempt. It decides nothing about who somebody is here or what they may do.
package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// algorithms are those with which an ID token may be signed: no symmetric one,
// for which a client's secret would do, and none without a signature.
var algorithms = []string{oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.RS256, oidc.RS384, oidc.RS512, oidc.EdDSA}

const (
	maxAnswer    = 1 << 20          // bytes of one answer of a provider
	discoverLife = 10 * time.Minute // for how long what a provider says of itself is remembered
	maxProviders = 1000             // that are remembered
	maxAtOnce    = 16               // attempts that wait for a provider
	patience     = 20 * time.Second // for all that one attempt asks a provider
	maxGroups    = 1000
)

// A Client signs people in. It may be used from any goroutine.
type Client struct {
	http  *http.Client
	turns chan struct{}

	mu    sync.Mutex // guards known
	known map[string]discovered
}

type discovered struct {
	provider *oidc.Provider
	until    time.Time
}

// New returns a Client. To providers it speaks through web, which must connect to
// nothing that it should not: organisations choose their addresses.
func New(web *http.Client) *Client {
	bounded := *web
	bounded.Transport = &limited{web.Transport}
	return &Client{http: &bounded, turns: make(chan struct{}, maxAtOnce), known: map[string]discovered{}}
}

// A Provider is what there is to know of one, and where it sends people back to.
type Provider struct {
	Issuer      string
	ClientID    string
	Secret      secret.String // zero: none
	Scopes      []string      // beside openid
	GroupsClaim string
	Redirect    string // our URL that it sends people back to
}

// An Attempt is what has to be remembered of one attempt to sign in, by the
// browser that makes it.
type Attempt struct {
	State    string
	Nonce    string
	Verifier string // of PKCE
}

// An Identity is what a provider asserts of somebody.
type Identity struct {
	Subject string
	Name    string
	Groups  []string
	Methods []string // amr, and acr
}

func random() string {
	var b [24]byte
	_, _ = rand.Read(b[:]) // it never fails; the program ends if the system has no randomness
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Begin returns where to send a browser, and what it has to remember.
func (c *Client) Begin(ctx context.Context, p Provider) (string, Attempt, error) {
	ctx, done, err := c.turn(ctx)
	if err != nil {
		return "", Attempt{}, err
	}
	defer done()
	there, err := c.discover(ctx, p.Issuer)
	if err != nil {
		return "", Attempt{}, err
	}
	a := Attempt{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier()}
	return p.config(there).AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), a, nil
}

func (p Provider) config(there *oidc.Provider) *oauth2.Config {
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.Secret.Reveal(), Endpoint: there.Endpoint(), RedirectURL: p.Redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, p.Scopes...)}
}

// Finish takes what the browser came back with. Only the browser that began the
// attempt may finish it: a is what it remembered.
func (c *Client) Finish(ctx context.Context, p Provider, a Attempt, answer url.Values) (Identity, error) {
	one := func(name string) string {
		if v := answer[name]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	if a.State == "" || subtle.ConstantTimeCompare([]byte(one("state")), []byte(a.State)) != 1 {
		return Identity{}, errs.E(errs.Denied, "this answer belongs to another attempt to sign in; begin again")
	}
	ctx, done, err := c.turn(ctx)
	if err != nil {
		return Identity{}, err
	}
	defer done()
	there, err := c.discover(ctx, p.Issuer)
	if err != nil {
		return Identity{}, err
	}
	var says struct {
		NamesItself bool `json:"authorization_response_iss_parameter_supported"`
	}
	if err := there.Claims(&says); err != nil {
		return Identity{}, errs.Wrap(errs.Unavailable, err, "what the provider says of itself cannot be read")
	}
	// That another provider's answer is not taken for this one's (RFC 9207).
	if iss, named := answer["iss"]; named && (len(iss) != 1 || iss[0] != p.Issuer) || !named && says.NamesItself {
		return Identity{}, errs.E(errs.Denied, "this answer comes from another provider")
	}
	if failed := one("error"); failed != "" {
		return Identity{}, errs.E(errs.Denied, "the provider refused it: %s", word(failed))
	}
	code := one("code")
	if code == "" || len(code) > 4096 {
		return Identity{}, errs.E(errs.Denied, "the provider's answer has no code")
	}
	return c.redeem(ctx, p, a, there, code)
}

// redeem exchanges a code for the ID token and checks that.
func (c *Client) redeem(ctx context.Context, p Provider, a Attempt, there *oidc.Provider, code string) (Identity, error) {
	t, err := p.config(there).Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		if refused := (*oauth2.RetrieveError)(nil); errors.As(err, &refused) && refused.ErrorCode != "" {
			return Identity{}, errs.Wrap(errs.Denied, err, "the provider does not take the code: "+word(refused.ErrorCode))
		}
		return Identity{}, unreachable(err)
	}
	raw, _ := t.Extra("id_token").(string)
	if raw == "" {
		return Identity{}, errs.E(errs.Denied, "the provider gave no ID token")
	}
	id, err := there.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID, SupportedSigningAlgs: algorithms}).Verify(ctx, raw)
	if err != nil {
		return Identity{}, errs.Wrap(errs.Denied, err, "the provider's ID token is not good")
	}
	if a.Nonce == "" || subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.Nonce)) != 1 {
		return Identity{}, errs.E(errs.Denied, "the provider's ID token is of another attempt")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return Identity{}, errs.Wrap(errs.Denied, err, "the provider's ID token cannot be read")
	}
	if azp, ok := claims["azp"]; len(id.Audience) > 1 || ok {
		if azp != p.ClientID {
			return Identity{}, errs.E(errs.Denied, "the provider's ID token was made for another client")
		}
	}
	x := Identity{Subject: id.Subject, Name: text(claims, "name", "preferred_username", "email"), Methods: list(claims["amr"])}
	if acr := text(claims, "acr"); acr != "" {
		x.Methods = append(x.Methods, acr)
	}
	if _, there := claims[p.GroupsClaim]; there {
		x.Groups = list(claims[p.GroupsClaim])
		return x, nil
	}
	return c.groups(ctx, p, there, t, x)
}

// groups asks for groups that are not in the ID token (OpenID Connect Core, 5.3).
func (c *Client) groups(ctx context.Context, p Provider, there *oidc.Provider, t *oauth2.Token, x Identity) (Identity, error) {
	if there.UserInfoEndpoint() == "" {
		return x, nil
	}
	info, err := there.UserInfo(ctx, oauth2.StaticTokenSource(t))
	if err != nil {
		return x, unreachable(err)
	}
	if info.Subject != x.Subject {
		return x, errs.E(errs.Denied, "the provider speaks of somebody else")
	}
	claims := map[string]any{}
	if err := info.Claims(&claims); err != nil {
		return x, errs.Wrap(errs.Denied, err, "what the provider says of you cannot be read")
	}
	x.Groups = list(claims[p.GroupsClaim])
	return x, nil
}

// turn bounds how many wait for providers, and for how long.
func (c *Client) turn(ctx context.Context) (context.Context, func(), error) {
	select {
	case c.turns <- struct{}{}:
	default:
		return ctx, nil, errs.E(errs.Exhausted, "too many are signing in at this moment; try again")
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, c.http), patience)
	return ctx, func() { cancel(); <-c.turns }, nil
}

// discover returns what the provider of issuer says of itself (OpenID Connect
// Discovery 1.0).
func (c *Client) discover(ctx context.Context, issuer string) (*oidc.Provider, error) {
	c.mu.Lock()
	d, ok := c.known[issuer]
	c.mu.Unlock()
	if ok && time.Now().Before(d.until) {
		return d.provider, nil
	}
	p, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		return nil, unreachable(err)
	}
	for _, at := range []string{p.Endpoint().AuthURL, p.Endpoint().TokenURL} {
		if u, err := url.Parse(at); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, errs.E(errs.Unavailable, "the provider names an endpoint without TLS")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxProviders {
		clear(c.known)
	}
	c.known[issuer] = discovered{p, time.Now().Add(discoverLife)}
	return p, nil
}

// unreachable says that a provider did not answer as it should, and nothing of
// what there is at an address that may not be asked.
func unreachable(err error) error {
	return errs.Wrap(errs.Unavailable, err, "the sign-in provider cannot be reached, or does not answer as it should; try again, or tell who administers it")
}

// word keeps what a provider says to what can be shown.
func word(s string) string {
	out := make([]byte, 0, 60)
	for _, b := range []byte(s) {
		if len(out) == cap(out) {
			break
		}
		if b < ' ' || b > '~' {
			b = '?'
		}
		out = append(out, b)
	}
	return string(out)
}

// text returns the first of claims that is a text.
func text(claims map[string]any, names ...string) string {
	for _, n := range names {
		if s, ok := claims[n].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// list returns a claim that is a list of texts, or one.
func list(claim any) []string {
	switch v := claim.(type) {
	case string:
		return []string{v}
	case []any:
		all := make([]string, 0, min(len(v), maxGroups))
		for _, x := range v {
			if s, ok := x.(string); ok && len(all) < maxGroups {
				all = append(all, s)
			}
		}
		return all
	}
	return nil
}

// limited bounds the answers to requests.
type limited struct{ next http.RoundTripper }

func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s is asked for without TLS", r.URL.Host)
	}
	next := l.next
	if next == nil {
		next = http.DefaultTransport
	}
	res, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	return res, nil
}
