package mqtt

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// An exhibit is a packet taken apart without judging it: a second, lenient
// reading of the standard that shares no code with the decoders. It shows which
// rule a packet breaks, so that a refusal need not be believed.
type exhibit struct {
	v      Version
	kind   Type
	flags  byte
	length []byte // the Remaining Length as it stands
	body   []byte

	name                    string // CONNECT: protocol name
	level                   byte   // CONNECT: protocol version
	connect                 byte   // CONNECT: flags
	texts, topics, filters  [][]byte
	names                   [][]byte // those texts that are client identifiers and user names
	options, codes          []byte
	sections                []exhibitSection
	ids                     []uint16
	numbers                 [][]byte // variable byte integers as they stand
	ack                     byte     // CONNACK: acknowledge flags
	cut                     bool     // the packet ends within a field
	rest                    []byte   // not read yet; in the end, what is left over
	payload, topicless, bad bool     // bad: an unknown property
}

// An exhibitSection is a property section; in is 0 for that of a will.
type exhibitSection struct {
	in    Type
	props []exhibitProperty
}

type exhibitProperty struct {
	id    byte
	value []byte // what stands after the identifier
}

// table24 is table 2-4: how a property is written (the number of bytes, or v for
// a variable byte integer, s for a string, t for a topic, b for binary data, p
// for a pair) and where it may stand (0 for a will).
var table24 = map[byte]struct {
	kind byte
	in   []Type
}{
	0x01: {'1', []Type{PUBLISH, 0}}, 0x02: {'4', []Type{PUBLISH, 0}}, 0x03: {'s', []Type{PUBLISH, 0}},
	0x08: {'t', []Type{PUBLISH, 0}}, 0x09: {'b', []Type{PUBLISH, 0}}, 0x0b: {'v', []Type{PUBLISH, SUBSCRIBE}},
	0x11: {'4', []Type{CONNECT, CONNACK, DISCONNECT}}, 0x12: {'s', []Type{CONNACK}}, 0x13: {'2', []Type{CONNACK}},
	0x15: {'s', []Type{CONNECT, CONNACK, AUTH}}, 0x16: {'b', []Type{CONNECT, CONNACK, AUTH}}, 0x17: {'1', []Type{CONNECT}},
	0x18: {'4', []Type{0}}, 0x19: {'1', []Type{CONNECT}}, 0x1a: {'s', []Type{CONNACK}}, 0x1c: {'s', []Type{CONNACK, DISCONNECT}},
	0x1f: {'s', []Type{CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH}},
	0x21: {'2', []Type{CONNECT, CONNACK}}, 0x22: {'2', []Type{CONNECT, CONNACK}}, 0x23: {'2', []Type{PUBLISH}},
	0x24: {'1', []Type{CONNACK}}, 0x25: {'1', []Type{CONNACK}},
	0x26: {'p', []Type{0, CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT, AUTH}},
	0x27: {'4', []Type{CONNECT, CONNACK}}, 0x28: {'1', []Type{CONNACK}}, 0x29: {'1', []Type{CONNACK}}, 0x2a: {'1', []Type{CONNACK}},
}

// table26 is table 2-6: the reason codes of each packet.
var table26 = map[Type]string{
	CONNACK:    "\x00\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f",
	PUBACK:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREC:     "\x00\x10\x80\x83\x87\x90\x91\x97\x99",
	PUBREL:     "\x00\x92",
	PUBCOMP:    "\x00\x92",
	SUBACK:     "\x00\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2",
	UNSUBACK:   "\x00\x11\x80\x83\x87\x8f\x91",
	DISCONNECT: "\x00\x04\x80\x81\x82\x83\x87\x89\x8b\x8c\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b\x9c\x9d\x9e\x9f\xa0\xa1\xa2",
	AUTH:       "\x00\x18\x19",
}

// The tables of this package say what the standard's tables say.
func TestTables(t *testing.T) {
	for kind := CONNECT; kind <= AUTH; kind++ {
		for code := range 256 {
			want := strings.Contains(table26[kind], string([]byte{byte(code)}))
			if got := ReasonCode(code).ValidIn(kind); got != want {
				t.Errorf("%v: code 0x%02x: %v, want %v", kind, code, got, want)
			}
		}
	}
	for id := range 256 {
		var in uint16
		if id < len(propertyTable) {
			in = propertyTable[id].in
		}
		for kind := Type(0); kind <= AUTH; kind++ {
			want := slices.Contains(table24[byte(id)].in, kind)
			if got := in&at(kind) != 0; got != want {
				t.Errorf("property 0x%02x in %v: %v, want %v", id, kind, got, want)
			}
		}
	}
}

// exhibitOf takes one packet apart. It reports false if b is not one packet by
// its own Remaining Length.
func exhibitOf(b []byte, v Version) (*exhibit, bool) {
	if len(b) < 2 {
		return nil, false
	}
	x := &exhibit{v: v, kind: Type(b[0] >> 4), flags: b[0] & 15, rest: b[1:]}
	x.length = x.number()
	x.body = x.rest
	if x.cut || int(value(x.length)) != len(x.rest) {
		return nil, false
	}
	x.walk()
	return x, true
}

func (x *exhibit) take(n int) []byte {
	if n > len(x.rest) {
		x.cut, n = true, len(x.rest)
	}
	b := x.rest[:n]
	x.rest = x.rest[n:]
	return b
}

func (x *exhibit) byte() byte {
	if b := x.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (x *exhibit) field() []byte {
	n := x.take(2)
	if len(n) < 2 {
		return nil
	}
	return x.take(int(binary.BigEndian.Uint16(n)))
}

func (x *exhibit) id() {
	if b := x.take(2); len(b) == 2 {
		x.ids = append(x.ids, binary.BigEndian.Uint16(b))
	}
}

// number reads a variable byte integer of any length.
func (x *exhibit) number() []byte {
	for i, c := range x.rest {
		if c < 0x80 || x.v < V5 && i == 3 {
			x.numbers = append(x.numbers, x.rest[:i+1])
			return x.take(i + 1)
		}
	}
	x.numbers = append(x.numbers, x.rest)
	return x.take(len(x.rest) + 1)
}

func value(number []byte) (v uint32) {
	for i, c := range number {
		v |= uint32(c&127) << (7 * i)
	}
	return v
}

func (x *exhibit) section(in Type) {
	if x.v < V5 {
		return
	}
	inner := &exhibit{v: x.v, rest: x.take(int(value(x.number())))}
	s := exhibitSection{in: in}
	for len(inner.rest) > 0 && !inner.cut {
		number := inner.number() // the identifier is a variable byte integer (2.2.2.2), and all there are take one byte
		id, before := number[0], inner.rest
		switch k := table24[id].kind; k {
		case '1', '2', '4':
			inner.take(int(k - '0'))
		case 'v':
			inner.number()
		case 's':
			inner.texts = append(inner.texts, inner.field())
		case 't':
			inner.topics = append(inner.topics, inner.field())
		case 'b':
			inner.field()
		case 'p':
			inner.texts = append(inner.texts, inner.field(), inner.field())
		default:
			inner.rest, x.bad = nil, true
		}
		s.props = append(s.props, exhibitProperty{id, before[:len(before)-len(inner.rest)]})
	}
	x.cut = x.cut || inner.cut
	x.texts, x.topics = append(x.texts, inner.texts...), append(x.topics, inner.topics...)
	x.numbers = append(x.numbers, inner.numbers...)
	x.sections = append(x.sections, s)
}

func (x *exhibit) walk() {
	switch x.kind {
	case CONNECT:
		x.walkConnect()
	case CONNACK:
		x.ack = x.byte()
		x.codes = x.take(1)
		x.section(CONNACK)
	case PUBLISH:
		topic := x.field()
		x.topics, x.topicless = append(x.topics, topic), len(topic) == 0
		if x.flags&6 != 0 {
			x.id()
		}
		x.section(PUBLISH)
		x.payload = true
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		x.id()
		x.walkOptional()
	case SUBSCRIBE, UNSUBSCRIBE:
		x.id()
		x.section(x.kind)
		for len(x.rest) > 0 {
			x.filters = append(x.filters, x.field())
			if x.kind == SUBSCRIBE {
				x.options = append(x.options, x.byte())
			}
		}
		x.texts = append(x.texts, x.filters...)
	case SUBACK, UNSUBACK:
		x.id()
		x.section(x.kind)
		if x.kind == SUBACK || x.v >= V5 {
			x.codes = x.take(len(x.rest))
		}
	case DISCONNECT, AUTH:
		x.walkOptional()
	}
}

// walkOptional reads a reason code and a section that may be missing.
func (x *exhibit) walkOptional() {
	if x.v < V5 || len(x.rest) == 0 {
		return
	}
	x.codes = x.take(1)
	if len(x.rest) > 0 {
		x.section(x.kind)
	} else if x.kind == AUTH {
		x.cut = true // 3.15.2.1: the code and the length are both there or both not
	}
}

func (x *exhibit) walkConnect() {
	x.name, x.level = string(x.field()), x.byte()
	x.connect = x.byte()
	x.take(2)
	x.section(CONNECT)
	x.names = append(x.names, x.field())
	if x.connect&4 != 0 {
		x.section(0)
		topic := x.field()
		x.topics, x.topicless = append(x.topics, topic), len(topic) == 0
		x.field()
	}
	// In 3.1 a packet that ends before them has none.
	missing := func() bool { return x.speaks() == V31 && len(x.rest) == 0 }
	if x.connect&0x80 != 0 && !missing() {
		x.names = append(x.names, x.field())
	}
	if x.connect&0x40 != 0 && !missing() {
		x.field()
	}
	x.texts = append(x.texts, x.names...)
}

// speaks returns the version a CONNECT names, 0 if there is none such.
func (x *exhibit) speaks() Version {
	switch {
	case x.name == "MQIsdp" && x.level == 3, x.name == "MQTT" && (x.level == 4 || x.level == 5):
		return Version(x.level)
	}
	return 0
}

// has reports whether a property stands anywhere, with a value that f accepts.
func (x *exhibit) has(id byte, f func(value []byte) bool) bool {
	for _, s := range x.sections {
		for _, p := range s.props {
			if p.id == id && f(p.value) {
				return true
			}
		}
	}
	return false
}

// text reports whether any string, topics included, is one that f accepts.
func (x *exhibit) text(f func(s []byte) bool) bool {
	return slices.ContainsFunc(x.texts, f) || slices.ContainsFunc(x.topics, f)
}

// named reports whether any name, topics and filters included, is one that f accepts.
func (x *exhibit) named(f func(s []byte) bool) bool {
	return slices.ContainsFunc(x.names, f) || slices.ContainsFunc(x.topics, f) || slices.ContainsFunc(x.filters, f)
}

func (x *exhibit) long() bool {
	return slices.ContainsFunc(x.numbers, func(n []byte) bool { return len(n) > 1 && n[len(n)-1] == 0 })
}

func (x *exhibit) tooLong() bool {
	return slices.ContainsFunc(x.numbers, func(n []byte) bool { return len(n) > 4 || len(n) == 4 && n[3] >= 0x80 })
}

func (x *exhibit) repeated() bool {
	for _, s := range x.sections {
		seen := map[byte]bool{0x26: false}
		for _, p := range s.props {
			if seen[p.id] && p.id != 0x26 && (p.id != 0x0b || s.in != PUBLISH) {
				return true
			}
			seen[p.id] = true
		}
	}
	return false
}

func (x *exhibit) misplaced() bool {
	for _, s := range x.sections {
		for _, p := range s.props {
			if !slices.Contains(table24[p.id].in, s.in) {
				return true
			}
		}
	}
	return false
}

func (x *exhibit) badCode() bool {
	for _, c := range x.codes {
		switch {
		case x.v >= V5 && !strings.Contains(table26[x.kind], string([]byte{c})),
			x.v < V5 && x.kind == CONNACK && c > 5,
			x.v < V5 && x.kind == SUBACK && c > 2 && c != 0x80:
			return true
		}
	}
	return false
}

func isZero(b []byte) bool  { return len(bytes.Trim(b, "\x00")) == 0 }
func hasZero(b []byte) bool { return bytes.IndexByte(b, 0) >= 0 }
func inadvisable(b []byte) bool {
	return slices.ContainsFunc([]rune(string(b)), func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Noncharacter_Code_Point, r)
	})
}
func notUTF8(b []byte) bool { return !utf8.Valid(b) }
func isEmpty(b []byte) bool { return len(b) == 0 }
