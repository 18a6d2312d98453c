package mqtt

// Disconnect is a DISCONNECT packet, copied out of the body. Before MQTT 5 it
// is empty, and only clients send it.
type Disconnect struct {
	Code ReasonCode
	// Properties may hold Session Expiry Interval (from a client), Reason String,
	// Server Reference (from a server) and User Properties.
	Properties Properties
}

// DecodeDisconnect reads the body of a DISCONNECT.
func DecodeDisconnect(body []byte, v Version) (*Disconnect, error) {
	c := cursor{b: body}
	p := &Disconnect{}
	if v >= V5 && len(c.b) > 0 { // a missing code is Normal disconnection (3.14.2.1)
		p.Code = ReasonCode(c.uint8("reason code"))
		if !p.Code.ValidIn(DISCONNECT) {
			return nil, violation("reason code: not one of DISCONNECT [MQTT-3.14.2-1]")
		}
		if len(c.b) > 0 { // a missing property length is 0 (3.14.2.2.1)
			if err := p.Properties.decode(c.section(), inDisconnect); err != nil {
				return nil, err
			}
		}
	}
	if err := c.end("disconnect"); err != nil {
		return nil, err
	}
	return p, nil
}

// Append writes the packet in its shortest form.
func (p *Disconnect) Append(dst []byte, v Version) []byte {
	dst, m := begin(dst, DISCONNECT, 0)
	if v < V5 {
		return dst
	}
	dst = append(dst, byte(p.Code))
	n := len(dst)
	dst = p.Properties.appendSection(dst, inDisconnect)
	if dst[n] == 0 { // no properties
		if dst = dst[:n]; p.Code == NormalDisconnection {
			dst = dst[:n-1]
		}
	}
	return seal(dst, m)
}

func (p *Disconnect) trimmed(reason bool) Packet {
	q := *p
	q.Properties = p.Properties.without(reason)
	return &q
}
