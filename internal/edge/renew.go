package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

const (
	renewLook  = 10 * time.Minute // between looks at the clock, which may be set
	renewRetry = time.Minute
	renewMost  = time.Hour
)

// A renewer keeps the device's certificate fresh.
type renewer struct {
	current *atomic.Pointer[tls.Certificate]
	renew   func(context.Context, *tls.Certificate) (*tls.Certificate, error)
	renewed chan<- struct{} // told when there is a new one; capacity 1
	log     *slog.Logger
}

// renewAt is two thirds into the certificate's life, a twentieth sooner or
// later by chance: devices that enrolled together do not renew together.
func renewAt(c *x509.Certificate, chance float64) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	return c.NotBefore.Add(time.Duration(float64(life) * (2.0/3 + (chance-0.5)/10)))
}

// run renews until ctx ends. A certificate that has expired cannot be renewed:
// that is reported, and the agent goes on keeping readings.
func (r *renewer) run(ctx context.Context) {
	b := backoff{least: renewRetry, most: renewMost}
	due := renewAt(r.current.Load().Leaf, rand.Float64())
	expired := false
	for {
		now := time.Now().Round(0) // the wall clock: a suspended machine's other one stands still
		cert := r.current.Load()
		switch {
		case now.After(cert.Leaf.NotAfter):
			if !expired {
				r.log.Error("the device's certificate has expired; readings are kept on disk until it is enrolled again: "+askForToken,
					"expired", cert.Leaf.NotAfter)
			}
			expired = true
		case !now.Before(due):
			expired = false
			next, err := r.renew(ctx, cert)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				due = now.Add(min(b.next(), max(cert.Leaf.NotAfter.Sub(now)/10, renewRetry)))
				r.log.Warn("the device's certificate is not renewed yet", "expires", cert.Leaf.NotAfter, "retry", due, "err", err)
				break
			}
			b.reset()
			r.current.Store(next)
			due = renewAt(next.Leaf, rand.Float64())
			r.log.Info("the device's certificate is renewed", "expires", next.Leaf.NotAfter)
			select {
			case r.renewed <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(renewLook, max(due.Sub(now), time.Second))):
		}
	}
}
