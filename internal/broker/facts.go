package broker

import (
	"iter"

	"github.com/keepmq/keepmq/internal/auth"
)

// A Connect is a client that has connected, or is about to end another connection
// of its session.
type Connect struct {
	Who      auth.Principal
	Client   string
	Address  string
	Takeover bool
}

// tellConnected tells of a Connect. Who is told must not wait.
func (c *conn) tellConnected(takeover bool) {
	if c.b.cfg.Connected != nil {
		c.b.cfg.Connected(Connect{Who: c.id.Owner, Client: c.client(), Address: c.peer.remote.Addr().Unmap().String(), Takeover: takeover})
	}
}

// Traffic returns the devices and gateways that are connected, each with how many
// messages it has sent since Traffic was called last. It is for one caller, and
// holds up others for the length of one organisation's list at most.
func (b *Broker) Traffic() iter.Seq2[auth.Principal, int64] {
	b.mu.Lock()
	all := make([]*tenant, 0, len(b.tenants))
	for _, t := range b.tenants {
		all = append(all, t)
	}
	b.mu.Unlock()
	return func(yield func(auth.Principal, int64) bool) {
		for _, t := range all {
			sent := map[auth.Principal]int64{}
			for _, c := range b.ofType(t, "") {
				if k := c.id.Owner.Kind; k == auth.Device || k == auth.Gateway {
					sent[c.id.Owner] += int64(c.sent.Swap(0))
				}
			}
			for who, n := range sent {
				if !yield(who, n) {
					return
				}
			}
		}
	}
}
