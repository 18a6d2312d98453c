package console

import (
	"crypto/rand"
	"errors"
	"net"
	"net/http"
	"strings"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
)

// policy lets a page use what this server sends and nothing else: no inline
// script or style, no frame, no form to elsewhere, no text made into markup.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

const maxBody = 16 << 10 // bytes; the largest is what a passkey answers

// protect sets the header fields of every answer and refuses requests that
// another site makes a browser send.
func (s *server) protect(next http.Handler) http.Handler {
	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(s.page(func(http.ResponseWriter, *http.Request) error {
		return errs.E(errs.Denied, "This request came from another site and was refused.")
	}))
	next = cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		if ownHost(r.Host) {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost reports whether a host name is one that a browser may keep to TLS:
// localhost belongs to others, too, and an address has no use of it (RFC 6797 §8.1.1).
func ownHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host != "localhost" && !strings.HasSuffix(host, ".localhost") && net.ParseIP(strings.Trim(host, "[]")) == nil
}

// page makes a handler of a function that returns its refusal.
func (s *server) page(f func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f(w, r); err != nil {
			s.refuse(w, r, err)
		}
	})
}

// person makes a handler of a function for somebody who is signed in. Whoever
// is not is shown how to.
func (s *server) person(f func(http.ResponseWriter, *http.Request, registry.Actor) error) http.Handler {
	return s.page(func(w http.ResponseWriter, r *http.Request) error {
		actor, err := s.session(r)
		if errs.CodeOf(err) == errs.Unauthenticated && err != nil && r.URL.Path == "/" {
			http.Redirect(w, r, "/sign-in", http.StatusSeeOther)
			return nil
		}
		if err != nil {
			return err
		}
		err = f(w, r, actor)
		if err != nil && errs.CodeOf(err) == errs.Denied {
			s.registry.NoteRefusal(registry.NotedRefusal{Class: registry.RefusedPermission, Who: actor.Principal.String(), Address: actor.Address})
		}
		return err
	})
}

// refuse shows why a page is not shown. It logs the route and not the path,
// which can hold a code.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	p := problem{Title: "This did not work", Message: errs.Message(err)}
	status := http.StatusInternalServerError
	switch errs.CodeOf(err) {
	case errs.Invalid:
		status = http.StatusBadRequest
	case errs.Unauthenticated:
		status, p.Title = http.StatusUnauthorized, "You are not signed in"
	case errs.Denied:
		status, p.Title = http.StatusForbidden, "Not allowed"
	case errs.NotFound:
		status, p.Title = http.StatusNotFound, "Not found"
	case errs.Conflict:
		status = http.StatusConflict
	case errs.Exhausted:
		status, p.Title = http.StatusTooManyRequests, "Too much at once"
	case errs.Unavailable:
		status, p.Title = http.StatusServiceUnavailable, "Try again in a moment"
	default:
		p.Message = "The server could not do this; its log says why."
	}
	if status >= 500 {
		s.log.ErrorContext(r.Context(), "page failed", "route", r.Pattern, "err", err)
	}
	s.render(w, r, status, "problem.html", p)
}

type problem struct{ Title, Message string }

func (s *server) notFound(http.ResponseWriter, *http.Request) error {
	return errs.E(errs.NotFound, "There is no page at this address.")
}

// address is the browser's address without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// request returns a number for a request, for the audit record of what it changes.
func request() string { return rand.Text() }
