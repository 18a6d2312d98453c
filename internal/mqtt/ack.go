package mqtt

import "encoding/binary"

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	Type     Type
	PacketID uint16
	// Code is Success in 3.1 and 3.1.1, which cannot say otherwise: there the
	// broker drops or closes instead.
	Code           ReasonCode
	ReasonString   Opt[string]    // MQTT 5
	UserProperties []UserProperty // MQTT 5
}

// Decode reads the body of a packet of type t into a, replacing all of it. It
// allocates only for a reason string or user properties.
func (a *Ack) Decode(t Type, body []byte, v Version) error {
	*a = Ack{Type: t}
	c := cursor{b: body}
	a.PacketID = c.packetID()
	if v < V5 || len(c.b) == 0 {
		return c.end("acknowledgement") // a missing code is Success (3.4.2.1)
	}
	a.Code = ReasonCode(c.uint8("reason code"))
	if !a.Code.ValidIn(t) {
		return violation("reason code: not one of this packet's [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]")
	}
	if len(c.b) == 0 {
		return nil // no property length (3.4.2.2.1)
	}
	var err error
	a.ReasonString, a.UserProperties, err = c.diagnostics(t)
	if err != nil {
		return err
	}
	return c.end("acknowledgement")
}

// Append writes the packet in its shortest form.
func (a *Ack) Append(dst []byte, v Version) []byte {
	first := byte(a.Type) << 4
	if a.Type == PUBREL {
		first |= 2 // [MQTT-3.6.1-1]
	}
	hi, lo := byte(a.PacketID>>8), byte(a.PacketID)
	plain := !a.ReasonString.ok && len(a.UserProperties) == 0
	switch {
	case v < V5 || plain && a.Code == Success:
		return append(dst, first, 2, hi, lo)
	case plain:
		return append(dst, first, 3, hi, lo, byte(a.Code))
	}
	dst, m := mark(append(dst, first))
	dst = binary.BigEndian.AppendUint16(dst, a.PacketID)
	dst = append(dst, byte(a.Code))
	dst = appendDiagnostics(dst, a.Type, a.ReasonString, a.UserProperties)
	return seal(dst, m)
}

func (a *Ack) trimmed(reason bool) Packet {
	b := *a
	b.UserProperties = nil
	if reason {
		b.ReasonString = Opt[string]{}
	}
	return &b
}

// diagnostics reads the properties of a packet that has no others than these.
func (c *cursor) diagnostics(t Type) (Opt[string], []UserProperty, error) {
	section := c.section()
	if len(section) == 0 {
		return Opt[string]{}, nil, c.err
	}
	var p Properties
	if err := p.decode(section, at(t)); err != nil {
		return Opt[string]{}, nil, err
	}
	return p.ReasonString, p.UserProperties, nil
}

func appendDiagnostics(dst []byte, t Type, reason Opt[string], user []UserProperty) []byte {
	p := Properties{ReasonString: reason, UserProperties: user}
	return p.appendSection(dst, at(t))
}
