package mqtt

import (
	"bytes"
	"strings"
	"testing"
)

var user = []UserProperty{{"a", "1"}, {"b", ""}, {"a", "2"}}

// packets returns packets that exist in all versions, with every field v has.
func packets(v Version) []Packet {
	connect := &Connect{Version: v, CleanStart: true, KeepAlive: 60, ClientID: "dev-1"}
	full := &Connect{
		Version: v, KeepAlive: 65535, ClientID: "é", Username: Some("me"), Password: Credential("pass\x00word"),
		Will: &Will{Topic: "last/words", Payload: []byte{0, 1}, QoS: 2, Retain: true},
	}
	list := []Packet{
		connect, full,
		&Connect{Version: v, Username: Some(""), Password: Credential{}, Will: &Will{Topic: "w", Payload: []byte{}}},
		&Connack{}, &Connack{Code: 5},
		&Publish{Topic: []byte("a/b")},
		&Publish{Topic: []byte("ü"), Payload: []byte("x"), QoS: 1, PacketID: 1, Retain: true},
		&Publish{Topic: []byte("t"), Payload: bytes.Repeat([]byte("x"), 20_000), QoS: 2, PacketID: 65535, Dup: true},
		&Ack{Type: PUBACK, PacketID: 1}, &Ack{Type: PUBREC, PacketID: 2},
		&Ack{Type: PUBREL, PacketID: 3}, &Ack{Type: PUBCOMP, PacketID: 65535},
		&Subscribe{PacketID: 9, Subscriptions: []Subscription{{Filter: "#"}, {Filter: "a/+", QoS: 1}, {Filter: "b", QoS: 2}}},
		&Suback{PacketID: 9, Codes: []ReasonCode{GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError}},
		&Unsubscribe{PacketID: 7, Filters: []string{"#", strings.Repeat("x", 200)}},
		&Pingreq{}, &Pingresp{}, &Disconnect{},
	}
	if v > V31 {
		list = append(list, &Connack{SessionPresent: true})
	}
	if v < V5 {
		return append(list, &Unsuback{PacketID: 7})
	}
	list[4] = &Connack{Code: NotAuthorized}
	return append(list, packets5()...)
}

// packets5 returns packets with all that only MQTT 5 has.
func packets5() []Packet {
	message := Properties{
		PayloadFormat: Some[byte](1), ContentType: Some("text/plain"), ResponseTopic: Some("re/ply"),
		CorrelationData: []byte{}, UserProperties: user,
	}
	carried := message.Carried()
	reason := Some("because")
	return []Packet{
		&Connect{Version: V5, Password: Credential("no user name")},
		&Connect{
			Version: V5, ClientID: "c",
			Will: &Will{Topic: "w", Payload: []byte("p"), QoS: 1, Delay: 5, Expiry: Some[uint32](0), Carried: carried},
			Properties: Properties{
				SessionExpiry: Some[uint32](SessionNeverExpires), ReceiveMaximum: Some[uint16](1),
				MaximumPacketSize: Some[uint32](1), TopicAliasMaximum: Some[uint16](0),
				RequestProblemInfo: Some(false), RequestResponseInfo: Some(true),
				AuthMethod: Some(""), AuthData: Credential{}, UserProperties: user,
			},
		},
		&Connack{SessionPresent: true, Properties: Properties{
			SessionExpiry: Some[uint32](0), ReceiveMaximum: Some[uint16](65535), MaximumQoS: Some[byte](1),
			RetainAvailable: Some(false), MaximumPacketSize: Some[uint32](1 << 20), AssignedClientID: Some("id"),
			TopicAliasMaximum: Some[uint16](10), ReasonString: reason, UserProperties: user,
			WildcardSubscriptions: Some(true), SubscriptionIDsUsable: Some(false), SharedSubscriptions: Some(true),
			ServerKeepAlive: Some[uint16](0), ResponseInfo: Some("r"), ServerReference: Some("s"),
			AuthMethod: Some("m"), AuthData: Credential("d"),
		}},
		&Publish{TopicAlias: 1},
		&Publish{Topic: []byte("t"), TopicAlias: 65535, Expiry: Some[uint32](7), SubscriptionIDs: []uint32{1, 300, MaxSubscriptionID}, Carried: carried, Payload: []byte("x")},
		&Publish{Topic: []byte("t"), QoS: 2, PacketID: 3, Carried: carried},
		&Ack{Type: PUBACK, PacketID: 1, Code: NoMatchingSubscribers},
		&Ack{Type: PUBREC, PacketID: 1, Code: QuotaExceeded, ReasonString: reason},
		&Ack{Type: PUBREL, PacketID: 1, Code: PacketIdentifierNotFound, UserProperties: user},
		&Ack{Type: PUBCOMP, PacketID: 1, ReasonString: Some(strings.Repeat("x", 300)), UserProperties: user},
		&Subscribe{PacketID: 1, SubscriptionID: 128, UserProperties: user, Subscriptions: []Subscription{
			{Filter: "a", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: RetainDoNotSend},
			{Filter: "$share/g/a", RetainAsPublished: true, RetainHandling: RetainSendIfNew},
		}},
		&Suback{PacketID: 1, Codes: []ReasonCode{WildcardSubscriptionsNotSupported}, ReasonString: reason, UserProperties: user},
		&Unsubscribe{PacketID: 1, Filters: []string{"a"}, UserProperties: user},
		&Unsuback{PacketID: 1, Codes: []ReasonCode{Success, NoSubscriptionExisted}, ReasonString: reason, UserProperties: user},
		&Disconnect{Code: DisconnectWithWill},
		&Disconnect{Properties: Properties{SessionExpiry: Some[uint32](9)}},
		&Disconnect{Code: ServerMoved, Properties: Properties{ServerReference: Some("x"), ReasonString: reason, UserProperties: user}},
		&Auth{}, &Auth{Code: ContinueAuthentication, Properties: Properties{AuthMethod: Some("m"), AuthData: Credential{1}}},
		&Auth{Code: Reauthenticate, Properties: Properties{AuthMethod: Some("m"), ReasonString: reason, UserProperties: user}},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, v := range versions {
		for _, p := range packets(v) {
			if u, ok := p.(*Unsuback); ok && v == V5 && u.Codes == nil {
				continue
			}
			checkRoundTrip(t, p, v)
		}
	}
}

// What a version does not know is left out, not sent in another's form.
func TestAppendOlder(t *testing.T) {
	for _, p := range packets5() {
		if _, ok := p.(*Auth); ok {
			continue
		}
		if c, ok := p.(*Connect); ok && c.Password != nil && !c.Username.Present() {
			continue
		}
		for _, v := range []Version{V31, V311} {
			switch q := p.(type) {
			case *Connect:
				c := *q
				c.Version = 0
				p = &c
			case *Publish:
				if len(q.Topic) == 0 {
					continue
				}
			}
			if _, err := parse(p.Append(nil, v), v); err != nil {
				t.Errorf("%v: %T: %v", v, p, err)
			}
		}
	}
}

func TestPublishSize(t *testing.T) {
	for _, v := range versions {
		for _, p := range packets(v) {
			if p, ok := p.(*Publish); ok && p.Size(v) != len(p.Append(nil, v)) {
				t.Errorf("%v: Size %d, encoded %d", v, p.Size(v), len(p.Append(nil, v)))
			}
		}
	}
}

func TestAppendCutsLongText(t *testing.T) {
	long := strings.Repeat("x", MaxString+1)
	for _, p := range []Packet{
		&Publish{Topic: []byte(long), Payload: []byte("p")},
		&Unsubscribe{PacketID: 1, Filters: []string{long}},
		&Ack{Type: PUBACK, PacketID: 1, ReasonString: Some(long)},
	} {
		if _, err := parse(p.Append(nil, V5), V5); err != nil {
			t.Errorf("%T: %v", p, err)
		}
	}
}
