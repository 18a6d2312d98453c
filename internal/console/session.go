package console

import (
	"net/http"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// cookie is bound to this host and to TLS by its prefix, and is sent along by
// requests of our own pages only.
const cookie = "__Host-keepmq"

// session tells who is signed in, asking the registry anew for every request.
func (s *server) session(r *http.Request) (registry.Actor, error) {
	token, err := token(r)
	if err != nil {
		return registry.Actor{}, err
	}
	actor, err := s.registry.Session(r.Context(), token, address(r))
	if err != nil {
		return registry.Actor{}, err
	}
	actor.RequestID = request()
	return actor, nil
}

func token(r *http.Request) (secret.String, error) {
	c, err := r.Cookie(cookie)
	if err != nil || c.Value == "" {
		return secret.String{}, errs.E(errs.Unauthenticated, "Sign in first.")
	}
	return secret.New(c.Value), nil
}

func setCookie(w http.ResponseWriter, token secret.String) {
	http.SetCookie(w, &http.Cookie{
		Name: cookie, Value: token.Reveal(), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

func dropCookie(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{
		Name: cookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}
