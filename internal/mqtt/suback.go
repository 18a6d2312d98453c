package mqtt

import "encoding/binary"

// Suback is a SUBACK packet, copied out of the body.
type Suback struct {
	PacketID uint16
	// Codes answers the filters of the SUBSCRIBE in order. Before MQTT 5 only
	// the granted QoS and UnspecifiedError exist.
	Codes          []ReasonCode
	ReasonString   Opt[string]    // MQTT 5
	UserProperties []UserProperty // MQTT 5
}

// DecodeSuback reads the body of a SUBACK.
func DecodeSuback(body []byte, v Version) (*Suback, error) {
	c := cursor{b: body}
	p := &Suback{PacketID: c.packetID()}
	if v >= V5 && c.err == nil {
		var err error
		if p.ReasonString, p.UserProperties, err = c.diagnostics(SUBACK); err != nil {
			return nil, err
		}
	}
	var err error
	if p.Codes, err = c.codes(SUBACK, v); err != nil {
		return nil, err
	}
	return p, nil
}

// codes reads the rest of a SUBACK or UNSUBACK.
func (c *cursor) codes(t Type, v Version) ([]ReasonCode, error) {
	if c.err != nil {
		return nil, c.err
	}
	if len(c.b) == 0 {
		return nil, violation("reason codes: one for each filter [MQTT-3.8.4-6] [MQTT-3.11.3-1]")
	}
	codes := make([]ReasonCode, len(c.b))
	for i, b := range c.b {
		codes[i] = ReasonCode(b)
		if !codes[i].ValidIn(t) || v < V5 && b > MaxQoS && codes[i] != UnspecifiedError {
			return nil, violation("reason code: not one of this packet's [MQTT-3.9.3-2] [MQTT-3.11.3-2]")
		}
	}
	return codes, nil
}

// Append writes the packet. Before MQTT 5 every error becomes 0x80, the only
// one there is.
func (p *Suback) Append(dst []byte, v Version) []byte {
	dst, m := begin(dst, SUBACK, 0)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	if v >= V5 {
		dst = appendDiagnostics(dst, SUBACK, p.ReasonString, p.UserProperties)
	}
	for _, code := range p.Codes {
		if v < V5 && code.IsError() {
			code = UnspecifiedError
		}
		dst = append(dst, byte(code))
	}
	return seal(dst, m)
}

func (p *Suback) trimmed(reason bool) Packet {
	q := *p
	q.UserProperties = nil
	if reason {
		q.ReasonString = Opt[string]{}
	}
	return &q
}
