package mqtt

import "bytes"

// Carried is the encoded form of the properties that a message carries from
// its publisher to every receiver: Payload Format Indicator, Content Type,
// Response Topic, Correlation Data and User Properties. The broker hands them
// on unaltered and in order, as [MQTT-3.3.2-4], [MQTT-3.3.2-15],
// [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18] and [MQTT-3.1.3-10] ask,
// by copying these bytes. The properties of one hop (expiry, alias,
// subscription identifiers) are not among them.
//
// Make one by decoding a packet, with [Properties.Carried] or with
// [ParseCarried]: then its bytes are valid, which Append relies on. The bytes
// are the same in every release and may be stored.
type Carried []byte

// ParseCarried checks bytes from elsewhere. The result is a view of b.
func ParseCarried(b []byte) (Carried, error) {
	r := propertyReader{c: cursor{b: b}, in: inPublish}
	var e property
	for r.next(&e) {
		if carriedSet&(1<<e.id) == 0 {
			return nil, malformed(propertyTable[e.id].name + ": is not carried with a message (3.3.2.3)")
		}
	}
	if r.c.err != nil {
		return nil, r.c.err
	}
	return b, nil
}

// Properties returns a decoded copy. Bytes that are not valid end it early.
func (c Carried) Properties() Properties {
	var p Properties
	_ = p.decode(c, inPublish)
	return p
}

// PayloadFormat returns the Payload Format Indicator, 0 if there is none. It
// does not allocate.
func (c Carried) PayloadFormat() byte {
	r := propertyReader{c: cursor{b: c}, in: inPublish}
	var e property
	for r.next(&e) {
		if e.id == propPayloadFormat {
			return byte(e.num)
		}
	}
	return 0
}

// Clone returns a copy to keep beyond the packet.
func (c Carried) Clone() Carried { return bytes.Clone(c) }

// messageProperties is a message's property section, taken apart: what
// belongs to the hop, and what is carried.
type messageProperties struct {
	expiry  Opt[uint32]
	delay   uint32
	alias   uint16
	ids     []uint32 // appended to
	carried Carried  // a view of the section, or of scratch
	scratch []byte   // reused
}

// decode reads a section of a PUBLISH or a will. The carried properties
// usually stand side by side and are then kept as a view; if a property of the
// hop stands between them they are gathered in scratch.
func (m *messageProperties) decode(section []byte, in uint16) error {
	r := propertyReader{c: cursor{b: section}, in: in}
	var e property
	first, last, split := 0, 0, false // section[first:last] is carried
	for {
		start := len(section) - len(r.c.b)
		if !r.next(&e) {
			break
		}
		end := len(section) - len(r.c.b)
		switch e.id {
		case propMessageExpiry:
			m.expiry = Some(e.num)
		case propWillDelay:
			m.delay = e.num
		case propTopicAlias:
			m.alias = uint16(e.num)
		case propSubscriptionID:
			m.ids = append(m.ids, e.num)
		default:
			switch {
			case split:
				m.scratch = append(m.scratch, section[start:end]...)
			case first == last:
				first, last = start, end
			case last == start:
				last = end
			default:
				split = true
				m.scratch = append(m.scratch[:0], section[first:last]...)
				m.scratch = append(m.scratch, section[start:end]...)
			}
		}
	}
	switch {
	case r.c.err != nil:
		return r.c.err
	case split:
		m.carried = m.scratch
	case first != last:
		m.carried = section[first:last:last]
	}
	return nil
}
