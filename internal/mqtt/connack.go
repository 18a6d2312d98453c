package mqtt

// Connack is a CONNACK packet, copied out of the body.
type Connack struct {
	SessionPresent bool // always false in 3.1, which has no such flag
	// Code is the byte on the wire: a reason code in MQTT 5, a [ReturnCode]
	// before. Append does not translate one into the other.
	Code ReasonCode
	// Properties may hold Session Expiry Interval, Receive Maximum, Maximum QoS,
	// Retain Available, Maximum Packet Size, Assigned Client Identifier, Topic
	// Alias Maximum, Reason String, the three kinds of subscription available,
	// Server Keep Alive, Response Information, Server Reference, Authentication
	// Method and Data, and User Properties.
	Properties Properties
}

// DecodeConnack reads the body of a CONNACK.
func DecodeConnack(body []byte, v Version) (*Connack, error) {
	c := cursor{b: body}
	flags := c.uint8("acknowledge flags")
	p := &Connack{Code: ReasonCode(c.uint8("reason code"))}
	if c.err != nil {
		return nil, c.err
	}
	if v > V31 { // in 3.1 the first byte has no meaning
		if flags > 1 {
			return nil, malformed("acknowledge flags: reserved bits must be 0 [MQTT-3.2.2-1]")
		}
		p.SessionPresent = flags == 1
	}
	switch {
	case p.SessionPresent && p.Code != Success:
		return nil, violation("session present: must be 0 with an error [MQTT-3.2.2-6]")
	case v >= V5 && !p.Code.ValidIn(CONNACK):
		return nil, violation("reason code: not one of CONNACK [MQTT-3.2.2-8]")
	case v < V5 && int(p.Code) >= len(returnNames):
		return nil, violation("return code: reserved (3.1.1, 3.2.2.3)")
	}
	if v >= V5 {
		section := c.section()
		if c.err != nil {
			return nil, c.err
		}
		if err := p.Properties.decode(section, inConnack); err != nil {
			return nil, err
		}
	}
	return p, c.end("connack")
}

// Append writes the packet.
func (p *Connack) Append(dst []byte, v Version) []byte {
	dst, m := begin(dst, CONNACK, 0)
	dst = append(dst, flag(p.SessionPresent && v > V31, 1), byte(p.Code))
	if v >= V5 {
		dst = p.Properties.appendSection(dst, inConnack)
	}
	return seal(dst, m)
}

func (p *Connack) trimmed(reason bool) Packet {
	q := *p
	q.Properties = p.Properties.without(reason)
	return &q
}
