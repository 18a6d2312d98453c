package mqtt

// Packet is any packet: *Connect, *Connack, *Publish, *Ack, *Subscribe,
// *Suback, *Unsubscribe, *Unsuback, *Pingreq, *Pingresp, *Disconnect or *Auth.
type Packet interface {
	// Append writes the packet, fixed header included, as version v has it and
	// returns the longer slice. Fields that v does not know are left out. The
	// fields are trusted: text longer than MaxString is cut off, and a packet
	// longer than MaxPacketSize panics.
	Append(dst []byte, v Version) []byte
}

// Decode reads a packet that [Frame] found. It is for clients and tests: the
// broker calls the decoder it expects. A CONNECT is read in its own version.
// A *Publish holds views into body; the others do not.
func Decode(h Header, body []byte, v Version) (Packet, error) {
	if err := checkFlags(h.Type, h.Flags); err != nil {
		return nil, err
	}
	switch h.Type {
	case CONNECT:
		return result(DecodeConnect(body))
	case CONNACK:
		return result(DecodeConnack(body, v))
	case PUBLISH:
		p := new(Publish)
		return result(p, p.Decode(h.Flags, body, v))
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p := new(Ack)
		return result(p, p.Decode(h.Type, body, v))
	case SUBSCRIBE:
		return result(DecodeSubscribe(body, v))
	case SUBACK:
		return result(DecodeSuback(body, v))
	case UNSUBSCRIBE:
		return result(DecodeUnsubscribe(body, v))
	case UNSUBACK:
		return result(DecodeUnsuback(body, v))
	case DISCONNECT:
		return result(DecodeDisconnect(body, v))
	case AUTH:
		return result(DecodeAuth(body, v))
	}
	if len(body) != 0 {
		return nil, malformed("ping: body must be empty (3.12, 3.13)")
	}
	if h.Type == PINGREQ {
		return &Pingreq{}, nil
	}
	return &Pingresp{}, nil
}

// result keeps a nil pointer from becoming a Packet that is not nil.
func result[P Packet](p P, err error) (Packet, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// trimmer is a packet with diagnostics that may be left out.
type trimmer interface {
	// trimmed returns a copy without user properties, and without the reason
	// string too if reason is set.
	trimmed(reason bool) Packet
}

// AppendWithin writes p if it fits into max bytes. If it does not, it leaves
// out first the user properties and then also the reason string, as a sender
// must: [MQTT-3.2.2-19] [MQTT-3.2.2-20] and their like at each packet. It
// reports false and returns dst as it was if p does not fit even so.
func AppendWithin(dst []byte, p Packet, v Version, max uint32) ([]byte, bool) {
	n := len(dst)
	fits := func() bool { return uint64(len(dst)-n) <= uint64(max) }
	if dst = p.Append(dst, v); fits() {
		return dst, true
	}
	if t, ok := p.(trimmer); ok {
		for _, reason := range []bool{false, true} {
			if dst = t.trimmed(reason).Append(dst[:n], v); fits() {
				return dst, true
			}
		}
	}
	return dst[:n], false
}
