package mqtt

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

var versions = []Version{V31, V311, V5}

// unhex reads bytes written as hex, spaces ignored.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// raw makes a packet from its first byte and the parts of its body.
func raw(first byte, parts ...string) string {
	body := strings.Join(parts, "")
	return string(appendVarint([]byte{first}, uint32(len(body)))) + body
}

// str makes a length-prefixed string.
func str(s string) string { return string(appendText(nil, s)) }

// section makes a property section.
func section(props ...string) string {
	all := strings.Join(props, "")
	return string(appendVarint(nil, uint32(len(all)))) + all
}

// parse frames and decodes exactly one packet.
func parse(packet []byte, v Version) (Packet, error) {
	h, body, n, err := Frame(packet, MaxPacketSize)
	if err != nil {
		return nil, err
	}
	if n != len(packet) {
		return nil, &Error{UnspecifiedError, "test: not exactly one packet"}
	}
	return Decode(h, body, v)
}

// same reports whether a and b are the same packet.
func same(a, b Packet) bool {
	if p, ok := a.(*Publish); ok {
		q, ok := b.(*Publish)
		return ok && p.Equal(q)
	}
	return reflect.DeepEqual(a, b)
}

// checkRoundTrip writes p, reads it back and writes it again.
func checkRoundTrip(t *testing.T, p Packet, v Version) {
	t.Helper()
	const before = "kept"
	wire := p.Append([]byte(before), v)
	if !bytes.HasPrefix(wire, []byte(before)) {
		t.Fatalf("%v: Append overwrote what dst held", v)
	}
	wire = wire[len(before):]
	q, err := parse(wire, v)
	if err != nil {
		t.Fatalf("%v: % x: %v", v, wire, err)
	}
	if !same(p, q) {
		t.Errorf("%v: got  %+v\nwant %+v", v, q, p)
	}
	if again := q.Append(nil, v); !bytes.Equal(again, wire) {
		t.Errorf("%v: second encoding differs:\ngot  % x\nwant % x", v, again, wire)
	}
}
