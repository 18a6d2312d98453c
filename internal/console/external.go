package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/oidc"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// A Sealer is the part of keyring.Ring that a browser's part of an attempt to sign
// in is sealed with.
type Sealer interface {
	Seal(purpose string, plaintext []byte) ([]byte, error)
	Open(purpose string, sealed []byte) ([]byte, error)
}

// attemptCookie is sent along when the provider sends the browser back to us, as
// the cookie of a session is not.
const (
	attemptCookie  = "__Host-keepmq-attempt"
	attemptPurpose = "console/sign-in attempt"
	attemptLife    = 10 * time.Minute
	callbackPath   = "/sign-in/callback"
	maxAttempts    = 100_000 // whose end is remembered
)

// An attempt is one to sign in through a provider, as its browser keeps it.
type attempt struct {
	Org      auth.OrgID
	Name     string
	Redirect string
	Ends     time.Time
	oidc.Attempt
}

// ended remembers the attempts that were finished: each is good once.
type ended struct {
	mu     sync.Mutex // guards states
	states map[string]time.Time
}

// take reports whether state was not taken before.
func (e *ended) take(state string, until, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.states == nil {
		e.states = map[string]time.Time{}
	}
	if _, taken := e.states[state]; taken {
		return false
	}
	if len(e.states) >= maxAttempts {
		for s, end := range e.states {
			if !now.Before(end) {
				delete(e.states, s)
			}
		}
		if len(e.states) >= maxAttempts {
			return false
		}
	}
	e.states[state] = until
	return true
}

// An organisationPage shows through whom the people of an organisation sign in.
type organisationPage struct {
	Org   string
	Names []string
	None  bool
	Wrong string
}

// signInOrganisation asks for an organisation, and shows its providers. The way to
// them is a link: a form must not lead to another site.
func (s *server) signInOrganisation(w http.ResponseWriter, r *http.Request) error {
	p := organisationPage{Org: r.URL.Query().Get("org")}
	if org, err := auth.ParseOrgID(p.Org); err == nil && s.oidc != nil {
		if p.Names, err = s.registry.SignInNames(r.Context(), org); err != nil {
			return err
		}
	}
	p.None = p.Org != "" && len(p.Names) == 0
	s.render(w, r, http.StatusOK, "organisation.html", p)
	return nil
}

// through returns a provider, and what package oidc has to know of it.
func (s *server) through(ctx context.Context, org auth.OrgID, name, redirect string) (registry.SignInProvider, oidc.Provider, error) {
	if s.oidc == nil {
		return registry.SignInProvider{}, oidc.Provider{}, errs.E(errs.NotFound, "there is no such sign-in")
	}
	p, key, err := s.registry.SignInThrough(ctx, org, name)
	return p, oidc.Provider{Issuer: p.Issuer, ClientID: p.ClientID, Secret: key, Scopes: p.Scopes, GroupsClaim: p.GroupsClaim, Redirect: redirect}, err
}

// signInWith sends a browser to a provider.
func (s *server) signInWith(w http.ResponseWriter, r *http.Request) error {
	x := attempt{Org: auth.OrgID(r.PathValue("org")), Name: r.PathValue("name"), Ends: time.Now().Add(attemptLife),
		Redirect: (&url.URL{Scheme: "https", Host: r.Host, Path: callbackPath}).String()}
	_, provider, err := s.through(r.Context(), x.Org, x.Name, x.Redirect)
	if err != nil {
		return err
	}
	to, made, err := s.oidc.Begin(r.Context(), provider)
	if err != nil {
		return err
	}
	x.Attempt = made
	text, err := json.Marshal(x)
	if err != nil {
		return err
	}
	sealed, err := s.seal.Seal(attemptPurpose, text)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: attemptCookie, Value: base64.RawURLEncoding.EncodeToString(sealed), Path: "/", MaxAge: int(attemptLife / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// attemptOf returns what the browser kept of its attempt.
func (s *server) attemptOf(r *http.Request) (x attempt, err error) {
	over := errs.E(errs.Denied, "this attempt to sign in is over, or began in another browser; begin again")
	c, err := r.Cookie(attemptCookie)
	if err != nil || s.seal == nil {
		return x, over
	}
	sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return x, over
	}
	text, err := s.seal.Open(attemptPurpose, sealed)
	if err != nil || json.Unmarshal(text, &x) != nil || !time.Now().Before(x.Ends) || !s.finished.take(x.State, x.Ends, time.Now()) {
		return x, over
	}
	return x, nil
}

// signInCallback is where a provider sends the browser back to. What it answers
// leads on by itself: the browser sends the cookie of the session only where it
// was not led by another site.
func (s *server) signInCallback(w http.ResponseWriter, r *http.Request) error {
	http.SetCookie(w, &http.Cookie{Name: attemptCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	x, err := s.attemptOf(r)
	var token secret.String
	if err == nil {
		token, err = s.finish(r, x)
	}
	if code := errs.CodeOf(err); err != nil {
		if code == errs.Internal {
			return err
		}
		status := http.StatusUnauthorized
		if code == errs.Unavailable || code == errs.Exhausted {
			status = http.StatusServiceUnavailable
		}
		s.registry.NoteRefusal(registry.NotedRefusal{Class: registry.RefusedSession, Address: address(r)})
		s.render(w, r, status, "organisation.html", organisationPage{Org: string(x.Org), Wrong: errs.Message(err)})
		return nil
	}
	setCookie(w, token)
	w.Header().Set("Refresh", "0; url=/")
	s.render(w, r, http.StatusOK, "signedin.html", nil)
	return nil
}

func (s *server) finish(r *http.Request, x attempt) (secret.String, error) {
	p, provider, err := s.through(r.Context(), x.Org, x.Name, x.Redirect)
	if err != nil {
		return secret.String{}, err
	}
	id, err := s.oidc.Finish(r.Context(), provider, x.Attempt, r.URL.Query())
	if err != nil {
		return secret.String{}, err
	}
	token, _, err := s.registry.SignInExternal(r.Context(), p, registry.External(id), address(r), r.UserAgent())
	return token, err
}
