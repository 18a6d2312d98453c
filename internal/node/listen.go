package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/keepmq/keepmq/internal/door"
	"github.com/keepmq/keepmq/internal/errs"
)

// listen opens the only kind of socket there is: one that speaks TLS. key names
// the setting that the address comes from.
// most bounds its open connections; 0: no bound.
func listen(ctx context.Context, key, address string, conf *tls.Config, most int) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	ln, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, errs.Wrap(errs.Conflict, err, fmt.Sprintf("%s: another program listens on %s; stop it, or choose another port", key, address))
	case errors.Is(err, syscall.EACCES):
		return nil, errs.Wrap(errs.Denied, err, fmt.Sprintf("%s: not allowed to listen on %s; ports below 1024 need the capability CAP_NET_BIND_SERVICE", key, address))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, errs.Wrap(errs.Invalid, err, fmt.Sprintf("%s: %s is not an address of this machine", key, address))
	case err != nil:
		return nil, fmt.Errorf("%s: listen on %s: %w", key, address, err)
	}
	if most > 0 {
		ln = bound(ln, most) // below TLS, so that HTTP sees a TLS connection
	}
	return tls.NewListener(ln, conf), nil
}

// A bounded listener has a number of connections open at most, and three
// quarters of them from one address. Those that are one too many are closed at
// once: whoever floods one port does not take the files that the rest of the
// program needs, nor, from one address, the room of all others.
type bounded struct {
	net.Listener
	most int

	mu   sync.Mutex // guards the fields below
	open int
	each map[netip.Addr]int // open, by address
}

func bound(ln net.Listener, most int) net.Listener {
	return &bounded{Listener: ln, most: most, each: map[netip.Addr]int{}}
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		nc, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		key := door.KeyOf(nc.RemoteAddr())
		if b.enter(key) {
			return &placed{Conn: nc, leave: sync.OnceFunc(func() { b.leave(key) })}, nil
		}
		nc.Close()
	}
}

func (b *bounded) enter(key netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= b.most || b.each[key] >= max(b.most*3/4, 1) {
		return false
	}
	b.open++
	b.each[key]++
	return true
}

func (b *bounded) leave(key netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	if b.each[key]--; b.each[key] == 0 {
		delete(b.each, key)
	}
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	leave func()
}

func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
