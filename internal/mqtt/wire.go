package mqtt

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// varint reads a variable byte integer from the front of b. n == 0 without an
// error means that more bytes are needed.
func varint(b []byte) (v uint32, n int, err error) {
	for i, c := range b {
		v |= uint32(c&0x7F) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, 0, malformed("variable byte integer: not the shortest form [MQTT-1.5.5-1]")
			}
			return v, i + 1, nil
		}
		if i == 3 {
			return 0, 0, malformed("variable byte integer: longer than four bytes (1.5.5)")
		}
	}
	return 0, 0, nil
}

// cursor reads the fields of one body in order. After the first failure it is
// empty and every read returns zero, so a decoder asks for the error once.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

func (c *cursor) short(field string) {
	c.fail(malformed(field + ": packet ends within the field (1.2 Malformed Packet)"))
}

// end fails if bytes are left and returns the first failure.
func (c *cursor) end(packet string) error {
	if len(c.b) != 0 {
		c.fail(malformed(packet + ": bytes left after the last field (1.2 Malformed Packet)"))
	}
	return c.err
}

func (c *cursor) uint8(field string) byte {
	if len(c.b) < 1 {
		c.short(field)
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uint16(field string) uint16 {
	if len(c.b) < 2 {
		c.short(field)
		return 0
	}
	v := binary.BigEndian.Uint16(c.b)
	c.b = c.b[2:]
	return v
}

func (c *cursor) uint32(field string) uint32 {
	if len(c.b) < 4 {
		c.short(field)
		return 0
	}
	v := binary.BigEndian.Uint32(c.b)
	c.b = c.b[4:]
	return v
}

func (c *cursor) varint(field string) uint32 {
	v, n, err := varint(c.b)
	switch {
	case err != nil:
		c.fail(err)
		return 0
	case n == 0:
		c.short(field)
		return 0
	}
	c.b = c.b[n:]
	return v
}

// packetID reads an identifier, which must not be zero.
func (c *cursor) packetID() uint16 {
	id := c.uint16("packet identifier")
	if id == 0 && c.err == nil {
		c.fail(violation("packet identifier: must not be 0 [MQTT-2.2.1-3]"))
	}
	return id
}

// binary reads a length-prefixed field as a view.
func (c *cursor) binary(field string) []byte {
	n := int(c.uint16(field))
	if c.err != nil {
		return nil
	}
	return c.take(n, field)
}

// section reads a property section, whose length is a variable byte integer.
func (c *cursor) section() []byte {
	n := c.varint("property length")
	if c.err != nil {
		return nil
	}
	return c.take(int(n), "properties")
}

// take cuts n bytes off the front. The view's capacity ends with it, so that
// an append to it cannot overwrite the next field.
func (c *cursor) take(n int, field string) []byte {
	if len(c.b) < n {
		c.short(field)
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

// text reads a UTF-8 string as a view.
func (c *cursor) text(field string) []byte {
	s := c.binary(field)
	if k := classify(s); k&(hasNUL|hasHigh) != 0 {
		c.checkText(s, k, field)
	}
	return s
}

// name reads a UTF-8 string that stands for somebody or something as a view.
func (c *cursor) name(field string) []byte {
	s := c.binary(field)
	if k := classify(s); k&(hasNUL|hasControl|hasHigh) != 0 {
		c.checkText(s, k, field)
		c.checkName(s, k, field)
	}
	return s
}

// topic reads a topic name as a view. It may be empty: whether it must not is
// for the caller to say.
func (c *cursor) topic(field string) []byte {
	s := c.binary(field)
	if k := classify(s); k != 0 {
		c.checkText(s, k, field)
		c.checkName(s, k, field)
		if k&hasWildcard != 0 {
			c.fail(malformed(field + ": must not contain + or # [MQTT-3.3.2-2] [MQTT-3.3.2-14]"))
		}
	}
	return s
}

func (c *cursor) checkText(s []byte, k byte, field string) {
	switch {
	case k&hasNUL != 0:
		c.fail(malformed(field + ": must not contain U+0000 [MQTT-1.5.4-2]"))
	case k&hasHigh != 0 && !utf8.Valid(s):
		c.fail(malformed(field + ": must be well-formed UTF-8 [MQTT-1.5.4-1]"))
	}
}

// checkName refuses what the standard advises against and leaves to the server
// (1.5.4). In names it has no use, and some clients' libraries refuse it: one
// retained message under such a topic would keep their subscribers out for good.
// In other text, such as a user property, a line break is as good as a letter.
func (c *cursor) checkName(s []byte, k byte, field string) {
	if k&hasControl != 0 || k&hasHigh != 0 && bytes.ContainsFunc(s, isInadvisable) {
		c.fail(malformed(field + ": must not contain control characters or non-characters (1.5.4)"))
	}
}

func isInadvisable(r rune) bool {
	return r < 0x20 || 0x7F <= r && r < 0xA0 || 0xFDD0 <= r && r <= 0xFDEF || r&0xFFFE == 0xFFFE
}

// What classify finds in a string.
const (
	hasNUL byte = 1 << iota
	hasControl
	hasWildcard
	hasHigh // bytes outside ASCII
)

var class = func() (t [256]byte) {
	for i := 1; i < 0x20; i++ {
		t[i] = hasControl
	}
	t[0], t['+'], t['#'], t[0x7F] = hasNUL, hasWildcard, hasWildcard, hasControl
	for i := 0x80; i < len(t); i++ {
		t[i] = hasHigh
	}
	return t
}()

// classify tells in one pass what a string holds that needs a closer look.
// Eight bytes that need none, as most do, are passed over at a time.
func classify(s []byte) (k byte) {
	for len(s) >= 8 && isPlain(binary.LittleEndian.Uint64(s)) {
		s = s[8:]
	}
	for _, b := range s {
		k |= class[b]
	}
	return k
}

// isPlain reports whether each of the eight bytes of w is ASCII, and none a
// control character, + or #. Subtracting 0x20 from each byte sets the high bit
// of a byte that was below, as subtracting 1 does of a 0; a borrow can also set
// that of the byte above it, but only if there is such a byte below, so the
// answer is right. Adding 1 sets that of 0x7F, and carries only from 0xFF.
func isPlain(w uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	plus, hash := w^'+'*ones, w^'#'*ones
	return (w|(w-' '*ones)|(w+ones)|(plus-ones)|(hash-ones))&highs == 0
}
