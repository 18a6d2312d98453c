package conformance

import (
	"slices"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// cutShort returns the first n bytes of the body of a packet, as a whole packet.
func cutShort(b []byte, n int) []byte { return packet(int(b[0]), b[2:2+n]) }

// A CONNECT that ends too early is malformed, wherever it ends [MQTT-3.1.4-1].
func TestTruncatedConnect(t *testing.T) {
	both(t, func(t *trial) {
		p := t.hello()
		p.ClientID = "id"
		p.Will = &mqtt.Will{Topic: "w", Payload: []byte("x"), QoS: 1}
		p.Username, p.Password = mqtt.Some("u"), mqtt.Credential("p")
		if t.is5() {
			p.Properties.SessionExpiry = mqtt.Some[uint32](1)
			p.Will.Delay = 1
		}
		whole := p.Append(nil, t.version)
		for n := range len(whole) - 2 {
			c := t.dial()
			c.raw(cutShort(whole, n))
			if n < 7 {
				c.closed() // nothing tells its version
			} else {
				c.refused(mqtt.MalformedPacket, silence)
			}
		}
		c := t.dial()
		c.raw(append(packet(0x10, whole[2:], 0), packet(0xC0)...))
		c.refused(mqtt.MalformedPacket, silence)
	})
}

// Any other packet that ends too early is malformed, and so is one that goes on.
func TestTruncatedPackets(t *testing.T) {
	both(t, func(t *trial) {
		bad := func(b []byte, code mqtt.ReasonCode) {
			t.Helper()
			c := t.connect()
			c.raw(b)
			c.ended(code)
		}
		sub := packet(0x82, u16(1), t.props(), text("a"), 0)
		unsub := packet(0xA2, u16(1), t.props(), text("a"))
		for _, b := range [][]byte{sub, unsub} {
			for n := range len(b) - 2 {
				if code := mqtt.MalformedPacket; n == 2+len(t.props()) {
					bad(cutShort(b, n), mqtt.ProtocolError) // well-formed, and asks for nothing
				} else {
					bad(cutShort(b, n), code)
				}
			}
			bad(packet(int(b[0]), b[2:], 0), mqtt.MalformedPacket)
		}
		publish := packet(0x32, text("a"), u16(1), t.props())
		for n := range len(publish) - 2 {
			bad(cutShort(publish, n), mqtt.MalformedPacket)
		}
		for _, first := range []int{0x40, 0x50, 0x62, 0x70} {
			bad(packet(first), mqtt.MalformedPacket)
			bad(packet(first, 1), mqtt.MalformedPacket)
			if !t.is5() {
				bad(packet(first, u16(1), 0), mqtt.MalformedPacket)
				continue
			}
			bad(packet(first, u16(1), 0, 1), mqtt.MalformedPacket)
			bad(packet(first, u16(1), 0, 0, 0), mqtt.MalformedPacket)
			bad(packet(first, u16(1), 0, section(join(reasonString, u16(9), "x"))), mqtt.MalformedPacket)
			bad(packet(first, u16(1), 1), mqtt.ProtocolError) // no such reason code
		}
	})
}

// What a connection of the client leaves half-said is not served.
func TestHalfAPacket(t *testing.T) {
	both(t, func(t *trial) {
		witness := t.connect()
		witness.subscribe(1, t.topic("a"))
		m := message(t.topic("a"), "half", 1).Append(nil, t.version)
		for _, n := range []int{1, 2, 5, len(m) - 1} {
			c := t.connect()
			c.raw(m[:n])
			t.flush()
			c.cut()
		}
		t.connect().reaches(witness, t.topic("a"))
	})
}

// A property and a legal value of it.
type property struct {
	id    int
	value string
	in    string // letters of the places where a client may send it, see properties
}

// Where a client may send which property: C CONNECT, W the will, P PUBLISH,
// S SUBSCRIBE, U UNSUBSCRIBE, A acknowledgements, D DISCONNECT.
var properties = []property{
	{0x01, "\x01", "WP"}, {0x02, join(u32(60)), "WP"}, {contentType, join(text("text/plain")), "WP"},
	{responseTopic, join(text("answer")), "WP"}, {0x09, join(text("\x00\x01")), "WP"}, {subscriptionID, "\x05", "S"},
	{0x11, join(u32(0)), "CD"}, {0x12, join(text("id")), ""}, {0x13, join(u16(60)), ""},
	{0x17, "\x01", "C"}, {0x18, join(u32(0)), "W"}, {0x19, "\x00", "C"}, {0x1A, join(text("x")), ""},
	{reasonString, join(text("because")), "AD"}, {0x21, join(u16(10)), "C"}, {0x22, join(u16(10)), "C"}, {0x23, join(u16(1)), "P"},
	{0x24, "\x01", ""}, {0x25, "\x01", ""}, {userProperty, join(text("k"), text("v")), "CWPSUAD"}, {0x27, join(u32(5000)), "C"},
	{0x28, "\x01", ""}, {0x29, "\x01", ""}, {0x2A, "\x01", ""},
}

// places maps the letters to packets with these properties.
func (t *trial) withProperties(in rune, props string) []byte {
	switch in {
	case 'C':
		return packet(0x10, text("MQTT"), 5, cleanFlag|userFlag|passwordFlag, u16(600), section(props), text(t.freshID()), t.site.ann.credentials())
	case 'W':
		return t.willed(props, t.topic("will"))
	case 'P':
		return packet(0x30, text(t.topic("a")), section(props))
	case 'S':
		return packet(0x82, u16(1), section(props), text(t.topic("s")), 0)
	case 'U':
		return packet(0xA2, u16(1), section(props), text(t.topic("u")))
	case 'A':
		return packet(0x40, u16(9), 0, section(props))
	}
	return packet(0xE0, 0, section(props))
}

// hasProperties sends a packet with these properties. With a code of 0 it must be served.
func (t *trial) hasProperties(in rune, props string, code mqtt.ReasonCode) {
	t.Helper()
	b := t.withProperties(in, props)
	if in == 'C' || in == 'W' {
		c := t.dial()
		c.raw(b)
		if code != 0 {
			c.refused(code, silence)
		} else if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
			t.Errorf("%c % x: %v", in, props, ack.Code)
		}
		c.cut()
		return
	}
	c := t.connect()
	c.raw(b)
	switch {
	case code != 0:
		c.ended(code)
	case in == 'D':
		c.closed()
	default:
		c.send(&mqtt.Pingreq{})
		for {
			switch p := c.next().(type) {
			case *mqtt.Suback, *mqtt.Unsuback:
				continue
			case *mqtt.Pingresp:
			default:
				t.Errorf("%c % x: got %s", in, props, describe(p))
			}
			break
		}
		c.leave()
	}
}

// Each property is taken where it belongs and nowhere else, and once.
func TestPropertiesInTheirPlaces(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, p := range properties {
			one := join(p.id, p.value)
			for _, in := range "CWPSUAD" {
				switch {
				case strings.ContainsRune(p.in, in):
					t.hasProperties(in, one, 0)
					if code := mqtt.ProtocolError; p.id == userProperty {
						t.hasProperties(in, one+one, 0)
					} else {
						t.hasProperties(in, one+one, code)
					}
				case in == 'P' && p.id == subscriptionID:
					t.hasProperties(in, one, mqtt.ProtocolError) // [MQTT-3.3.4-6]
				default:
					t.hasProperties(in, one, mqtt.MalformedPacket)
				}
			}
		}
	})
}

// A property that does not exist is malformed, and so is one that ends too early
// or a section that is longer than its packet.
func TestBrokenProperties(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		known := []int{authMethod, 0x16, 0x1C}
		for _, p := range properties {
			known = append(known, p.id)
		}
		for id := range 0x30 {
			if !slices.Contains(known, id) {
				t.hasProperties('P', join(id, 0, 0, 0, 0), mqtt.MalformedPacket)
			}
		}
		t.hasProperties('C', "\x7f", mqtt.MalformedPacket)
		t.hasProperties('C', "\x80\x01\x00", mqtt.MalformedPacket)
		for _, p := range properties {
			if p.in == "" {
				continue
			}
			in := rune(p.in[0])
			t.hasProperties(in, join(p.id, p.value[:len(p.value)-1]), mqtt.MalformedPacket)
			t.hasProperties(in, join(p.id), mqtt.MalformedPacket)
		}
		for _, b := range [][]byte{
			packet(0x30, text(t.topic("a")), 5, userProperty),
			packet(0x30, text(t.topic("a")), "\xff\xff\xff\x7f"),
			packet(0x30, text(t.topic("a")), 3, userProperty, text("k"), text("v")), // ends within the property
			packet(0x82, u16(1), 100, text(t.topic("a")), 0),
		} {
			c := t.connect()
			c.raw(b)
			c.ended(mqtt.MalformedPacket)
		}
	})
}

// A value that a property cannot have is a Protocol Error.
func TestPropertyValues(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, tt := range []struct {
			in    rune
			props string
			code  mqtt.ReasonCode
		}{
			{'C', join(0x17, 2), mqtt.ProtocolError},      // request problem information
			{'C', join(0x19, 2), mqtt.ProtocolError},      // request response information
			{'C', join(0x21, u16(0)), mqtt.ProtocolError}, // receive maximum
			{'C', join(0x27, u32(0)), mqtt.ProtocolError}, // maximum packet size
			{'C', join(0x16, text("x")), mqtt.ProtocolError},
			{'W', join(0x01, 2), mqtt.ProtocolError}, // payload format
			{'P', join(0x01, 2), mqtt.ProtocolError},
			{'P', join(0x23, u16(0)), mqtt.TopicAliasInvalid},
			{'S', join(subscriptionID, 0), mqtt.ProtocolError},
			{'P', join(responseTopic, text("a/+")), mqtt.MalformedPacket},
			{'W', join(responseTopic, text("#")), mqtt.MalformedPacket},
			{'C', join(0x21, u16(1)), 0}, {'C', join(0x21, u16(65535)), 0}, {'C', join(0x22, u16(0)), 0}, {'C', join(0x22, u16(65535)), 0},
			{'C', join(0x11, u32(0xFFFFFFFF)), 0}, {'C', join(0x27, u32(0xFFFFFFFF)), 0}, {'C', join(0x17, 0), 0}, {'C', join(0x19, 1), 0},
			{'S', join(subscriptionID, "\xff\xff\xff\x7f"), 0}, {'P', join(0x02, u32(0xFFFFFFFF)), 0}, {'P', join(0x01, 0), 0},
		} {
			t.hasProperties(tt.in, tt.props, tt.code)
		}
	})
}
