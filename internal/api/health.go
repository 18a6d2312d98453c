package api

import (
	"net/http"

	"github.com/keepmq/keepmq/internal/errs"
)

// healthz says that the process answers.
func (s *server) healthz(w http.ResponseWriter, _ *http.Request) { text(w, "ok\n") }

// readyz says that the server can do its work; why not is in its log only.
func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	if err := s.ready(r.Context()); err != nil {
		s.problem(r.Context(), errs.Wrap(errs.Unavailable, err, "the server is not ready")).write(w)
		return
	}
	text(w, "ready\n")
}

// caPEM gives out the certificates with which clients check the server.
func (s *server) caPEM(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="keepmq-ca.pem"`)
	_, _ = w.Write(s.ca)
}

func (s *server) document(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	_, _ = w.Write(s.openapi)
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(s))
}
