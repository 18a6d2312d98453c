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
	x := illegals[pick.of(len(illegals))]
	if x.only5 && c.version < mqtt.V5 {
		return
	}
	w.logf("%v sends %s", d.id, x.what)
	c.write(x.bytes(c.version))
	w.end(c, dropped, x.codes...)
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
