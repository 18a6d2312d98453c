package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
)

// listen opens the only kind of socket there is: one that speaks TLS. key names
// the setting that the address comes from.
func listen(ctx context.Context, key, address string, conf *tls.Config) (net.Listener, error) {
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
	return tls.NewListener(ln, conf), nil
}
