// Package console is the web face of KeepMQ for people.
//
// Pages are made on the server and work as plain HTML; one small script of our
// own keeps readings up to date. It promises that no page loads or runs
// anything from elsewhere, that nothing a device sends is ever taken for
// markup, and that a page shows only what the registry lets the person behind
// it see, at the moment it is shown.
//
// It has no listener. The server in front of it must speak TLS only, set
// ReadHeaderTimeout, and set no WriteTimeout: the stream of readings has no
// end. It ends when Config.Stop is closed, so close that before Shutdown.
package console

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/oidc"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
)

// A Config names the parts the console stands on.
type Config struct {
	Registry *registry.Registry
	Engine   engine.Engine
	Audit    *audit.Log // nil: there is no page about the audit record
	Log      *slog.Logger
	// OIDC signs people in through the providers of their organisations, and Seal
	// seals what their browsers keep meanwhile. nil: there is no such sign-in.
	OIDC *oidc.Client
	Seal Sealer
	// Domain is the name that passkeys are for; empty: localhost.
	Domain string
	Stop   <-chan struct{} // closed when the server is about to stop; nil: never

	Limits quota.Limits // what holds for everybody; zero: quota.Defaults()
	// Usage returns how much of its limits an organisation uses now or, unless
	// typ is empty, the devices of a type; LimitEvents who reached which, latest
	// first. nil: there is no page about limits.
	Usage       func(ctx context.Context, org auth.OrgID, typ string) (map[quota.Limit]int64, error)
	LimitEvents func(auth.OrgID) []quota.Event
}

type server struct {
	registry *registry.Registry
	engine   engine.Engine
	record   *audit.Log
	log      *slog.Logger
	domain   string
	oidc     *oidc.Client
	seal     Sealer
	finished ended // attempts to sign in
	stop     <-chan struct{}
	pages    pages
	assets   map[string]asset
	streams  streams
	writeIn  time.Duration

	base        quota.Limits
	usage       func(context.Context, auth.OrgID, string) (map[quota.Limit]int64, error)
	limitEvents func(auth.OrgID) []quota.Event
}

// New returns the handler for every path that no other face answers. It fails
// only if its own templates are broken.
func New(c Config) (http.Handler, error) {
	s, err := newServer(c)
	if err != nil {
		return nil, err
	}
	return s.routes(), nil
}

func newServer(c Config) (*server, error) {
	pages, err := parsePages()
	if err != nil {
		return nil, err
	}
	assets, err := readAssets()
	if err != nil {
		return nil, err
	}
	return &server{
		registry: c.Registry, engine: c.Engine, record: c.Audit, domain: cmp.Or(c.Domain, "localhost"), oidc: c.OIDC, seal: c.Seal, log: c.Log, stop: c.Stop,
		pages: pages, assets: assets, streams: streams{person: map[string]int{}}, writeIn: writeIn,
		base: c.Limits.Over(quota.Defaults()), usage: c.Usage, limitEvents: c.LimitEvents,
	}, nil
}
