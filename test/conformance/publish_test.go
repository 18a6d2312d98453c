package conformance

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// DUP is a matter of one hop: what the sender set, the receiver does not see.
func TestDupIsOfOneHop(t *testing.T) {
	both(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(2, t.topic("a"))
		for qos := byte(1); qos <= 2; qos++ {
			p := message(t.topic("a"), "x", qos)
			p.Dup = true
			pub.publish(p)
			if got := sub.takes(t.topic("a"), "x"); got.Dup { // [MQTT-3.3.1-3] [MQTT-3.3.1-1]
				t.Errorf("%s has DUP", describe(got))
			}
			sub.nothing()
		}
	})
}

// What the flags of PUBLISH must not say ends the connection.
func TestBadPublishFlags(t *testing.T) {
	both(t, func(t *trial) {
		for name, flags := range map[string]byte{
			"DUP with QoS 0":         8,     // [MQTT-3.3.1-2]
			"QoS 3":                  6,     // [MQTT-3.3.1-4]
			"QoS 3, DUP and RETAIN":  6 + 9, // [MQTT-3.3.1-4]
			"DUP and RETAIN, no QoS": 9,     // [MQTT-3.3.1-2]
		} {
			c := t.connect()
			b := message(t.topic("a"), "x", 1).Append(nil, t.version)
			b[0] = 0x30 | flags
			c.raw(b)
			if p := c.next(); t.is5() {
				if d, ok := p.(*mqtt.Disconnect); !ok || d.Code != mqtt.MalformedPacket {
					t.Errorf("%s: got %s, want DISCONNECT Malformed Packet", name, describe(p))
				}
			} else if p != nil {
				t.Errorf("%s: got %s, want the end of the connection", name, describe(p))
			}
		}
	})
}

// retain publishes a retained message with QoS 1.
func (c *client) retain(topic, payload string) {
	c.t.Helper()
	p := message(topic, payload, 1)
	p.Retain = true
	c.publish(p)
}

// The retained message of a topic is the last one with RETAIN, whatever came
// without it since; a new subscriber gets it with RETAIN.
func TestRetainedMessageIsReplaced(t *testing.T) {
	both(t, func(t *trial) {
		pub, sub := t.connect(), t.connect()
		pub.retain(t.topic("a"), "1")
		pub.retain(t.topic("a"), "2")              // [MQTT-3.3.1-5]
		pub.publish(message(t.topic("a"), "3", 1)) // [MQTT-3.3.1-8] (3.1.1: [MQTT-3.3.1-12])
		pub.publish(message(t.topic("a"), "", 1))  // without RETAIN it removes nothing
		sub.subscribe(2, t.topic("a"))             // [MQTT-3.3.1-9] (3.1.1: [MQTT-3.3.1-6])
		got := sub.takes(t.topic("a"), "2")        //
		if !got.Retain || got.QoS != 1 {           // its QoS is kept (3.1.1: [MQTT-3.3.1-5] [MQTT-3.3.1-8])
			t.Errorf("%s, RETAIN %v", describe(got), got.Retain)
		}
		sub.nothing()
		p := message(t.topic("a"), "4", 0)
		p.Retain = true
		pub.publish(p) // it replaces the one with QoS 1 (3.1.1: [MQTT-3.3.1-7])
		pub.received()
		sub.takes(t.topic("a"), "4")
		late := t.connect()
		late.subscribe(2, t.topic("+"))
		if got := late.takes(t.topic("a"), "4"); !got.Retain || got.QoS != 0 {
			t.Errorf("%s, RETAIN %v", describe(got), got.Retain)
		}
		late.nothing()
	})
}

// An empty message with RETAIN is delivered like any other, and leaves nothing.
func TestEmptyRetainedMessageRemoves(t *testing.T) {
	both(t, func(t *trial) {
		for qos := range byte(3) {
			pub, sub := t.connect(), t.connect()
			name := t.topic(fmt.Sprint("a", qos))
			pub.retain(name, "there")
			sub.subscribe(2, name)
			sub.takes(name, "there")
			p := message(name, "", qos)
			p.Retain = true
			pub.publish(p)
			pub.received()
			if got := sub.takes(name, ""); got.Retain { // [MQTT-3.3.1-6] (3.1.1: [MQTT-3.3.1-10] [MQTT-3.3.1-9])
				t.Error("RETAIN is set towards an existing subscription")
			}
			late := t.connect()
			late.subscribe(2, name)
			late.nothing() // [MQTT-3.3.1-7] (3.1.1: [MQTT-3.3.1-11])
		}
	})
}

// Retain Handling says when a subscription brings retained messages.
func TestRetainHandling(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		pub := t.connect()
		pub.retain(t.topic("a"), "kept")
		for _, tt := range []struct {
			handling      byte
			first, second bool
		}{{mqtt.RetainSend, true, true}, {mqtt.RetainSendIfNew, true, false}, {mqtt.RetainDoNotSend, false, false}} {
			sub := t.connect()
			for i, want := range []bool{tt.first, tt.second} { // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
				sub.subscribed(&mqtt.Subscribe{PacketID: 5, Subscriptions: []mqtt.Subscription{{Filter: t.topic("#"), QoS: 1, RetainHandling: tt.handling}}})
				if want {
					sub.takes(t.topic("a"), "kept")
				}
				if got := sub.received(); len(got) != 0 {
					t.Errorf("Retain Handling %d, subscribed %d times: got %s", tt.handling, i+1, describe(got[0]))
				}
			}
		}
	})
}

// RETAIN is forwarded as it was published to who asks for that, and to nobody else.
func TestRetainAsPublished(t *testing.T) {
	both(t, func(t *trial) {
		pub, plain, asking := t.connect(), t.connect(), t.connect()
		plain.subscribe(1, t.topic("a"))
		asking.subscribed(&mqtt.Subscribe{PacketID: 5, Subscriptions: []mqtt.Subscription{{Filter: t.topic("a"), QoS: 1, RetainAsPublished: t.is5()}}})
		for _, retain := range []bool{true, false} {
			p := message(t.topic("a"), "x", 1)
			p.Retain = retain
			pub.publish(p)
			if got := plain.takes(t.topic("a"), "x"); got.Retain { // [MQTT-3.3.1-12] (3.1.1: [MQTT-3.3.1-9])
				t.Error("RETAIN is forwarded without having been asked for")
			}
			if got := asking.takes(t.topic("a"), "x"); got.Retain != (retain && t.is5()) { // [MQTT-3.3.1-13]
				t.Errorf("RETAIN is %v, published was %v", got.Retain, retain)
			}
		}
	})
}

// A topic name that is no text, empty, or has a wildcard ends the connection.
func TestBadTopicNames(t *testing.T) {
	both(t, func(t *trial) {
		for _, name := range []string{"", "+", "#", "a/+", "a/#", "+/a", "a+", "a#b", "\xff", "a/\xc3", "\xed\xa0\x80", "a\x00b", "\xf5\x80\x80\x80"} {
			c := t.connect()
			c.send(message(name, "x", 1)) // [MQTT-3.3.2-1] [MQTT-3.3.2-2]
			switch p := c.next().(type) {
			case *mqtt.Disconnect:
				if p.Code != mqtt.MalformedPacket && p.Code != mqtt.ProtocolError && p.Code != mqtt.TopicNameInvalid {
					t.Errorf("topic %q: %v", name, p.Code)
				}
				c.closed()
			case nil:
				if t.is5() {
					t.Errorf("topic %q: closed without a reason", name)
				}
			default:
				t.Errorf("topic %q: got %s", name, describe(p))
			}
		}
	})
}

// A message arrives under the name it was published with, and only where a filter
// matches that name.
func TestTopicNameOfDelivery(t *testing.T) {
	both(t, func(t *trial) {
		pub := t.connect()
		for filter, names := range map[string]map[string]bool{
			"f/+":     {"f/a": true, "f/": true, "f": false, "f/a/b": false, "g/a": false},
			"f/#":     {"f": true, "f/": true, "f/a": true, "f/a/b": true, "ff": false},
			"f/+/b":   {"f/a/b": true, "f//b": true, "f/b": false, "f/a/b/": false},
			"F/a":     {"F/a": true, "f/a": false},
			"f//a":    {"f//a": true, "f/a": false},
			"f/a ü€😀": {"f/a ü€😀": true, "f/a u": false},
		} {
			sub := t.connect()
			sub.subscribe(1, t.topic(filter))
			want := 0
			for name, match := range names {
				pub.publish(message(t.topic(name), name, 1))
				if match {
					want++
				}
			}
			got := sub.received()
			for _, p := range got {
				if string(p.Topic) != t.topic(string(p.Payload)) || !names[string(p.Payload)] { // [MQTT-3.3.2-3]
					t.Errorf("filter %s: got %s", filter, describe(p))
				}
			}
			if len(got) != want {
				t.Errorf("filter %s: got %d messages, want %d", filter, len(got), want)
			}
		}
	})
}

// The properties that belong to a message arrive as they were sent.
func TestPropertiesAreForwarded(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(2, t.topic("a"))
		for qos := range byte(3) {
			sent := mqtt.Properties{
				PayloadFormat:   mqtt.Some[byte](1), // [MQTT-3.3.2-4]
				ContentType:     mqtt.Some("text/plain; ünïcode"),
				ResponseTopic:   mqtt.Some("answers/to/me"),
				CorrelationData: []byte{0, 1, 2, 0xff}, // [MQTT-3.3.2-16]
				UserProperties:  []mqtt.UserProperty{{Key: "b", Value: "2"}, {Key: "a", Value: "1"}, {Key: "b", Value: "2"}, {Key: "", Value: ""}},
			}
			p := message(t.topic("a"), "text", qos)
			p.SetProperties(&sent)
			pub.publish(p)
			got := sub.takes(t.topic("a"), "text").Properties()
			if !got.Equal(&sent) { // [MQTT-3.3.2-15] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
				t.Errorf("QoS %d: got %+v, want %+v", qos, got, sent)
			}
		}
	})
}

// property appends one property with a text to a PUBLISH of QoS 0.
func withProperty(topic string, id byte, value string) []byte {
	props := append([]byte{id, byte(len(value) >> 8), byte(len(value))}, value...)
	body := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
	body = append(append(body, byte(len(props))), props...)
	return append([]byte{0x30, byte(len(body))}, body...)
}

// Texts in properties are texts, and a response topic names one topic.
func TestBadPublishProperties(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for name, tt := range map[string]struct {
			id    byte
			value string
		}{
			"response topic is no text":          {8, "a\xff"},        // [MQTT-3.3.2-13]
			"response topic has NUL":             {8, "a\x00"},        // [MQTT-3.3.2-13]
			"response topic has +":               {8, "a/+"},          // [MQTT-3.3.2-14]
			"response topic has #":               {8, "#"},            // [MQTT-3.3.2-14]
			"content type is no text":            {3, "\xc3\x28"},     // [MQTT-3.3.2-19]
			"content type is a surrogate":        {3, "\xed\xbf\xbf"}, // [MQTT-3.3.2-19]
			"property of another kind of packet": {18, "assigned"},
		} {
			c := t.connect()
			c.raw(withProperty(t.topic("a"), tt.id, tt.value))
			p := c.next()
			d, ok := p.(*mqtt.Disconnect)
			if !ok || d.Code != mqtt.MalformedPacket && d.Code != mqtt.ProtocolError && d.Code != mqtt.TopicNameInvalid {
				t.Errorf("%s: got %s", name, describe(p))
				continue
			}
			c.closed()
		}
	})
}

// A subscription identifier belongs to a message that comes from the server.
func TestSubscriptionIdentifierFromClient(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c := t.connect()
		p := message(t.topic("a"), "x", 1)
		p.SubscriptionIDs = []uint32{1}
		c.send(p) // [MQTT-3.3.4-6]
		c.ended(mqtt.ProtocolError)
	})
}

// Several subscriptions of one client that match bring one copy, with the highest
// QoS and all identifiers.
func TestOverlappingSubscriptions(t *testing.T) {
	both(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		for i, s := range []mqtt.Subscription{{Filter: t.topic("a/+"), QoS: 1}, {Filter: t.topic("a/#"), QoS: 2}, {Filter: t.topic("a/b"), QoS: 0}} {
			p := &mqtt.Subscribe{PacketID: 5, Subscriptions: []mqtt.Subscription{s}}
			if t.is5() && i < 2 {
				p.SubscriptionID = uint32(i+1) * 1_000_000
			}
			sub.subscribed(p)
		}
		pub.publish(message(t.topic("a/b"), "x", 2))
		got := sub.takes(t.topic("a/b"), "x")
		if got.QoS != 2 { // [MQTT-3.3.4-2] (3.1.1: [MQTT-3.3.5-1])
			t.Errorf("%s, want QoS 2", describe(got))
		}
		if t.is5() { // [MQTT-3.3.4-3] [MQTT-3.3.4-4]
			ids := fmt.Sprint(got.SubscriptionIDs)
			if ids != "[1000000 2000000]" && ids != "[2000000 1000000]" {
				t.Errorf("subscription identifiers %s", ids)
			}
		}
		sub.nothing()
		pub.publish(message(t.topic("a/b"), "y", 1))
		if got := sub.takes(t.topic("a/b"), "y"); got.QoS != 1 {
			t.Errorf("%s, want QoS 1", describe(got))
		}
		sub.nothing()
	})
}

// Who may not publish to a topic is told so, or disconnected where there is no
// word for it; and nobody gets the message.
func TestRefusedPublish(t *testing.T) {
	both(t, func(t *trial) {
		for qos := range byte(3) {
			c := t.connect()
			c.send(message("$SYS/x", "x", qos)) // (3.1.1: [MQTT-3.3.5-2])
			switch {
			case !t.is5():
				c.closed()
			case qos == 0:
				c.nothing()
			default:
				want := []mqtt.Type{mqtt.PUBACK, mqtt.PUBREC}[qos-1]
				if p := expect[*mqtt.Ack](c); p.Type != want || p.Code != mqtt.NotAuthorized { // [MQTT-3.4.2-1] [MQTT-3.5.2-1]
					t.Errorf("got %s, want %v Not authorized", describe(p), want)
				}
			}
		}
	})
}

// A reason is left out where it would make the answer larger than the client
// accepts; the answer itself is not.
func TestReasonFitsMaximumPacketSize(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for qos := byte(1); qos <= 2; qos++ {
			for size, want := range map[uint32]bool{1000: true, 50: false} {
				c := t.connect(func(p *mqtt.Connect) { p.Properties.MaximumPacketSize = mqtt.Some(size) })
				c.send(message("$SYS/"+strings.Repeat("long", 20), "x", qos)) // the reason names it
				p := expect[*mqtt.Ack](c)
				if p.Code != mqtt.NotAuthorized {
					t.Fatalf("got %s", describe(p))
				}
				got := p.ReasonString.Present()
				if got != want { // [MQTT-3.4.2-2] [MQTT-3.5.2-2]
					t.Errorf("QoS %d, size %d: reason string %v", qos, size, p.ReasonString)
				}
			}
		}
	})
}

// A payload may be anything, and nothing.
func TestAnyPayload(t *testing.T) {
	both(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(1, t.topic("a"))
		for _, payload := range [][]byte{nil, {0}, {0xff, 0xfe}, bytes.Repeat([]byte{0, 0x80, 0xff}, 40_000)} {
			pub.publish(message(t.topic("a"), string(payload), 1))
			if got := sub.take(); !bytes.Equal(got.Payload, payload) {
				t.Errorf("%d bytes arrive as %d", len(payload), len(got.Payload))
			}
		}
	})
}
