package mqtt

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// A peer is a codec that others wrote.
type peer struct {
	name string
	v    Version
	// read returns the packet that b is, or why it is none.
	read func(b []byte) (any, error)
}

// A lenience is a rule that we keep and a peer does not, or not always. The
// clause stands in our message.
type lenience struct {
	rule   string // how the message of our refusal ends
	broken func(x *exhibit) bool
	paho5  string // a packet that we refuse for it, and the peer accepts; none: it never does
	paho3  string
}

// leniences lists every refusal of ours that a peer does not share. The
// differential fuzz targets accept no other, and believe none without evidence.
var leniences = []lenience{
	{"reserved flags have a wrong value [MQTT-2.1.3-1]", func(x *exhibit) bool {
		want := byte(0)
		if x.kind == PUBREL || x.kind == SUBSCRIBE || x.kind == UNSUBSCRIBE {
			want = 2
		}
		return x.kind != PUBLISH && x.flags != want
	}, "\xc1\x00", "\xc1\x00"},
	{"publish: QoS must not be 3 [MQTT-3.3.1-4]", func(x *exhibit) bool { return x.kind == PUBLISH && x.flags&6 == 6 },
		raw(0x36, str("t"), "\x00\x01\x00"), raw(0x36, str("t"), "\x00\x01")},
	{"DUP must be 0 with QoS 0 [MQTT-3.3.1-2]", func(x *exhibit) bool { return x.kind == PUBLISH && x.flags&14 == 8 },
		raw(0x38, str("t"), "\x00"), raw(0x38, str("t"))},
	{"not the shortest form [MQTT-1.5.5-1]", (*exhibit).long,
		"\xc0\x80\x00", "\xc0\x80\x00"},
	{"longer than four bytes (1.5.5)", (*exhibit).tooLong,
		"\xc0\x80\x80\x80\x80\x00", "\xc0\x80\x80\x80\x80"},
	{"ping: body must be empty (3.12, 3.13)", func(x *exhibit) bool { return len(x.body) > 0 && (x.kind == PINGREQ || x.kind == PINGRESP) },
		"\xc0\x01x", "\xc0\x01x"},
	{"protocol name: must be MQTT [MQTT-3.1.2-1]", func(x *exhibit) bool {
		return x.kind == CONNECT && x.name != "MQTT" && x.name != "MQIsdp"
	}, raw(0x10, str("X"), "\x05\x02\x00\x00\x00", str("c")), ""},
	{"not one this server speaks [MQTT-3.1.2-2]", func(x *exhibit) bool {
		return x.kind == CONNECT && x.speaks() == 0
	}, raw(0x10, str("MQTT"), "\x06\x02\x00\x00\x00", str("c")), ""},
	{"connect flags: reserved bit must be 0 [MQTT-3.1.2-3]", func(x *exhibit) bool { return x.connect&1 != 0 },
		raw(0x10, str("MQTT"), "\x05\x03\x00\x00\x00", str("c")), ""},
	{"will QoS must not be 3 [MQTT-3.1.2-12]", func(x *exhibit) bool { return x.connect&0x18 == 0x18 },
		raw(0x10, str("MQTT"), "\x05\x1e\x00\x00\x00", str("c"), "\x00", str("w"), str("")),
		raw(0x10, str("MQTT"), "\x04\x1e\x00\x00", str("c"), str("w"), str(""))},
	{"will QoS must be 0 without a will [MQTT-3.1.2-11]", func(x *exhibit) bool { return x.connect&4 == 0 && x.connect&0x18 != 0 },
		raw(0x10, str("MQTT"), "\x05\x0a\x00\x00\x00", str("c")), raw(0x10, str("MQTT"), "\x04\x0a\x00\x00", str("c"))},
	{"will retain must be 0 without a will [MQTT-3.1.2-13]", func(x *exhibit) bool { return x.connect&4 == 0 && x.connect&0x20 != 0 },
		raw(0x10, str("MQTT"), "\x05\x22\x00\x00\x00", str("c")), raw(0x10, str("MQTT"), "\x04\x22\x00\x00", str("c"))},
	{"authentication data: must not appear without a method (3.1.2.11.10)", func(x *exhibit) bool {
		any := func([]byte) bool { return true }
		return x.kind == CONNECT && x.has(0x16, any) && !x.has(0x15, any)
	}, raw(0x10, str("MQTT"), "\x05\x02\x00\x00", section("\x16"+str("d")), str("c")), ""},
	{"authentication method: must be present (3.15.2.2.2)", func(x *exhibit) bool {
		bare := bytes.Equal(x.codes, []byte{0}) && (len(x.sections) == 0 || len(x.sections[0].props) == 0)
		return x.kind == AUTH && len(x.body) > 0 && !bare && !x.has(0x15, func([]byte) bool { return true })
	}, raw(0xf0, "\x18\x00"), ""},
	{"will topic: must not be empty [MQTT-4.7.3-1]", func(x *exhibit) bool { return x.kind == CONNECT && x.topicless },
		raw(0x10, str("MQTT"), "\x05\x06\x00\x00\x00", str("c"), "\x00", str(""), str("")),
		raw(0x10, str("MQTT"), "\x04\x06\x00\x00", str("c"), str(""), str(""))},
	{"without a topic alias (3.3.2.1) [MQTT-4.7.3-1]", func(x *exhibit) bool {
		return x.kind == PUBLISH && x.topicless && !x.has(0x23, func([]byte) bool { return true })
	},
		raw(0x30, str(""), "\x00"), raw(0x30, str(""))},
	{"topic filter: must not be empty [MQTT-4.7.3-1]", func(x *exhibit) bool { return slices.ContainsFunc(x.filters, isEmpty) },
		raw(0x82, "\x00\x01\x00", str(""), "\x00"), raw(0x82, "\x00\x01", str(""), "\x00")},
	{": must not be empty [MQTT-4.7.3-1]", func(x *exhibit) bool {
		return x.has(0x08, func(v []byte) bool { return len(v) == 2 && isZero(v) })
	},
		raw(0x30, str("t"), section("\x08"+str(""))), ""},
	{": must not contain + or # [MQTT-3.3.2-2] [MQTT-3.3.2-14]", func(x *exhibit) bool {
		return slices.ContainsFunc(x.topics, func(s []byte) bool { return bytes.ContainsAny(s, "+#") })
	}, raw(0x30, str("a/+"), "\x00"), raw(0x30, str("a/+"))},
	{": must not contain U+0000 [MQTT-1.5.4-2]", func(x *exhibit) bool { return x.text(hasZero) },
		raw(0x30, str("\x00"), "\x00"), raw(0x30, str("\x00"))},
	{": must be well-formed UTF-8 [MQTT-1.5.4-1]", func(x *exhibit) bool { return x.text(notUTF8) },
		raw(0x30, str("\xff"), "\x00"), raw(0x30, str("\xed\xa0\x80"))},
	{": must not contain control characters or non-characters (1.5.4)", func(x *exhibit) bool { return x.named(inadvisable) },
		raw(0x30, str("a\n"), "\x00"), raw(0x30, str("\ufffe"))},
	{"packet ends within the field (1.2 Malformed Packet)", func(x *exhibit) bool { return x.cut },
		raw(0xa2, "\x00\x01\x00", str("a"), "\x00"), raw(0xa2, "\x00\x01\x00\x05a")},
	{"bytes left after the last field (1.2 Malformed Packet)", func(x *exhibit) bool { return len(x.rest) > 0 && !x.payload },
		raw(0x40, "\x00\x01\x00\x00x"), raw(0x40, "\x00\x01x")},
	{"packet identifier: must not be 0 [MQTT-2.2.1-3]", func(x *exhibit) bool { return slices.Contains(x.ids, 0) },
		raw(0x40, "\x00\x00"), raw(0x40, "\x00\x00")},
	{"acknowledge flags: reserved bits must be 0 [MQTT-3.2.2-1]", func(x *exhibit) bool { return x.ack > 1 },
		raw(0x20, "\x02\x00\x00"), raw(0x20, "\x02\x00")},
	{"session present: must be 0 with an error [MQTT-3.2.2-6]", func(x *exhibit) bool { return x.ack == 1 && !bytes.Equal(x.codes, []byte{0}) },
		raw(0x20, "\x01\x80\x00"), raw(0x20, "\x01\x05")},
	{"not one of CONNACK [MQTT-3.2.2-8]", (*exhibit).badCode, raw(0x20, "\x00\x01\x00"), ""},
	{"return code: reserved (3.1.1, 3.2.2.3)", (*exhibit).badCode, "", raw(0x20, "\x00\x06")},
	{"not one of this packet's [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]", (*exhibit).badCode, raw(0x40, "\x00\x01\x01"), ""},
	{"not one of this packet's [MQTT-3.9.3-2] [MQTT-3.11.3-2]", (*exhibit).badCode, raw(0x90, "\x00\x01\x00\x03"), raw(0x90, "\x00\x01\x03")},
	{"not one of DISCONNECT [MQTT-3.14.2-1]", (*exhibit).badCode, raw(0xe0, "\x01"), ""},
	{"not one of AUTH [MQTT-3.15.2-1]", (*exhibit).badCode, raw(0xf0, "\x01\x00"), ""},
	{"one for each filter [MQTT-3.8.4-6] [MQTT-3.11.3-1]", func(x *exhibit) bool {
		return len(x.codes) == 0 && (x.kind == SUBACK || x.kind == UNSUBACK && x.v >= V5)
	},
		raw(0x90, "\x00\x01\x00"), raw(0x90, "\x00\x01")},
	{"must hold at least one filter [MQTT-3.8.3-2]", func(x *exhibit) bool { return x.kind == SUBSCRIBE && len(x.filters) == 0 },
		raw(0x82, "\x00\x01\x00"), raw(0x82, "\x00\x01")},
	{"must hold at least one filter [MQTT-3.10.3-2]", func(x *exhibit) bool { return x.kind == UNSUBSCRIBE && len(x.filters) == 0 },
		raw(0xa2, "\x00\x01\x00"), raw(0xa2, "\x00\x01")},
	{"must be 0 on a shared subscription [MQTT-3.8.3-4]", func(x *exhibit) bool {
		for i, o := range x.options {
			if x.v >= V5 && o&4 != 0 && bytes.HasPrefix(x.filters[i], []byte("$share/")) {
				return true
			}
		}
		return false
	}, raw(0x82, "\x00\x01\x00", str("$share/g/a"), "\x04"), ""},
	{"reserved bits must be 0 [MQTT-3.8.3-5]", func(x *exhibit) bool {
		return slices.ContainsFunc(x.options, func(o byte) bool { return o&0xc0 != 0 || x.v < V5 && o > 3 })
	}, raw(0x82, "\x00\x01\x00", str("a"), "\x40"), raw(0x82, "\x00\x01", str("a"), "\x04")},
	{"QoS must not be 3 (3.8.3.1)", func(x *exhibit) bool {
		return slices.ContainsFunc(x.options, func(o byte) bool { return o&3 == 3 })
	}, raw(0x82, "\x00\x01\x00", str("a"), "\x03"), ""},
	{"requested QoS: must not be 3 (3.1.1) [MQTT-3-8.3-4]", func(x *exhibit) bool { return bytes.IndexByte(x.options, 3) >= 0 },
		"", raw(0x82, "\x00\x01", str("a"), "\x03")},
	{"retain handling must not be 3 (3.8.3.1)", func(x *exhibit) bool {
		return x.v >= V5 && slices.ContainsFunc(x.options, func(o byte) bool { return o&0x30 == 0x30 })
	}, raw(0x82, "\x00\x01\x00", str("a"), "\x30"), ""},
	{": must be 0 or 1 (2.2.2.2)", func(x *exhibit) bool {
		big := func(v []byte) bool { return len(v) == 1 && v[0] > 1 }
		return slices.ContainsFunc([]byte("\x01\x17\x19\x24\x25\x28\x29\x2a"), func(id byte) bool { return x.has(id, big) })
	}, raw(0x30, str("t"), section("\x01\x02")), ""},
	{": not allowed in this packet (2.2.2.2)", (*exhibit).misplaced,
		raw(0x10, str("MQTT"), "\x05\x02\x00\x00", section("\x01\x00"), str("c")), ""},
	{": must not appear twice (2.2.2.2)", (*exhibit).repeated, raw(0x30, str("t"), section("\x01\x00\x01\x00")), ""},
	{"topic alias: must not be 0 [MQTT-3.3.2-8]", func(x *exhibit) bool { return x.has(0x23, isZero) },
		raw(0x30, str("t"), section("\x23\x00\x00")), ""},
	{": must not be 0 (3.1.2.11, 3.2.2.3, 3.8.2.1)", func(x *exhibit) bool {
		return slices.ContainsFunc([]byte("\x0b\x21\x27"), func(id byte) bool { return x.has(id, isZero) })
	}, raw(0x82, "\x00\x01", section("\x0b\x00"), str("a"), "\x00"), ""},
}

func (l *lenience) witness(p *peer) string {
	if p.v >= V5 {
		return l.paho5
	}
	return l.paho3
}

// explain returns the entry for a refusal of ours.
func explain(err error) *lenience {
	for i := range leniences {
		if e, ok := err.(*Error); ok && strings.HasSuffix(e.Msg, leniences[i].rule) {
			return &leniences[i]
		}
	}
	return nil
}

// A strictness is a legal packet that a peer refuses.
type strictness struct {
	peer    string
	clause  string // why it is legal
	packet  string
	applies func(p Packet) bool
}

var strictnesses = []strictness{
	{"paho5", "DISCONNECT without a reason code is a normal disconnection (3.14.2.1)", "\xe0\x00",
		func(p Packet) bool { d, ok := p.(*Disconnect); return ok && d.Code == Success }},
	{"paho3", "an empty client identifier without clean session is refused with a return code, so by the server and not by the codec (3.1.1) [MQTT-3.1.3-8]",
		raw(0x10, str("MQTT"), "\x04\x00\x00\x00", str("")),
		func(p Packet) bool { c, ok := p.(*Connect); return ok && c.ClientID == "" && !c.CleanStart }},
	{"paho3", "in 3.1 a packet that ends before the user name or the password has none (3.1, CONNECT, payload)",
		raw(0x10, str("MQIsdp"), "\x03\xc2\x00\x00", str("c")),
		func(p Packet) bool { c, ok := p.(*Connect); return ok && c.Version == V31 }},
}

// Both lists are true: each entry has a packet that shows it.
func TestLeniences(t *testing.T) {
	for _, peer := range []*peer{paho5, paho3} {
		for i := range leniences {
			l := &leniences[i]
			b := l.witness(peer)
			if b == "" {
				continue
			}
			_, err := parse([]byte(b), peer.v)
			x, whole := exhibitOf([]byte(b), peer.v)
			if explain(err) != l || !whole || !l.broken(x) {
				t.Errorf("%s: %q: % x: our error %v, exhibit %+v", peer.name, l.rule, b, err, x)
			}
			if _, err := peer.read([]byte(b)); err != nil {
				t.Errorf("%s: %q: % x: %v", peer.name, l.rule, b, err)
			}
		}
		for _, s := range strictnesses {
			if s.peer != peer.name {
				continue
			}
			p, err := parse([]byte(s.packet), peer.v)
			if err != nil || !s.applies(p) {
				t.Errorf("%s: %q: %v", peer.name, s.clause, err)
			}
			if q, err := peer.read([]byte(s.packet)); err == nil {
				t.Errorf("%s: %q: accepted, %v", peer.name, s.clause, q)
			}
		}
	}
}
