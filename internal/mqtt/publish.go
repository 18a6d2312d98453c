package mqtt

import (
	"bytes"
	"slices"
)

// Publish is a PUBLISH packet. After Decode its slices are views into the body
// or memory that the next Decode reuses: Clone what is to be kept.
type Publish struct {
	QoS      byte // 0, 1 or 2
	Dup      bool
	Retain   bool
	PacketID uint16 // 0 with QoS 0, never 0 otherwise
	// Topic is the topic name. It is empty only in MQTT 5, if TopicAlias is set:
	// resolving the alias is the first thing the broker does.
	Topic   []byte
	Payload []byte

	// The rest is empty in 3.1 and 3.1.1.

	TopicAlias uint16      // 0: none. The receiver's maximum is for the caller to check.
	Expiry     Opt[uint32] // Message Expiry Interval, in seconds
	// SubscriptionIDs is for packets to a client; a client that sends any breaks
	// [MQTT-3.3.4-6], which is for the broker to check.
	SubscriptionIDs []uint32
	Carried         Carried

	scratch []byte // what Carried may view
}

// Decode reads a packet with these flags and body into p, replacing all of it.
// It does not allocate, but for slices that grow with the first packets. The
// payload is not looked at, whatever the Payload Format Indicator says.
func (p *Publish) Decode(flags byte, body []byte, v Version) error {
	*p = Publish{SubscriptionIDs: p.SubscriptionIDs[:0], scratch: p.scratch}
	if err := checkPublishFlags(flags); err != nil {
		return err
	}
	p.Retain, p.QoS, p.Dup = flags&1 != 0, flags>>1&3, flags&8 != 0
	c := cursor{b: body}
	p.Topic = c.topic("topic name")
	if p.QoS > 0 {
		p.PacketID = c.packetID()
	}
	if v >= V5 {
		if section := c.section(); len(section) > 0 {
			if err := p.decodeProperties(section); err != nil {
				return err
			}
		}
	}
	if c.err != nil {
		return c.err
	}
	if len(p.Topic) == 0 && p.TopicAlias == 0 {
		return violation("topic name: must not be empty without a topic alias (3.3.2.1) [MQTT-4.7.3-1]")
	}
	p.Payload = c.b
	return nil
}

func (p *Publish) decodeProperties(section []byte) error {
	m := messageProperties{ids: p.SubscriptionIDs, scratch: p.scratch}
	err := m.decode(section, inPublish)
	p.Expiry, p.TopicAlias, p.SubscriptionIDs, p.Carried, p.scratch = m.expiry, m.alias, m.ids, m.carried, m.scratch
	return err
}

// Append writes the packet.
func (p *Publish) Append(dst []byte, v Version) []byte {
	d := p.delivery()
	return append(appendPublishHead(dst, v, p.Topic, p.Carried, len(p.Payload), &d), p.Payload...)
}

// Size returns the size of the packet that Append writes.
func (p *Publish) Size(v Version) int {
	d := p.delivery()
	return publishSize(v, len(p.Topic), len(p.Carried), len(p.Payload), &d).packet()
}

func (p *Publish) delivery() Delivery {
	return Delivery{
		QoS: p.QoS, Dup: p.Dup, Retain: p.Retain, PacketID: p.PacketID,
		TopicAlias: p.TopicAlias, Expiry: p.Expiry, SubscriptionIDs: p.SubscriptionIDs,
	}
}

// Properties returns all properties of the packet, decoded and copied.
func (p *Publish) Properties() Properties {
	q := p.Carried.Properties()
	q.MessageExpiry = p.Expiry
	q.SubscriptionIDs = slices.Clone(p.SubscriptionIDs)
	if p.TopicAlias != 0 {
		q.TopicAlias = Some(p.TopicAlias)
	}
	return q
}

// SetProperties replaces all properties of the packet by those in q that a
// PUBLISH may have.
func (p *Publish) SetProperties(q *Properties) {
	p.TopicAlias = q.TopicAlias.Or(0)
	p.Expiry = q.MessageExpiry
	p.SubscriptionIDs = slices.Clone(q.SubscriptionIDs)
	p.Carried = q.Carried()
}

// Clone returns a copy that shares no memory with p or the body.
func (p *Publish) Clone() *Publish {
	q := *p
	q.Topic, q.Payload = bytes.Clone(p.Topic), bytes.Clone(p.Payload)
	q.SubscriptionIDs = slices.Clone(p.SubscriptionIDs)
	q.Carried, q.scratch = p.Carried.Clone(), nil
	return &q
}

// Equal reports whether p and q are the same packet, byte for byte.
func (p *Publish) Equal(q *Publish) bool {
	return p.QoS == q.QoS && p.Dup == q.Dup && p.Retain == q.Retain && p.PacketID == q.PacketID &&
		bytes.Equal(p.Topic, q.Topic) && bytes.Equal(p.Payload, q.Payload) &&
		p.TopicAlias == q.TopicAlias && p.Expiry == q.Expiry &&
		slices.Equal(p.SubscriptionIDs, q.SubscriptionIDs) && bytes.Equal(p.Carried, q.Carried)
}
