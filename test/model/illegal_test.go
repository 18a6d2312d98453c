package model

import (
	"github.com/keepmq/keepmq/internal/mqtt"
)

// illegals are packets that end a connection, and what DISCONNECT may say then.
var illegals = []struct {
	what  string
	bytes func(v mqtt.Version) []byte
	codes []mqtt.ReasonCode
	only5 bool
}{
	{what: "packet type 0", bytes: raw(0x00, 0x00), codes: malformed},
	{what: "PUBACK with reserved flags", bytes: raw(0x41, 2, 0, 1), codes: malformed},
	{what: "SUBSCRIBE without the reserved flag", bytes: raw(0x80, 2, 0, 1), codes: malformed},
	{what: "PUBLISH with QoS 3", bytes: raw(0x36, 7, 0, 1, 'b', 0, 1, 0, 'x'), codes: malformed},
	{what: "DUP with QoS 0", bytes: raw(0x38, 4, 0, 1, 'b', 0), codes: malformed},
	{what: "an over-long length", bytes: raw(0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01), codes: malformed},
	{what: "a packet above the maximum", bytes: raw(0x30, 0xFF, 0xFF, 0x7F), codes: []mqtt.ReasonCode{mqtt.PacketTooLarge}},
	{what: "packet identifier 0", bytes: encoded(&mqtt.Publish{QoS: 1, Topic: []byte("b")}), codes: malformed},
	{what: "a wildcard in a topic", bytes: encoded(&mqtt.Publish{Topic: []byte("a/+")}), codes: []mqtt.ReasonCode{mqtt.TopicNameInvalid, mqtt.MalformedPacket, mqtt.ProtocolError}},
	{what: "NUL in a topic", bytes: encoded(&mqtt.Publish{Topic: []byte("a\x00")}), codes: malformed},
	{what: "a topic that is not UTF-8", bytes: encoded(&mqtt.Publish{Topic: []byte("a\xff")}), codes: malformed},
	{what: "a second CONNECT", bytes: encoded(&mqtt.Connect{ClientID: "x", CleanStart: true}), codes: malformed},
	{what: "a CONNACK", bytes: encoded(&mqtt.Connack{}), codes: malformed},
	{what: "SUBSCRIBE without a filter", bytes: encoded(&mqtt.Subscribe{PacketID: 1}), codes: malformed},
	{what: "a requested QoS of 3", bytes: encoded(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "b", QoS: 3}}}), codes: malformed},
	{what: "a topic alias of nothing", bytes: encoded(&mqtt.Publish{TopicAlias: 77}), codes: []mqtt.ReasonCode{mqtt.TopicAliasInvalid, mqtt.ProtocolError}, only5: true},
	{what: "a topic alias above the maximum", bytes: encoded(&mqtt.Publish{Topic: []byte("b"), TopicAlias: maxAliases + 1}), codes: []mqtt.ReasonCode{mqtt.TopicAliasInvalid}, only5: true},
	{what: "a subscription identifier in PUBLISH", bytes: encoded(&mqtt.Publish{Topic: []byte("b"), SubscriptionIDs: []uint32{1}}), codes: malformed, only5: true},
	{what: "AUTH without a method", bytes: raw(0xF0, 0), codes: malformed, only5: true},
	{what: "no local in a group", bytes: encoded(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "$share/g/b", NoLocal: true}}}), codes: malformed, only5: true},
	{what: "an unknown property", bytes: raw(0x30, 6, 0, 1, 'b', 2, 0x7E, 0), codes: malformed, only5: true},
	{what: "PUBACK with an unknown reason", bytes: raw(0x40, 3, 0, 1, 0x55), codes: malformed, only5: true},
}

var malformed = []mqtt.ReasonCode{mqtt.MalformedPacket, mqtt.ProtocolError}

func raw(b ...byte) func(mqtt.Version) []byte { return func(mqtt.Version) []byte { return b } }

func encoded(p mqtt.Packet) func(mqtt.Version) []byte {
	return func(v mqtt.Version) []byte { return p.Append(nil, v) }
}

// illegal has a device send what nobody may send.
func (w *world) illegal(d *device, pick *picker) {
	c := d.conn
	if c == nil {
		return
	}
	if pick.one(4) {
		w.illegalNow(c, pick)
		return
	}
	x := illegals[pick.of(len(illegals))]
	if x.only5 && c.version < mqtt.V5 {
		return
	}
	w.logf("%v sends %s", d.id, x.what)
	c.write(x.bytes(c.version))
	w.end(c, dropped, x.codes...)
}

// illegalNow has a device send what is illegal because of what was sent before.
func (w *world) illegalNow(c *conn, pick *picker) {
	codes := []mqtt.ReasonCode{mqtt.ProtocolError}
	switch pick.of(3) {
	case 0: // an alias that another connection had, or nobody
		alias := uint16(1 + pick.of(maxAliases))
		if c.version < mqtt.V5 || c.own[alias] != "" {
			return
		}
		w.logf("%v uses alias %d, which stands for nothing", c.d.id, alias)
		c.send(&mqtt.Publish{TopicAlias: alias})
		codes = append(codes, mqtt.TopicAliasInvalid)
	case 1: // the wrong answer to a message
		if len(c.d.owed) == 0 {
			return
		}
		o := c.d.owed[0]
		wrong := map[mqtt.Type]mqtt.Type{mqtt.PUBACK: mqtt.PUBREC, mqtt.PUBREC: mqtt.PUBCOMP, mqtt.PUBCOMP: mqtt.PUBACK}[o.typ]
		w.logf("%v answers %v with %v", c.d.id, o.e, wrong)
		c.send(&mqtt.Ack{Type: wrong, PacketID: o.e.pid})
	case 2: // more messages than the server takes
		if c.version < mqtt.V5 || !w.user(c.d.id).allows("b") {
			return
		}
		w.logf("%v exceeds the Receive Maximum", c.d.id)
		var all []mqtt.Packet
		w.racing = true
		for i := range maxInflight + 1 {
			m := &message{org: c.d.id.org, topic: "b", qos: 2, from: c.d.id, text: w.text("m", 0)}
			p := &mqtt.Publish{QoS: 2, PacketID: uint16(100 + i), Topic: []byte(m.topic), Payload: []byte(m.text)}
			w.route(m, c.s, false)
			c.expect("PUBLISH", mqtt.PUBREC, p.PacketID, func(p mqtt.Packet) {
				if p.(*mqtt.Ack).Code == mqtt.Success {
					w.accept(m)
				}
			})
			all = append(all, p)
		}
		w.racing = false
		c.send(all...)
		codes = []mqtt.ReasonCode{mqtt.ReceiveMaximumExceeded}
	}
	w.end(c, dropped, codes...)
}

// intrude has somebody try to get at a session that is another's.
func (w *world) intrude(d *device, pick *picker) {
	p := &mqtt.Connect{
		Version: []mqtt.Version{mqtt.V5, mqtt.V311}[pick.of(2)], ClientID: d.id.client, CleanStart: true,
		Username: mqtt.Some(w.user(d.id).login()), Password: mqtt.Credential("wrong"),
		Will: &mqtt.Will{Topic: "a/x", Payload: []byte("of an intruder"), QoS: 2, Retain: true},
	}
	w.logf("somebody tries to be %v", d.id)
	w.refused(d, p, mqtt.BadUserNameOrPassword)
}
