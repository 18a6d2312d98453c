package console

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/passkey"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

const (
	ceremonyCookie  = "__Host-keepmq-passkey"
	ceremonyPurpose = "console/passkey ceremony"
)

// A ceremony is what a browser keeps, sealed, from the beginning to the end of one.
type ceremony struct {
	ID     string
	Person string // who makes a passkey; empty: somebody signs in
	Kept   []byte
	Ends   time.Time
}

// beginCeremony answers with options for the browser.
func (s *server) beginCeremony(w http.ResponseWriter, c ceremony, options []byte) error {
	c.ID, c.Ends = request(), time.Now().Add(passkey.Life)
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	sealed, err := s.seal.Seal(ceremonyPurpose, text)
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: ceremonyCookie, Value: base64.RawURLEncoding.EncodeToString(sealed), Path: "/", MaxAge: int(passkey.Life / time.Second),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(options)
	return err
}

// endCeremony returns what the browser kept, once, and its answer.
func (s *server) endCeremony(w http.ResponseWriter, r *http.Request, person string) (c ceremony, answer []byte, err error) {
	over := errs.E(errs.Denied, "this took too long, or began elsewhere; begin again")
	http.SetCookie(w, &http.Cookie{Name: ceremonyCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
	cookie, err := r.Cookie(ceremonyCookie)
	if err != nil || s.seal == nil {
		return c, nil, over
	}
	sealed, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return c, nil, over
	}
	text, err := s.seal.Open(ceremonyPurpose, sealed)
	if err != nil || json.Unmarshal(text, &c) != nil || c.Person != person || !time.Now().Before(c.Ends) || !s.finished.take(c.ID, c.Ends, time.Now()) {
		return c, nil, over
	}
	if answer, err = io.ReadAll(r.Body); err != nil {
		return c, nil, errs.Wrap(errs.Invalid, err, "the answer is too large")
	}
	return c, answer, nil
}

// said makes a handler that answers a script: what was refused is a text.
func (s *server) said(f func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := f(w, r)
		code := errs.CodeOf(err)
		if err == nil || code == errs.Internal {
			return err
		}
		status := map[errs.Code]int{errs.Unauthenticated: http.StatusUnauthorized, errs.Unavailable: http.StatusServiceUnavailable, errs.Exhausted: http.StatusTooManyRequests}[code]
		if status == 0 {
			status = http.StatusForbidden
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(status)
		_, err = io.WriteString(w, sentence(errs.Message(err)))
		return err
	}
}

// saidTo is said for somebody who is signed in.
func (s *server) saidTo(f func(http.ResponseWriter, *http.Request, registry.Actor) error) func(http.ResponseWriter, *http.Request, registry.Actor) error {
	return func(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
		return s.said(func(w http.ResponseWriter, r *http.Request) error { return f(w, r, actor) })(w, r)
	}
}

func (s *server) party(r *http.Request) (*passkey.Party, error) {
	if s.seal == nil {
		return nil, errs.E(errs.Unavailable, "passkeys are not to be had here")
	}
	return passkey.NewParty(s.domain, r.Host)
}

// holder returns the person of actor, and the passkeys they have.
func (s *server) holder(ctx context.Context, actor registry.Actor) (passkey.Holder, error) {
	p, err := s.registry.Person(ctx, actor, actor.Principal.ID)
	if err != nil {
		return passkey.Holder{}, err
	}
	h := passkey.Holder{ID: p.ID, Name: p.Email, Shown: p.Name}
	if h.Name == "" {
		h.Name = p.Name
	}
	all, err := s.registry.Passkeys(ctx, actor)
	for _, k := range all {
		h.Records = append(h.Records, k.Record)
	}
	return h, err
}

// makePasskey begins to make a passkey for who is signed in.
func (s *server) makePasskey(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	party, err := s.party(r)
	if err == nil {
		err = s.registry.MayAddPasskey(r.Context(), actor)
	}
	if err != nil {
		return err
	}
	h, err := s.holder(r.Context(), actor)
	if err != nil {
		return err
	}
	options, kept, err := party.Create(h)
	if err != nil {
		return err
	}
	return s.beginCeremony(w, ceremony{Person: h.ID, Kept: kept}, options)
}

// keepPasskey ends it, and answers with recovery codes, if there are new ones.
func (s *server) keepPasskey(w http.ResponseWriter, r *http.Request, actor registry.Actor) error {
	party, err := s.party(r)
	if err != nil {
		return err
	}
	c, answer, err := s.endCeremony(w, r, actor.Principal.ID)
	if err != nil {
		return err
	}
	h, err := s.holder(r.Context(), actor)
	if err != nil {
		return err
	}
	made, err := party.Created(h, c.Kept, answer)
	if err != nil {
		return err
	}
	codes, err := s.registry.AddPasskey(r.Context(), actor, r.URL.Query().Get("name"), made.Credential, made.Record)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(reveal(codes))
}

func reveal(codes []secret.String) []string {
	all := make([]string, 0, len(codes))
	for _, c := range codes {
		all = append(all, c.Reveal())
	}
	return all
}

// askPasskey begins a sign-in by whoever has a passkey.
func (s *server) askPasskey(w http.ResponseWriter, r *http.Request) error {
	party, err := s.party(r)
	if err != nil {
		return err
	}
	options, kept, err := party.Ask()
	if err != nil {
		return err
	}
	return s.beginCeremony(w, ceremony{Kept: kept}, options)
}

// takePasskey ends it.
func (s *server) takePasskey(w http.ResponseWriter, r *http.Request) error {
	party, err := s.party(r)
	if err != nil {
		return err
	}
	c, answer, err := s.endCeremony(w, r, "")
	if err != nil {
		return err
	}
	var k registry.Passkey
	good, err := party.Answered(c.Kept, answer, func(credential []byte) (passkey.Holder, error) {
		k, err = s.registry.FindPasskey(r.Context(), credential)
		return passkey.Holder{ID: k.Person, Records: []string{k.Record}}, err
	})
	if err != nil {
		s.registry.NoteRefusal(registry.NotedRefusal{Class: registry.RefusedSession, Address: address(r)})
		return err
	}
	token, _, err := s.registry.SignInPasskey(r.Context(), k, good.Record, good.Cloned, address(r), r.UserAgent())
	if err != nil {
		return err
	}
	setCookie(w, token)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
