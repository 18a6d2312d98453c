package mqtt

import "encoding/binary"

// Shared is the part of a message that is the same for all its receivers.
type Shared struct {
	Topic   string
	Payload []byte
	Carried Carried // left out for receivers before MQTT 5
}

// Delivery is the part of a PUBLISH that differs from receiver to receiver.
// The fields from TopicAlias on are left out for receivers before MQTT 5.
type Delivery struct {
	QoS      byte
	Dup      bool
	Retain   bool
	PacketID uint16 // used with QoS 1 and 2

	TopicAlias      uint16      // 0: none
	OmitTopic       bool        // the receiver knows TopicAlias; ignored without one
	Expiry          Opt[uint32] // what remains of the message's lifetime, in seconds [MQTT-3.3.2-6]
	SubscriptionIDs []uint32
}

// AppendPublish writes message s as receiver d gets it. It allocates nothing
// if dst has room. It panics if the packet exceeds MaxPacketSize.
//
// Two deliveries that are equal give equal bytes, so a broker writes one for
// all QoS 0 receivers of one version and one for all QoS 1 receivers, which
// [SetPacketID] then makes theirs.
func AppendPublish(dst []byte, v Version, s *Shared, d *Delivery) []byte {
	return append(AppendPublishHead(dst, v, s, d), s.Payload...)
}

// AppendPublishHead writes all of the packet but the payload, which the caller
// sends after it: a large payload need not be copied.
func AppendPublishHead(dst []byte, v Version, s *Shared, d *Delivery) []byte {
	return appendPublishHead(dst, v, s.Topic, s.Carried, len(s.Payload), d)
}

// PublishSize returns the size of the packet AppendPublish writes, to compare
// with the receiver's Maximum Packet Size [MQTT-3.1.2-24].
func PublishSize(v Version, s *Shared, d *Delivery) int {
	return publishSize(v, len(s.Topic), len(s.Carried), len(s.Payload), d).packet()
}

// SetPacketID changes the packet identifier of an encoded PUBLISH. It does
// nothing to a packet with QoS 0, which has none. packet must be what
// AppendPublish or AppendPublishHead wrote.
func SetPacketID(packet []byte, id uint16) {
	if packet[0]&6 == 0 {
		return
	}
	i := 2
	for packet[i-1] >= 0x80 {
		i++
	}
	i += 2 + int(binary.BigEndian.Uint16(packet[i:]))
	binary.BigEndian.PutUint16(packet[i:], id)
}

// sizes are the lengths an encoded PUBLISH is made of.
type sizes struct {
	props  int // the property section without its length; -1 before MQTT 5
	topic  int
	remain int
}

func (s sizes) packet() int { return 1 + varintSize(uint32(s.remain)) + s.remain }

func publishSize(v Version, topic, carried, payload int, d *Delivery) sizes {
	s := sizes{props: -1, topic: min(topic, MaxString)}
	if v >= V5 {
		s.props = carried
		if d.Expiry.ok {
			s.props += 5
		}
		if d.TopicAlias != 0 {
			s.props += 3
			if d.OmitTopic {
				s.topic = 0
			}
		}
		for _, id := range d.SubscriptionIDs {
			s.props += 1 + varintSize(id)
		}
		s.remain = varintSize(uint32(s.props)) + s.props
	}
	if d.QoS > 0 {
		s.remain += 2
	}
	s.remain += 2 + s.topic + payload
	return s
}

func appendPublishHead[T bytestring](dst []byte, v Version, topic T, carried Carried, payload int, d *Delivery) []byte {
	s := publishSize(v, len(topic), len(carried), payload, d)
	if s.remain > MaxRemainingLength {
		panic("mqtt: packet exceeds the protocol's maximum size")
	}
	dst = append(dst, byte(PUBLISH)<<4|flag(d.Dup, 8)|d.QoS<<1|flag(d.Retain, 1))
	dst = appendVarint(dst, uint32(s.remain))
	dst = append(dst, byte(s.topic>>8), byte(s.topic))
	dst = append(dst, topic[:s.topic]...)
	if d.QoS > 0 {
		dst = append(dst, byte(d.PacketID>>8), byte(d.PacketID))
	}
	if s.props < 0 {
		return dst
	}
	dst = appendVarint(dst, uint32(s.props))
	if s.props == len(carried) {
		return append(dst, carried...)
	}
	if d.Expiry.ok {
		dst = append(dst, propMessageExpiry)
		dst = binary.BigEndian.AppendUint32(dst, d.Expiry.v)
	}
	if d.TopicAlias != 0 {
		dst = append(dst, propTopicAlias, byte(d.TopicAlias>>8), byte(d.TopicAlias))
	}
	for _, id := range d.SubscriptionIDs {
		dst = appendVarint(append(dst, propSubscriptionID), id)
	}
	return append(dst, carried...)
}
