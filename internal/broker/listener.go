package broker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/door"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/poll"
	"github.com/keepmq/keepmq/internal/quota"
)

// harden returns base with what the broker insists on: TLS 1.2 or better, and
// client certificates of our own authorities or none.
func harden(base *tls.Config) *tls.Config {
	c := base.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.ClientAuth = tls.VerifyClientCertIfGiven
	if c.ClientCAs == nil {
		c.ClientCAs = x509.NewCertPool() // not the system's: strangers are not our clients
	}
	c.NextProtos = []string{"mqtt", "http/1.1"} // no h2: its first bytes are not told apart
	if get := base.GetConfigForClient; get != nil {
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			other, err := get(h)
			if err != nil || other == nil {
				return nil, err
			}
			other = other.Clone()
			other.GetConfigForClient = nil
			return harden(other), nil
		}
	}
	return c
}

// A peer is the other end of a TLS connection.
type peer struct {
	net.Conn // TLS
	b        *Broker
	raw      net.Conn   // below TLS
	wire     *poll.Conn // raw, if it can be polled
	front    []byte     // read while sniffing, and to be read again
	cert     *x509.Certificate
	name     string // server name the client asked for
	remote   netip.AddrPort
	guest    *door.Guest
	deadline time.Time // for CONNECT
	closed   sync.Once
	claimed  bool // it belongs to a conn or to an HTTP request; guarded by b.mu

	messages, bytes quota.Bucket // what came over HTTP; a conn has its own
}

func (p *peer) Read(dst []byte) (int, error) {
	if len(p.front) > 0 {
		n := copy(dst, p.front)
		if p.front = p.front[n:]; len(p.front) == 0 {
			p.front = nil
		}
		return n, nil
	}
	return p.Conn.Read(dst)
}

// Close says goodbye in TLS and closes.
func (p *peer) Close() error {
	err := p.Conn.Close()
	p.gone()
	return err
}

// abort closes without a word, and at once.
func (p *peer) abort() {
	p.raw.Close()
	p.gone()
}

// leave says goodbye in TLS, within the write deadline, and closes. A client that
// sees the connection cut without it takes that for an attack or an accident.
func (p *peer) leave() {
	if t, ok := p.Conn.(*tls.Conn); ok {
		_ = t.CloseWrite() // it is closed in any case
	}
	if p.wire != nil {
		_ = p.wire.Drain()
	}
	p.abort()
}

func (p *peer) gone() {
	p.closed.Do(func() {
		p.guest.Gone()
		p.b.mu.Lock()
		delete(p.b.peers, p)
		p.b.mu.Unlock()
	})
}

// claim marks the peer as taken by a conn or by HTTP.
func (p *peer) claim() {
	p.b.mu.Lock()
	p.claimed = true
	p.b.mu.Unlock()
}

// judge tells the door whether client authenticated.
func (p *peer) judge(client string, err error) {
	switch {
	case err == nil:
		p.guest.Welcome(client)
		return
	case errors.Is(err, errEnded), errors.As(err, new(*mqtt.Error)): // its own doing
	case errs.CodeOf(err) == errs.Unauthenticated:
		p.guest.Refused(client)
	case slices.Contains([]errs.Code{errs.Internal, errs.Exhausted, errs.Unavailable}, errs.CodeOf(err)):
		p.guest.Excuse()
	}
	p.guest.Leave()
}

// mayTry waits until the credentials of client may be looked at, when too many
// that came from the same address were refused. waits is told how long. With a
// certificate there is nothing to guess.
func (p *peer) mayTry(ctx context.Context, client string, waits func(time.Duration)) error {
	if p.cert != nil {
		return nil
	}
	delay, err := p.guest.Delay(client)
	if err != nil {
		p.guest.Leave()
		return errs.Wrap(errs.Exhausted, err, "too many credentials from this address were refused; try again later")
	}
	if delay > 0 {
		p.guest.Leave()
		waits(delay)
		if !wait(ctx, delay) {
			return errEnded
		}
	}
	return nil
}

func (b *Broker) accept(ln net.Listener) error {
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if b.isDraining() {
				return nil
			}
			if ne := net.Error(nil); errors.As(err, &ne) && !errors.Is(err, net.ErrClosed) {
				// Out of files, most likely. Waiting helps, ending would not.
				pause = min(max(2*pause, 5*time.Millisecond), time.Second)
				b.log.Error("cannot accept a connection", "err", err)
				if wait(b.watch, pause) {
					continue
				}
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		pause = 0
		b.metrics.accepted.Add(1)
		if tc, ok := nc.(*tls.Conn); ok {
			nc = tc.NetConn() // the handshake is ours, and has not begun
		}
		g := b.door.Arrive(b.pollable(nc))
		if g == nil {
			continue
		}
		if !b.spawn(func() { b.welcome(g) }) {
			g.Close()
			return nil
		}
	}
}

// wait waits for d and reports whether ctx is still alive.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// welcome does the handshake and hands the connection to a fresh goroutine, for
// the handshake leaves a large stack behind.
func (b *Broker) welcome(g *door.Guest) {
	err := g.Admit()
	var p *peer
	if err == nil {
		p, err = b.handshake(g)
	}
	if err != nil {
		b.metrics.handshakeFailed.Add(1)
		g.Report("no TLS connection", err)
		g.Close()
		return
	}
	if !b.spawn(func() { b.route(p) }) {
		p.abort()
	}
}

func (b *Broker) handshake(g *door.Guest) (*peer, error) {
	tc := tls.Server(g, b.tls)
	if err := tc.Handshake(); err != nil {
		return nil, err
	}
	g.Seat()
	st := tc.ConnectionState()
	if st.Version < tls.VersionTLS12 {
		return nil, errors.New("TLS version is below 1.2")
	}
	p := &peer{Conn: tc, b: b, raw: g.Conn, guest: g, name: st.ServerName, deadline: time.Now().Add(g.Left())}
	p.wire, _ = g.Conn.(*poll.Conn)
	if len(st.VerifiedChains) > 0 {
		p.cert = st.PeerCertificates[0]
	}
	p.remote, _ = netip.ParseAddrPort(g.RemoteAddr().String())
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return nil, errors.New("server is shutting down")
	}
	b.peers[p] = struct{}{}
	return p, nil
}

// route finds out what a connection speaks.
func (b *Broker) route(p *peer) {
	p.SetReadDeadline(p.deadline)
	front := make([]byte, 0, 64)
	for {
		n, err := p.Conn.Read(front[len(front):cap(front)])
		front = front[:len(front)+n]
		switch sniff(front) {
		case speaksMQTT:
			p.SetReadDeadline(time.Time{})
			p.front = front
			b.serve(p, p)
			return
		case speaksHTTP:
			p.SetReadDeadline(time.Time{})
			p.front = front
			p.claim()
			if !b.web.give(p) {
				p.abort()
			}
			return
		case speaksOther:
			b.metrics.notMQTT.Add(1)
			p.guest.Report("neither MQTT nor HTTP", nil)
			p.Close()
			return
		}
		if err != nil {
			p.Close()
			return
		}
	}
}

// protocol is what the first bytes of a connection tell.
type protocol byte

const (
	speaksUnclear protocol = iota // more bytes are needed
	speaksMQTT
	speaksHTTP
	speaksOther
)

var httpMethods = []string{"GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "DELETE ", "PATCH "}

// sniff tells protocols apart: a CONNECT begins with 0x10, a request with its method.
func sniff(front []byte) protocol {
	if len(front) == 0 {
		return speaksUnclear
	}
	if front[0] == 0x10 {
		return speaksMQTT
	}
	for _, m := range httpMethods {
		n := min(len(m), len(front))
		if string(front[:n]) == m[:n] {
			if n == len(m) {
				return speaksHTTP
			}
			return speaksUnclear
		}
	}
	return speaksOther
}
