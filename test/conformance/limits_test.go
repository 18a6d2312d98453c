package conformance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// smallest is the Maximum Packet Size of a client that can just take CONNACK.
const smallest = 30

// A message that is above the client's Maximum Packet Size is not sent to it, and
// counts as delivered [MQTT-3.1.2-24] [MQTT-3.1.2-25].
func TestMessageTooLargeForClient(t *testing.T) {
	everywhere(t, func(t *trial) {
		pub := t.connect()
		p := t.persistent("s")
		fits := message(t.topic("a"), strings.Repeat("x", 100), 1)
		p.Properties.MaximumPacketSize = mqtt.Some(uint32(fits.Size(t.version)))
		sub := t.connectAs(p)
		sub.subscribe(2, t.topic("a"))
		for qos := range byte(3) {
			pub.publish(message(t.topic("a"), strings.Repeat("x", 101+int(2-min(qos, 1)*2)), qos)) // one byte too many
			m := message(t.topic("a"), strings.Repeat("x", 100), 1)
			m.Retain = true
			pub.publish(m)
			sub.takes(t.topic("a"), strings.Repeat("x", 100))
		}
		sub.nothing()
		sub.leave()
		pub.publish(message(t.topic("a"), strings.Repeat("y", 101), 1))
		sub = t.connectAs(p)
		pub.reaches(sub, t.topic("a"))
		sub.leave()
		p.Properties.MaximumPacketSize = mqtt.Opt[uint32]{}
		pub.reaches(t.connectAs(p), t.topic("a")) // nor is it kept for later
	}, mqtt.V5)
}

// An answer that the client cannot take ends the connection [MQTT-3.1.2-24]. One
// that could not be told that it was let in was not: it has no will.
func TestAnswerTooLargeForClient(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		limited := func(max uint32) *mqtt.Connect {
			p := t.hello()
			p.Properties.MaximumPacketSize = mqtt.Some(max)
			return p
		}
		witness := t.witness()
		for _, max := range []uint32{1, 5, 10} {
			p := limited(max)
			t.will("let in", 1, false)(p)
			c := t.dial()
			c.send(p) // CONNACK is larger
			c.closed()
		}
		t.connect().reaches(witness, t.topic("will"))
		c := t.connectAs(limited(smallest))
		p := &mqtt.Subscribe{PacketID: 1}
		for i := range smallest {
			p.Subscriptions = append(p.Subscriptions, mqtt.Subscription{Filter: t.topic(fmt.Sprint(i))})
		}
		c.send(p)
		c.ended(mqtt.PacketTooLarge)
	})
}

// Packets of up to the server's Maximum Packet Size are taken, and larger ones end
// the connection before they have arrived [MQTT-3.2.2-15].
func TestPacketTooLargeForServer(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		c.subscribe(0, t.topic("a"))
		max := 1 << 20
		if t.is5() {
			max = int(c.ack.Properties.MaximumPacketSize.Or(0))
		}
		most := message(t.topic("a"), "", 0)
		most.Payload = []byte(strings.Repeat("x", max-most.Size(t.version)-2)) // two more bytes for the length
		if size := most.Size(t.version); size != max {
			t.Fatalf("made %d bytes, not %d", size, max)
		}
		c.publish(most)
		c.takes(t.topic("a"), string(most.Payload))
		c.raw([]byte(join(0x30, length(max-3))))
		c.ended(mqtt.PacketTooLarge)
		c = t.connect()
		c.raw([]byte("\x30\xff\xff\xff\x7f"))
		c.ended(mqtt.PacketTooLarge)
		for _, b := range []string{"\x10\xff\xff\xff\x7f", "\x10\xff\xff\xff\x7f\x00\x04MQTT\x05"} {
			c := t.dial()
			c.raw([]byte(b))
			c.closed() // before CONNECT a peer may send far less
		}
	})
}

// Topic aliases to a client stay below its maximum [MQTT-3.1.2-26], and without a
// maximum, or with 0, there are none [MQTT-3.1.2-27].
func TestTopicAliasMaximumOfClient(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		pub := t.connect()
		for _, max := range []mqtt.Opt[uint16]{{}, mqtt.Some[uint16](0), mqtt.Some[uint16](2), mqtt.Some[uint16](65535)} {
			sub := t.connect(func(p *mqtt.Connect) { p.Properties.TopicAliasMaximum = max })
			sub.subscribe(0, t.topic("#"))
			names := map[uint16]string{}
			used := 0
			for i := range 30 {
				name := t.topic(fmt.Sprint("topic/", i%3))
				pub.publish(message(name, "x", 0))
				m := expect[*mqtt.Publish](sub)
				if int(m.TopicAlias) > int(max.Or(0)) {
					t.Fatalf("alias %d, the maximum is %v", m.TopicAlias, max)
				}
				got := string(m.Topic)
				if m.TopicAlias > 0 {
					used++
					if got == "" {
						got = names[m.TopicAlias]
					}
					names[m.TopicAlias] = got
				}
				if got != name {
					t.Fatalf("got topic %q, want %q", got, name)
				}
			}
			if max.Or(0) > 0 && used == 0 {
				t.Errorf("maximum %v: no alias was used", max)
			}
			sub.leave()
		}
	})
}

// A topic alias above the server's maximum ends the connection [MQTT-3.2.2-17],
// as does RETAIN where CONNACK said that nothing is retained [MQTT-3.2.2-14].
func TestBeyondWhatConnackOffers(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c := t.connect()
		max := c.ack.Properties.TopicAliasMaximum.Or(0)
		if max == 0 {
			t.Fatal("the server takes no aliases")
		}
		m := message(t.topic("a"), "x", 0)
		for m.TopicAlias = range max + 2 {
			if m.TopicAlias > 0 {
				c.send(m)
			}
		}
		c.ended(mqtt.TopicAliasInvalid)

		c = t.connectAs(t.device())
		if c.ack.Properties.RetainAvailable.Or(true) {
			t.Error("a device may retain")
		}
		m = message("iot-2/evt/a/fmt/json", "{}", 1)
		c.publish(m)
		m.Retain = true
		c.send(m)
		c.ended(mqtt.RetainNotSupported)
	})
}
