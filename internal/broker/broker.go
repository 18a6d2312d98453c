// Package broker is the server side of MQTT 5.0, 3.1.1 and 3.1.
//
// It takes connections, which are TLS 1.2 or better or nothing, finds out by
// their first bytes whether they speak MQTT or HTTP, and serves sessions: over
// TLS, over WebSocket, and messages one by one over HTTPS. What it acknowledges
// the engine has kept; what it delivers the client's grant allows at that
// moment; and when a grant is gone, so are the connection, the subscriptions
// and the will behind it.
//
// It does not decide who a client is (auth.Verifier does), does not keep
// messages (engine.Engine does), and opens no socket.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/door"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/poll"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/refusal"
)

// A Config is what a Broker is made of. Zero limits stand for their defaults.
type Config struct {
	Verifier auth.Verifier // required
	Engine   engine.Engine // required
	// TLS returns the server's certificates and, in ClientCAs, the authorities
	// of client certificates. Required. The broker sets the rest itself.
	TLS func() *tls.Config
	// Guard looks at messages on topics that a grant says are guarded. nil: such
	// messages are refused.
	Guard Guard
	// Registrar registers what a grant says may be. nil: nothing is.
	Registrar Registrar
	Log       *slog.Logger // nil: no log

	Limits           quota.Limits  // of clients, types and organisations; quota.Defaults()
	LimitLog         *quota.Log    // nil: nobody looks who reached a limit
	Refusals         *refusal.Log  // nil: nobody looks who was refused what
	Refused          func(Refused) // told of every refused CONNECT that the Verifier was not asked about, or let in; nil: nobody
	Connected        func(Connect) // told of every client that connected, and of takeovers; nil: nobody
	MaxConnections   int           // open at one time; a million
	ConnectTimeout   time.Duration // how long a client may take, in all, until CONNECT has come; 10 s
	QueueTimeout     time.Duration // how long a connection may wait for a turn to be served; 30 s
	MaxKeepAlive     time.Duration // longer ones are shortened; 0: no bound
	MaxSessionExpiry time.Duration // of a session without a connection; 30 days
	MaxHandshakes    int           // connections with TLS and without CONNECT at one time; 1024
	Address          door.Address  // what one address may have
	TopicAliases     int           // topic aliases in use on one connection, each way; 32
	WriteTimeout     time.Duration // for a client that reads nothing; 30 s
	// ResponseTopic begins the response information given to clients that ask
	// for it and may subscribe below it; "response/".
	ResponseTopic string
}

// preConnect bounds the bytes of a CONNECT, which come from a stranger: a will of
// the largest size fits. Memory follows what arrives, not what is announced.
const preConnect = 128 << 10

// A Broker serves MQTT. Make one with New.
type Broker struct {
	cfg     Config
	log     *slog.Logger
	tls     *tls.Config
	metrics metrics
	http    *http.Server
	web     *handoff            // connections for http
	door    *door.Door          // what connections come through
	poll    func() *poll.Poller // made when it is needed; nil: every connection has a goroutine
	changes atomic.Uint64       // changes of grants seen so far

	watch     context.Context // ends when Shutdown begins
	stopWatch context.CancelFunc
	life      context.Context // ends when the last connection has ended
	stopLife  context.CancelFunc
	wg        sync.WaitGroup // everything that runs

	mu        sync.Mutex // guards the fields below
	started   bool
	draining  bool
	listeners map[net.Listener]struct{}
	peers     map[*peer]struct{}
	conns     map[*conn]struct{}
	sessions  map[engine.SessionID]*conn
	tenants   map[auth.OrgID]*tenant
	wills     map[engine.SessionID]*delayedWill
	farewells chan struct{} // holds one for each polled connection that ends
}

// New returns a Broker. It does no I/O; Serve starts it.
func New(cfg Config) (*Broker, error) {
	if cfg.Verifier == nil || cfg.Engine == nil || cfg.TLS == nil {
		return nil, errors.New("broker: verifier, engine and tls are required")
	}
	base := cfg.TLS()
	if base == nil {
		return nil, errors.New("broker: no tls configuration")
	}
	cfg.setDefaults()
	b := &Broker{
		cfg: cfg, log: cfg.Log, tls: harden(base),
		web: newHandoff(),
		door: door.New(door.Config{
			MaxConnections: cfg.MaxConnections, MaxHandshakes: cfg.MaxHandshakes,
			ConnectTimeout: cfg.ConnectTimeout, QueueTimeout: cfg.QueueTimeout,
			Address: cfg.Address, Log: cfg.Log,
		}),
		listeners: map[net.Listener]struct{}{},
		peers:     map[*peer]struct{}{},
		conns:     map[*conn]struct{}{},
		sessions:  map[engine.SessionID]*conn{},
		tenants:   map[auth.OrgID]*tenant{},
		wills:     map[engine.SessionID]*delayedWill{},
		farewells: make(chan struct{}, maxFarewells),
	}
	b.watch, b.stopWatch = context.WithCancel(context.Background())
	b.life, b.stopLife = context.WithCancel(context.Background())
	b.http = b.newHTTP()
	b.poll = sync.OnceValue(b.openPoller)
	return b, nil
}

func (c *Config) setDefaults() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	def := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	c.Limits = c.Limits.Over(quota.Defaults())
	def(&c.TopicAliases, 32)
	c.TopicAliases = min(c.TopicAliases, 65535)
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.MaxSessionExpiry <= 0 {
		c.MaxSessionExpiry = 30 * 24 * time.Hour
	}
	if c.WriteTimeout <= 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.ResponseTopic == "" {
		c.ResponseTopic = "response/"
	}
}

// TLS returns the configuration with which the broker accepts connections, for
// whoever opens its listeners.
func (b *Broker) TLS() *tls.Config { return b.tls }

// Serve accepts connections from ln until Shutdown, when it returns nil. The
// connections are TLS, made with TLS() and before their handshake, or become so:
// the broker reads nothing else. It may be called for several listeners.
func (b *Broker) Serve(ln net.Listener) error {
	defer ln.Close()
	if err := b.start(ln); err != nil {
		return err
	}
	return b.accept(ln)
}

// start registers a listener and, for the first one, starts what runs in the
// background.
func (b *Broker) start(ln net.Listener) error {
	b.mu.Lock()
	if b.draining {
		b.mu.Unlock()
		return errors.New("broker: is shut down")
	}
	b.listeners[ln] = struct{}{}
	first := !b.started
	b.started = true
	b.mu.Unlock()
	if !first {
		return nil
	}
	if err := b.recoverWills(b.watch); err != nil {
		return fmt.Errorf("recover wills: %w", err)
	}
	seq := b.cfg.Verifier.Changes(b.watch) // before anybody is let in
	b.spawn(func() { b.watchChanges(seq) })
	b.spawn(func() {
		if err := b.http.Serve(b.web); err != nil && !errors.Is(err, http.ErrServerClosed) {
			b.log.Error("http messaging ended", "err", err)
		}
	})
	return nil
}

// spawn runs f in a goroutine that Shutdown waits for. After Shutdown has begun
// it runs nothing and returns false.
func (b *Broker) spawn(f func()) bool {
	if !b.join() {
		return false
	}
	go func() {
		defer b.wg.Done()
		f()
	}()
	return true
}

// join has Shutdown wait for the caller, until it calls wg.Done.
func (b *Broker) join() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return false
	}
	b.wg.Add(1)
	return true
}

// Shutdown stops accepting, ends every connection with Server shutting down,
// publishes the wills that are due and waits for all of it. Wills with a delay
// stay in the engine for the next start. If ctx ends first, connections are cut
// and its error is returned.
func (b *Broker) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	b.draining = true
	for ln := range b.listeners {
		ln.Close()
	}
	conns := slices.Collect(maps.Keys(b.conns))
	strangers := make([]*peer, 0, len(b.peers))
	for p := range b.peers {
		if !p.claimed {
			strangers = append(strangers, p)
		}
	}
	for id := range b.wills {
		b.removeWill(id)
	}
	b.mu.Unlock()

	b.stopWatch()
	b.door.Close()
	for _, c := range conns {
		c.end(endShutdown)
	}
	for _, p := range strangers {
		p.abort() // has not said who it is: there is nobody to tell
	}
	err := b.http.Shutdown(ctx)
	done := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		b.cut()
		<-done
	}
	b.stopLife()
	b.poll().Close()
	return err
}

// cut closes all connections under whatever they are doing.
func (b *Broker) cut() {
	b.mu.Lock()
	peers := make([]*peer, 0, len(b.peers))
	for p := range b.peers {
		peers = append(peers, p)
	}
	b.mu.Unlock()
	b.stopLife()
	for _, p := range peers {
		p.abort()
	}
	b.http.Close()
}
