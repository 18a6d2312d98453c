package conformance

import (
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// PINGREQ is answered, each one, and in its turn [MQTT-3.12.4-1].
func TestPing(t *testing.T) {
	everywhere(t, func(t *trial) {
		c := t.connect()
		const n = 20
		for range n {
			c.send(&mqtt.Pingreq{})
		}
		for range n {
			expect[*mqtt.Pingresp](c)
		}
		c.nothing()
	})
}

// A PINGREQ has no body.
func TestPingWithBody(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		c.raw(packet(0xC0, 0))
		c.ended(mqtt.MalformedPacket)
	})
}

// Every form of DISCONNECT of a client ends the connection without an answer,
// and what follows it is not served [MQTT-3.14.4-1] [MQTT-3.14.4-2].
func TestDisconnect(t *testing.T) {
	both(t, func(t *trial) {
		witness := t.connect()
		witness.subscribe(0, t.topic("#"))
		forms := [][]byte{packet(0xE0)}
		if t.is5() {
			forms = append(forms, packet(0xE0, 0), packet(0xE0, 0, 0), packet(0xE0, 4), packet(0xE0, 0x80),
				packet(0xE0, 0, section(join(reasonString, text("enough"), userProperty, text("k"), text("v"), userProperty, text("k"), text("v")))),
				packet(0xE0, 0, section(join(0x11, u32(0)))))
		}
		for _, b := range forms {
			c := t.connect()
			c.raw(b)
			c.send(message(t.topic("a"), "late", 0), &mqtt.Pingreq{})
			c.closed()
		}
		witness.nothing()
	})
}

// DISCONNECT has one of its reason codes, and well-formed properties [MQTT-3.14.2-1].
func TestBadDisconnect(t *testing.T) {
	both(t, func(t *trial) {
		if !t.is5() {
			c := t.connect()
			c.raw(packet(0xE0, 0))
			c.closed()
			return
		}
		for _, tt := range []struct {
			body string
			code mqtt.ReasonCode
		}{
			{"\x01", mqtt.ProtocolError}, {"\x10", mqtt.ProtocolError}, {"\x18", mqtt.ProtocolError},
			{"\x84", mqtt.ProtocolError}, {"\x92", mqtt.ProtocolError}, {"\xff", mqtt.ProtocolError},
			{"\x00\x01", mqtt.MalformedPacket}, {"\x00\x00\x00", mqtt.MalformedPacket}, {"\x00\x06\x11\x00\x00\x00\x00", mqtt.MalformedPacket},
			{"\x00\x0a\x11\x00\x00\x00\x00\x11\x00\x00\x00\x00", mqtt.ProtocolError},
			{"\x00\x02\x01\x00", mqtt.MalformedPacket}, {"\x00\x05\x02\x00\x00\x00\x01", mqtt.MalformedPacket}, {"\x00\x02\x7f\x00", mqtt.MalformedPacket},
		} {
			c := t.connect()
			c.raw(packet(0xE0, tt.body))
			c.ended(tt.code)
		}
	})
}

// DISCONNECT from the server has a reason string if there is room for it
// [MQTT-3.14.2-3], and never a Session Expiry Interval [MQTT-3.14.2-2].
func TestDisconnectFits(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for max, reason := range map[uint32]bool{1000: true, 30: false} {
			c := t.connect(func(p *mqtt.Connect) { p.Properties.MaximumPacketSize = mqtt.Some(max) })
			c.send(t.hello())
			d := expect[*mqtt.Disconnect](c)
			if d.Code != mqtt.ProtocolError || d.Properties.ReasonString.Present() != reason || c.header.Size() > int(max) {
				t.Errorf("at most %d: DISCONNECT of %d bytes: %s", max, c.header.Size(), describe(d))
			}
			if d.Properties.SessionExpiry.Present() || len(d.Properties.UserProperties) > 0 {
				t.Errorf("got %+v", d.Properties)
			}
			c.closed()
		}
	})
}
