package mqtt

import (
	"slices"
	"testing"
)

// Whatever stands between the carried properties, they come out unaltered and
// in order [MQTT-3.3.2-18].
func TestCarriedOrder(t *testing.T) {
	const (
		format = "\x01\x01"
		u2     = "\x26\x00\x01k\x00\x01w"
		reply  = "\x08\x00\x01r"
		alias  = "\x23\x00\x07"
		expiry = "\x02\x00\x00\x00\x09"
		sub    = "\x0B\x02"
	)
	for _, tt := range []struct{ section, want string }{
		{"", ""},
		{alias + expiry, ""},
		{u1 + u2, u1 + u2},
		{u2 + u1 + alias, u2 + u1},
		{alias + sub + sub + u1 + reply, u1 + reply},
		{format + expiry + reply + alias + u2 + u1, format + reply + u2 + u1},
		{u1 + sub + u1 + sub + u1, u1 + u1 + u1},
	} {
		var p Publish
		for range 2 { // the second time with memory to reuse
			if err := p.Decode(0, []byte(str("t")+section(tt.section)+"payload"), V5); err != nil {
				t.Fatal(err)
			}
			if string(p.Carried) != tt.want || string(p.Payload) != "payload" {
				t.Errorf("%q: carried %q, want %q", tt.section, p.Carried, tt.want)
			}
		}
		c := p.Clone()
		_ = p.Decode(0, []byte(str("other")+section(u2+alias+u2)), V5)
		if string(c.Carried) != tt.want || string(c.Topic) != "t" {
			t.Errorf("the clone changed to %q", c.Carried)
		}
	}
}

func TestParseCarried(t *testing.T) {
	good := Carried("\x01\x01" + u1)
	if c, err := ParseCarried(good); err != nil || string(c) != string(good) || c.PayloadFormat() != 1 {
		t.Errorf("got %q, %v", c, err)
	}
	for _, bad := range []string{"\x23\x00\x01", "\x02\x00\x00\x00\x01", "\x01\x02", "\x01", "\x7F", "\x18\x00\x00\x00\x01"} {
		if _, err := ParseCarried([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	if got := Carried(u1).PayloadFormat(); got != 0 {
		t.Errorf("payload format %d", got)
	}
}

func TestSetProperties(t *testing.T) {
	all := Properties{
		PayloadFormat: Some[byte](1), MessageExpiry: Some[uint32](4), ContentType: Some("c"), ResponseTopic: Some("r"),
		CorrelationData: []byte("d"), UserProperties: user,
	}
	will := all.Clone()
	will.WillDelay = Some[uint32](3)
	var w Will
	w.SetProperties(&will)
	if got := w.Properties(); !got.Equal(&will) {
		t.Errorf("will: got %+v", got)
	}
	publish := all.Clone()
	publish.TopicAlias, publish.SubscriptionIDs = Some[uint16](9), []uint32{1, 2}
	var p Publish
	p.SetProperties(&publish)
	if got := p.Properties(); !got.Equal(&publish) {
		t.Errorf("publish: got %+v", got)
	}
	if all.Equal(&will) || all.Equal(&publish) {
		t.Error("different properties are equal")
	}
}

func TestPropertiesClone(t *testing.T) {
	p := Properties{CorrelationData: []byte("a"), AuthData: Credential("b"), SubscriptionIDs: []uint32{1}, UserProperties: slices.Clone(user)}
	c := p.Clone()
	p.CorrelationData[0], p.AuthData[0], p.SubscriptionIDs[0], p.UserProperties[0].Key = 'x', 'x', 9, "x"
	if c.CorrelationData[0] != 'a' || c.AuthData[0] != 'b' || c.SubscriptionIDs[0] != 1 || c.UserProperties[0] != user[0] {
		t.Errorf("the clone changed: %+v", c)
	}
	if o := (Opt[int]{}); o.Or(3) != 3 || Some(4).Or(3) != 4 || o.Present() || !Some(0).Present() {
		t.Error("Opt is wrong")
	}
}
