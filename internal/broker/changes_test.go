package broker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// Whoever is revoked is gone within a second, also if the check cannot be made.
func TestRevoked(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, tt := range []struct {
			err  error
			want mqtt.ReasonCode
		}{
			{errs.E(errs.Denied, "disabled"), mqtt.AdministrativeAction},
			{errs.E(errs.Unauthenticated, "token was rotated"), mqtt.NotAuthorized},
			{errs.E(errs.Unavailable, "try again"), mqtt.AdministrativeAction},
			{errors.New("store is down"), mqtt.AdministrativeAction},
		} {
			w := start(t, nil)
			c := w.connect(v, "c", nil)
			other := w.connect(v, "other", func(p *mqtt.Connect) { as(p, testOrg, "v") })
			begun := time.Now()
			w.dir.set(testOrg, "u", func(u *user) { u.refused = tt.err })
			if code := c.closed(); v == mqtt.V5 && code != tt.want {
				t.Errorf("%v: code %v", tt.err, code)
			}
			if d := time.Since(begun); d > time.Second {
				t.Errorf("took %v", d)
			}
			other.ping()
		}
	})
}

// When a principal is gone altogether, so is what was kept for it.
func TestPrincipalGone(t *testing.T) {
	w := start(t, nil)
	c := w.resume(mqtt.V5, "c", false, lasting)
	c.sub("a", 1)
	c.bye()
	w.connect(mqtt.V5, "d", willed(60)).cut()
	live := w.connect(mqtt.V5, "live", nil)
	v := w.resume(mqtt.V5, "v", false, func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "v") })
	v.sub("will", 0)
	eventually(t, "they are away", func() bool { return w.b.Snapshot().Connected == 2 })
	u := auth.Principal{Org: testOrg, Kind: auth.User, ID: "u"}
	w.dir.mu.Lock()
	delete(w.dir.users, string(testOrg)+"/u")
	for r := range w.dir.readers {
		r <- change{p: u}
	}
	w.dir.mu.Unlock()
	live.closed()
	eventually(t, "its sessions are dropped", func() bool {
		w.mem.mu.Lock()
		defer w.mem.mu.Unlock()
		return len(w.mem.sessions) == 1
	})
	v.ping() // and no will
}

// A narrower grant counts at once: for publishing, for deliveries, and for
// subscriptions that are no longer allowed.
func TestFewerRights(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		c := w.connect(v, "c", nil)
		c.sub("a", 1)
		c.sub("b", 1)
		c.publish("p", "x") // known by name from now on
		w.dir.set(testOrg, "u", func(u *user) {
			f := filter("b")
			u.spec.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: f}, {Action: auth.Receive, Filter: f}}
		})
		eventually(t, "the subscription is withdrawn", func() bool {
			w.mem.mu.Lock()
			defer w.mem.mu.Unlock()
			for _, s := range w.mem.sessions {
				return len(s.subs) == 1
			}
			return false
		})
		p := w.connect(v, "p", func(p *mqtt.Connect) { as(p, testOrg, "v") })
		p.publish("a", "no")
		p.publish("b", "yes")
		m := c.receive("b", "yes")
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		c.send(pub("p", "x", 1, 5))
		if v == mqtt.V5 {
			c.expectAck(mqtt.PUBACK, 5, mqtt.NotAuthorized)
		} else {
			c.closed()
		}
	})
}

// When changes may have been missed, everybody is asked for again.
func TestMissedChanges(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", nil)
	v := w.connect(mqtt.V5, "v", func(p *mqtt.Connect) { as(p, testOrg, "v") })
	w.dir.mu.Lock()
	w.dir.users[string(testOrg)+"/u"].refused = errs.E(errs.Denied, "disabled, and nobody said so")
	w.dir.mu.Unlock()
	w.dir.fail()
	if code := c.closed(); code != mqtt.AdministrativeAction {
		t.Errorf("code %v", code)
	}
	v.ping()
	w.dir.set(testOrg, "v", func(u *user) { u.refused = errs.E(errs.Denied, "disabled") }) // it listens again
	v.closed()
}

// A client that becomes somebody else has to connect again.
func TestIdentityChanges(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", nil)
	w.dir.set(testOrg, "u", func(u *user) { u.spec.Shared = "group" })
	if code := c.closed(); code != mqtt.AdministrativeAction {
		t.Errorf("code %v", code)
	}
}

// The will of a client that loses its right between Verify and CONNACK is not
// published, and the client not let in.
func TestRevokedWhileConnecting(t *testing.T) {
	w := start(t, nil)
	sub := w.connect(mqtt.V5, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v") })
	sub.sub("#", 0)
	w.mem.mu.Lock()
	w.mem.claiming = func() {
		w.dir.set(testOrg, "u", func(u *user) { u.refused = errs.E(errs.Denied, "disabled") })
		eventually(t, "the broker heard", func() bool { return w.b.changes.Load() == 1 })
	}
	w.mem.mu.Unlock()
	c := newClient(t, w.dial(nil), mqtt.V5)
	c.send(hello(mqtt.V5, "c", willed(0)))
	if p, err := c.packet(); err == nil {
		if ack, ok := p.(*mqtt.Connack); ok && ack.Code == 0 {
			c.closed() // let in, and ended at once
		}
	}
	eventually(t, "it is gone", func() bool { return w.b.Snapshot().Open == 1 })
	sub.ping()
	if n := w.b.Snapshot().Wills; n != 0 {
		t.Errorf("%d wills", n)
	}
}

// A message that was slowed down is judged by what its sender may do when its
// turn comes.
func TestFewerRightsWhileSlowed(t *testing.T) {
	for name, change := range map[string]func(*user){
		"rules":  func(u *user) { u.spec.Rules = nil },
		"retain": func(u *user) { u.spec.Retain = false },
	} {
		t.Run(name, func(t *testing.T) {
			limitedBubble(t, quota.Limits{}.With(quota.ClientMessageRate, 1), func(t *testing.T, w *world, _ *quota.Log) {
				w.dir.add("other1", "w", nil)
				sub := w.connect(mqtt.V5, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v") })
				sub.sub("#", 0)
				c := w.connect(mqtt.V5, "c", nil)
				for i := range 3 {
					p := pub("a", "x", 1, uint16(i+1))
					p.Retain = true
					c.send(p)
				}
				synctest.Wait() // the third waits
				w.dir.set(testOrg, "u", change)
				c.expectAck(mqtt.PUBACK, 1, mqtt.Success)
				c.expectAck(mqtt.PUBACK, 2, mqtt.Success)
				c.expectAck(mqtt.PUBACK, 3, mqtt.NotAuthorized)
				for range 2 {
					sub.receive("a", "x")
				}
				sub.silent()
			})
		})
	}
}
