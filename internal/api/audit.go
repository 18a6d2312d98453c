package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/registry"
)

// AuditEvent is what happened.
type AuditEvent struct {
	Number  int64          `json:"number" doc:"Its place in the record, from 0."`
	Time    time.Time      `json:"time"`
	Org     string         `json:"org,omitempty"`
	Actor   string         `json:"actor" doc:"Who did it, as kind:org:id."`
	Action  string         `json:"action"`
	Target  string         `json:"target,omitempty"`
	Detail  map[string]any `json:"detail,omitempty"`
	Address string         `json:"address,omitempty" doc:"Where the request came from."`
	Request string         `json:"request,omitempty" doc:"The X-Request-Id of the request."`
}

func auditEvent(r audit.Record) AuditEvent {
	return AuditEvent{Number: r.Seq, Time: r.Time.UTC(), Org: string(r.Org), Actor: r.Actor, Action: r.Action,
		Target: r.Target, Detail: r.Detail, Address: r.Address, Request: r.RequestID}
}

// InAudit is what audit events are chosen by.
type InAudit struct {
	Org     string    `query:"org" pattern:"^[a-z0-9]{6}$" patternDescription:"an organisation id" doc:"Only this organisation. An administrator who names none gets everything."`
	Actor   string    `query:"actor" maxLength:"512" doc:"Who did it, as kind:org:id."`
	Action  string    `query:"action" maxLength:"512" doc:"A whole action such as device.create, or all of a kind with a dot at the end: device."`
	Target  string    `query:"target" maxLength:"512" doc:"What it was done to."`
	Address string    `query:"address" maxLength:"512" doc:"Where the request came from."`
	Request string    `query:"request" maxLength:"512" doc:"The X-Request-Id of the request."`
	From    time.Time `query:"from" doc:"Not earlier than this."`
	Until   time.Time `query:"until" doc:"Earlier than this."`
}

func (in InAudit) filter() audit.Filter {
	return audit.Filter{Actor: in.Actor, Action: in.Action, Target: in.Target, Address: in.Address, RequestID: in.Request,
		From: in.From, Until: in.Until}
}

func (s *server) listAudit(ctx context.Context, actor registry.Actor, in *struct {
	InPage
	InAudit
}) (*body[list[AuditEvent]], error) {
	scope, err := s.registry.MayReadAudit(ctx, actor, auth.OrgID(in.Org))
	if err != nil {
		return nil, err
	}
	records, next, err := s.audit.Search(ctx, scope, in.filter(), audit.Page{Limit: in.Limit, After: in.After})
	if err != nil {
		return nil, err
	}
	return newList(records, next, auditEvent), nil
}

// AuditCheckpoint is the signed state of the record.
type AuditCheckpoint struct {
	Checkpoint  string `json:"checkpoint" doc:"A C2SP checkpoint: keep it elsewhere, to prove later that nothing before it was changed."`
	VerifierKey string `json:"verifier_key" doc:"The public key of the checkpoints: keep it elsewhere, too."`
}

func (s *server) checkpoint(ctx context.Context, actor registry.Actor, in *struct {
	Org string `query:"org" pattern:"^[a-z0-9]{6}$" patternDescription:"an organisation id" doc:"Asked for by somebody of this organisation. It is the same checkpoint for everybody."`
}) (*body[AuditCheckpoint], error) {
	if _, err := s.registry.MayReadAudit(ctx, actor, auth.OrgID(in.Org)); err != nil {
		return nil, err
	}
	c, err := s.audit.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &body[AuditCheckpoint]{Body: AuditCheckpoint{Checkpoint: c, VerifierKey: s.audit.VerifierKey()}}, nil
}

// exportAudit streams the record, which may be long. What fails before the
// first line is a problem document; what fails later cuts the answer, which the
// verifier notices.
func (s *server) exportAudit(ctx context.Context, actor registry.Actor, in *struct {
	InAudit
	Format string  `query:"format" enum:"jsonl,csv" default:"jsonl" doc:"Lines of JSON, or CSV that is safe to be opened in a spreadsheet; both can be verified."`
	Sizes  []int64 `query:"checkpoint_size,explode" maxItems:"20" doc:"Prove that the export goes on from a checkpoint that was kept and is of so many records. Only an export that leaves out records needs it."`
}) (*huma.StreamResponse, error) {
	scope, err := s.registry.MayReadAudit(ctx, actor, auth.OrgID(in.Org))
	if err != nil {
		return nil, err
	}
	what := audit.Export{Scope: scope, Filter: in.filter(), Kind: in.Format, Sizes: in.Sizes}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		r, w := humago.Unwrap(ctx)
		out := &lasting{w: w, rc: http.NewResponseController(w), kind: contentTypes[in.Format]}
		err := s.audit.Export(r.Context(), out, what)
		switch {
		case err == nil:
		case !out.begun:
			s.problem(r.Context(), err).write(w)
		default:
			s.log.ErrorContext(r.Context(), "audit export cut", "request", requestID(r.Context()), "err", err)
			panic(http.ErrAbortHandler)
		}
	}}, nil
}

var contentTypes = map[string]string{audit.JSONLines: "application/x-ndjson", audit.CSV: "text/csv; charset=utf-8"}

// A lasting answer may take long as a whole, but not for any one of its parts.
type lasting struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	kind  string
	begun bool
}

func (l *lasting) Write(p []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", l.kind)
		l.w.Header().Set("Content-Disposition", "attachment")
	}
	if err := l.rc.SetWriteDeadline(time.Now().Add(maxTime)); err != nil {
		return 0, err
	}
	n, err := io.Copy(l.w, bytes.NewReader(p))
	return int(n), err
}
