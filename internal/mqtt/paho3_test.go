package mqtt

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	other "github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// paho3 is the codec of the Eclipse client for MQTT 3.1 and 3.1.1. What it says
// about a CONNECT when it is asked to validate it belongs to its verdict.
var paho3 = &peer{"paho3", V311, func(b []byte) (any, error) {
	p, err := other.ReadPacket(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if c, ok := p.(*other.ConnectPacket); ok {
		if code := c.Validate(); code != other.Accepted {
			return nil, fmt.Errorf("return code %d", code)
		}
	}
	reflect.ValueOf(p).Elem().FieldByName("RemainingLength").SetInt(0)
	return tidy(p), nil
}}

// asPaho3 makes the packet of the peer that means the same as p.
func asPaho3(p Packet) other.ControlPacket {
	head := func(t Type) other.FixedHeader { return other.FixedHeader{MessageType: byte(t)} }
	with2 := func(t Type) other.FixedHeader { return other.FixedHeader{MessageType: byte(t), Qos: 1} } // flags 0010
	switch p := p.(type) {
	case *Connect:
		return asPaho3Connect(p)
	case *Connack:
		return &other.ConnackPacket{FixedHeader: head(CONNACK), SessionPresent: p.SessionPresent, ReturnCode: byte(p.Code)}
	case *Publish:
		return &other.PublishPacket{
			FixedHeader: other.FixedHeader{MessageType: byte(PUBLISH), Dup: p.Dup, Qos: p.QoS, Retain: p.Retain},
			TopicName:   string(p.Topic), MessageID: p.PacketID, Payload: p.Payload,
		}
	case *Ack:
		switch p.Type {
		case PUBACK:
			return &other.PubackPacket{FixedHeader: head(PUBACK), MessageID: p.PacketID}
		case PUBREC:
			return &other.PubrecPacket{FixedHeader: head(PUBREC), MessageID: p.PacketID}
		case PUBREL:
			return &other.PubrelPacket{FixedHeader: with2(PUBREL), MessageID: p.PacketID}
		}
		return &other.PubcompPacket{FixedHeader: head(PUBCOMP), MessageID: p.PacketID}
	case *Subscribe:
		q := &other.SubscribePacket{FixedHeader: with2(SUBSCRIBE), MessageID: p.PacketID}
		for _, s := range p.Subscriptions {
			q.Topics, q.Qoss = append(q.Topics, s.Filter), append(q.Qoss, s.QoS)
		}
		return q
	case *Suback:
		return &other.SubackPacket{FixedHeader: head(SUBACK), MessageID: p.PacketID, ReturnCodes: codeBytes(p.Codes)}
	case *Unsubscribe:
		return &other.UnsubscribePacket{FixedHeader: with2(UNSUBSCRIBE), MessageID: p.PacketID, Topics: p.Filters}
	case *Unsuback:
		return &other.UnsubackPacket{FixedHeader: head(UNSUBACK), MessageID: p.PacketID}
	case *Pingreq:
		return &other.PingreqPacket{FixedHeader: head(PINGREQ)}
	case *Pingresp:
		return &other.PingrespPacket{FixedHeader: head(PINGRESP)}
	}
	return &other.DisconnectPacket{FixedHeader: head(DISCONNECT)}
}

func asPaho3Connect(p *Connect) *other.ConnectPacket {
	q := &other.ConnectPacket{
		FixedHeader: other.FixedHeader{MessageType: byte(CONNECT)}, ProtocolName: "MQTT", ProtocolVersion: byte(p.Version),
		CleanSession: p.CleanStart, Keepalive: p.KeepAlive, ClientIdentifier: p.ClientID,
		UsernameFlag: p.Username.ok, Username: p.Username.v, PasswordFlag: p.Password != nil, Password: p.Password,
	}
	if p.Version == V31 {
		q.ProtocolName = "MQIsdp"
	}
	if w := p.Will; w != nil {
		q.WillFlag, q.WillTopic, q.WillMessage, q.WillQos, q.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retain
	}
	return q
}

// checkPaho3 checks that the peer reads what we write of p, and we what it writes.
func checkPaho3(t fataler, p Packet) {
	want := tidy(asPaho3(p))
	wire := p.Append(nil, V311)
	got, err := paho3.read(wire)
	if err != nil {
		if allowed(paho3, p) {
			return
		}
		t.Fatalf("the peer does not read % x: %v", wire, err)
	}
	if !reflect.DeepEqual(got, any(want)) {
		t.Fatalf("% x\nthe peer reads %v\nwe mean        %v", wire, got, want)
	}
	var buf bytes.Buffer
	if err := asPaho3(p).Write(&buf); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buf.Bytes(), wire) { // 3.1.1 leaves no choice
		t.Fatalf("the peer writes % x\nwe write        % x", buf.Bytes(), wire)
	}
	if back, err := parse(wire, V311); err != nil || !same(back, p) {
		t.Fatalf("% x: %+v, %v, want %+v", wire, back, err, p)
	}
}

// FuzzPaho3 is FuzzPaho5 for the versions before.
func FuzzPaho3(f *testing.F) {
	addSeeds(f, func(b []byte, v Version) {
		if v < V5 {
			f.Add(b)
		}
	})
	for _, l := range leniences {
		f.Add([]byte(l.paho3))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, q := compare(t, paho3, b)
		if p == nil {
			return
		}
		if want := tidy(asPaho3(p)); !reflect.DeepEqual(q, any(want)) {
			t.Fatalf("% x\nthe peer reads %v\nwe read        %v", b, q, want)
		}
		checkPaho3(t, p)
	})
}

// TestPaho3 does the same with legal packets of every kind.
func TestPaho3(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkPaho3(t, drawPacket(t, V311)) })
}
