package conformance

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// aliased returns a message of QoS 1 with a topic alias.
func aliased(topic string, alias uint16, payload string) *mqtt.Publish {
	p := message(topic, payload, 1)
	p.TopicAlias = alias
	return p
}

// Every alias from 1 to the maximum of CONNACK may be used, and used anew.
func TestTopicAliases(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c, sub := t.connect(), t.connect()
		sub.subscribe(1, t.topic("#"))
		most := c.ack.Properties.TopicAliasMaximum.Or(0)
		if most == 0 {
			t.Fatal("no topic alias may be used")
		}
		for _, alias := range []uint16{1, most} { // [MQTT-3.3.2-12]
			for _, name := range []string{"first", "second"} {
				c.publish(aliased(t.topic(name), alias, "named"))
				sub.takes(t.topic(name), "named")
				c.publish(aliased("", alias, "aliased"))
				sub.takes(t.topic(name), "aliased")
			}
		}
		c.publish(aliased("", 1, "still"))
		sub.takes(t.topic("second"), "still")
	})
}

// Alias 0, one above the maximum, and one that was not set end the connection.
func TestBadTopicAliases(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c := t.connect()
		most := c.ack.Properties.TopicAliasMaximum.Or(0)
		c.send(aliased(t.topic("a"), most+1, "x")) // [MQTT-3.3.2-9]
		c.ended(mqtt.TopicAliasInvalid)

		c = t.connect()
		body := fmt.Appendf(nil, "\x00%c%s\x00\x07\x03\x23\x00\x00", len(t.topic("a")), t.topic("a")) // alias 0
		c.raw(append([]byte{0x32, byte(len(body))}, body...))                                         // [MQTT-3.3.2-8]
		c.ended(mqtt.TopicAliasInvalid)

		c = t.connect()
		c.send(aliased("", 1, "x"))
		c.ended(mqtt.ProtocolError)
	})
}

// An alias ends with its connection, also where the session goes on.
func TestAliasEndsWithConnection(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c := t.connectAs(t.persistent("c"))
		c.publish(aliased(t.topic("a"), 1, "x"))
		c.publish(aliased("", 1, "x"))
		c.cut()
		c = t.connectAs(t.persistent("c"))
		if !c.ack.SessionPresent {
			t.Fatal("the session is gone")
		}
		c.send(aliased("", 1, "x")) // [MQTT-3.3.2-7]
		c.ended(mqtt.ProtocolError)
	})
}

// The server uses no more aliases than the client accepts, each for one topic.
func TestServerKeepsToAliasMaximum(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, most := range []uint16{0, 1, 3} {
			sub := t.connect(func(p *mqtt.Connect) { p.Properties.TopicAliasMaximum = mqtt.Some(most) })
			sub.subscribe(0, t.topic("#"))
			pub := t.connect()
			for round := range 3 {
				for i := range 5 {
					pub.publish(message(t.topic(fmt.Sprint("n", i)), fmt.Sprintf("%d of n%d", round, i), 1))
				}
			}
			stands := map[uint16]string{}
			got := sub.received()
			for _, p := range got {
				name := string(p.Topic)
				switch {
				case p.TopicAlias > most: // [MQTT-3.3.2-11]
					t.Errorf("alias %d, the maximum is %d", p.TopicAlias, most)
				case p.TopicAlias == 0:
				case name == "":
					name = stands[p.TopicAlias]
				default:
					stands[p.TopicAlias] = name
				}
				var round int
				var want string
				if _, err := fmt.Sscanf(string(p.Payload), "%d of %s", &round, &want); err != nil || name != t.topic(want) {
					t.Errorf("%s is under %q", describe(p), name)
				}
			}
			if len(got) != 15 {
				t.Errorf("maximum %d: got %d messages, want 15", most, len(got))
			}
		}
	})
}
