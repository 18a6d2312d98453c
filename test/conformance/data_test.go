package conformance

import (
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A place is where text stands in a packet.
type place struct {
	name    string
	since   mqtt.Version
	connect bool // in CONNECT, which is refused; elsewhere the connection ends
	packet  func(t *trial, s string) []byte
}

const (
	contentType    = 0x03
	responseTopic  = 0x08
	authMethod     = 0x15
	reasonString   = 0x1F
	userProperty   = 0x26
	subscriptionID = 0x0B
)

// willed returns a CONNECT with a will of these properties and this topic.
func (t *trial) willed(props string, topic string) []byte {
	return t.connectBytes(cleanFlag|willFlag|userFlag|passwordFlag, text(t.freshID()), t.props(props), text(topic), text("gone"), t.site.ann.credentials())
}

var places = []place{
	{"client identifier", mqtt.V311, true, func(t *trial, s string) []byte {
		return t.connectBytes(cleanFlag|userFlag|passwordFlag, text(s), t.site.ann.credentials())
	}},
	{"user name", mqtt.V311, true, func(t *trial, s string) []byte {
		return t.connectBytes(cleanFlag|userFlag|passwordFlag, text(t.freshID()), text(s), text(t.site.ann.Password))
	}},
	{"will topic", mqtt.V311, true, func(t *trial, s string) []byte { return t.willed("", s) }},
	{"content type of the will", mqtt.V5, true, func(t *trial, s string) []byte { return t.willed(join(contentType, text(s)), t.topic("will")) }},
	{"response topic of the will", mqtt.V5, true, func(t *trial, s string) []byte { return t.willed(join(responseTopic, text(s)), t.topic("will")) }},
	{"user property of the will", mqtt.V5, true, func(t *trial, s string) []byte {
		return t.willed(join(userProperty, text("key"), text(s)), t.topic("will"))
	}},
	{"authentication method", mqtt.V5, true, func(t *trial, s string) []byte {
		return packet(0x10, text("MQTT"), 5, cleanFlag, u16(600), t.props(authMethod, text(s)), text(t.freshID()))
	}},
	{"topic name", mqtt.V311, false, func(t *trial, s string) []byte { return packet(0x30, text(s), t.props(), "payload") }},
	{"topic filter", mqtt.V311, false, func(t *trial, s string) []byte { return packet(0x82, u16(1), t.props(), text(s), 0) }},
	{"topic filter of UNSUBSCRIBE", mqtt.V311, false, func(t *trial, s string) []byte { return packet(0xA2, u16(1), t.props(), text(s)) }},
	{"content type", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0x30, text(t.topic("a")), t.props(contentType, text(s)))
	}},
	{"response topic", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0x30, text(t.topic("a")), t.props(responseTopic, text(s)))
	}},
	{"key of a user property", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0x30, text(t.topic("a")), t.props(userProperty, text(s), text("value")))
	}},
	{"value of a user property", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0x30, text(t.topic("a")), t.props(userProperty, text("key"), text(s)))
	}},
	{"user property of SUBSCRIBE", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0x82, u16(1), t.props(userProperty, text(s), text("value")), text(t.topic("a")), 0)
	}},
	{"user property of UNSUBSCRIBE", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0xA2, u16(1), t.props(userProperty, text("key"), text(s)), text(t.topic("a")))
	}},
	{"reason string of PUBACK", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0x40, u16(1), 0, t.props(reasonString, text(s)))
	}},
	{"reason string of DISCONNECT", mqtt.V5, false, func(t *trial, s string) []byte {
		return packet(0xE0, 0, t.props(reasonString, text(s)))
	}},
}

// isMalformed checks that s is malformed in every place where text may stand.
func isMalformed(t *trial, s string, in []place) {
	t.Helper()
	for _, p := range in {
		if t.version < p.since {
			continue
		}
		c := t.dial()
		if p.connect {
			c.raw(p.packet(t, s))
			c.refused(mqtt.MalformedPacket, silence)
			continue
		}
		c = t.connect()
		c.raw(p.packet(t, s))
		c.ended(mqtt.MalformedPacket)
	}
}

// Text that is no UTF-8 ends the connection wherever it stands [MQTT-1.5.4-1] [MQTT-1.5.3-1].
func TestIllFormedText(t *testing.T) {
	both(t, func(t *trial) {
		isMalformed(t, "a\xed\xa0\x80", places) // a surrogate
		topic := places[7:8]
		for _, s := range []string{
			"\xed\xbf\xbf",             // the last surrogate
			"\xed\xa0\x80\xed\xb0\x80", // a pair of them
			"\xc0\x80",                 // U+0000 in two bytes
			"\xe0\x80\xaf",             // a slash in three bytes
			"a\xc3",                    // ends early
			"\x80",                     // begins late
			"\xf4\x90\x80\x80",         // above U+10FFFF
			"\xfe", "\xff",
		} {
			isMalformed(t, s, topic)
		}
	})
}

// U+0000 ends the connection wherever it stands [MQTT-1.5.4-2] [MQTT-1.5.3-2] [MQTT-4.7.3-2].
func TestNULInText(t *testing.T) {
	both(t, func(t *trial) {
		isMalformed(t, "a\x00b", places)
		isMalformed(t, "\x00", places[7:8])
	})
}

// Both strings of a user property are checked, and every one of them [MQTT-1.5.7-1].
func TestStringPair(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, bad := range []string{
			join(userProperty, text("\xff"), text("v")),
			join(userProperty, text("k"), text("\xff")),
			join(userProperty, text("k"), text("v"), userProperty, text("k"), text("\x00")),
			join(userProperty, text("k")),
			join(userProperty, text("k"), u16(5), "v"),
		} {
			c := t.connect()
			c.raw(packet(0x30, text(t.topic("a")), section(bad)))
			c.ended(mqtt.MalformedPacket)
		}
	})
}

// U+FEFF is neither skipped nor stripped: a topic with it is another topic, and
// it arrives as it was sent [MQTT-1.5.4-3] [MQTT-1.5.3-3].
func TestByteOrderMark(t *testing.T) {
	both(t, func(t *trial) {
		const bom = "\ufeff"
		with, without := t.connect(), t.connect()
		with.subscribe(0, t.topic(bom+"a"), t.topic("b"+bom))
		without.subscribe(0, t.topic("a"), t.topic("b"))
		pub := t.connect(func(p *mqtt.Connect) { p.ClientID = bom + p.ClientID })
		pub.publish(message(t.topic(bom+"a"), bom, 1))
		pub.publish(message(t.topic("b"+bom), "2", 1))
		with.takes(t.topic(bom+"a"), bom)
		with.takes(t.topic("b"+bom), "2")
		without.nothing()
	})
}

// Characters that are legal but odd are text like any other.
func TestOddCharacters(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		for _, s := range []string{"\ufffd", "\uffef", "\U0010fffd", "\u00a0", "é", "e\u0301", "😀", " ", "\u2028"} {
			c.subscribe(0, t.topic(s))
			c.publish(message(t.topic(s), "x", 0))
			c.takes(t.topic(s), "x")
		}
	})
}

// Control characters and non-characters have no place in names; other text may
// hold them (1.5.4, 1.5.3 of 3.1.1).
func TestInadvisableCharacters(t *testing.T) {
	both(t, func(t *trial) {
		var names, others []place
		for _, p := range places {
			switch p.name {
			case "client identifier", "user name", "will topic", "response topic of the will",
				"topic name", "topic filter", "topic filter of UNSUBSCRIBE", "response topic":
				names = append(names, p)
			case "authentication method", "reason string of DISCONNECT": // nothing goes on after these
			default:
				others = append(others, p)
			}
		}
		isMalformed(t, "a\u0001", names)
		for _, s := range []string{"\n", "a\u001f", "a\u007f", "\u0080", "a\u009fb", "\ufdd0", "\uffff", "\U0010ffff"} {
			isMalformed(t, s, places[7:8])
		}
		for _, p := range others {
			if t.version < p.since {
				continue
			}
			if p.connect {
				c := t.dial()
				c.raw(p.packet(t, "a\n\u0001\uffff"))
				if ack := expect[*mqtt.Connack](c); ack.Code.IsError() {
					t.Errorf("%s: %s", p.name, describe(ack))
				}
				continue
			}
			c := t.connect()
			c.raw(p.packet(t, "a\n\u0001\uffff"))
			c.raw(packet(0xE0))
			for q := c.next(); q != nil; q = c.next() {
				if d, ok := q.(*mqtt.Disconnect); ok {
					t.Errorf("%s: %s", p.name, describe(d))
				}
			}
		}
	})
}

// A number that is longer than it must be is malformed [MQTT-1.5.5-1], and so is
// one of more than four bytes.
func TestLongNumbers(t *testing.T) {
	both(t, func(t *trial) {
		for _, b := range []string{
			"\xc0\x80\x00",
			"\x30\x80\x80\x00",
			"\x30\x86\x80\x80\x00\x00\x01a\x00bc",
			"\x30\xff\xff\xff\xff",
			"\x30\xff\xff\xff\xff\x01",
			"\x30\x80\x80\x80\x80\x00",
		} {
			c := t.connect()
			c.raw([]byte(b))
			c.ended(mqtt.MalformedPacket)
		}
		c := t.dial()
		c.raw([]byte("\x10\x8c\x00\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"))
		c.closed() // nothing tells its version
		if !t.is5() {
			return
		}
		for _, b := range [][]byte{
			packet(0x30, text(t.topic("a")), "\x80\x00", "payload"),                                // property length
			packet(0x30, text(t.topic("a")), "\x85\x00", 2, u32(9), "payload"),                     // property length
			packet(0x82, u16(1), section("\x0b\x81\x00"), text(t.topic("a")), 0),                   // subscription identifier
			packet(0x82, u16(1), section("\x0b\xff\xff\xff\xff\x01"), text(t.topic("a")), 0),       // too long
			packet(0x30, text(t.topic("a")), section("\x82\x00\x00\x00\x00\x09"), "payload"),       // identifier of a property
			packet(0x30, text(t.topic("a")), section("\xa6\x80\x80\x80\x00\x00\x00\x00\x00"), "p"), // identifier of a property
		} {
			c := t.connect()
			c.raw(b)
			c.ended(mqtt.MalformedPacket)
		}
		c = t.dial()
		c.raw(packet(0x10, text("MQTT"), 5, cleanFlag, u16(60), "\x80\x00", text(t.freshID())))
		c.refused(mqtt.MalformedPacket, silence)
	})
}

// Every value that a length can have is read right.
func TestLengths(t *testing.T) {
	both(t, func(t *trial) {
		c := t.connect()
		c.subscribe(0, t.topic("a"))
		head := len(message(t.topic("a"), "", 0).Append(nil, t.version)) - 2
		for _, size := range []int{head, 127, 128, 16383, 16384, 300_000} {
			payload := make([]byte, size-head)
			for i := range payload {
				payload[i] = byte(i)
			}
			c.publish(message(t.topic("a"), string(payload), 0))
			c.takes(t.topic("a"), string(payload))
			if c.header.Length != uint32(size) {
				t.Errorf("length %d, want %d", c.header.Length, size)
			}
		}
	})
}
