package client

import (
	"strings"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// Message is an application message, sent or received.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Dup     bool // received: the server may have sent it before

	// The rest is empty before MQTT 5.

	Expiry          mqtt.Opt[uint32] // Message Expiry Interval, in seconds
	SubscriptionIDs []uint32         // received only
	Carried         mqtt.Carried     // content type, user properties and so on

	id uint16
}

// Properties returns the message's properties, decoded.
func (m *Message) Properties() mqtt.Properties {
	q := m.Carried.Properties()
	q.MessageExpiry, q.SubscriptionIDs = m.Expiry, m.SubscriptionIDs
	return q
}

// SetProperties replaces the properties by those in q that a message has.
func (m *Message) SetProperties(q *mqtt.Properties) {
	m.Expiry, m.Carried = q.MessageExpiry, q.Carried()
}

func (m *Message) packet(id uint16, dup bool) *mqtt.Publish {
	return &mqtt.Publish{
		QoS: m.QoS, Dup: dup, Retain: m.Retain, PacketID: id, Topic: []byte(m.Topic), Payload: m.Payload,
		Expiry: m.Expiry, Carried: m.Carried,
	}
}

// checkMessage refuses what the server would close the connection for.
func checkMessage(topic string, qos byte) error {
	switch {
	case topic == "" || len(topic) > mqtt.MaxString:
		return errs.E(errs.Invalid, "topic name must have 1 to %d bytes", mqtt.MaxString)
	case strings.ContainsAny(topic, "+#\x00") || !utf8.ValidString(topic):
		return errs.E(errs.Invalid, "topic name must be UTF-8 without +, # or NUL") // [MQTT-3.3.2-2]
	case qos > mqtt.MaxQoS:
		return errs.E(errs.Invalid, "QoS must be 0, 1 or 2")
	}
	return nil
}
