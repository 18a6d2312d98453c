package conformance

import (
	"encoding/binary"
	"fmt"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Parts of packets, for those that internal/mqtt does not write.
type (
	text    string // with its length in front
	u16     uint16
	u32     uint32
	section string // properties, with their length in front
)

// join writes parts one after the other: ints are bytes, strings are as they are.
func join(parts ...any) string {
	var b []byte
	for _, part := range parts {
		switch p := part.(type) {
		case int:
			b = append(b, byte(p))
		case byte:
			b = append(b, p)
		case mqtt.Version:
			b = append(b, byte(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case text:
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
		case u16:
			b = binary.BigEndian.AppendUint16(b, uint16(p))
		case u32:
			b = binary.BigEndian.AppendUint32(b, uint32(p))
		case section:
			b = append(append(b, length(len(p))...), p...)
		default:
			panic(fmt.Sprintf("no part of a packet: %T", p))
		}
	}
	return string(b)
}

// packet returns a packet with this first byte and these parts.
func packet(first int, parts ...any) []byte {
	body := join(parts...)
	return []byte(join(first, length(len(body)), body))
}

// length returns n as a variable byte integer.
func length(n int) string {
	var b []byte
	for {
		if n < 0x80 {
			return string(append(b, byte(n)))
		}
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
}

// props returns a property section in MQTT 5, and nothing before.
func (t *trial) props(parts ...any) string {
	if !t.is5() {
		return ""
	}
	return join(section(join(parts...)))
}

// Flags of CONNECT.
const (
	cleanFlag    = 0x02
	willFlag     = 0x04
	retainFlag   = 0x20
	passwordFlag = 0x40
	userFlag     = 0x80
)

// connectBytes returns a CONNECT with these flags, without properties and with this payload.
func (t *trial) connectBytes(flags int, payload ...any) []byte {
	return packet(0x10, text("MQTT"), t.version, flags, u16(600), t.props(), join(payload...))
}

// credentials returns the user name and the password of a user.
func (u user) credentials() string { return join(text(u.Username), text(u.Password)) }
