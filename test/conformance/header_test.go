package conformance

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// legal returns a legal packet of each type that a client sends after CONNECT.
func (t *trial) legal() map[mqtt.Type][]byte {
	all := map[mqtt.Type][]byte{}
	for _, p := range []struct {
		kind   mqtt.Type
		packet mqtt.Packet
	}{
		{mqtt.PUBLISH, message(t.topic("a"), "x", 1)},
		{mqtt.PUBACK, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: 9}},
		{mqtt.PUBREC, &mqtt.Ack{Type: mqtt.PUBREC, PacketID: 9}},
		{mqtt.PUBREL, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: 9}},
		{mqtt.PUBCOMP, &mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: 9}},
		{mqtt.SUBSCRIBE, &mqtt.Subscribe{PacketID: 3, Subscriptions: []mqtt.Subscription{{Filter: t.topic("a")}}}},
		{mqtt.UNSUBSCRIBE, &mqtt.Unsubscribe{PacketID: 3, Filters: []string{t.topic("a")}}},
		{mqtt.PINGREQ, &mqtt.Pingreq{}},
		{mqtt.DISCONNECT, &mqtt.Disconnect{}},
	} {
		all[p.kind] = p.packet.Append(nil, t.version)
	}
	return all
}

// Flags that a packet type does not have end the connection [MQTT-2.1.3-1]
// [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1].
func TestReservedFlags(t *testing.T) {
	both(t, func(t *trial) {
		for kind, b := range t.legal() {
			if kind == mqtt.PUBLISH {
				continue // its flags all mean something
			}
			right := b[0] & 15
			for flip := byte(1); flip < 16; flip++ {
				if flip&(flip-1) != 0 && kind != mqtt.PUBREL && kind != mqtt.SUBSCRIBE {
					continue // each bit by itself will do for the others
				}
				c := t.connect()
				bad := bytes.Clone(b)
				bad[0] = bad[0]&0xF0 | right ^ flip
				c.raw(bad)
				c.ended(mqtt.MalformedPacket)
			}
		}
		for flag := byte(1); flag < 16; flag <<= 1 {
			c := t.dial()
			hello := t.hello().Append(nil, t.version)
			hello[0] |= flag
			c.raw(hello)
			c.closed()
		}
	})
}

// Types that do not exist, or that only servers send, end the connection.
func TestPacketTypesOfNoClient(t *testing.T) {
	both(t, func(t *trial) {
		for _, b := range [][]byte{
			packet(0x20, 0, 0, t.props()), packet(0x90, u16(1), t.props(), 0), packet(0xB0, u16(1), t.props(), join(0)[:len(t.props())]), packet(0xD0),
		} {
			c := t.connect()
			c.raw(b)
			c.ended(mqtt.ProtocolError)
		}
		for flags := range 3 {
			c := t.connect()
			c.raw(packet(flags))
			c.ended(mqtt.MalformedPacket)
		}
		if !t.is5() {
			c := t.connect()
			c.raw(packet(0xF0)) // AUTH, which is reserved
			c.closed()
		}
	})
}

// What the server sends has the first byte that the standard lists [MQTT-2.1.3-1]
// [MQTT-2.2.2-1], and the identifier of the packet that it answers [MQTT-2.2.1-5]
// [MQTT-2.2.1-6] [MQTT-2.3.1-6] [MQTT-2.3.1-7].
func TestAnswersOfServer(t *testing.T) {
	everywhere(t, func(t *trial) {
		c := t.connect()
		is := func(first byte, id int) {
			t.Helper()
			if got := byte(c.header.Type)<<4 | c.header.Flags; got != first {
				t.Errorf("first byte %#02x, want %#02x", got, first)
			}
			if id >= 0 && (len(c.body) < 2 || int(c.body[0])<<8|int(c.body[1]) != id) {
				t.Errorf("%#02x: % x, want the identifier %#04x", first, c.body, id)
			}
		}
		is(0x20, -1)
		for _, id := range []uint16{1, 0x00FF, 0x0100, 0x1234, 0xFFFF} {
			c.send(&mqtt.Subscribe{PacketID: id, Subscriptions: []mqtt.Subscription{{Filter: t.topic("s")}}})
			expect[*mqtt.Suback](c)
			is(0x90, int(id))
			c.send(&mqtt.Unsubscribe{PacketID: id, Filters: []string{t.topic("s")}})
			expect[*mqtt.Unsuback](c)
			is(0xB0, int(id))
			c.send(&mqtt.Publish{Topic: []byte(t.topic("a")), QoS: 1, PacketID: id})
			expect[*mqtt.Ack](c)
			is(0x40, int(id))
			c.send(&mqtt.Publish{Topic: []byte(t.topic("a")), QoS: 2, PacketID: id})
			expect[*mqtt.Ack](c)
			is(0x50, int(id))
			c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: id})
			expect[*mqtt.Ack](c)
			is(0x70, int(id))
		}
		c.subscribe(2, t.topic("a"))
		c.send(&mqtt.Publish{Topic: []byte(t.topic("a")), QoS: 2, PacketID: 5})
		var id uint16
		for range 2 { // PUBREC, and the message
			if p, ok := c.next().(*mqtt.Publish); ok {
				is(0x34, -1)
				id = p.PacketID
			}
		}
		c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: id})
		c.acknowledged(mqtt.PUBREL, id)
		is(0x62, int(id))
		c.send(&mqtt.Pingreq{})
		expect[*mqtt.Pingresp](c)
		is(0xD0, -1)
		if c.header.Length != 0 {
			t.Error("PINGRESP has a body")
		}
	})
}

// A message of QoS 0 has no packet identifier: the payload, and in MQTT 5 its
// properties, follow the topic [MQTT-2.2.1-2] [MQTT-2.3.1-5]. No properties is a
// length of 0 [MQTT-2.2.2-1].
func TestNoPacketIDWithQoS0(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		c.subscribe(1, t.topic("a"))
		c.raw(packet(0x30, text(t.topic("a")), t.props(), "AB"))
		expect[*mqtt.Publish](c)
		if want := join(text(t.topic("a")), t.props(), "AB"); string(c.body) != want {
			t.Errorf("got %q, want %q", c.body, want)
		}
		if !t.is5() {
			return
		}
		c.publish(message(t.topic("b"), "", 1))
		c.send(&mqtt.Subscribe{PacketID: 2, Subscriptions: []mqtt.Subscription{{Filter: t.topic("c")}}})
		expect[*mqtt.Suback](c)
		if string(c.body) != join(u16(2), section(""), 0) {
			t.Errorf("SUBACK % x", c.body)
		}
		c.send(&mqtt.Unsubscribe{PacketID: 3, Filters: []string{t.topic("c")}})
		expect[*mqtt.Unsuback](c)
		if string(c.body) != join(u16(3), section(""), 0) {
			t.Errorf("UNSUBACK % x", c.body)
		}
	})
}

// A packet identifier of 0 ends the connection, wherever there must be one
// [MQTT-2.2.1-3] [MQTT-2.3.1-1].
func TestPacketIDZero(t *testing.T) {
	both(t, func(t *trial) {
		for _, b := range [][]byte{
			packet(0x32, text(t.topic("a")), u16(0), t.props(), "x"),
			packet(0x34, text(t.topic("a")), u16(0), t.props(), "x"),
			packet(0x82, u16(0), t.props(), text(t.topic("a")), 0),
			packet(0xA2, u16(0), t.props(), text(t.topic("a"))),
			packet(0x40, u16(0)), packet(0x50, u16(0)), packet(0x62, u16(0)), packet(0x70, u16(0)),
		} {
			c := t.connect()
			c.raw(b)
			c.ended(mqtt.ProtocolError)
		}
	})
}

// Messages to one client that it has not acknowledged have identifiers of their
// own, none of which is 0 [MQTT-2.2.1-4] [MQTT-2.3.1-4].
func TestPacketIDsOfServer(t *testing.T) {
	both(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(2, t.topic("a"))
		inUse := map[uint16]bool{}
		for round := range 5 {
			for i := range 20 {
				pub.publish(message(t.topic("a"), fmt.Sprint(round, i), byte(1+i%2)))
				p := expect[*mqtt.Publish](sub)
				if p.PacketID == 0 || inUse[p.PacketID] {
					t.Fatalf("identifier %d, in use are %v", p.PacketID, inUse)
				}
				inUse[p.PacketID] = true
				if i%4 == 0 {
					sub.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID})
					delete(inUse, p.PacketID)
				}
			}
		}
	})
}
