// Package client is a small MQTT 5 and 3.1.1 client. It speaks TLS only: there
// is no way to connect without it.
//
// A [Client] is one connection. It never reconnects by itself: when [Client.Done]
// is closed, [Client.Err] says why, and the owner decides about [Dial]ing again.
// Every method may be called by many goroutines at once. Whoever dials must
// call [Client.Close] or [Client.Abort], also after the connection has ended:
// they return when nothing of the client runs any more.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// connectTimeout bounds TCP, TLS and CONNECT together.
const connectTimeout = 30 * time.Second

// closeTimeout bounds the wait for the server to close after DISCONNECT.
const closeTimeout = 2 * time.Second

// Client is one connection to a server.
type Client struct {
	conn    *tls.Conn
	version mqtt.Version
	server  Server
	session *Session
	aliases []string // topic aliases of the server; used by the reader alone

	out     outbound
	inbox   chan Message
	quota   chan struct{} // holds one token for each publish the server still allows
	closing chan struct{} // closed when Close or Abort begins
	closed  sync.Once
	parted  atomic.Bool   // DISCONNECT has been written
	done    chan struct{} // closed when the connection has ended
	workers sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	flying map[uint16]*flight
	lastID uint16
	err    error
}

// Server is what the server said in its CONNACK, with the defaults of the
// standard filled in.
type Server struct {
	SessionPresent    bool
	ClientID          string // as configured, or as the server assigned it
	KeepAlive         time.Duration
	ReceiveMaximum    uint16
	MaximumQoS        byte
	MaximumPacketSize uint32
	Properties        mqtt.Properties
}

// Server returns what the server said when it accepted the connection.
func (c *Client) Server() Server { return c.server }

// Version returns the protocol version of the connection.
func (c *Client) Version() mqtt.Version { return c.version }

// Done is closed when the connection has ended, for whatever reason.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns nil while the connection lives, [ErrClosed] after Close or Abort,
// a [*Refusal] if the server sent DISCONNECT, and otherwise what broke it.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Dial connects and waits for the server's answer. A refusal is a [*Refusal].
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Address, err)
	}
	conn := tls.Client(raw, cfg.tlsConfig())
	c, err := handshake(ctx, conn, cfg)
	if err != nil {
		raw.Close() //nolint:errcheck // the connection failed already
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return nil, fmt.Errorf("connect to %s: %w", cfg.Address, err)
	}
	return c, nil
}

// handshake does TLS, sends CONNECT, reads CONNACK and starts the workers.
func handshake(ctx context.Context, conn *tls.Conn, cfg Config) (*Client, error) {
	// The context closes the connection, which ends whatever waits on it.
	stop := context.AfterFunc(ctx, func() { conn.NetConn().Close() }) //nolint:errcheck // nobody is left to tell
	defer stop()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if _, err := conn.Write(cfg.connect().Append(nil, cfg.Version)); err != nil {
		return nil, fmt.Errorf("send CONNECT: %w", err)
	}
	c := &Client{
		conn: conn, version: cfg.Version, session: cfg.Session,
		aliases: make([]string, cfg.TopicAliasMaximum),
		inbox:   make(chan Message, cfg.Buffer),
		closing: make(chan struct{}), done: make(chan struct{}),
		flying: map[uint16]*flight{},
	}
	in := &input{conn: conn}
	r := mqtt.NewReader(in, cfg.MaxPacketSize)
	if err := c.accept(r, cfg); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, ctx.Err()
	}
	in.patience = c.server.KeepAlive * 3 / 2
	c.out.init()
	c.workers.Go(func() { c.read(r) })
	c.workers.Go(c.write)
	return c, nil
}

// accept reads the CONNACK.
func (c *Client) accept(r *mqtt.Reader, cfg Config) error {
	p, err := r.Packet(c.version)
	if err != nil {
		return fmt.Errorf("read CONNACK: %w", ended(err))
	}
	switch p := p.(type) {
	case *mqtt.Connack:
		if p.Code != mqtt.Success {
			return connectRefusal(p, c.version)
		}
		c.server = newServer(p, cfg)
		c.quota = make(chan struct{}, c.server.ReceiveMaximum)
		for range c.server.ReceiveMaximum {
			c.quota <- struct{}{}
		}
		if !p.SessionPresent {
			c.session.reset()
		}
		return nil
	case *mqtt.Disconnect:
		return disconnectRefusal(p)
	}
	return fmt.Errorf("read CONNACK: the server answered with %T", p)
}

func newServer(p *mqtt.Connack, cfg Config) Server {
	q := &p.Properties
	s := Server{
		SessionPresent:    p.SessionPresent,
		ClientID:          q.AssignedClientID.Or(cfg.ClientID),
		KeepAlive:         time.Duration(cfg.keepAlive()) * time.Second,
		ReceiveMaximum:    q.ReceiveMaximum.Or(mqtt.DefaultReceiveMaximum),
		MaximumQoS:        q.MaximumQoS.Or(mqtt.MaxQoS),
		MaximumPacketSize: q.MaximumPacketSize.Or(mqtt.MaxPacketSize),
		Properties:        p.Properties,
	}
	if v, ok := q.ServerKeepAlive.Get(); ok {
		s.KeepAlive = time.Duration(v) * time.Second // [MQTT-3.1.2-21]
	}
	return s
}

// Close sends what is waiting and then DISCONNECT, so that the server forgets
// the will, and waits until nothing of the client runs any more. It returns
// nil if the DISCONNECT went out, and otherwise why the connection had ended.
func (c *Client) Close(ctx context.Context) error {
	return c.Disconnect(ctx, mqtt.Disconnect{})
}

// Disconnect is Close with a DISCONNECT of the caller's choice, for example
// one that asks for the will or that changes the session's expiry.
func (c *Client) Disconnect(ctx context.Context, p mqtt.Disconnect) error {
	c.closed.Do(func() { close(c.closing) })
	c.out.finish(p.Append(nil, c.version))
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	select {
	case <-c.done: // the server closed in answer, or the connection was dead
	case <-ctx.Done():
		c.end(ErrClosed)
	}
	c.workers.Wait()
	if err := c.Err(); !errors.Is(err, ErrClosed) || !c.parted.Load() {
		return err
	}
	return nil
}

// Abort cuts the connection as a power failure would: no DISCONNECT, so the
// server publishes the will. It returns when nothing of the client runs.
func (c *Client) Abort() {
	c.closed.Do(func() { close(c.closing) })
	c.end(ErrClosed)
	c.workers.Wait()
}

// end ends the connection once: err stays as its reason, and everybody who
// waits is told.
func (c *Client) end(err error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err
	flying := c.flying
	c.flying = nil
	c.mu.Unlock()
	// Not conn.Close: it waits for a peer that may be gone to take an alert.
	c.conn.NetConn().Close() //nolint:errcheck // the connection is given up
	close(c.done)
	for _, f := range flying {
		f.fail(err)
	}
}
