package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// An uplink brings the spool's readings to the server: in order, none lost,
// none twice. It publishes with QoS 2 in a persistent session. The packet id
// follows from the reading's number, so that after a restart both sides mean
// the same reading, and a reading that the server has taken (PUBREC) is so
// recorded on disk before the server is told to forget its packet id (PUBREL).
type uplink struct {
	spool    *spool
	position position // the durable one
	sent     uint64   // what may have been sent, by this process or the last
	dial     func(context.Context) (*client.Client, error)
	topic    func(source string) string
	renewed  <-chan struct{} // there is a newer certificate: connect again
	log      *slog.Logger
	backoff  backoff
}

// packetID is never 0, and differs for any two readings within the window.
func packetID(seq uint64) uint16 { return uint16((seq-1)%mqtt.MaxPacketID + 1) }

func newUplink(s *spool, p position, u uplink) *uplink {
	u.spool, u.position = s, p
	u.sent = min(p.Completed+window, s.nextSeq()-1)
	return &u
}

// run keeps the uplink connected until ctx ends.
func (u *uplink) run(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		before := u.position.Completed
		err := u.connected(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue // to use a new certificate
		}
		if u.position.Completed != before {
			u.backoff.reset()
			told = ""
		}
		pause := u.backoff.next()
		if text := err.Error(); text != told { // the same once, not once a minute
			u.log.Warn("uplink: not connected; readings are kept on disk", "retry_in", pause, "err", err)
			told = text
		}
		select {
		case <-ctx.Done():
		case <-u.renewed:
		case <-time.After(pause):
		}
	}
}

// connected dials and serves one connection. It returns nil if ctx ended or a
// new certificate asks for a new connection.
func (u *uplink) connected(ctx context.Context) error {
	c, err := u.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Abort()
	if q := c.Server().MaximumQoS; q < 2 {
		return fmt.Errorf("the server offers QoS %d at most, and readings are published with QoS 2", q)
	}
	// Each reading under way waits for at most one answer.
	f := &flow{uplink: u, c: c, acks: make(chan client.Ack, window), limit: min(window, int(c.Server().ReceiveMaximum))}
	if err := f.resume(ctx); err != nil {
		return err
	}
	u.log.Info("uplink: connected", "client", c.Server().ClientID, "session_present", c.Server().SessionPresent)
	err = f.serve(ctx)
	if err == nil {
		// The answers that have come need not come again.
		return errors.Join(f.settle(), c.Close(context.WithoutCancel(ctx)))
	}
	return errors.Join(err, f.settle())
}

// backoff counts pauses between attempts.
type backoff struct {
	least, most time.Duration
	last        time.Duration
}

func (b *backoff) reset() { b.last = 0 }

// next returns a pause that doubles each time, half of it by chance, so that
// devices that lost the server together do not come back together.
func (b *backoff) next() time.Duration {
	b.last = min(max(2*b.last, b.least), b.most)
	return b.last/2 + rand.N(b.last/2+1)
}
