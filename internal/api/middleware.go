package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/keepmq/keepmq/internal/errs"
)

type requestKey struct{}

// A request is what is known of a request before anybody is authenticated.
type request struct {
	id      string
	address string
	raw     *http.Request
}

func requestOf(ctx context.Context) request {
	r, _ := ctx.Value(requestKey{}).(request)
	return r
}

func requestID(ctx context.Context) string { return requestOf(ctx).id }

// wrap puts around every route what all of them need: a number, a time limit, a
// size limit, header fields, and problem documents for what no route answers.
func (s *server) wrap(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := uuid.NewV7()
		if err != nil { // no randomness: nothing can be trusted
			http.Error(w, "no randomness", http.StatusInternalServerError)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, request{id: id.String(), address: address(r), raw: r}))
		head := w.Header()
		head.Set("X-Request-Id", id.String())
		head.Set("Cache-Control", "no-store")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cross-Origin-Resource-Policy", "same-origin")

		// A caller who does not read must not hold an answer up for ever.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * maxTime))
		o := &observed{ResponseWriter: w}
		defer s.recover(o, r)
		if len(r.RequestURI) > maxURL {
			newProblem(r.Context(), http.StatusRequestURITooLong, fmt.Sprintf("path and query must have at most %d bytes", maxURL)).write(o)
			return
		}
		if r.Body != nil {
			r.Body = http.MaxBytesReader(o, r.Body, maxBody)
		}
		if h, pattern := mux.Handler(r); pattern == "" {
			unrouted(o, r, h)
			return
		}
		mux.ServeHTTP(o, r)
	})
}

// recover answers for a handler that panicked.
func (s *server) recover(o *observed, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	s.log.ErrorContext(r.Context(), "handler panicked", "request", requestID(r.Context()), "err", fmt.Sprint(v), "stack", string(debug.Stack()))
	if o.written {
		panic(http.ErrAbortHandler) // the answer has begun: cut it, so that it is not taken for a whole one
	}
	s.problem(r.Context(), errs.E(errs.Internal, "panic")).write(o)
}

// observed remembers whether an answer has begun.
type observed struct {
	http.ResponseWriter
	written bool
}

func (o *observed) WriteHeader(status int) {
	o.written = true
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Write(p []byte) (int, error) {
	o.written = true
	return o.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the connection.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// unrouted answers what the mux has no route for. The mux's own answer tells
// whether it is the path or the method.
func unrouted(w http.ResponseWriter, r *http.Request, h http.Handler) {
	a := &answer{header: http.Header{}}
	h.ServeHTTP(a, r)
	switch a.status {
	case http.StatusMethodNotAllowed:
		p := newProblem(r.Context(), a.status, "this path allows "+a.header.Get("Allow"))
		p.header.Set("Allow", a.header.Get("Allow"))
		p.write(w)
	default:
		newProblem(r.Context(), http.StatusNotFound, "there is nothing at this path; see "+base+"/openapi.json").write(w)
	}
}

// An answer keeps the head of a response and forgets its body.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }

// address is the caller's address without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
