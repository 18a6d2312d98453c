package mqtt

import (
	"bytes"
	"testing"
)

func TestAppendPublish(t *testing.T) {
	s := &Shared{Topic: "plant/1/temp", Payload: []byte("21.5"), Carried: Carried("\x01\x01\x26\x00\x01k\x00\x01v")}
	for _, d := range []Delivery{
		{},
		{QoS: 1, PacketID: 77, Retain: true},
		{QoS: 2, PacketID: 65535, Dup: true, Expiry: Some[uint32](60)},
		{TopicAlias: 3, SubscriptionIDs: []uint32{1, 127, 128, MaxSubscriptionID}},
		{TopicAlias: 3, OmitTopic: true},
		{OmitTopic: true},
	} {
		for _, v := range versions {
			wire := AppendPublish(nil, v, s, &d)
			if n := PublishSize(v, s, &d); n != len(wire) {
				t.Errorf("%v %+v: size %d, encoded %d", v, d, n, len(wire))
			}
			got, err := parse(wire, v)
			if err != nil {
				t.Fatalf("%v %+v: %v", v, d, err)
			}
			want := &Publish{QoS: d.QoS, Dup: d.Dup, Retain: d.Retain, PacketID: d.PacketID, Topic: []byte(s.Topic), Payload: s.Payload}
			if v == V5 {
				want.TopicAlias, want.Expiry, want.SubscriptionIDs, want.Carried = d.TopicAlias, d.Expiry, d.SubscriptionIDs, s.Carried
				if d.OmitTopic && d.TopicAlias != 0 {
					want.Topic = nil
				}
			}
			if !same(got, want) {
				t.Errorf("%v: got %+v\nwant %+v", v, got, want)
			}
			if head := AppendPublishHead(nil, v, s, &d); !bytes.Equal(append(head, s.Payload...), wire) {
				t.Errorf("%v %+v: head is not the beginning", v, d)
			}
		}
	}
}

// A packet written for one receiver becomes another's by its identifier.
func TestSetPacketID(t *testing.T) {
	for _, payload := range []int{0, 100, 200, 20_000} {
		for _, v := range versions {
			s := &Shared{Topic: "t", Payload: make([]byte, payload)}
			for qos := range byte(3) {
				got := AppendPublish(nil, v, s, &Delivery{QoS: qos, PacketID: 1})
				SetPacketID(got, 0xABCD)
				if want := AppendPublish(nil, v, s, &Delivery{QoS: qos, PacketID: 0xABCD}); !bytes.Equal(got, want) {
					t.Errorf("%v QoS %d payload %d: wrong bytes", v, qos, payload)
				}
			}
		}
	}
}

func TestPublishTooLargePanics(t *testing.T) {
	s := &Shared{Topic: "t", Payload: make([]byte, MaxRemainingLength)}
	if n := PublishSize(V5, s, &Delivery{}); n <= MaxPacketSize-1 {
		t.Errorf("size %d", n)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	AppendPublishHead(nil, V5, s, &Delivery{})
}

func TestPublishDoesNotAllocate(t *testing.T) {
	plain := (&Publish{Topic: []byte("a/b/c"), QoS: 1, PacketID: 1, Payload: make([]byte, 64)}).Append(nil, V5)[2:]
	// Carried properties on both sides of a topic alias.
	split := raw(0x30, str("a"), section("\x01\x01", "\x23\x00\x01", "\x0B\x05", "\x26\x00\x01k\x00\x01v", "\x02\x00\x00\x00\x05", "\x03\x00\x01x"), "payload")[2:]
	var p Publish
	var a Ack
	dst := make([]byte, 0, 1024)
	s := &Shared{Topic: "a/b/c", Payload: make([]byte, 64), Carried: Carried("\x01\x01")}
	d := &Delivery{QoS: 1, PacketID: 1, TopicAlias: 1, Expiry: Some[uint32](1), SubscriptionIDs: []uint32{5}}
	body := []byte(split)
	for name, f := range map[string]func(){
		"decode":        func() { _ = p.Decode(2, plain, V5) },
		"decode split":  func() { _ = p.Decode(0, body, V5) },
		"append":        func() { dst = p.Append(dst[:0], V5) },
		"appendPublish": func() { dst = AppendPublish(dst[:0], V5, s, d) },
		"ack":           func() { _ = a.Decode(PUBACK, plain[5:7], V5); dst = a.Append(dst[:0], V5) },
		"frame":         func() { _, _, _, _ = Frame(dst, MaxPacketSize) },
	} {
		f() // let slices grow
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if err := p.Decode(0, body, V5); err != nil || string(p.Carried) != "\x01\x01\x26\x00\x01k\x00\x01v\x03\x00\x01x" {
		t.Errorf("carried %q, %v", p.Carried, err)
	}
}

func BenchmarkPublishDecode(b *testing.B) {
	s := &Shared{Topic: "plant/line-4/machine-17/temperature", Payload: make([]byte, 128)}
	props := *s
	props.Carried = (&Properties{ContentType: Some("application/json"), UserProperties: user}).Carried()
	for _, bb := range []struct {
		name string
		v    Version
		s    *Shared
	}{{"3.1.1", V311, s}, {"5", V5, s}, {"5 properties", V5, &props}} {
		b.Run(bb.name, func(b *testing.B) {
			wire := AppendPublish(nil, bb.v, bb.s, &Delivery{QoS: 1, PacketID: 1})
			var p Publish
			b.ReportAllocs()
			for b.Loop() {
				h, body, _, err := Frame(wire, MaxPacketSize)
				if err != nil {
					b.Fatal(err)
				}
				if err := p.Decode(h.Flags, body, bb.v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPublishAppend(b *testing.B) {
	s := &Shared{Topic: "plant/line-4/machine-17/temperature", Payload: make([]byte, 128), Carried: Carried("\x01\x01")}
	dst := make([]byte, 0, 1024)
	for _, bb := range []struct {
		name string
		v    Version
		d    Delivery
	}{
		{"3.1.1", V311, Delivery{QoS: 1, PacketID: 1}},
		{"5", V5, Delivery{QoS: 1, PacketID: 1}},
		{"5 properties", V5, Delivery{QoS: 1, PacketID: 1, TopicAlias: 1, SubscriptionIDs: []uint32{300}, Expiry: Some[uint32](9)}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = AppendPublish(dst[:0], bb.v, s, &bb.d)
			}
		})
	}
}
