// Package oidctest is an OpenID Connect provider for tests, which does as it is
// told, also what it must not.
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// The client that a Provider knows.
const (
	ClientID = "keepmq-client"
	Secret   = "s3cret & more"
)

// A Provider is one that signs in whoever comes, with what is set here.
type Provider struct {
	*httptest.Server

	mu     sync.Mutex // guards the fields below
	claims map[string]any
	info   map[string]any // of the user info; nil: there is none
	edit   func(claims map[string]any)
	sign   func(claims map[string]any) string // nil: as it should be
	says   map[string]any                     // of itself, beside what it must
	key    *ecdsa.PrivateKey
	kid    string
	codes  map[string]url.Values // what was asked for, by code
}

// New starts a provider, which ends with the test.
func New(t testing.TB) *Provider {
	t.Helper()
	p := &Provider{codes: map[string]url.Values{}, claims: map[string]any{"sub": "subject-1", "name": "Ann Example", "groups": []string{"engineers"}}}
	p.Rotate()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.discovery)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userinfo)
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	return p
}

// Set changes what the provider says and does; nil leaves a thing as it is.
func (p *Provider) Set(claims, info, says map[string]any, edit func(map[string]any), sign func(map[string]any) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if claims != nil {
		p.claims = claims
	}
	p.info, p.says, p.edit, p.sign = info, says, edit, sign
}

// Rotate gives the provider another signing key.
func (p *Provider) Rotate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.key, p.kid = key, rand.Text()
}

// Public returns the provider's key as others see it.
func (p *Provider) Public() *ecdsa.PublicKey {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &p.key.PublicKey
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := map[string]any{"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
		"userinfo_endpoint": p.URL + "/userinfo", "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"}}
	for k, v := range p.says {
		d[k] = v
	}
	reply(w, http.StatusOK, d)
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	reply(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: p.kid, Algorithm: "ES256", Use: "sig"}}})
}

// authorize signs in at once.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	code := rand.Text()
	p.mu.Lock()
	p.codes[code] = q
	p.mu.Unlock()
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.URL}}.Encode(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	user, password, _ := r.BasicAuth()
	asked, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	plain, _ := url.QueryUnescape(password)
	switch {
	case user != ClientID || plain != Secret:
		reply(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	case !ok || asked.Get("code_challenge_method") != "S256" || base64.RawURLEncoding.EncodeToString(challenge[:]) != asked.Get("code_challenge") ||
		asked.Get("redirect_uri") != r.PostFormValue("redirect_uri"):
		reply(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	claims := map[string]any{"iss": p.URL, "aud": ClientID, "iat": time.Now().Unix(), "exp": time.Now().Add(5 * time.Minute).Unix(), "nonce": asked.Get("nonce")}
	for k, v := range p.claims {
		claims[k] = v
	}
	if p.edit != nil {
		p.edit(claims)
	}
	sign := p.sign
	if sign == nil {
		sign = p.signed
	}
	reply(w, http.StatusOK, map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 300, "id_token": sign(claims)})
}

func (p *Provider) signed(claims map[string]any) string {
	return Sign(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.kid}}, claims)
}

// Sign returns claims as a signed token.
func Sign(key jose.SigningKey, claims map[string]any) string {
	s, err := jose.NewSigner(key, nil)
	if err != nil {
		panic(err)
	}
	token, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		panic(err)
	}
	return token
}

func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.info == nil || r.Header.Get("Authorization") != "Bearer access" {
		reply(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
		return
	}
	reply(w, http.StatusOK, p.info)
}
