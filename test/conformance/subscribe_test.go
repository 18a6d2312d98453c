package conformance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// subscription returns a subscription with a QoS.
func subscription(filter string, qos byte) mqtt.Subscription {
	return mqtt.Subscription{Filter: filter, QoS: qos}
}

// answered sends SUBSCRIBE and returns the codes of its SUBACK.
func (c *client) answered(subs ...mqtt.Subscription) []mqtt.ReasonCode {
	c.t.Helper()
	c.send(&mqtt.Subscribe{PacketID: 21, Subscriptions: subs})
	ack := expect[*mqtt.Suback](c)
	if ack.PacketID != 21 {
		c.t.Fatalf("SUBACK of %d, want 21", ack.PacketID)
	}
	return ack.Codes
}

// orFailure returns a reason code as the trial's version says it.
func (t *trial) orFailure(code mqtt.ReasonCode) mqtt.ReasonCode {
	if !t.is5() && code.IsError() {
		return 0x80
	}
	return code
}

// SUBSCRIBE is answered with one SUBACK that has its identifier and, for each
// filter in its place, what was granted or that it was refused.
func TestSubscribeIsAnswered(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		c.send(&mqtt.Subscribe{PacketID: 0xFFFF, Subscriptions: []mqtt.Subscription{
			subscription(t.topic("2"), 2), subscription("$SYS/#", 1), subscription(t.topic("0"), 0), subscription(t.topic("a#"), 2),
			subscription(t.topic("1"), 1), subscription(t.topic("+/#"), 2), subscription("$share//x", 1), subscription(t.topic("2"), 1),
		}})
		ack := expect[*mqtt.Suback](c) // [MQTT-3.8.4-1]
		if ack.PacketID != 0xFFFF {    // [MQTT-3.8.4-2]
			t.Errorf("SUBACK of %d", ack.PacketID)
		}
		want := []mqtt.ReasonCode{2, mqtt.NotAuthorized, 0, mqtt.TopicFilterInvalid, 1, 2, mqtt.TopicFilterInvalid, 1}
		for i := range want { // [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
			if want[i] = t.orFailure(want[i]); len(ack.Codes) != len(want) || ack.Codes[i] != want[i] {
				t.Fatalf("got %v, want %v", ack.Codes, want)
			}
		}
		c.nothing()
		pub := t.connect()
		for _, name := range []string{"0", "1", "2", "x/y"} {
			pub.publish(message(t.topic(name), name, 2))
			c.takes(t.topic(name), name)
		}
		c.nothing()
	})
}

// SUBSCRIBE and UNSUBSCRIBE name at least one filter, and none is empty.
func TestNoFilter(t *testing.T) {
	both(t, func(t *trial) {
		for _, b := range [][]byte{
			packet(0x82, u16(5), t.props()),              // [MQTT-3.8.3-2] (3.1.1: [MQTT-3.8.3-3])
			packet(0xA2, u16(5), t.props()),              // [MQTT-3.10.3-2]
			packet(0x82, u16(5), t.props(), text(""), 1), // [MQTT-4.7.3-1]
			packet(0xA2, u16(5), t.props(), text("")),
		} {
			c := t.connect()
			c.raw(b)
			c.ended(mqtt.ProtocolError)
		}
	})
}

// What the options must not say ends the connection.
func TestBadSubscriptionOptions(t *testing.T) {
	both(t, func(t *trial) {
		for options, code := range map[int]mqtt.ReasonCode{
			0x40: mqtt.MalformedPacket, 0x80: mqtt.MalformedPacket, 0xC2: mqtt.MalformedPacket, // [MQTT-3.8.3-5] (3.1.1: [MQTT-3.8.3-4])
			0x03: mqtt.ProtocolError, 0x30: mqtt.ProtocolError,
		} {
			c := t.connect()
			c.raw(packet(0x82, u16(5), t.props(), text(t.topic("a")), options))
			c.ended(code)
		}
		if !t.is5() { // what 5.0 has options for is reserved
			for _, options := range []int{4, 8, 16, 32} {
				c := t.connect()
				c.raw(packet(0x82, u16(5), text(t.topic("a")), options))
				c.closed()
			}
		}
	})
}

// With No Local a client is not sent what it published itself, and all else.
func TestNoLocal(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		c, other := t.connectAs(t.persistent("c")), t.connect()
		c.subscribed(&mqtt.Subscribe{PacketID: 5, Subscriptions: []mqtt.Subscription{{Filter: t.topic("a"), QoS: 2, NoLocal: true}}})
		for qos := range byte(3) {
			c.publish(message(t.topic("a"), "own", qos)) // [MQTT-3.8.3-3]
			c.nothing()
			other.publish(message(t.topic("a"), "other's", qos))
			c.takes(t.topic("a"), "other's")
		}
		c.subscribe(2, t.topic("a")) // without No Local
		c.publish(message(t.topic("a"), "own", 0))
		c.takes(t.topic("a"), "own")

		c.send(&mqtt.Subscribe{PacketID: 5, Subscriptions: []mqtt.Subscription{{Filter: "$share/g/" + t.topic("a"), QoS: 1, NoLocal: true}}}) // [MQTT-3.8.3-4]
		c.ended(mqtt.ProtocolError)
	})
}

// Subscribing again to a filter replaces its subscription: the new QoS holds, one
// copy of each message comes, and retained messages come again.
func TestSubscribingAgain(t *testing.T) {
	both(t, func(t *trial) {
		c, pub := t.connect(), t.connect()
		pub.retain(t.topic("a"), "kept")
		for _, qos := range []byte{2, 0, 1} {
			c.subscribe(qos, t.topic("a"))
			if p := c.takes(t.topic("a"), "kept"); !p.Retain || p.QoS != min(qos, 1) { // [MQTT-3.8.4-4]
				t.Errorf("%s, RETAIN %v", describe(p), p.Retain)
			}
			pub.publish(message(t.topic("a"), "live", 2))
			if p := c.takes(t.topic("a"), "live"); p.QoS != qos { // [MQTT-3.8.4-3] [MQTT-3.8.4-8] (3.1.1: [MQTT-3.8.4-6])
				t.Errorf("%s, want QoS %d", describe(p), qos)
			}
			c.nothing()
		}
	})
}

// Messages are delivered with the lower of their QoS and the one granted.
func TestGrantedQoS(t *testing.T) {
	both(t, func(t *trial) {
		pub := t.connect()
		for granted := range byte(3) {
			c := t.connect()
			c.subscribe(granted, t.topic("a"))
			for qos := range byte(3) {
				pub.publish(message(t.topic("a"), "x", qos))
				if qos == 0 {
					pub.received()
				}
				if p := c.takes(t.topic("a"), "x"); p.QoS != min(qos, granted) { // [MQTT-3.8.4-8]
					t.Errorf("published with %d, granted %d: got %s", qos, granted, describe(p))
				}
			}
		}
	})
}

// A reason is left out of SUBACK where it would be too large for the client.
func TestSubackFits(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for size, want := range map[uint32]bool{1000: true, 50: false} {
			c := t.connect(func(p *mqtt.Connect) { p.Properties.MaximumPacketSize = mqtt.Some(size) })
			c.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{subscription("$SYS/"+strings.Repeat("long", 20), 1)}})
			ack := expect[*mqtt.Suback](c)
			if ack.Codes[0] != mqtt.NotAuthorized || ack.ReasonString.Present() != want { // [MQTT-3.9.2-1]
				t.Errorf("size %d: %v, reason %v", size, ack.Codes, ack.ReasonString)
			}
		}
	})
}

// UNSUBSCRIBE ends the subscription whose filter is the same, character by
// character, and is answered whether or not there was one.
func TestUnsubscribe(t *testing.T) {
	both(t, func(t *trial) {
		c, pub := t.connect(), t.connect()
		c.subscribe(1, t.topic("a"), t.topic("b"), t.topic("c/#"), t.topic("D"))
		c.send(&mqtt.Unsubscribe{PacketID: 0xFFFE, Filters: []string{t.topic("a"), t.topic("nothing"), t.topic("+"), t.topic("c/+"), t.topic("d"), t.topic("b"), t.topic("b")}})
		ack := expect[*mqtt.Unsuback](c) // [MQTT-3.10.4-4] [MQTT-3.10.4-6]
		if ack.PacketID != 0xFFFE {      // [MQTT-3.10.4-5]
			t.Errorf("UNSUBACK of %d", ack.PacketID)
		}
		if t.is5() { // [MQTT-3.11.3-1] [MQTT-3.11.3-2]
			want := fmt.Sprint([]mqtt.ReasonCode{0, mqtt.NoSubscriptionExisted, mqtt.NoSubscriptionExisted, mqtt.NoSubscriptionExisted, mqtt.NoSubscriptionExisted, 0, mqtt.NoSubscriptionExisted})
			if got := fmt.Sprint(ack.Codes); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		for _, name := range []string{"a", "b", "c/x", "D"} {
			pub.publish(message(t.topic(name), name, 1))
		}
		c.takes(t.topic("c/x"), "c/x") // [MQTT-3.10.4-1] [MQTT-3.10.4-2]
		c.takes(t.topic("D"), "D")
		c.nothing()
	})
}

// What was begun to be sent before UNSUBSCRIBE is delivered to its end, on the
// next connection too.
func TestUnsubscribeEndsNoDelivery(t *testing.T) {
	both(t, func(t *trial) {
		c := t.queued(2, 3)
		var ids []uint16
		for range 3 {
			ids = append(ids, expect[*mqtt.Publish](c).PacketID)
		}
		c.ackWith(mqtt.PUBREC, ids[0], 0)
		c.acknowledged(mqtt.PUBREL, ids[0])
		c.send(&mqtt.Unsubscribe{PacketID: 2, Filters: []string{t.topic("a")}})
		expect[*mqtt.Unsuback](c)
		t.connect().publish(message(t.topic("a"), "late", 2))
		c.ackWith(mqtt.PUBCOMP, ids[0], 0)
		c.ackWith(mqtt.PUBREC, ids[1], 0)
		c.acknowledged(mqtt.PUBREL, ids[1]) // [MQTT-3.10.4-3]
		c.nothing()
		c.cut()
		c = t.resume()
		c.acknowledged(mqtt.PUBREL, ids[1])
		if p := expect[*mqtt.Publish](c); p.PacketID != ids[2] || !p.Dup {
			t.Errorf("got %s", describe(p))
		}
		c.nothing()
	})
}

// A wildcard stands where the standard lets it stand, and nowhere else.
func TestWildcardsInFilters(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		for filter, ok := range map[string]bool{
			"#": true, "a/#": true, "/#": true, "+": true, "+/+": true, "a/+/b": true, "+/#": true, "/+": true, "a/+/#": true, "//": true, " ": true, "a b": true,
			"a#": false, "#/a": false, "a/#/b": false, "##": false, "a/##": false, "#+": false, // [MQTT-4.7.1-1] (3.1.1: [MQTT-4.7.1-2])
			"a+": false, "+a": false, "a/+b": false, "a/b+/c": false, "++": false, "+#": false, // [MQTT-4.7.1-2] (3.1.1: [MQTT-4.7.1-3])
		} {
			want := mqtt.ReasonCode(1)
			if !ok {
				want = t.orFailure(mqtt.TopicFilterInvalid)
			}
			if got := c.answered(subscription(t.topic(filter), 1)); got[0] != want {
				t.Errorf("%s: %v, want %v", filter, got[0], want)
			}
		}
		c.send(message(t.topic("a/+"), "x", 1)) // [MQTT-4.7.0-1] (3.1.1: [MQTT-4.7.1-1])
		for p := c.next(); p != nil; p = c.next() {
			if _, ok := p.(*mqtt.Disconnect); !ok {
				t.Errorf("got %s", describe(p))
			}
		}
	})
}

// A filter that begins with a wildcard does not match topics that begin with $.
func TestDollarTopics(t *testing.T) {
	both(t, func(t *trial) {
		name := "dollar-" + t.prefix
		rules := []map[string]string{}
		for _, action := range []string{"publish", "subscribe", "receive"} {
			for _, filter := range []string{"#", "$" + t.prefix + "/#"} {
				rules = append(rules, map[string]string{"action": action, "filter": filter})
			}
		}
		var u user
		t.site.api.Call(http.MethodPost, "/orgs/"+t.site.newOrg("plain")+"/users", map[string]any{"name": name, "rules": rules}, &u)
		as := func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Some(u.Username), mqtt.Credential(u.Password) }
		wide, narrow, pub := t.connect(as), t.connect(as), t.connect(as)
		wide.subscribe(1, "#", "+/a", "+/#", "/#")
		narrow.subscribe(1, "$"+t.prefix+"/+")
		pub.retain("$"+t.prefix+"/a", "x")
		narrow.takes("$"+t.prefix+"/a", "x")
		late := t.connect(as)
		late.subscribe(1, "#", "+/a")
		for _, c := range []*client{wide, late} { // [MQTT-4.7.2-1]
			for _, p := range c.received() {
				if strings.HasPrefix(string(p.Topic), "$") {
					t.Errorf("got %s", describe(p))
				}
			}
		}
	})
}

// Topic names and filters are compared as they are: neither case nor the forms of
// Unicode that look alike are the same.
func TestTopicsAreNotNormalised(t *testing.T) {
	both(t, func(t *trial) {
		names := []string{"\u00e9", "e\u0301", "E\u0301", "\ufb01", "fi", "\u00c5", "\u212b", "a", "A", "\ufeffa", "a ", "\u200ba", "a/", "/a"}
		pub := t.connect()
		for i, filter := range names {
			c := t.connect()
			c.subscribe(1, t.topic(filter))
			for j, name := range names {
				pub.publish(message(t.topic(name), fmt.Sprint(j), 1))
			}
			c.takes(t.topic(filter), fmt.Sprint(i)) // [MQTT-4.7.3-4]
			c.nothing()
		}
	})
}

// A topic may have 65,535 bytes, and so many that no more can be said.
func TestLongestTopic(t *testing.T) {
	both(t, func(t *trial) {
		name := t.topic("") + strings.Repeat("x", mqtt.MaxString-len(t.topic("")))
		c := t.connect()
		c.subscribe(1, name, t.topic("+")) // [MQTT-4.7.3-3]
		t.connect().publish(message(name, "long", 1))
		c.takes(name, "long")
	})
}

// A topic of thousands of levels is refused with a word for it, and is no reason
// to end a connection that has one.
func TestThousandsOfLevels(t *testing.T) {
	both(t, func(t *trial) {
		deep := t.topic("") + strings.Repeat("/", 60_000)
		c := t.connect()
		if got := c.answered(subscription(deep, 1), subscription(t.topic("a"), 1)); got[0] != t.orFailure(mqtt.QuotaExceeded) || got[1] != 1 {
			t.Errorf("subscribe: %v", got)
		}
		c.send(message(deep, "x", 1))
		if t.is5() {
			if p := expect[*mqtt.Ack](c); p.Code != mqtt.QuotaExceeded {
				t.Errorf("publish: %v", p.Code)
			}
			c.nothing()
		} else {
			c.closed()
		}
		c = t.connect()
		c.send(&mqtt.Unsubscribe{PacketID: 4, Filters: []string{deep}})
		expect[*mqtt.Unsuback](c)
	})
}
