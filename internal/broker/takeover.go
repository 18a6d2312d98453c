package broker

import (
	"context"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
)

func (b *Broker) isDraining() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.draining
}

// register adds a connection that speaks MQTT, unless the broker shuts down.
func (b *Broker) register(c *conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return false
	}
	b.conns[c] = struct{}{}
	c.peer.claimed = true
	return true
}

// enter makes c the connection of its session. A former one is ended first,
// entirely, so that its last words come before the new one's first
// [MQTT-3.1.4-3].
func (b *Broker) enter(c *conn) error {
	for {
		b.mu.Lock()
		if b.draining {
			b.mu.Unlock()
			return protocolError(mqtt.ServerBusy, "the server is shutting down")
		}
		old := b.sessions[c.id]
		if old == nil {
			err := c.tenant.enter(c)
			if err == nil {
				b.sessions[c.id] = c
			}
			b.mu.Unlock()
			return err
		}
		b.mu.Unlock()
		b.metrics.takeovers.Add(1)
		c.tellConnected(true)
		old.end(endTakeover)
		select {
		case <-old.over:
		case <-c.ctx.Done():
			return errEnded
		}
	}
}

// forget is the opposite of register and enter.
func (b *Broker) forget(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
	if b.sessions[c.id] != c {
		return
	}
	delete(b.sessions, c.id)
	c.tenant.leave(c)
}

// covered returns the connections that a change of p concerns.
func (b *Broker) covered(p auth.Principal) []*conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []*conn
	if t := b.tenants[p.Org]; t != nil {
		for c := range t.conns {
			if p.Covers(c.id.Owner) {
				found = append(found, c)
			}
		}
	}
	return found
}

// claim claims a session for a connection. The will that an earlier connection
// left is not published if the session goes on in time, and at once if it ends
// here [MQTT-3.1.3-9].
func (b *Broker) claim(ctx context.Context, k engine.Claim) (engine.Claimed, error) {
	old := b.withdrawWill(k.ID)
	if old != nil && k.Clean {
		b.publishWill(ctx, old)
		old = nil
	}
	claimed, err := b.cfg.Engine.Claim(ctx, k)
	if err != nil && old != nil {
		b.scheduleWill(old)
	}
	return claimed, err
}
