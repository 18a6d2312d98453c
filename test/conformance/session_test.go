package conformance

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// present checks the Session Present flag of a client's CONNACK.
func (c *client) present(want bool) {
	c.t.Helper()
	if c.ack.SessionPresent != want {
		c.t.Errorf("session present: %v, want %v", c.ack.SessionPresent, want)
	}
}

// Without Clean Start the session that exists goes on: its subscriptions, and
// the messages that came meanwhile [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23]
// [MQTT-3.2.2-3]; in 3.1.1 [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3].
func TestSessionGoesOn(t *testing.T) {
	everywhere(t, func(t *trial) {
		pub := t.connect()
		for _, leave := range []func(*client){(*client).leave, func(c *client) { c.cut() }} {
			id := t.freshID()
			c := t.connectAs(t.persistent(id))
			c.present(false)
			c.subscribe(2, t.topic("a"))
			leave(c)
			for qos := range byte(3) {
				pub.publish(message(t.topic("a"), string('0'+rune(qos)), qos))
			}
			c = t.connectAs(t.persistent(id))
			c.present(true)
			for {
				p := c.take()
				if string(p.Payload) == "0" { // may come, need not
					continue
				}
				if string(p.Payload) != "1" || p.QoS != 1 {
					t.Fatalf("got %s", describe(p))
				}
				break
			}
			if p := c.takes(t.topic("a"), "2"); p.QoS != 2 {
				t.Errorf("got %s", describe(p))
			}
			pub.publish(message(t.topic("a"), "3", 1))
			c.takes(t.topic("a"), "3")
			c.leave()
			c = t.connectAs(t.persistent(id))
			c.present(true)
			pub.reaches(c, t.topic("a")) // what was acknowledged does not come again
			c.leave()
		}
	})
}

// CONNACK comes before the messages of the session, though there are some and
// more come in at that moment [MQTT-3.2.0-1].
func TestConnackBeforeMessages(t *testing.T) {
	both(t, func(t *trial) {
		pub := t.connect()
		c := t.connectAs(t.persistent("s"))
		c.subscribe(1, t.topic("a"))
		c.leave()
		for range 10 {
			const n = 50
			for i := range n {
				m := message(t.topic("a"), fmt.Sprint(i), 1)
				m.PacketID = uint16(1 + i)
				pub.send(m)
			}
			c = t.connectAs(t.persistent("s")) // fails if CONNACK is not first
			for i := range n {
				c.takes(t.topic("a"), fmt.Sprint(i))
			}
			for i := range n {
				pub.acknowledged(mqtt.PUBACK, uint16(1+i))
			}
			c.leave()
		}
	})
}

// Clean Start discards the session that exists, with its subscriptions and
// messages [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2]; in 3.1.1 [MQTT-3.1.2-6]
// [MQTT-3.1.4-3] [MQTT-3.2.2-1].
func TestCleanStart(t *testing.T) {
	everywhere(t, func(t *trial) {
		pub := t.connect()
		c := t.connectAs(t.persistent("s"))
		c.subscribe(1, t.topic("a"))
		c.leave()
		pub.publish(message(t.topic("a"), "x", 1))
		p := t.persistent("s")
		p.CleanStart = true
		c = t.connectAs(p)
		c.present(false)
		pub.publish(message(t.topic("a"), "y", 1))
		c.subscribe(1, t.topic("b"))
		pub.reaches(c, t.topic("b"))
		c.leave()
		pub.publish(message(t.topic("b"), "z", 1))
		c = t.connectAs(t.persistent("s"))
		c.present(t.is5()) // in 3.1.1 a clean session ended with its connection
		if t.is5() {
			c.takes(t.topic("b"), "z")
		}
		c.subscribe(1, t.topic("c"))
		pub.reaches(c, t.topic("c"))
	})
}

// A session without an expiry interval ends with its connection, and nothing of
// it is used again [MQTT-4.1.0-2]; in 3.1.1 [MQTT-3.1.2-6].
func TestSessionEndsWithConnection(t *testing.T) {
	both(t, func(t *trial) {
		pub := t.connect()
		begin := func() *client {
			p := t.persistent("s")
			if t.is5() {
				p.Properties.SessionExpiry = mqtt.Opt[uint32]{}
			} else {
				p.CleanStart = true
			}
			c := t.connectAs(p)
			c.present(false)
			return c
		}
		c := begin()
		c.subscribe(1, t.topic("a"))
		pub.publish(message(t.topic("a"), "x", 1))
		expect[*mqtt.Publish](c) // and is not acknowledged
		c.leave()
		pub.publish(message(t.topic("a"), "y", 1))
		c = begin()
		pub.publish(message(t.topic("a"), "z", 1))
		c.subscribe(1, t.topic("b"))
		pub.reaches(c, t.topic("b"))
	})
}

// The expiry interval can be changed at DISCONNECT: 0 ends the session. One that
// was 0 must stay 0.
func TestSessionExpiryAtDisconnect(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c := t.connectAs(t.persistent("s"))
		c.send(&mqtt.Disconnect{Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](0)}})
		c.closed()
		c = t.connectAs(t.persistent("s"))
		c.present(false)
		c.send(&mqtt.Disconnect{Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](900)}})
		c.closed()
		t.connectAs(t.persistent("s")).present(true)
		c = t.connect()
		c.send(&mqtt.Disconnect{Properties: mqtt.Properties{SessionExpiry: mqtt.Some[uint32](1)}})
		c.ended(mqtt.ProtocolError)
	})
}

// The client identifier, and nothing else, tells the sessions of a user apart
// [MQTT-3.1.3-2].
func TestSessionsByClientIdentifier(t *testing.T) {
	both(t, func(t *trial) {
		pub := t.connect()
		a, b := t.connectAs(t.persistent("a")), t.connectAs(t.persistent("A"))
		a.subscribe(1, t.topic("a"))
		b.subscribe(1, t.topic("b"))
		a.leave()
		b.leave()
		pub.publish(message(t.topic("a"), "for a", 1))
		pub.publish(message(t.topic("b"), "for b", 1))
		b, a = t.connectAs(t.persistent("A")), t.connectAs(t.persistent("a"))
		a.takes(t.topic("a"), "for a")
		b.takes(t.topic("b"), "for b")
		pub.reaches(a, t.topic("a"))
		pub.reaches(b, t.topic("b"))
	})
}

// A client that connects again ends its older connection [MQTT-3.1.4-3], in
// 3.1.1 [MQTT-3.1.4-2], and goes on with its session.
func TestTakeover(t *testing.T) {
	everywhere(t, func(t *trial) {
		pub := t.connect()
		old := t.connectAs(t.persistent("s"))
		old.subscribe(1, t.topic("a"))
		pub.publish(message(t.topic("a"), "x", 1))
		expect[*mqtt.Publish](old)
		c := t.connectAs(t.persistent("s"))
		c.present(true)
		old.ended(mqtt.SessionTakenOver)
		if p := c.takes(t.topic("a"), "x"); !p.Dup {
			t.Error("sent again without DUP")
		}
		p := t.persistent("s")
		p.CleanStart = true
		clean := t.connectAs(p)
		clean.present(false)
		c.ended(mqtt.SessionTakenOver)
		clean.subscribe(1, t.topic("b"))
		pub.reaches(clean, t.topic("b"))
	})
}

// While its connection is open a session keeps its state, however short it may
// live after it [MQTT-4.1.0-1] [MQTT-4.1.0-2].
func TestSessionLivesWithConnection(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		c.subscribe(2, t.topic("a"))
		c.send(message(t.topic("b"), "x", 2))
		c.acknowledged(mqtt.PUBREC, 7)
		t.connect().publish(message(t.topic("a"), "y", 1))
		p := expect[*mqtt.Publish](c)
		// Many other packets later the half-done exchanges are still known.
		for range 50 {
			c.publish(message(t.topic("c"), "y", 1))
		}
		c.send(message(t.topic("b"), "x", 2))
		c.acknowledged(mqtt.PUBREC, 7)
		c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 7})
		c.acknowledged(mqtt.PUBCOMP, 7)
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID})
		c.publish(message(t.topic("a"), "still subscribed", 0))
		c.takes(t.topic("a"), "still subscribed")
	})
}

// Retained messages are not part of a session [MQTT-3.1.2-7].
func TestRetainedOutlivesSession(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		m := message(t.topic("a"), "kept", 1)
		m.Retain = true
		c.publish(m)
		c.leave()
		c = t.connect()
		c.subscribe(1, t.topic("a"))
		if p := c.takes(t.topic("a"), "kept"); !p.Retain {
			t.Error("without RETAIN")
		}
	})
}
