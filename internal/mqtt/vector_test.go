package mqtt

import (
	"bytes"
	"testing"
)

// Packets written by hand from the tables of the standard. Each must decode to
// want, and want must encode to exactly these bytes.
var vectors = []struct {
	name string
	v    Version
	hex  string
	want Packet
}{
	{"connect 3.1", V31, "10 0F 0006 4D5149736470 03 02 003C 0001 61",
		&Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "a"}},
	{"connect 3.1.1", V311, "10 0C 0004 4D515454 04 02 000A 0000",
		&Connect{Version: V311, CleanStart: true, KeepAlive: 10}},
	{"connect 3.1.1 full", V311, "10 1A 0004 4D515454 04 EC 000A 0001 61 0001 77 0002 6869 0001 75 0001 70",
		&Connect{Version: V311, KeepAlive: 10, ClientID: "a", Username: Some("u"), Password: Credential("p"),
			Will: &Will{Topic: "w", Payload: []byte("hi"), QoS: 1, Retain: true}}},
	{"connect 5", V5, "10 15 0004 4D515454 05 02 001E 08 11 0000000A 21 0014 0000",
		&Connect{Version: V5, CleanStart: true, KeepAlive: 30, Properties: Properties{
			SessionExpiry: Some[uint32](10), ReceiveMaximum: Some[uint16](20)}}},
	{"connect 5 will", V5, "10 1C 0004 4D515454 05 04 0000 00 0001 63 07 18 00000003 01 01 0001 77 0001 78",
		&Connect{Version: V5, ClientID: "c", Will: &Will{Topic: "w", Payload: []byte("x"), Delay: 3, Carried: Carried{1, 1}}}},
	{"connack 3.1.1", V311, "20 02 01 00", &Connack{SessionPresent: true}},
	{"connack 3.1.1 refused", V311, "20 02 00 05", &Connack{Code: ReasonCode(ReturnNotAuthorized)}},
	{"connack 5", V5, "20 03 00 00 00", &Connack{}},
	{"connack 5 properties", V5, "20 0B 00 00 08 12 0002 6964 22 000A", &Connack{Properties: Properties{
		AssignedClientID: Some("id"), TopicAliasMaximum: Some[uint16](10)}}},
	{"publish 3.1.1 qos 0", V311, "30 07 0003 612F62 6869", &Publish{Topic: []byte("a/b"), Payload: []byte("hi")}},
	{"publish 3.1.1 qos 1", V311, "3B 07 0003 612F62 000A",
		&Publish{Topic: []byte("a/b"), QoS: 1, Dup: true, Retain: true, PacketID: 10, Payload: []byte{}}},
	{"publish 5 qos 0", V5, "30 05 0001 61 00 78", &Publish{Topic: []byte("a"), Payload: []byte("x")}},
	{"publish 5 alias", V5, "34 09 0000 1234 03 23 0001 78", &Publish{QoS: 2, PacketID: 0x1234, TopicAlias: 1, Payload: []byte("x")}},
	{"publish 5 identifiers", V5, "30 10 0001 61 0C 02 00000010 0B 01 0B 8001 01 01",
		&Publish{Topic: []byte("a"), Expiry: Some[uint32](16), SubscriptionIDs: []uint32{1, 128}, Carried: Carried{1, 1}}},
	{"puback", V5, "40 02 0001", &Ack{Type: PUBACK, PacketID: 1}},
	{"puback code", V5, "40 03 0001 10", &Ack{Type: PUBACK, PacketID: 1, Code: NoMatchingSubscribers}},
	{"pubrec reason", V5, "50 08 0001 80 04 1F 0001 78", &Ack{Type: PUBREC, PacketID: 1, Code: UnspecifiedError, ReasonString: Some("x")}},
	{"pubrel", V311, "62 02 FFFF", &Ack{Type: PUBREL, PacketID: 65535}},
	{"pubcomp", V5, "70 03 0002 92", &Ack{Type: PUBCOMP, PacketID: 2, Code: PacketIdentifierNotFound}},
	{"subscribe 3.1.1", V311, "82 0A 0001 0001 61 01 0001 62 02",
		&Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "a", QoS: 1}, {Filter: "b", QoS: 2}}}},
	{"subscribe 5", V5, "82 09 0001 02 0B 05 0001 61 2D", &Subscribe{PacketID: 1, SubscriptionID: 5, Subscriptions: []Subscription{
		{Filter: "a", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: RetainDoNotSend}}}},
	{"suback 3.1.1", V311, "90 04 0001 01 80", &Suback{PacketID: 1, Codes: []ReasonCode{GrantedQoS1, UnspecifiedError}}},
	{"suback 5", V5, "90 04 0001 00 87", &Suback{PacketID: 1, Codes: []ReasonCode{NotAuthorized}}},
	{"unsubscribe 3.1.1", V311, "A2 05 0001 0001 61", &Unsubscribe{PacketID: 1, Filters: []string{"a"}}},
	{"unsubscribe 5", V5, "A2 06 0001 00 0001 61", &Unsubscribe{PacketID: 1, Filters: []string{"a"}}},
	{"unsuback 3.1.1", V311, "B0 02 0001", &Unsuback{PacketID: 1}},
	{"unsuback 5", V5, "B0 04 0001 00 11", &Unsuback{PacketID: 1, Codes: []ReasonCode{NoSubscriptionExisted}}},
	{"pingreq", V31, "C0 00", &Pingreq{}},
	{"pingresp", V31, "D0 00", &Pingresp{}},
	{"disconnect 3.1.1", V311, "E0 00", &Disconnect{}},
	{"disconnect 5", V5, "E0 00", &Disconnect{}},
	{"disconnect 5 code", V5, "E0 01 04", &Disconnect{Code: DisconnectWithWill}},
	{"disconnect 5 expiry", V5, "E0 07 00 05 11 00000000", &Disconnect{Properties: Properties{SessionExpiry: Some[uint32](0)}}},
	{"auth", V5, "F0 00", &Auth{}},
	{"auth continue", V5, "F0 0A 18 08 15 0001 6D 16 0001 64", &Auth{Code: ContinueAuthentication, Properties: Properties{
		AuthMethod: Some("m"), AuthData: Credential("d")}}},
}

func TestVectors(t *testing.T) {
	for _, tt := range vectors {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.hex)
			got, err := parse(wire, tt.v)
			if err != nil {
				t.Fatal(err)
			}
			if !same(got, tt.want) {
				t.Errorf("decoded %+v\nwant    %+v", got, tt.want)
			}
			if b := tt.want.Append(nil, tt.v); !bytes.Equal(b, wire) {
				t.Errorf("encoded % X\nwant    % X", b, wire)
			}
		})
	}
}

// Forms that are allowed but that Append does not write.
func TestLongForms(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    Version
		hex  string
		want Packet
	}{
		{"puback code 0", V5, "40 03 0001 00", &Ack{Type: PUBACK, PacketID: 1}},
		{"puback empty properties", V5, "40 04 0001 00 00", &Ack{Type: PUBACK, PacketID: 1}},
		{"disconnect empty properties", V5, "E0 02 00 00", &Disconnect{}},
		{"auth empty properties", V5, "F0 02 00 00", &Auth{}},
		{"connack 3.1 reserved byte", V31, "20 02 01 00", &Connack{}},
		{"connect 3.1 user name missing", V31, "10 0F 0006 4D5149736470 03 C2 003C 0001 61",
			&Connect{Version: V31, CleanStart: true, KeepAlive: 60, ClientID: "a"}},
		{"connect 5 will delay 0", V5, "10 1A 0004 4D515454 05 04 0000 00 0001 63 05 18 00000000 0001 77 0001 78",
			&Connect{Version: V5, ClientID: "c", Will: &Will{Topic: "w", Payload: []byte("x")}}},
	} {
		got, err := parse(unhex(t, tt.hex), tt.v)
		if err != nil || !same(got, tt.want) {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}
