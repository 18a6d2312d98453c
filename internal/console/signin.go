package console

import (
	"net/http"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// signInHelp tells how to get a link.
func (s *server) signInHelp(w http.ResponseWriter, r *http.Request) error {
	s.render(w, r, http.StatusOK, "signin.html", signInPage{})
	return nil
}

// A signInPage asks for the button, or says why the link does not work.
type signInPage struct {
	Ask    bool
	Failed string
}

// signInAsk shows a button and uses nothing up: programs that look at links
// before people do, for a preview or a check, follow them with GET.
func (s *server) signInAsk(w http.ResponseWriter, r *http.Request) error {
	s.render(w, r, http.StatusOK, "signin.html", signInPage{Ask: true})
	return nil
}

// signIn uses the link up.
func (s *server) signIn(w http.ResponseWriter, r *http.Request) error {
	token, _, err := s.registry.SignIn(r.Context(), secret.New(r.PathValue("code")), address(r), r.UserAgent())
	if err != nil {
		status, message := http.StatusUnauthorized, errs.Message(err)
		switch errs.CodeOf(err) {
		case errs.Unauthenticated, errs.Denied, errs.NotFound, errs.Conflict, errs.Invalid:
			if message == "" {
				message = "this link is not valid"
			}
		default:
			return err
		}
		s.render(w, r, status, "signin.html", signInPage{Failed: message})
		return nil
	}
	setCookie(w, token)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// signOut ends the session at the server too, not only in this browser.
func (s *server) signOut(w http.ResponseWriter, r *http.Request, _ registry.Actor) error {
	token, err := token(r)
	if err != nil {
		return err
	}
	if err := s.registry.SignOut(r.Context(), token); err != nil {
		return err
	}
	dropCookie(w)
	http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
	return nil
}
