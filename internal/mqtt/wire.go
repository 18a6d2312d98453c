package mqtt

import (
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

// topic reads a topic name as a view. It may be empty: whether it must not is
// for the caller to say.
func (c *cursor) topic(field string) []byte {
	s := c.binary(field)
	if k := classify(s); k != 0 {
		c.checkText(s, k, field)
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

// What classify finds in a string.
const (
	hasNUL byte = 1 << iota
	hasWildcard
	hasHigh // bytes outside ASCII
)

var class = func() (t [256]byte) {
	t[0], t['+'], t['#'] = hasNUL, hasWildcard, hasWildcard
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

// isPlain reports whether none of the eight bytes of w is NUL, + or # or lies
// outside ASCII. Subtracting 1 from each byte sets the high bit of a byte that
// was 0; a borrow can also set that of the byte above it, but only if there is
// a 0 below, so the answer is right.
func isPlain(w uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	plus, hash := w^'+'*ones, w^'#'*ones
	return (w|(w-ones)|(plus-ones)|(hash-ones))&highs == 0
}
