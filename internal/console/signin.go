package console

import (
	"errors"
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
	Failed string // why the link does not work
	Wrong  string // why the password does not
	Email  string // as it was typed
	Code   bool   // the password is right, and a code is needed
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

// logIn signs in with a password and, if there is one, a second factor. The
// password is typed again with the code: it is kept nowhere meanwhile.
func (s *server) logIn(w http.ResponseWriter, r *http.Request) error {
	l := registry.Login{Email: r.PostFormValue("email"), Password: secret.New(r.PostFormValue("password")),
		Code: secret.New(r.PostFormValue("code")), Purpose: registry.ForConsole}
	token, _, err := s.registry.LogIn(r.Context(), l, address(r), r.UserAgent())
	switch code := errs.CodeOf(err); {
	case err == nil:
	case errors.Is(err, registry.ErrSecondFactor):
		s.render(w, r, http.StatusUnauthorized, "signin.html", signInPage{Email: l.Email, Code: true, Wrong: "This account has a second factor. Type the password again, and its code"})
		return nil
	case code == errs.Unauthenticated, code == errs.Invalid, code == errs.Exhausted, code == errs.Denied:
		status := http.StatusUnauthorized
		if code == errs.Exhausted {
			status = http.StatusTooManyRequests
		}
		s.render(w, r, status, "signin.html", signInPage{Email: l.Email, Code: l.Code.Reveal() != "", Wrong: errs.Message(err)})
		return nil
	default:
		return err
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
