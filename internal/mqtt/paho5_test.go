package mqtt

import (
	"bytes"
	"reflect"
	"testing"

	other "github.com/eclipse/paho.golang/packets"
	"pgregory.net/rapid"
)

// paho5 is the codec of the Eclipse client for MQTT 5.
var paho5 = &peer{"paho5", V5, func(b []byte) (any, error) {
	p, err := other.ReadPacket(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if c, ok := p.Content.(*other.Connect); ok && c.WillProperties != nil && deref(c.WillProperties.WillDelayInterval) == 0 {
		c.WillProperties.WillDelayInterval = nil // absent means 0 (3.1.3.2.2)
	}
	return tidy(p.Content), nil
}}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// tidy makes every empty slice nil, for the peers do not tell them apart.
func tidy[T any](p T) T {
	tidyValue(reflect.ValueOf(p))
	return p
}

func tidyValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			tidyValue(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			tidyValue(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
	}
}

// asPaho5 makes the packet of the peer that means the same as p.
func asPaho5(p Packet) other.Packet {
	switch p := p.(type) {
	case *Connect:
		return asPaho5Connect(p)
	case *Connack:
		return &other.Connack{SessionPresent: p.SessionPresent, ReasonCode: byte(p.Code), Properties: asPaho5Properties(&p.Properties)}
	case *Publish:
		all := p.Properties()
		return &other.Publish{
			Topic: string(p.Topic), QoS: p.QoS, Duplicate: p.Dup, Retain: p.Retain, PacketID: p.PacketID,
			Payload: p.Payload, Properties: asPaho5Properties(&all),
		}
	case *Ack:
		props := asPaho5Diagnostics(p.ReasonString, p.UserProperties)
		switch p.Type {
		case PUBACK:
			return &other.Puback{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: props}
		case PUBREC:
			return &other.Pubrec{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: props}
		case PUBREL:
			return &other.Pubrel{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: props}
		}
		return &other.Pubcomp{PacketID: p.PacketID, ReasonCode: byte(p.Code), Properties: props}
	case *Subscribe:
		props := Properties{UserProperties: p.UserProperties}
		if p.SubscriptionID != 0 {
			props.SubscriptionIDs = []uint32{p.SubscriptionID}
		}
		q := &other.Subscribe{PacketID: p.PacketID, Properties: asPaho5Properties(&props)}
		for _, s := range p.Subscriptions {
			q.Subscriptions = append(q.Subscriptions, other.SubOptions{
				Topic: s.Filter, QoS: s.QoS, RetainHandling: s.RetainHandling, NoLocal: s.NoLocal, RetainAsPublished: s.RetainAsPublished,
			})
		}
		return q
	case *Suback:
		return &other.Suback{PacketID: p.PacketID, Reasons: codeBytes(p.Codes), Properties: asPaho5Diagnostics(p.ReasonString, p.UserProperties)}
	case *Unsubscribe:
		return &other.Unsubscribe{PacketID: p.PacketID, Topics: p.Filters, Properties: asPaho5Diagnostics(Opt[string]{}, p.UserProperties)}
	case *Unsuback:
		return &other.Unsuback{PacketID: p.PacketID, Reasons: codeBytes(p.Codes), Properties: asPaho5Diagnostics(p.ReasonString, p.UserProperties)}
	case *Pingreq:
		return &other.Pingreq{}
	case *Pingresp:
		return &other.Pingresp{}
	case *Disconnect:
		return &other.Disconnect{ReasonCode: byte(p.Code), Properties: asPaho5Properties(&p.Properties)}
	}
	q := p.(*Auth)
	return &other.Auth{ReasonCode: byte(q.Code), Properties: asPaho5Properties(&q.Properties)}
}

func codeBytes(codes []ReasonCode) (b []byte) {
	for _, c := range codes {
		b = append(b, byte(c))
	}
	return b
}

func asPaho5Connect(p *Connect) *other.Connect {
	q := &other.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: p.CleanStart, KeepAlive: p.KeepAlive, ClientID: p.ClientID,
		UsernameFlag: p.Username.ok, Username: p.Username.v, PasswordFlag: p.Password != nil, Password: p.Password,
		Properties: asPaho5Properties(&p.Properties),
	}
	if w := p.Will; w != nil {
		all := w.Properties()
		q.WillFlag, q.WillTopic, q.WillMessage, q.WillQOS, q.WillRetain = true, w.Topic, w.Payload, w.QoS, w.Retain
		q.WillProperties = asPaho5Properties(&all)
	}
	return q
}

func asPaho5Diagnostics(reason Opt[string], user []UserProperty) *other.Properties {
	return asPaho5Properties(&Properties{ReasonString: reason, UserProperties: user})
}

func asPaho5Properties(p *Properties) *other.Properties {
	q := &other.Properties{
		PayloadFormat: pointer(p.PayloadFormat), MessageExpiry: pointer(p.MessageExpiry), ContentType: p.ContentType.v,
		ResponseTopic: p.ResponseTopic.v, CorrelationData: p.CorrelationData, WillDelayInterval: pointer(p.WillDelay),
		TopicAlias: pointer(p.TopicAlias), SessionExpiryInterval: pointer(p.SessionExpiry), ReceiveMaximum: pointer(p.ReceiveMaximum),
		MaximumPacketSize: pointer(p.MaximumPacketSize), TopicAliasMaximum: pointer(p.TopicAliasMaximum),
		RequestProblemInfo: bit(p.RequestProblemInfo), RequestResponseInfo: bit(p.RequestResponseInfo),
		AuthMethod: p.AuthMethod.v, AuthData: p.AuthData, AssignedClientID: p.AssignedClientID.v,
		ServerKeepAlive: pointer(p.ServerKeepAlive), ResponseInfo: p.ResponseInfo.v, ServerReference: p.ServerReference.v,
		MaximumQOS: pointer(p.MaximumQoS), RetainAvailable: bit(p.RetainAvailable), WildcardSubAvailable: bit(p.WildcardSubscriptions),
		SubIDAvailable: bit(p.SubscriptionIDsUsable), SharedSubAvailable: bit(p.SharedSubscriptions), ReasonString: p.ReasonString.v,
	}
	if n := len(p.SubscriptionIDs); n > 0 { // the peer keeps the last
		id := int(p.SubscriptionIDs[n-1])
		q.SubscriptionIdentifier = &id
	}
	for _, u := range p.UserProperties {
		q.User = append(q.User, other.User{Key: u.Key, Value: u.Value})
	}
	return q
}

func pointer[T any](o Opt[T]) *T {
	if v, ok := o.Get(); ok {
		return &v
	}
	return nil
}

func bit(o Opt[bool]) *byte {
	if v, ok := o.Get(); ok {
		b := flag(v, 1)
		return &b
	}
	return nil
}

// lost reports what the peer cannot write: it takes an empty string for an
// absent one, also where the property must be present, and it does not write
// what belongs to the message of a will.
func lost(p Packet) bool {
	switch p := p.(type) {
	case *Connect:
		return p.Properties.AuthMethod == Some("") || p.Will != nil && (p.Will.Expiry.ok || len(p.Will.Carried) > 0)
	case *Auth:
		return p.Properties.AuthMethod == Some("")
	}
	return false
}

func writePaho5(t interface{ Fatal(...any) }, p other.Packet) []byte {
	var buf bytes.Buffer
	if _, err := p.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// fataler is *testing.T or *rapid.T.
type fataler interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// checkPaho5 checks that the peer reads what we write of p, and we what it writes.
func checkPaho5(t fataler, p Packet) {
	want := tidy(asPaho5(p))
	wire := p.Append(nil, V5)
	got, err := paho5.read(wire)
	if err != nil {
		if allowed(paho5, p) && wire[1] == 0 {
			return
		}
		t.Fatalf("the peer does not read % x: %v", wire, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("% x\nthe peer reads %v\nwe mean        %v", wire, got, want)
	}
	if lost(p) {
		return
	}
	wire = writePaho5(t, want)
	back, err := parse(wire, V5)
	if err != nil {
		t.Fatalf("we do not read % x of %v: %v", wire, want, err)
	}
	if got := tidy(asPaho5(back)); !reflect.DeepEqual(got, want) {
		t.Fatalf("% x\nwe read        %v\nthe peer means %v", wire, got, want)
	}
}

// allowed reports whether the list says that the peer refuses p.
func allowed(peer *peer, p Packet) bool {
	for _, s := range strictnesses {
		if s.peer == peer.name && s.applies(p) {
			return true
		}
	}
	return false
}

// compare reads b with both codecs. It returns the packet if both accept it.
func compare(t *testing.T, peer *peer, b []byte) (Packet, any) {
	x, whole := exhibitOf(b, peer.v)
	if !whole {
		return nil, nil
	}
	if x.kind == CONNECT && x.speaksOther() {
		return nil, nil
	}
	p, err := parse(b, peer.v)
	if err == nil {
		for _, l := range leniences {
			if l.broken(x) {
				t.Fatalf("% x is accepted, and breaks %q: %+v", b, l.rule, p)
			}
		}
	}
	q, theirs := peer.read(b)
	switch {
	case err == nil && theirs == nil:
		return p, q
	case err == nil && !allowed(peer, p):
		t.Fatalf("% x: %s refuses what we accept, and it is not on the list: %v", b, peer.name, theirs)
	case err != nil && theirs == nil:
		switch l := explain(err); {
		case l == nil || l.witness(peer) == "":
			t.Fatalf("% x: %s accepts what we refuse, and it is not on the list: %v\n%v", b, peer.name, err, q)
		case !l.broken(x):
			t.Fatalf("% x: nothing shows that %v\n%v", b, err, q)
		}
	}
	return nil, nil
}

// speaksOther reports whether a CONNECT is of a version for another peer.
func (x *exhibit) speaksOther() bool {
	v := x.speaks()
	return v != 0 && (v >= V5) != (x.v >= V5)
}

// FuzzPaho5 reads any bytes with our codec and with the peer. Where both accept
// the fields are equal and what each writes the other reads; where one refuses
// the difference is on a list with the clause that settles it.
func FuzzPaho5(f *testing.F) {
	addSeeds(f, func(b []byte, v Version) {
		if v == V5 {
			f.Add(b)
		}
	})
	for _, l := range leniences {
		f.Add([]byte(l.paho5))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, q := compare(t, paho5, b)
		if p == nil {
			return
		}
		if want := tidy(asPaho5(p)); !reflect.DeepEqual(q, any(want)) {
			t.Fatalf("% x\nthe peer reads %v\nwe read        %v", b, q, want)
		}
		checkPaho5(t, p)
	})
}

// TestPaho5 does the same with legal packets of every kind.
func TestPaho5(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkPaho5(t, drawPacket(t, V5)) })
}
