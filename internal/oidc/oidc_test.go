package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/oidc/oidctest"
	"github.com/keepmq/keepmq/internal/secret"
)

const redirect = "https://console.example.org/sign-in/callback"

func provider(p *oidctest.Provider) Provider {
	return Provider{Issuer: p.URL, ClientID: oidctest.ClientID, Secret: secret.New(oidctest.Secret), Scopes: []string{"profile"}, GroupsClaim: "groups", Redirect: redirect}
}

// browse follows where Begin sends a browser, and returns what it comes back with.
func browse(t *testing.T, p *oidctest.Provider, to string) url.Values {
	t.Helper()
	web := p.Client()
	web.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := web.Get(to)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	back, err := url.Parse(res.Header.Get("Location"))
	if err != nil || !strings.HasPrefix(back.String(), redirect) {
		t.Fatalf("sent back to %q, %v", res.Header.Get("Location"), err)
	}
	return back.Query()
}

func TestSignIn(t *testing.T) {
	p := oidctest.New(t)
	c := New(p.Client())
	in := func() (Identity, error) {
		to, a, err := c.Begin(t.Context(), provider(p))
		if err != nil {
			t.Fatal(err)
		}
		return c.Finish(t.Context(), provider(p), a, browse(t, p, to))
	}
	x, err := in()
	if err != nil || x.Subject != "subject-1" || x.Name != "Ann Example" || !slices.Equal(x.Groups, []string{"engineers"}) || len(x.Methods) != 0 {
		t.Errorf("%+v, %v", x, err)
	}
	p.Rotate() // the provider's new key is asked for
	p.Set(map[string]any{"sub": "s2", "preferred_username": "bob", "groups": "one", "amr": []any{"pwd", 7, "mfa"}, "acr": "gold"}, nil, nil, nil, nil)
	x, err = in()
	if err != nil || x.Name != "bob" || !slices.Equal(x.Groups, []string{"one"}) || !slices.Equal(x.Methods, []string{"pwd", "mfa", "gold"}) {
		t.Errorf("%+v, %v", x, err)
	}
	p.Set(map[string]any{"sub": "s3"}, map[string]any{"sub": "s3", "groups": []string{"a", "b"}}, nil, nil, nil)
	if x, err = in(); err != nil || !slices.Equal(x.Groups, []string{"a", "b"}) {
		t.Errorf("groups of the user info: %+v, %v", x, err)
	}
	p.Set(nil, map[string]any{"sub": "somebody else", "groups": []string{"admins"}}, nil, nil, nil)
	if x, err = in(); err == nil {
		t.Errorf("groups of somebody else: %+v", x)
	}
}

// What is not the provider's answer to this attempt lets nobody in.
func TestRefused(t *testing.T) {
	p, other := oidctest.New(t), oidctest.New(t)
	c := New(p.Client())
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(p.Public())
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name string, v any) func(map[string]any) { return func(m map[string]any) { m[name] = v } }
	without := func(name string) func(map[string]any) { return func(m map[string]any) { delete(m, name) } }
	unsigned := func(claims map[string]any) string {
		b, _ := json.Marshal(claims)
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(b) + "."
	}
	by := func(alg jose.SignatureAlgorithm, key any) func(map[string]any) string {
		return func(claims map[string]any) string {
			return oidctest.Sign(jose.SigningKey{Algorithm: alg, Key: key}, claims)
		}
	}
	type change struct {
		edit   func(map[string]any)
		sign   func(map[string]any) string
		says   map[string]any
		answer func(url.Values)
		as     func(*Provider, *Attempt)
	}
	for name, x := range map[string]change{
		"nonce of another attempt":   {edit: claim("nonce", "x")},
		"no nonce":                   {edit: without("nonce")},
		"audience of another":        {edit: claim("aud", "another-client")},
		"several, and no azp":        {edit: claim("aud", []string{oidctest.ClientID, "b"})},
		"azp of another":             {edit: claim("azp", "b")},
		"issuer of another":          {edit: claim("iss", other.URL)},
		"over":                       {edit: claim("exp", time.Now().Add(-time.Minute).Unix())},
		"no end":                     {edit: without("exp")},
		"unsigned":                   {sign: unsigned},
		"signed by a stranger":       {sign: by(jose.ES256, stranger)},
		"the public key as a secret": {sign: by(jose.HS256, public)},
		"the client's secret":        {sign: by(jose.HS256, []byte(strings.Repeat(oidctest.Secret, 3)))},
		"no token":                   {sign: func(map[string]any) string { return "" }},
		"garbage":                    {sign: func(map[string]any) string { return "a.b.c" }},
		"state of another":           {answer: func(q url.Values) { q.Set("state", "x") }},
		"no state":                   {answer: func(q url.Values) { q.Del("state") }},
		"state twice":                {answer: func(q url.Values) { q.Add("state", q.Get("state")) }},
		"nothing was begun":          {as: func(_ *Provider, a *Attempt) { *a = Attempt{} }, answer: func(q url.Values) { q.Set("state", "") }},
		"another provider's answer":  {answer: func(q url.Values) { q.Set("iss", other.URL) }},
		"does not name itself":       {answer: func(q url.Values) { q.Del("iss") }, says: map[string]any{"authorization_response_iss_parameter_supported": true}},
		"refused":                    {answer: func(q url.Values) { q.Set("error", "access_denied\x1b[31m") }},
		"no code":                    {answer: func(q url.Values) { q.Del("code") }},
		"a code made up":             {answer: func(q url.Values) { q.Set("code", "guess") }},
		"another verifier":           {as: func(_ *Provider, a *Attempt) { a.Verifier = strings.Repeat("v", 43) }},
		"wrong secret":               {as: func(p *Provider, _ *Attempt) { p.Secret = secret.New("wrong") }},
		"another redirect":           {as: func(p *Provider, _ *Attempt) { p.Redirect += "/x" }},
		"an endpoint without TLS":    {says: map[string]any{"token_endpoint": "http://127.0.0.1:1/token"}},
		"it calls itself another":    {says: map[string]any{"issuer": other.URL}},
	} {
		t.Run(name, func(t *testing.T) {
			c.known = map[string]discovered{}
			p.Set(nil, nil, x.says, x.edit, x.sign)
			as := provider(p)
			to, a, err := c.Begin(t.Context(), as)
			if err != nil {
				if x.says == nil || errs.CodeOf(err) != errs.Unavailable {
					t.Errorf("to begin: %v", err)
				}
				return
			}
			answer := browse(t, p, to)
			if x.answer != nil {
				x.answer(answer)
			}
			if x.as != nil {
				x.as(&as, &a)
			}
			if id, err := c.Finish(t.Context(), as, a, answer); err == nil || id.Subject != "" || errs.CodeOf(err) != errs.Denied && errs.CodeOf(err) != errs.Unavailable ||
				strings.ContainsRune(errs.Message(err), '\x1b') {
				t.Errorf("%+v, %v", id, err)
			}
		})
	}
	// A code is good once.
	p.Set(nil, nil, nil, nil, nil)
	c.known = map[string]discovered{}
	to, a, err := c.Begin(t.Context(), provider(p))
	if err != nil {
		t.Fatal(err)
	}
	answer := browse(t, p, to)
	if _, err := c.Finish(t.Context(), provider(p), a, maps.Clone(answer)); err != nil {
		t.Error(err)
	}
	if _, err := c.Finish(t.Context(), provider(p), a, answer); errs.CodeOf(err) != errs.Denied {
		t.Errorf("a second time: %v", err)
	}
	// Nothing is asked for without TLS, and no more wait at once than there are turns.
	if _, _, err := c.Begin(t.Context(), Provider{Issuer: "http" + strings.TrimPrefix(p.URL, "https")}); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	for range maxAtOnce {
		_, done, err := c.turn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer done()
	}
	if _, _, err := c.Begin(t.Context(), provider(p)); errs.CodeOf(err) != errs.Exhausted {
		t.Errorf("one too many: %v", err)
	}
}
