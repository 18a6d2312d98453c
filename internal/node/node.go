// Package node builds the parts of KeepMQ and runs them in one process.
//
// It is the only package that knows all others, and the only one that opens
// sockets, each of which speaks TLS 1.2 or newer. Open creates on the first
// start what an installation needs, each step once and whole, so that an
// interrupted first start goes on where it was.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keepmq/keepmq/internal/alert"
	"github.com/keepmq/keepmq/internal/api"
	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/broker"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/config"
	"github.com/keepmq/keepmq/internal/console"
	"github.com/keepmq/keepmq/internal/country"
	"github.com/keepmq/keepmq/internal/door"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/home"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/servercert"
	"github.com/keepmq/keepmq/internal/store"
)

// drainTime is how long a graceful stop may take.
const drainTime = 20 * time.Second

// A Node is a running, or ready to run, KeepMQ.
type Node struct {
	config config.Config
	log    *slog.Logger

	folder   *folder
	db       store.DB
	lost     <-chan struct{} // closed when another process has taken the state; nil: never
	ring     *keyring.Ring
	audit    *audit.Log
	ca       *ca.CA
	registry *registry.Registry
	engine   *embedded.Engine
	broker   *broker.Broker
	homes    *home.Keeper
	alerts   *alert.Service
	limitLog *quota.Log
	https    *http.Server

	countries *country.Database // nil: there is none

	certificates  *servercert.Server
	mqttTickets   tickets
	httpsTickets  tickets
	mqttListener  net.Listener
	httpsListener net.Listener
	stopping      chan struct{} // closed when Run begins to drain
	first         registry.BootstrapResult
}

// Open builds everything in the data folder that c names, and opens the two
// ports. version is the program's. It does not serve yet.
func Open(ctx context.Context, c config.Config, version string, log *slog.Logger) (_ *Node, err error) {
	n := &Node{config: c, log: log, limitLog: quota.NewLog(nil), stopping: make(chan struct{})}
	n.mqttTickets.purpose, n.httpsTickets.purpose = "mqtt", "https"
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	if n.folder, err = openFolder(c.Data); err != nil {
		return nil, err
	}
	if err := n.openState(ctx); err != nil {
		return nil, err
	}
	if err := n.openCertificates(ctx); err != nil {
		return nil, err
	}
	if err := n.renewCertificate(ctx); err != nil {
		return nil, err
	}
	if err := n.renewTickets(ctx, time.Now()); err != nil {
		return nil, err
	}
	if err := n.folder.write("ca.pem", n.ca.RootPEM(), 0o644); err != nil {
		return nil, err
	}
	if err := n.openFaces(version); err != nil {
		return nil, err
	}
	if n.mqttListener, err = listen(ctx, "mqtt.listen", c.MQTT.Listen, n.broker.TLS(), 0); err != nil {
		return nil, err
	}
	if n.httpsListener, err = listen(ctx, "https.listen", c.HTTPS.Listen, n.tlsConfig(&n.httpsTickets, n.certificates.Protocols("h2", "http/1.1")...), maxHTTPS()); err != nil {
		return nil, err
	}
	// Last, so that nothing can fail between making the first secrets and
	// handing them out.
	if n.first, err = n.registry.Bootstrap(ctx); err != nil {
		return nil, err
	}
	if n.first.Already && !n.first.SignedIn { // they were made, but perhaps never seen
		n.first, err = n.registry.Reissue(ctx)
	}
	return n, err
}

// maxConnections is how many clients may be connected: eight of ten files, so
// that enough is left for HTTPS and for what is kept.
func (n *Node) maxConnections() int {
	if n.config.MQTT.MaxConnections > 0 {
		return n.config.MQTT.MaxConnections
	}
	return max(files()*8/10, 64)
}

// maxHTTPS is how many connections the console and the API may have.
func maxHTTPS() int { return max(files()/10, 32) }

// files returns how many files the process may open.
func files() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<30))
}

// openState opens what is kept: SQL state, keys, authorities, messages.
func (n *Node) openState(ctx context.Context) (err error) {
	if err := n.openStore(ctx); err != nil {
		return err
	}
	if n.ring, err = keyring.Open(ctx, n.folder.path, n.db); err != nil {
		return err
	}
	if n.audit, err = audit.Open(ctx, n.db, n.ring); err != nil {
		return err
	}
	if n.ca, err = ca.Open(ctx, n.db, n.ring); err != nil {
		return err
	}
	c := registry.Config{DB: n.db, Ring: n.ring, Issuer: n.ca, Log: n.log, Domain: n.config.Domain, Names: slices.Concat(n.config.Names, n.config.TLS.ACME.Names),
		CertificatesChanged: func(ctx context.Context) error { return n.certificates.Changed(ctx) },
		SignedIn:            func(s registry.Session, before []registry.Session) { n.alerts.NoteSession(s, before) },
		Refused:             func(r registry.NotedRefusal) { n.alerts.NoteRefusal(r) }}
	if file := n.config.CountryDatabase; file != "" {
		if n.countries, err = country.Open(file); err != nil {
			return err
		}
		c.Country = n.countries.Of
	}
	n.registry = registry.New(c)
	if err := n.openAlerts(); err != nil {
		return err
	}
	n.engine, err = embedded.Open(ctx, embedded.Options{
		Dir:      n.folder.join("messages"),
		Log:      n.log,
		LimitLog: n.limitLog,
		Sealer:   n.sealer,
		Ended:    func(id engine.SessionID) { n.broker.SessionEnded(id) },
	})
	return err
}

func (n *Node) sealer(ctx context.Context, org auth.OrgID) (embedded.Sealer, error) {
	return n.ring.Sealer(ctx, org)
}

// openFaces builds what clients and people talk to.
func (n *Node) openFaces(version string) (err error) {
	m := n.config.MQTT
	n.homes = home.New(home.Config{Engine: n.engine, Log: n.log, Orgs: n.registry.Homes})
	n.broker, err = broker.New(broker.Config{
		Verifier:         n.registry,
		Engine:           n.engine,
		TLS:              func() *tls.Config { return n.tlsConfig(&n.mqttTickets) },
		Guard:            n.homes,
		Registrar:        n.registry,
		Log:              n.log,
		Limits:           n.config.Limits,
		LimitLog:         n.limitLog,
		Refusals:         n.registry.Refusals,
		Refused:          n.noteRefused,
		Connected:        n.noteConnect,
		MaxConnections:   n.maxConnections(),
		ConnectTimeout:   m.ConnectTimeout,
		QueueTimeout:     m.QueueTimeout,
		MaxHandshakes:    m.MaxHandshakes,
		Address:          door.Address(m.Address),
		MaxKeepAlive:     m.MaxKeepAlive,
		MaxSessionExpiry: m.MaxSessionExpiry,
	})
	if err != nil {
		return err
	}
	through, err := n.signInClient()
	if err != nil {
		return err
	}
	pages, err := console.New(console.Config{OIDC: through, Seal: n.ring, Domain: n.config.Domain, Registry: n.registry, Engine: n.engine, Audit: n.audit, Log: n.log, Stop: n.stopping,
		Limits: n.config.Limits, Usage: n.usage, LimitEvents: n.limitEvents})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	rest := api.New(api.Config{Registry: n.registry, Alerts: n.alerts, Audit: n.audit, AuditDays: n.config.Audit.KeepDays, CA: n.ca.RootPEM(), Chain: n.ca.Chain, Ready: n.ready, Log: n.log, Version: version,
		Limits: n.config.Limits, Usage: n.usage, LimitEvents: n.limitEvents, Certificates: n.certificates.Sources})
	mux.Handle("/api/", rest)
	mux.Handle("/.well-known/est/", rest)
	mux.Handle("/healthz", rest)
	mux.Handle("/readyz", rest)
	mux.Handle("/", pages)
	n.https = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// First returns what the first start created. Its secrets are there only in
// the process that created them.
func (n *Node) First() registry.BootstrapResult { return n.first }

// HasEdge reports whether this machine is an edge device of its own server.
func (n *Node) HasEdge() bool { return n.config.Edge.Enabled }

// Host returns the name under which people reach the node.
func (n *Node) Host() string { return n.config.Domain }

// CAFile returns the file with the authority that clients need to trust.
func (n *Node) CAFile() string { return n.folder.join("ca.pem") }

// MQTTPort returns the port of MQTT, WebSocket and HTTPS messaging.
func (n *Node) MQTTPort() int { return n.mqttListener.Addr().(*net.TCPAddr).Port }

// HTTPSPort returns the port of the console and the API.
func (n *Node) HTTPSPort() int { return n.httpsListener.Addr().(*net.TCPAddr).Port }

// ready reports whether the node can do its work: keep messages, and know who
// may send them.
func (n *Node) ready(ctx context.Context) error {
	if err := n.engine.Health(); err != nil {
		return err
	}
	return n.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		var one int
		return tx.QueryRowContext(ctx, `SELECT 1`).Scan(&one)
	})
}

// Run serves until ctx ends, then drains: it stops accepting, tells every
// client, and returns when all is written and closed. It is called once.
func (n *Node) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var parts sync.WaitGroup
	part := func(name string, run func() error) {
		parts.Go(func() {
			if err := run(); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("mqtt", func() error { return n.broker.Serve(n.mqttListener) })
	part("https", func() error {
		if err := n.https.Serve(n.httpsListener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	part("state", func() error { return n.keepStore(ctx) })
	part("certificate", func() error { n.keepCertificate(ctx); return nil })
	part("server certificates", func() error { n.certificates.Run(ctx); return nil })
	part("janitor", func() error { n.homes.Run(ctx); return nil })
	part("refusals", func() error { n.registry.KeepRefusals(ctx); return nil })
	part("credentials", func() error { n.registry.KeepUses(ctx); return nil })
	part("locks", func() error { n.registry.EndLocks(ctx); return nil })
	part("unusual activity", func() error { n.alerts.Watch(ctx, n.broker.Traffic); return nil })
	part("alerts", func() error { n.alerts.Run(ctx); return nil })
	part("audit", func() error { n.keepAudit(ctx); return nil })
	part("memory", func() error { giveBack(ctx); return nil })
	if n.config.Edge.Enabled {
		part("edge", func() error { n.keepEdge(ctx); return nil })
	}
	<-ctx.Done()
	cause := context.Cause(ctx)
	if errors.Is(cause, context.Canceled) {
		cause = nil
	}
	close(n.stopping)
	n.log.Info("stopping: telling clients and writing what is left")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := errors.Join(cause, n.broker.Shutdown(drain), n.https.Shutdown(drain))
	parts.Wait()
	last, stopLast := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stopLast()
	if e := n.registry.StoreUses(last); e != nil { // nobody connects any more
		n.log.Error("when tokens were last used is not stored", "err", e)
	}
	return errors.Join(err, n.Close())
}

// Close closes what Open opened. Run does it by itself.
func (n *Node) Close() error {
	var err error
	for _, l := range []net.Listener{n.mqttListener, n.httpsListener} {
		if l != nil {
			if e := l.Close(); !errors.Is(e, net.ErrClosed) {
				err = errors.Join(err, e)
			}
		}
	}
	if n.engine != nil {
		err = errors.Join(err, n.engine.Close())
		n.engine = nil
	}
	if n.db != nil {
		err = errors.Join(err, n.db.Close())
		n.db = nil
	}
	if n.countries != nil {
		err = errors.Join(err, n.countries.Close())
		n.countries = nil
	}
	if n.folder != nil {
		err = errors.Join(err, n.folder.close())
		n.folder = nil
	}
	return err
}
