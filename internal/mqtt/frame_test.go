package mqtt

import (
	"bytes"
	"errors"
	"testing"
)

func TestFrame(t *testing.T) {
	two := append((&Publish{Topic: []byte("t"), Payload: make([]byte, 300)}).Append(nil, V311), 0xC0, 0)
	h, body, n, err := Frame(two, MaxPacketSize)
	if err != nil || n != len(two)-2 || h != (Header{PUBLISH, 0, 303}) || len(body) != 303 || cap(body) != 303 {
		t.Fatalf("got %+v, %d bytes, n %d, %v", h, len(body), n, err)
	}
	if h, body, n, err = Frame(two[n:], MaxPacketSize); err != nil || n != 2 || h.Type != PINGREQ || len(body) != 0 {
		t.Fatalf("second: got %+v, %d bytes, n %d, %v", h, len(body), n, err)
	}
	for i := range len(two) - 2 {
		h, body, n, err := Frame(two[:i], MaxPacketSize)
		if n != 0 || body != nil || err != nil {
			t.Fatalf("%d bytes: n %d, %v", i, n, err)
		}
		if known := i >= 3; known != (h.Type != 0) || known && h.Size() != len(two)-2 {
			t.Fatalf("%d bytes: header %+v", i, h)
		}
	}
}

// A packet that is too large is refused before its body arrives.
func TestFrameTooLarge(t *testing.T) {
	for _, tt := range []struct {
		head string
		max  uint32
		want error
	}{
		{"\x30\x08", 10, nil},
		{"\x30\x09", 10, ErrTooLarge},
		{"\x30\xFF\xFF\xFF\x7F", MaxPacketSize, nil},
		{"\x30\xFF\xFF\xFF\x7F", MaxPacketSize - 1, ErrTooLarge},
		{"\x30\xFF\xFF\xFF", 10, nil}, // the length is not known yet
		{"\xC0\x00", 1, ErrTooLarge},
		{"\x30\x00", 0, ErrTooLarge},
	} {
		if _, _, n, err := Frame([]byte(tt.head), tt.max); n > 2 || !errors.Is(err, tt.want) {
			t.Errorf("% x max %d: n %d, %v; want %v", tt.head, tt.max, n, err, tt.want)
		}
	}
}

func TestVarint(t *testing.T) {
	for _, tt := range []struct {
		v    uint32
		wire []byte
	}{
		{0, []byte{0}}, {127, []byte{0x7F}}, {128, []byte{0x80, 1}}, {16383, []byte{0xFF, 0x7F}},
		{16384, []byte{0x80, 0x80, 1}}, {2097151, []byte{0xFF, 0xFF, 0x7F}}, {2097152, []byte{0x80, 0x80, 0x80, 1}},
		{MaxRemainingLength, []byte{0xFF, 0xFF, 0xFF, 0x7F}},
	} {
		if b := appendVarint(nil, tt.v); !bytes.Equal(b, tt.wire) || varintSize(tt.v) != len(b) {
			t.Errorf("%d: wrote % x, size %d", tt.v, b, varintSize(tt.v))
		}
		if v, n, err := varint(tt.wire); v != tt.v || n != len(tt.wire) || err != nil {
			t.Errorf("% x: read %d, %d, %v", tt.wire, v, n, err)
		}
	}
}
