package conformance

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// ackWith sends an acknowledgement.
func (c *client) ackWith(typ mqtt.Type, id uint16, code mqtt.ReasonCode) {
	c.t.Helper()
	c.send(&mqtt.Ack{Type: typ, PacketID: id, Code: code})
}

// takesAll expects n messages, which may come before the acknowledgements of
// earlier ones are through, and returns their payloads.
func (c *client) takesAll(n int) (payloads []string) {
	c.t.Helper()
	for open := n; open > 0; {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			payloads = append(payloads, string(p.Payload))
			switch p.QoS {
			case 0:
				open--
			case 1:
				c.ackWith(mqtt.PUBACK, p.PacketID, 0)
				open--
			case 2:
				c.ackWith(mqtt.PUBREC, p.PacketID, 0)
			}
		case *mqtt.Ack:
			if p.Type != mqtt.PUBREL {
				c.t.Fatalf("got %s", describe(p))
			}
			c.ackWith(mqtt.PUBCOMP, p.PacketID, 0)
			open--
		default:
			c.t.Fatalf("got %s after %d messages", describe(p), len(payloads))
		}
	}
	return payloads
}

// resume connects the persistent session "c" again, which must still be there.
func (t *trial) resume(change ...func(*mqtt.Connect)) *client {
	t.Helper()
	p := t.persistent("c")
	for _, f := range change {
		f(p)
	}
	c := t.connectAs(p)
	if !c.ack.SessionPresent {
		t.Fatal("the session is gone")
	}
	return c
}

// queued returns a connected persistent session "c" that is sent n messages,
// whose payloads are their numbers, with one QoS.
func (t *trial) queued(qos byte, n int) *client {
	t.Helper()
	c := t.connectAs(t.persistent("c"))
	c.subscribe(2, t.topic("a"))
	pub := t.connect()
	for i := range n {
		pub.publish(message(t.topic("a"), fmt.Sprint(i), qos))
	}
	return c
}

// A PUBLISH is answered as its QoS demands: not at all, with PUBACK, or with
// PUBREC and, after PUBREL, PUBCOMP.
func TestPublishIsAnswered(t *testing.T) {
	everywhere(t, func(t *trial) {
		c := t.connect()
		c.send(message(t.topic("a"), "x", 0)) // [MQTT-3.3.4-1]
		c.nothing()
		c.send(message(t.topic("a"), "x", 1))
		c.acknowledged(mqtt.PUBACK, 7) // [MQTT-4.3.2-4] (3.1.1: [MQTT-4.3.2-2])
		c.send(message(t.topic("a"), "x", 2))
		c.acknowledged(mqtt.PUBREC, 7) // [MQTT-4.3.3-8] (3.1.1: [MQTT-4.3.3-2])
		c.ackWith(mqtt.PUBREL, 7, 0)
		c.acknowledged(mqtt.PUBCOMP, 7) // [MQTT-4.3.3-11]
		c.nothing()
	})
}

// Messages of each QoS arrive with that QoS and without DUP, and those that are
// not acknowledged have identifiers of their own.
func TestMessagesOfServer(t *testing.T) {
	both(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(2, t.topic("a"))
		used := map[uint16]bool{}
		for i := range 12 {
			qos := byte(i % 3)
			pub.publish(message(t.topic("a"), "x", qos))
			p := expect[*mqtt.Publish](sub)
			if p.QoS != qos || p.Dup { // [MQTT-4.3.1-1] [MQTT-4.3.2-2] [MQTT-4.3.3-2] (3.1.1: [MQTT-4.3.2-1] [MQTT-4.3.3-1])
				t.Errorf("%s with DUP %v, want QoS %d", describe(p), p.Dup, qos)
			}
			if qos > 0 && (p.PacketID == 0 || used[p.PacketID]) { // [MQTT-4.3.2-1] [MQTT-4.3.3-1]
				t.Errorf("identifier %d is in use", p.PacketID)
			}
			used[p.PacketID] = true
		}
	})
}

// What is not acknowledged when a connection ends is sent again on the next one,
// with its identifier, DUP and in its order; what is acknowledged is not.
func TestUnacknowledgedIsSentAgain(t *testing.T) {
	both(t, func(t *trial) {
		for qos := byte(1); qos <= 2; qos++ {
			t.prefix += "q"
			c := t.queued(qos, 5)
			ids := map[string]uint16{}
			for range 5 {
				p := expect[*mqtt.Publish](c)
				ids[string(p.Payload)] = p.PacketID
			}
			if qos == 1 {
				c.ackWith(mqtt.PUBACK, ids["1"], 0)
			} else {
				c.ackWith(mqtt.PUBREC, ids["1"], 0)
				c.acknowledged(mqtt.PUBREL, ids["1"]) // [MQTT-4.3.3-4]
				c.ackWith(mqtt.PUBCOMP, ids["1"], 0)
			}
			c.nothing() // nothing is sent again on a connection that lives
			c.cut()
			c = t.resume()
			for _, want := range []string{"0", "2", "3", "4"} { // [MQTT-4.6.0-1]
				p := expect[*mqtt.Publish](c)
				if string(p.Payload) != want || p.PacketID != ids[want] || !p.Dup || p.QoS != qos { // [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-3] [MQTT-4.3.3-3]
					t.Errorf("got %s, DUP %v, want %s under %d", describe(p), p.Dup, want, ids[want])
				}
			}
			c.nothing()
		}
	})
}

// Once PUBREC was received the PUBLISH is not sent again: PUBREL is, until
// PUBCOMP, in the order in which the PUBRECs came.
func TestReleaseIsSentAgain(t *testing.T) {
	both(t, func(t *trial) {
		c := t.queued(2, 4)
		var ids []uint16
		for range 4 {
			ids = append(ids, expect[*mqtt.Publish](c).PacketID)
		}
		for _, id := range ids[:3] { // [MQTT-4.6.0-4]
			c.ackWith(mqtt.PUBREC, id, 0)
		}
		for _, id := range ids[:3] {
			c.acknowledged(mqtt.PUBREL, id)
		}
		c.ackWith(mqtt.PUBCOMP, ids[0], 0)
		c.nothing()
		c.cut()
		c = t.resume()
		for _, id := range ids[1:3] { // [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] (3.1.1: [MQTT-4.3.3-1])
			c.acknowledged(mqtt.PUBREL, id)
		}
		if p := expect[*mqtt.Publish](c); p.PacketID != ids[3] || !p.Dup {
			t.Errorf("got %s", describe(p))
		}
		for _, id := range ids[1:3] {
			c.ackWith(mqtt.PUBCOMP, id, 0)
		}
		c.nothing()
		c.cut()
		c = t.resume()
		if p := expect[*mqtt.Publish](c); p.PacketID != ids[3] {
			t.Errorf("got %s", describe(p))
		}
		c.nothing()
	})
}

// After PUBACK an identifier stands for a new message, whatever DUP says.
func TestIdentifierIsFreeAfterPuback(t *testing.T) {
	both(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(1, t.topic("a"))
		for i := range 3 {
			p := message(t.topic("a"), fmt.Sprint(i), 1)
			p.Dup = i > 0
			pub.publish(p)
			sub.takes(t.topic("a"), fmt.Sprint(i)) // [MQTT-4.3.2-5] (3.1.1: [MQTT-4.3.2-2])
		}
	})
}

// Until PUBREL a QoS 2 message that comes again is answered again and delivered
// once, over connections too; after PUBCOMP its identifier is free.
func TestExactlyOnce(t *testing.T) {
	both(t, func(t *trial) {
		sub := t.connect()
		sub.subscribe(2, t.topic("a"))
		c := t.connectAs(t.persistent("c"))
		send := func(payload string, dup bool) {
			p := message(t.topic("a"), payload, 2)
			p.Dup = dup
			c.send(p)
			c.acknowledged(mqtt.PUBREC, 7)
		}
		send("one", false)
		sub.takes(t.topic("a"), "one")
		send("one", true) // [MQTT-4.3.3-10] (3.1.1: [MQTT-4.3.3-2])
		c.cut()
		c = t.resume()
		send("one", true)
		sub.nothing()
		c.ackWith(mqtt.PUBREL, 7, 0)
		c.acknowledged(mqtt.PUBCOMP, 7)
		send("two", false) // [MQTT-4.3.3-12]
		sub.takes(t.topic("a"), "two")
		c.cut()
		c = t.resume()
		c.ackWith(mqtt.PUBREL, 7, 0) // the other half on the next connection
		c.acknowledged(mqtt.PUBCOMP, 7)
		sub.nothing()
	})
}

// A PUBREC that refuses frees the identifier.
func TestIdentifierIsFreeAfterRefusal(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		sub, c := t.connect(), t.connect()
		sub.subscribe(2, t.topic("a"))
		c.send(message("$SYS/x", "x", 2))
		if p := expect[*mqtt.Ack](c); p.Type != mqtt.PUBREC || p.Code != mqtt.NotAuthorized {
			t.Fatalf("got %s", describe(p))
		}
		c.publish(message(t.topic("a"), "new", 2)) // [MQTT-4.3.3-9]
		sub.takes(t.topic("a"), "new")
		c.ackWith(mqtt.PUBREL, 99, 0)
		if p := expect[*mqtt.Ack](c); p.Type != mqtt.PUBCOMP || p.Code != mqtt.PacketIdentifierNotFound { // [MQTT-3.7.2-1]
			t.Errorf("got %s, want PUBCOMP Packet Identifier not found", describe(p))
		}
		c.ackWith(mqtt.PUBREC, 99, 0)
		if p := expect[*mqtt.Ack](c); p.Type != mqtt.PUBREL || p.Code != mqtt.PacketIdentifierNotFound { // [MQTT-3.6.2-1]
			t.Errorf("got %s, want PUBREL Packet Identifier not found", describe(p))
		}
	})
}

// What the client refuses is not sent to it again.
func TestRefusedByClientIsNotSentAgain(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for qos := byte(1); qos <= 2; qos++ {
			t.prefix += "q"
			c := t.queued(qos, 2)
			first, second := expect[*mqtt.Publish](c), expect[*mqtt.Publish](c)
			c.ackWith([]mqtt.Type{mqtt.PUBACK, mqtt.PUBREC}[qos-1], first.PacketID, mqtt.UnspecifiedError)
			c.nothing()
			c.cut()
			c = t.resume()
			if p := expect[*mqtt.Publish](c); p.PacketID != second.PacketID { // [MQTT-4.4.0-2]
				t.Errorf("got %s, want %s only", describe(p), describe(second))
			}
			c.nothing()
		}
	})
}

// A message reaches every session that it matches, connected or not.
func TestMessageReachesAllSessions(t *testing.T) {
	both(t, func(t *trial) {
		away := t.connectAs(t.persistent("c"))
		away.subscribe(1, t.topic("+"))
		away.leave()
		here, other := t.connect(), t.connect()
		here.subscribe(2, t.topic("a"))
		other.subscribe(0, t.topic("#"))
		t.connect().publish(message(t.topic("a"), "x", 2)) // [MQTT-4.5.0-1]
		for c, qos := range map[*client]byte{here: 2, other: 0, t.resume(): 1} {
			if p := c.takes(t.topic("a"), "x"); p.QoS != qos {
				t.Errorf("%s, want QoS %d", describe(p), qos)
			}
			c.nothing()
		}
	})
}

// Acknowledgements come in the order of what they acknowledge.
func TestAcknowledgementsAreInOrder(t *testing.T) {
	both(t, func(t *trial) {
		// A persistent receiver has each message kept before it is acknowledged.
		away := t.connectAs(t.persistent("c"))
		away.subscribe(2, t.topic("kept"))
		away.leave()
		c := t.connect()
		const n = 40
		for qos := byte(1); qos <= 2; qos++ {
			for i := range n {
				p := message(t.topic([]string{"kept", "not"}[i%2]), fmt.Sprint(i), qos)
				p.PacketID = uint16(100 + i)
				c.send(p)
			}
			for i := range n { // [MQTT-4.6.0-2] [MQTT-4.6.0-3]
				c.acknowledged([]mqtt.Type{mqtt.PUBACK, mqtt.PUBREC}[qos-1], uint16(100+i))
			}
		}
		for i := range n {
			c.ackWith(mqtt.PUBREL, uint16(100+i), 0)
		}
		for i := range n {
			c.acknowledged(mqtt.PUBCOMP, uint16(100+i))
		}
	})
}

// Messages of one publisher on one topic with one QoS arrive in their order, live,
// from the queue, and through every subscription that is not shared.
func TestMessagesAreInOrder(t *testing.T) {
	both(t, func(t *trial) {
		away := t.connectAs(t.persistent("c"))
		away.subscribe(2, t.topic("a"))
		away.leave()
		live, wide := t.connect(), t.connect()
		live.subscribe(2, t.topic("a"))
		wide.subscribe(2, t.topic("+"))
		pub := t.connect()
		const n = 60
		for i := range n {
			qos := byte(i % 3)
			p := message(t.topic("a"), fmt.Sprint(i), qos)
			p.PacketID = uint16(1 + i)
			pub.publish(p)
		}
		for name, c := range map[string]*client{"live": live, "wide": wide, "from the queue": t.resume()} {
			want := n
			if name == "from the queue" {
				want = n - n/3 // QoS 0 is not kept
			}
			var next [3]int
			for _, payload := range c.takesAll(want) {
				var i int
				if _, err := fmt.Sscan(payload, &i); err != nil {
					t.Fatal(err)
				}
				if i < next[i%3] { // [MQTT-4.6.0-5] [MQTT-4.6.0-6]
					t.Errorf("%s: %d after %d", name, i, next[i%3])
				}
				next[i%3] = i
			}
			c.nothing()
		}
	})
}

// PUBREL has the flags 0010, and no others.
func TestBadReleaseFlags(t *testing.T) {
	both(t, func(t *trial) {
		for flags := range byte(16) {
			if flags == 2 {
				continue
			}
			c := t.connect()
			c.send(message(t.topic("a"), "x", 2))
			c.acknowledged(mqtt.PUBREC, 7)
			c.raw([]byte{0x60 | flags, 2, 0, 7}) // [MQTT-3.6.1-1]
			c.ended(mqtt.MalformedPacket)
		}
	})
}

// An acknowledgement with a reason code that is none of its kind is an error.
func TestBadAcknowledgementCodes(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for first, codes := range map[byte][]byte{
			0x40: {0x01, 0x92, 0x8e, 0xff},       // [MQTT-3.4.2-1]
			0x50: {0x02, 0x92, 0x04, 0x7f},       // [MQTT-3.5.2-1]
			0x62: {0x01, 0x10, 0x80, 0x97, 0xff}, // [MQTT-3.6.2-1]
			0x70: {0x01, 0x10, 0x80, 0x91},       // [MQTT-3.7.2-1]
		} {
			for _, code := range codes {
				c := t.connect()
				c.raw([]byte{first, 3, 0, 7, code})
				p := c.next()
				if d, ok := p.(*mqtt.Disconnect); !ok || d.Code != mqtt.MalformedPacket && d.Code != mqtt.ProtocolError {
					t.Errorf("%#x with %#x: got %s", first, code, describe(p))
				}
			}
		}
	})
}
