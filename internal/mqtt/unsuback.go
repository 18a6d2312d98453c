package mqtt

import "encoding/binary"

// Unsuback is an UNSUBACK packet, copied out of the body. Before MQTT 5 it is
// the packet identifier alone.
type Unsuback struct {
	PacketID       uint16
	Codes          []ReasonCode // MQTT 5: one for each filter, in order
	ReasonString   Opt[string]
	UserProperties []UserProperty
}

// DecodeUnsuback reads the body of an UNSUBACK.
func DecodeUnsuback(body []byte, v Version) (*Unsuback, error) {
	c := cursor{b: body}
	p := &Unsuback{PacketID: c.packetID()}
	if v < V5 || c.err != nil {
		if err := c.end("unsuback"); err != nil {
			return nil, err
		}
		return p, nil
	}
	var err error
	if p.ReasonString, p.UserProperties, err = c.diagnostics(UNSUBACK); err != nil {
		return nil, err
	}
	if p.Codes, err = c.codes(UNSUBACK, v); err != nil {
		return nil, err
	}
	return p, nil
}

// Append writes the packet.
func (p *Unsuback) Append(dst []byte, v Version) []byte {
	dst, m := begin(dst, UNSUBACK, 0)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	if v >= V5 {
		dst = appendDiagnostics(dst, UNSUBACK, p.ReasonString, p.UserProperties)
		for _, code := range p.Codes {
			dst = append(dst, byte(code))
		}
	}
	return seal(dst, m)
}

func (p *Unsuback) trimmed(reason bool) Packet {
	q := *p
	q.UserProperties = nil
	if reason {
		q.ReasonString = Opt[string]{}
	}
	return &q
}
