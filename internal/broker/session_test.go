package broker

import (
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// lasting makes a CONNECT one for a session that outlives the connection.
func lasting(p *mqtt.Connect) {
	p.CleanStart = false
	p.Properties.SessionExpiry = mqtt.Some[uint32](1000)
}

// resume connects and requires that the session goes on, or does not.
func (w *world) resume(v mqtt.Version, id string, present bool, f func(*mqtt.Connect)) *client {
	w.t.Helper()
	c, ack := w.try(hello(v, id, f))
	if ack.Code != 0 || ack.SessionPresent != present {
		w.t.Fatalf("connect %s: %v, session present %v, want %v", id, ack.Code, ack.SessionPresent, present)
	}
	return c
}

func TestPersistentSession(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		c := w.resume(v, "c", false, lasting)
		c.sub("a/#", 2)
		p := w.connect(v, "p", nil)
		p.publish("a/1", "sent, not acknowledged")
		first := c.receive("a/1", "sent, not acknowledged")
		p.publish("a/2", "acknowledged")
		second := c.receive("a/2", "acknowledged")
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: second.PacketID})
		c.ping()
		c.cut()
		eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 })
		p.publish("a/3", "while away")
		p.send(pub("a/4", "twice", 2, 4))
		p.expectAck(mqtt.PUBREC, 4, 0)
		p.send(pub("a/5", "qos 0", 0, 0)) // is not kept
		p.ping()                          // so that it was not in time

		c = w.resume(v, "c", true, lasting)
		again := c.receive("a/1", "sent, not acknowledged")
		if !again.Dup || again.PacketID != first.PacketID {
			t.Errorf("again: %+v, first: %+v", again, first) // [MQTT-4.4.0-1]
		}
		third := c.receive("a/3", "while away")
		if third.Dup {
			t.Error("DUP on a first delivery")
		}
		fourth := c.receive("a/4", "twice")
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: third.PacketID}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: again.PacketID})
		c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: fourth.PacketID})
		c.expectAck(mqtt.PUBREL, fourth.PacketID, 0)
		c.cut()
		eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 })

		c = w.resume(v, "c", true, lasting) // only the PUBREL is left
		c.expectAck(mqtt.PUBREL, fourth.PacketID, 0)
		c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: fourth.PacketID})
		c.ping()
		c.bye()
		if n := w.mem.queued(); n != 0 {
			t.Errorf("%d entries left", n)
		}
		c = w.resume(v, "c", false, func(p *mqtt.Connect) { p.CleanStart = true })
		p.publish("a/6", "nobody")
		c.ping()
		c.bye()
		w.resume(v, "c", false, lasting)
	})
}

// A QoS 2 message that was received before the connection broke is not passed
// on again after it.
func TestExactlyOnceAcrossConnections(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		sub := w.connect(v, "sub", nil)
		sub.sub("a", 0)
		c := w.resume(v, "c", false, lasting)
		c.send(pub("a", "once", 2, 8))
		c.expectAck(mqtt.PUBREC, 8, 0)
		c.cut()
		eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 })
		c = w.resume(v, "c", true, lasting)
		again := pub("a", "once", 2, 8)
		again.Dup = true
		c.send(again)
		c.expectAck(mqtt.PUBREC, 8, 0)
		c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 8})
		c.expectAck(mqtt.PUBCOMP, 8, 0)
		sub.receive("a", "once")
		sub.ping()
	})
}

// The queue's identifiers wrap, and one that is in use is never used twice.
func TestPacketIDs(t *testing.T) {
	for o, want := range map[uint64]uint16{1: 1, 65535: 65535, 65536: 1, 131070: 65535, 131071: 1} {
		if got := packetID(engineOffset(o)); got != want {
			t.Errorf("offset %d: %d, want %d", o, got, want)
		}
	}
	w := start(t, func(c *Config) { c.Limits = c.Limits.With(quota.ClientInflight, 3) })
	c := w.resume(mqtt.V5, "c", false, lasting)
	c.sub("a", 1)
	w.mem.mu.Lock()
	for _, s := range w.mem.sessions {
		s.last = 65534
	}
	w.mem.mu.Unlock()
	p := w.connect(mqtt.V5, "p", nil)
	p.publish("a", "last")
	first := c.receive("a", "last")
	if first.PacketID != 65535 {
		t.Fatalf("identifier %d", first.PacketID)
	}
	w.mem.mu.Lock()
	for _, s := range w.mem.sessions {
		s.last = 2*65535 - 2 // as if all in between had been acknowledged
	}
	w.mem.mu.Unlock()
	p.publish("a", "before")
	p.publish("a", "same identifier")
	p.publish("a", "after")
	m := c.receive("a", "before")
	c.ping() // the next one has to wait for the first
	c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
	c.ping()
	c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: first.PacketID})
	if m := c.receive("a", "same identifier"); m.PacketID != 65535 {
		t.Errorf("identifier %d", m.PacketID)
	}
	c.receive("a", "after")
}

func TestSessionExpiry(t *testing.T) {
	w := start(t, nil)
	sessions := func() int {
		w.mem.mu.Lock()
		defer w.mem.mu.Unlock()
		return len(w.mem.sessions)
	}
	ended := func(c *client) {
		c.closed()
		eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 0 })
	}
	c := w.resume(mqtt.V5, "c", false, lasting)
	c.send(&mqtt.Disconnect{Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](0)}})
	ended(c)
	if sessions() != 0 {
		t.Error("the session outlived its expiry of 0")
	}
	c = w.resume(mqtt.V5, "c", false, nil)
	c.send(&mqtt.Disconnect{Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](5)}})
	if code := c.closed(); code != mqtt.ProtocolError { // [MQTT-3.14.2-2]
		t.Errorf("code %v", code)
	}
	c = w.resume(mqtt.V5, "c", false, func(p *mqtt.Connect) { p.Properties.SessionExpiry = mqtt.Some[uint32](1) })
	c.send(&mqtt.Disconnect{Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](500)}})
	ended(c)
	w.mem.mu.Lock()
	for _, s := range w.mem.sessions {
		if s.expiry != 500*time.Second {
			t.Errorf("expiry %v", s.expiry)
		}
	}
	w.mem.mu.Unlock()
	if sessions() != 1 {
		t.Error("no session")
	}
}

func TestTakeover(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		old := w.resume(v, "c", false, lasting)
		old.sub("a", 1)
		p := w.connect(v, "p", nil)
		p.publish("a", "x")
		old.receive("a", "x")
		c := w.resume(v, "c", true, lasting)
		if code := old.closed(); v == mqtt.V5 && code != mqtt.SessionTakenOver {
			t.Errorf("code %v", code)
		}
		m := c.receive("a", "x")
		if !m.Dup {
			t.Error("no DUP")
		}
		// Another user with the same client id is somebody else.
		w.connect(v, "c", func(p *mqtt.Connect) { as(p, testOrg, "v") }).ping()
		c.ping()
	})
}

// What a resumed session may no longer subscribe to is withdrawn.
func TestResumeWithFewerRights(t *testing.T) {
	w := start(t, nil)
	c := w.resume(mqtt.V5, "c", false, lasting)
	c.sub("a", 1)
	c.sub("b", 1)
	c.bye()
	eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 0 })
	p := w.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v") })
	p.publish("a", "queued before")
	w.dir.set(testOrg, "u", func(u *user) {
		u.spec.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: filter("b")}, {Action: auth.Receive, Filter: filter("b")}}
	})
	c = w.resume(mqtt.V5, "c", true, lasting)
	p.publish("a", "no")
	p.publish("b", "yes")
	c.receive("b", "yes")
	c.ping()
}
