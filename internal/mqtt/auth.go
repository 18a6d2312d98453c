package mqtt

// Auth is an AUTH packet, copied out of the body. It exists only in MQTT 5.
type Auth struct {
	Code ReasonCode // Success, ContinueAuthentication or Reauthenticate
	// Properties may hold Authentication Method and Data, Reason String and User
	// Properties. The method is required unless the packet is empty.
	Properties Properties
}

// DecodeAuth reads the body of an AUTH.
func DecodeAuth(body []byte, v Version) (*Auth, error) {
	if v < V5 {
		return nil, malformed("fixed header: packet type 15 is reserved before MQTT 5 (3.1.1, 2.2.1)")
	}
	p := &Auth{}
	if len(body) == 0 { // Success without properties (3.15.2.1)
		return p, nil
	}
	c := cursor{b: body}
	p.Code = ReasonCode(c.uint8("reason code"))
	if !p.Code.ValidIn(AUTH) {
		return nil, violation("reason code: not one of AUTH [MQTT-3.15.2-1]")
	}
	section := c.section()
	if c.err != nil {
		return nil, c.err
	}
	if err := p.Properties.decode(section, inAuth); err != nil {
		return nil, err
	}
	if !p.Properties.AuthMethod.ok && (p.Code != Success || len(section) > 0) {
		return nil, violation("authentication method: must be present (3.15.2.2.2)")
	}
	if err := c.end("auth"); err != nil {
		return nil, err
	}
	return p, nil
}

// Append writes the packet in its shortest form; v is not used.
func (p *Auth) Append(dst []byte, _ Version) []byte {
	dst, m := begin(dst, AUTH, 0)
	dst = append(dst, byte(p.Code))
	n := len(dst)
	dst = p.Properties.appendSection(dst, inAuth)
	if dst[n] == 0 && p.Code == Success {
		dst = dst[:n-1]
	}
	return seal(dst, m)
}

func (p *Auth) trimmed(reason bool) Packet {
	q := *p
	q.Properties = p.Properties.without(reason)
	return &q
}
