package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

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

// A bounded listener has a number of connections open at most. Those that are
// one too many are closed at once: whoever floods one port does not take the
// files that the rest of the program needs.
type bounded struct {
	net.Listener
	places chan struct{} // holds one token per open connection
}

func bound(ln net.Listener, most int) net.Listener {
	return &bounded{Listener: ln, places: make(chan struct{}, most)}
}

func (b *bounded) Accept() (net.Conn, error) {
	for {
		nc, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case b.places <- struct{}{}:
			return &placed{Conn: nc, leave: sync.OnceFunc(func() { <-b.places })}, nil
		default:
			nc.Close()
		}
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
