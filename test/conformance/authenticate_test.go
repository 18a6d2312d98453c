package conformance

import (
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A CONNECT with a method that the server does not know is refused.
func TestUnknownAuthenticationMethod(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, method := range []string{"", "PLAIN", "SCRAM-SHA-1", "scram-sha-256", "SCRAM-SHA-256-PLUS", "\u0130"} {
			c := t.dial()
			p := t.hello()
			p.Properties.AuthMethod = mqtt.Some(method)
			c.send(p)
			c.refused(mqtt.BadAuthenticationMethod, 0) // [MQTT-4.12.0-1]
		}
	})
}

// A client that named no method is sent neither AUTH nor a method, and AUTH from
// it ends the connection.
func TestAuthWithoutMethod(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, b := range [][]byte{
			packet(0xF0), packet(0xF0, 0x18, section(join(0x15, text("SCRAM-SHA-256")))), packet(0xF0, 0x19, section(join(0x15, text("SCRAM-SHA-256")))),
		} {
			c := t.connect()
			if c.ack.Properties.AuthMethod.Present() || c.ack.Properties.AuthData != nil { // [MQTT-4.12.0-6]
				t.Error("CONNACK names a method")
			}
			c.raw(b) // [MQTT-4.12.0-7]
			c.ended(mqtt.ProtocolError)
		}
	})
}

// What AUTH must not say ends the connection.
func TestBadAuth(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for name, tt := range map[string]struct {
			b    []byte
			code mqtt.ReasonCode
		}{
			"flags":              {packet(0xF1, 0x18, section(join(0x15, text("x")))), mqtt.MalformedPacket}, // [MQTT-3.15.1-1]
			"unknown code":       {packet(0xF0, 0x17, section(join(0x15, text("x")))), mqtt.ProtocolError},   // [MQTT-3.15.2-1]
			"code of DISCONNECT": {packet(0xF0, 0x80, section(join(0x15, text("x")))), mqtt.ProtocolError},
			"no method":          {packet(0xF0, 0x18, section("")), mqtt.ProtocolError},
			"truncated":          {packet(0xF0, 0x18), mqtt.MalformedPacket},
		} {
			c := t.connect()
			c.raw(tt.b)
			if d := c.next(); d == nil {
				t.Errorf("%s: closed without a reason", name)
			} else if d, ok := d.(*mqtt.Disconnect); !ok || d.Code != tt.code {
				t.Errorf("%s: got %+v, want %v", name, d, tt.code)
			}
			c.closed()
		}
	})
}
