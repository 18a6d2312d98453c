package mqtt

import (
	"encoding/binary"
	"strings"
)

// Subscription is one filter of a SUBSCRIBE and its options. Options other
// than QoS are zero before MQTT 5.
type Subscription struct {
	Filter            string // not empty; its wildcards are not checked here
	QoS               byte   // 0, 1 or 2
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // one of the constants below
}

// What the server does with retained messages when a subscription is made.
const (
	RetainSend      byte = 0 // send them
	RetainSendIfNew byte = 1 // send them if the subscription did not exist
	RetainDoNotSend byte = 2
)

// Subscribe is a SUBSCRIBE packet, copied out of the body.
type Subscribe struct {
	PacketID       uint16
	Subscriptions  []Subscription // one or more
	SubscriptionID uint32         // MQTT 5; 0: none
	UserProperties []UserProperty // MQTT 5
}

// Subscription options (3.8.3.1).
const (
	optionQoS               = 0x03
	optionNoLocal           = 0x04
	optionRetainAsPublished = 0x08
	optionReserved          = 0xC0
)

// DecodeSubscribe reads the body of a SUBSCRIBE.
func DecodeSubscribe(body []byte, v Version) (*Subscribe, error) {
	c := cursor{b: body}
	p := &Subscribe{PacketID: c.packetID()}
	if v >= V5 {
		var props Properties
		if err := props.decode(c.section(), inSub); err != nil {
			return nil, err
		}
		p.UserProperties = props.UserProperties
		if len(props.SubscriptionIDs) == 1 {
			p.SubscriptionID = props.SubscriptionIDs[0]
		}
	}
	if len(c.b) == 0 && c.err == nil {
		return nil, violation("subscribe: must hold at least one filter [MQTT-3.8.3-2]")
	}
	for len(c.b) > 0 {
		filter := c.filter()
		s, err := parseOptions(c.uint8("subscription options"), v)
		if c.err != nil {
			break
		}
		if err != nil {
			return nil, err
		}
		if s.NoLocal && strings.HasPrefix(filter, "$share/") {
			return nil, violation("no local: must be 0 on a shared subscription [MQTT-3.8.3-4]")
		}
		s.Filter = filter
		p.Subscriptions = append(p.Subscriptions, s)
	}
	if c.err != nil {
		return nil, c.err
	}
	return p, nil
}

// filter reads a topic filter, which must not be empty.
func (c *cursor) filter() string {
	s := c.name("topic filter") // [MQTT-3.8.3-1] [MQTT-3.10.3-1]
	if len(s) == 0 && c.err == nil {
		c.fail(violation("topic filter: must not be empty [MQTT-4.7.3-1]"))
	}
	return string(s)
}

func parseOptions(b byte, v Version) (Subscription, error) {
	s := Subscription{QoS: b & optionQoS}
	switch {
	case b&optionReserved != 0, v < V5 && b > optionQoS:
		return s, malformed("subscription options: reserved bits must be 0 [MQTT-3.8.3-5]")
	case s.QoS > MaxQoS && v >= V5:
		return s, violation("subscription options: QoS must not be 3 (3.8.3.1)")
	case s.QoS > MaxQoS:
		return s, malformed("requested QoS: must not be 3 (3.1.1) [MQTT-3-8.3-4]")
	}
	s.NoLocal = b&optionNoLocal != 0
	s.RetainAsPublished = b&optionRetainAsPublished != 0
	if s.RetainHandling = b >> 4 & 3; s.RetainHandling > RetainDoNotSend {
		return s, violation("subscription options: retain handling must not be 3 (3.8.3.1)")
	}
	return s, nil
}

// Append writes the packet.
func (p *Subscribe) Append(dst []byte, v Version) []byte {
	dst, m := begin(dst, SUBSCRIBE, 2)
	dst = binary.BigEndian.AppendUint16(dst, p.PacketID)
	if v >= V5 {
		props := Properties{UserProperties: p.UserProperties}
		if p.SubscriptionID != 0 {
			props.SubscriptionIDs = []uint32{p.SubscriptionID}
		}
		dst = props.appendSection(dst, inSub)
	}
	for i := range p.Subscriptions {
		s := &p.Subscriptions[i]
		options := s.QoS
		if v >= V5 {
			options |= flag(s.NoLocal, optionNoLocal) | flag(s.RetainAsPublished, optionRetainAsPublished) | s.RetainHandling<<4
		}
		dst = append(appendText(dst, s.Filter), options)
	}
	return seal(dst, m)
}
