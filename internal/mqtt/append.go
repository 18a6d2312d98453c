package mqtt

import (
	"encoding/binary"
	"math/bits"
)

// bytestring is text in either form; topics arrive as views and are kept as
// strings.
type bytestring interface{ ~string | ~[]byte }

// varintSize returns how many bytes v takes as a variable byte integer.
func varintSize(v uint32) int {
	return max(1, (bits.Len32(v)+6)/7)
}

func appendVarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// appendText writes a length-prefixed field. A longer one than the prefix can
// say is cut off: that is the caller's mistake, and a cut field is the mistake
// that cannot shift the fields after it.
func appendText[T bytestring](dst []byte, s T) []byte {
	n := min(len(s), MaxString)
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	return append(dst, s[:n]...)
}

// begin writes the first byte of a packet and leaves room for its length,
// which seal fills in.
func begin(dst []byte, t Type, flags byte) ([]byte, int) {
	return mark(append(dst, byte(t)<<4|flags))
}

// mark leaves room for a variable byte integer that will hold the size of all
// that follows up to seal.
func mark(dst []byte) ([]byte, int) {
	dst = append(dst, 0)
	return dst, len(dst)
}

// seal fills in the length left open at m. It panics if the packet exceeds the
// protocol's limit, which a caller excludes with Size.
func seal(dst []byte, m int) []byte {
	n := len(dst) - m
	if n > MaxRemainingLength {
		panic("mqtt: packet exceeds the protocol's maximum size")
	}
	if extra := varintSize(uint32(n)) - 1; extra > 0 {
		dst = append(dst, 0, 0, 0)[:len(dst)+extra]
		copy(dst[m+extra:], dst[m:m+n])
	}
	appendVarint(dst[:m-1], uint32(n))
	return dst
}
