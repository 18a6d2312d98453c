package mqtt

import "encoding/binary"

// Unsubscribe is an UNSUBSCRIBE packet, copied out of the body.
type Unsubscribe struct {
	PacketID       uint16
	Filters        []string       // one or more, none empty
	UserProperties []UserProperty // MQTT 5
}

// DecodeUnsubscribe reads the body of an UNSUBSCRIBE.
func DecodeUnsubscribe(body []byte, v Version) (*Unsubscribe, error) {
	c := cursor{b: body}
	p := &Unsubscribe{PacketID: c.packetID()}
	if v >= V5 {
		var props Properties
		if err := props.decode(c.section(), inUnsub); err != nil {
			return nil, err
		}
		p.UserProperties = props.UserProperties
	}
	if len(c.b) == 0 && c.err == nil {
		return nil, violation("unsubscribe: must hold at least one filter [MQTT-3.10.3-2]")
	}
	for len(c.b) > 0 {
		p.Filters = append(p.Filters, c.filter())
	}
	if c.err != nil {
		return nil, c.err
	}
	return p, nil
}

// Append writes the packet.
func (p *Unsubscribe) Append(dst []byte, v Version) []byte {
	dst, m := begin(dst, UNSUBSCRIBE, 2)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	if v >= V5 {
		props := Properties{UserProperties: p.UserProperties}
		dst = props.appendSection(dst, inUnsub)
	}
	for _, f := range p.Filters {
		dst = appendText(dst, f)
	}
	return seal(dst, m)
}
