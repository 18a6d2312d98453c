// Package api is the REST face of KeepMQ: everything under /api/v1, and the two
// health checks.
//
// It promises that every answer of an operation is JSON that the OpenAPI
// document at /api/v1/openapi.json describes, and every refusal a problem
// document (RFC 9457) that says what is wrong without telling what the caller
// may not know. A request is authenticated before any of it is read, and what
// it may do is decided by the registry alone.
//
// It has no listener. The server in front of it must speak TLS only and set
// ReadHeaderTimeout (10 s), ReadTimeout (30 s), IdleTimeout (2 min) and
// MaxHeaderBytes (16 KiB); it must ask for client certificates without
// requiring them (tls.VerifyClientCertIfGiven) for /api/v1/renew to work. It
// must not set a WriteTimeout when it also serves the console, whose event
// stream has no end; the operations here bound themselves.
package api

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/keepmq/keepmq/internal/alert"
	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/servercert"
)

const (
	base    = "/api/v1"
	maxBody = 64 << 10         // bytes of a request body; a certificate request needs about 2,000
	maxURL  = 4 << 10          // bytes of path and query
	maxTime = 30 * time.Second // for one operation
)

// A Config names the parts the API stands on.
type Config struct {
	Registry *registry.Registry
	Alerts   *alert.Service
	Audit    *audit.Log
	// AuditDays is for how many days texts of audit records are kept where
	// nothing else was set; 0: for ever.
	AuditDays int
	CA        []byte // certificates of our authorities, PEM; given to everyone
	// Chain returns the certificates between those that are issued now and the root.
	// nil func: there are none.
	Chain   func() []*x509.Certificate
	Ready   func(context.Context) error // nil when the server can do its work; nil func: always
	Log     *slog.Logger
	Version string // of the server, for the OpenAPI document

	Limits quota.Limits // what holds for everybody; zero: quota.Defaults()
	// Usage returns how much of its limits an organisation uses now or, unless
	// typ is empty, the devices of a type. nil func: nothing is counted.
	Usage func(ctx context.Context, org auth.OrgID, typ string) (map[quota.Limit]int64, error)
	// Certificates returns the server's certificates. nil func: there are none to show.
	Certificates func() []servercert.Source
	// LimitEvents returns who reached which limit, latest first. nil func: nobody.
	LimitEvents func(auth.OrgID) []quota.Event
}

type server struct {
	registry *registry.Registry
	alerts   *alert.Service
	audit    *audit.Log
	keepDays int
	ca       []byte
	chain    func() []*x509.Certificate
	ready    func(context.Context) error
	log      *slog.Logger
	openapi  []byte

	certificates func() []servercert.Source

	limits      quota.Limits
	usage       func(context.Context, auth.OrgID, string) (map[quota.Limit]int64, error)
	limitEvents func(auth.OrgID) []quota.Event
}

// New returns the handler for /api/, /healthz and /readyz.
func New(c Config) http.Handler {
	s := &server{registry: c.Registry, alerts: c.Alerts, audit: c.Audit, keepDays: c.AuditDays, ca: c.CA, chain: c.Chain, ready: c.Ready, log: c.Log, certificates: c.Certificates,
		limits: c.Limits.Over(quota.Defaults()), usage: c.Usage, limitEvents: c.LimitEvents}
	if s.ready == nil {
		s.ready = func(context.Context) error { return nil }
	}
	if s.usage == nil {
		s.usage = func(context.Context, auth.OrgID, string) (map[quota.Limit]int64, error) { return nil, nil }
	}
	if s.limitEvents == nil {
		s.limitEvents = func(auth.OrgID) []quota.Event { return nil }
	}
	mux := http.NewServeMux()
	s.routes(mux, humago.NewWithPrefix(mux, base, document(c.Version)))
	return s.wrap(mux)
}

// document is the frame of the OpenAPI document. No page that shows it is
// served: the ready-made ones load scripts of third parties.
func document(version string) huma.Config {
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "KeepMQ",
				Version:     version,
				Description: "Organisations, device types, devices, API keys and the record of their changes.",
			},
			Servers: []*huma.Server{{URL: base}},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"person":      {Type: "http", Scheme: "bearer", Description: "The access token of a person, from sign-in."},
					"application": {Type: "http", Scheme: "basic", Description: "An API key and its token; good for its own organisation."},
					"device":      {Type: "mutualTLS", Description: "The device's present certificate."},
				},
			},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{hideValues},
	}
}
