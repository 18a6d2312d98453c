package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
)

// status is the only translation of codes to HTTP.
func status(c errs.Code) int {
	switch c {
	case errs.Invalid:
		return http.StatusUnprocessableEntity
	case errs.Unauthenticated:
		return http.StatusUnauthorized
	case errs.Denied:
		return http.StatusForbidden
	case errs.NotFound:
		return http.StatusNotFound
	case errs.Conflict:
		return http.StatusConflict
	case errs.Exhausted:
		return http.StatusTooManyRequests
	case errs.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// A problem is a refusal on its way to the caller: a problem document and the
// header fields that belong to its status.
type problem struct {
	*huma.ErrorModel
	header http.Header
}

func (p *problem) GetHeaders() http.Header { return p.header }
func (p *problem) Unwrap() error           { return p.ErrorModel }

// problem translates err. Only a message made for the caller gets out; the
// cause is logged under the number of the request, which the caller is told.
func (s *server) problem(ctx context.Context, err error) *problem {
	code, detail := errs.CodeOf(err), errs.Message(err)
	st := status(code)
	if st >= 500 {
		s.log.ErrorContext(ctx, "request failed", "request", requestID(ctx), "err", err)
	}
	switch {
	case code == errs.Internal:
		detail = "the server could not do this; its log says why"
	case detail == "":
		detail = http.StatusText(st)
	}
	p := newProblem(ctx, st, detail)
	if errors.Is(err, registry.ErrSecondFactor) {
		p.Type = "urn:keepmq:second-factor"
	}
	return p
}

func newProblem(ctx context.Context, status int, detail string) *problem {
	p := &problem{
		ErrorModel: &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail},
		header:     http.Header{},
	}
	if id := requestID(ctx); id != "" {
		p.Instance = "urn:uuid:" + id
	}
	switch status {
	case http.StatusUnauthorized:
		p.header["Www-Authenticate"] = []string{`Bearer realm="keepmq"`, `Basic realm="keepmq", charset="UTF-8"`}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		p.header.Set("Retry-After", "1")
	}
	return p
}

// write answers with p outside of an operation.
func (p *problem) write(w http.ResponseWriter) {
	for k, v := range p.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p.ErrorModel) // the caller may be gone: nobody is left to be told
}

// hideValues finishes the problem documents that the checks against the
// document make: they get the number of the request, and lose the values they
// repeat, which can be secrets.
func hideValues(ctx huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	clean := *m
	clean.Errors = nil
	for _, e := range m.Errors {
		clean.Errors = append(clean.Errors, &huma.ErrorDetail{Message: e.Message, Location: e.Location})
	}
	if id := requestID(ctx.Context()); id != "" {
		clean.Instance = "urn:uuid:" + id
	}
	return &clean, nil
}
