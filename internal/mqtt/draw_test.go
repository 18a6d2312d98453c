package mqtt

import (
	"strings"
	"unicode"

	"pgregory.net/rapid"
)

// drawPacket draws a legal packet of any kind that version v has.
func drawPacket(t *rapid.T, v Version) Packet {
	last := DISCONNECT
	if v >= V5 {
		last = AUTH
	}
	id := rapid.Uint16Min(1).Draw(t, "id")
	switch kind := rapid.Custom(func(t *rapid.T) Type { return Type(rapid.IntRange(int(CONNECT), int(last)).Draw(t, "kind")) }).Draw(t, "kind"); kind {
	case CONNECT:
		return drawConnect(t, v)
	case CONNACK:
		p := &Connack{Code: drawCode(t, kind, v)}
		p.SessionPresent = p.Code == Success && rapid.Bool().Draw(t, "present")
		p.Properties = drawProperties(t, v, inConnack)
		return p
	case PUBLISH:
		return drawPublish(t, v, id)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p := &Ack{Type: kind, PacketID: id}
		if v >= V5 {
			p.Code = drawCode(t, kind, v)
			p.ReasonString, p.UserProperties = drawDiagnostics(t)
		}
		return p
	case SUBSCRIBE:
		return drawSubscribe(t, v, id)
	case SUBACK:
		p := &Suback{PacketID: id, Codes: drawCodes(t, kind, v)}
		if v >= V5 {
			p.ReasonString, p.UserProperties = drawDiagnostics(t)
		}
		return p
	case UNSUBSCRIBE:
		p := &Unsubscribe{PacketID: id, Filters: rapid.SliceOfN(drawFilter, 1, 5).Draw(t, "filters")}
		if v >= V5 {
			_, p.UserProperties = drawDiagnostics(t)
		}
		return p
	case UNSUBACK:
		p := &Unsuback{PacketID: id}
		if v >= V5 {
			p.Codes = drawCodes(t, kind, v)
			p.ReasonString, p.UserProperties = drawDiagnostics(t)
		}
		return p
	case PINGREQ:
		return &Pingreq{}
	case PINGRESP:
		return &Pingresp{}
	case DISCONNECT:
		if v < V5 {
			return &Disconnect{}
		}
		return &Disconnect{Code: drawCode(t, kind, v), Properties: drawProperties(t, v, inDisconnect)}
	}
	p := &Auth{Code: drawCode(t, AUTH, v), Properties: drawProperties(t, v, inAuth)}
	p.Properties.AuthMethod = Some(drawText.Draw(t, "method"))
	return p
}

func drawConnect(t *rapid.T, v Version) *Connect {
	p := &Connect{
		Version: v, CleanStart: rapid.Bool().Draw(t, "clean"), KeepAlive: rapid.Uint16().Draw(t, "keep alive"),
		ClientID: drawName.Draw(t, "client"), Username: maybe(t, "user", drawName), Properties: drawProperties(t, v, inConnect),
	}
	if p.Properties.AuthMethod == (Opt[string]{}) {
		p.Properties.AuthData = nil
	}
	if v >= V5 || p.Username.ok {
		p.Password = drawBinary(t, "password")
	}
	if rapid.Bool().Draw(t, "will") {
		p.Will = &Will{
			Topic: drawTopic.Draw(t, "will topic"), Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "will payload"),
			QoS: rapid.ByteMax(2).Draw(t, "will QoS"), Retain: rapid.Bool().Draw(t, "will retain"),
		}
		if v >= V5 {
			props := drawProperties(t, v, inWill)
			p.Will.SetProperties(&props)
		}
	}
	return p
}

func drawPublish(t *rapid.T, v Version, id uint16) *Publish {
	p := &Publish{
		QoS: rapid.ByteMax(2).Draw(t, "QoS"), Retain: rapid.Bool().Draw(t, "retain"), Topic: []byte(drawTopic.Draw(t, "topic")),
		Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
	}
	if p.QoS > 0 {
		p.PacketID, p.Dup = id, rapid.Bool().Draw(t, "dup")
	}
	if v >= V5 {
		props := drawProperties(t, v, inPublish)
		p.SetProperties(&props)
		if p.TopicAlias != 0 && rapid.Bool().Draw(t, "alias only") {
			p.Topic = nil
		}
	}
	return p
}

func drawSubscribe(t *rapid.T, v Version, id uint16) *Subscribe {
	p := &Subscribe{PacketID: id}
	for range rapid.IntRange(1, 5).Draw(t, "filters") {
		s := Subscription{Filter: drawFilter.Draw(t, "filter"), QoS: rapid.ByteMax(2).Draw(t, "QoS")}
		if v >= V5 {
			s.RetainAsPublished, s.RetainHandling = rapid.Bool().Draw(t, "as published"), rapid.ByteMax(2).Draw(t, "handling")
			s.NoLocal = !strings.HasPrefix(s.Filter, "$share/") && rapid.Bool().Draw(t, "no local")
		}
		p.Subscriptions = append(p.Subscriptions, s)
	}
	if v >= V5 {
		p.SubscriptionID = rapid.Uint32Max(MaxSubscriptionID).Draw(t, "subscription id")
		_, p.UserProperties = drawDiagnostics(t)
	}
	return p
}

func drawCode(t *rapid.T, kind Type, v Version) ReasonCode {
	codes := []byte(table26[kind])
	switch {
	case v < V5 && kind == CONNACK:
		codes = []byte{0, 1, 2, 3, 4, 5}
	case v < V5 && kind == SUBACK:
		codes = []byte{0, 1, 2, 0x80}
	}
	return ReasonCode(rapid.SampledFrom(codes).Draw(t, "code"))
}

func drawCodes(t *rapid.T, kind Type, v Version) (codes []ReasonCode) {
	for range rapid.IntRange(1, 5).Draw(t, "codes") {
		codes = append(codes, drawCode(t, kind, v))
	}
	return codes
}

func drawDiagnostics(t *rapid.T) (Opt[string], []UserProperty) {
	p := drawProperties(t, V5, 1<<PUBACK)
	return p.ReasonString, p.UserProperties
}

// drawProperties draws properties that may stand in place in.
func drawProperties(t *rapid.T, v Version, in uint16) (p Properties) {
	if v < V5 {
		return p
	}
	for id, e := range propertyTable {
		if e.in&in == 0 || !rapid.Bool().Draw(t, "has "+e.name) {
			continue
		}
		for n := range rapid.IntRange(1, 3).Draw(t, "times") {
			if n > 0 && id != propUserProperty && (id != propSubscriptionID || in != inPublish) {
				break
			}
			d := property{id: uint32(id), val: []byte(drawText.Draw(t, "value"))}
			low := uint32(flag(e.nonzero, 1))
			switch e.kind {
			case kindBit:
				d.num = rapid.Uint32Max(1).Draw(t, e.name)
			case kindUint16:
				d.num = rapid.Uint32Range(low, 0xffff).Draw(t, e.name)
			case kindUint32:
				d.num = rapid.Uint32Min(low).Draw(t, e.name)
			case kindVarint:
				d.num = rapid.Uint32Range(low, MaxSubscriptionID).Draw(t, e.name)
			case kindTopic:
				d.data = []byte(drawTopic.Draw(t, e.name))
			case kindBinary:
				d.data = rapid.SliceOf(rapid.Byte()).Draw(t, e.name)
			default:
				d.data = []byte(drawText.Draw(t, e.name))
			}
			p.set(&d)
		}
	}
	return p
}

func maybe[T any](t *rapid.T, name string, g *rapid.Generator[T]) Opt[T] {
	if !rapid.Bool().Draw(t, "has "+name) {
		return Opt[T]{}
	}
	return Some(g.Draw(t, name))
}

func drawBinary(t *rapid.T, name string) []byte {
	if !rapid.Bool().Draw(t, "has "+name) {
		return nil
	}
	return copied(rapid.SliceOf(rapid.Byte()).Draw(t, name))
}

var (
	// drawText draws a string without U+0000, now and then a long one.
	drawText = rapid.Custom(func(t *rapid.T) string {
		s := rapid.StringOf(rapid.RuneFrom([]rune{1, ' ', '/', '+', '#', 0x7f, 0xfeff, 0xfffd, 0x1f600, 0x10ffff}, unicode.L, unicode.N)).Draw(t, "text")
		return strings.Repeat(s, rapid.SampledFrom([]int{1, 1, 1, 30}).Draw(t, "times"))
	})
	// drawName draws such a string without what has no place in a name.
	drawName = rapid.Custom(func(t *rapid.T) string {
		return strings.NewReplacer("\x01", "", "\x7f", "", "\U0010ffff", "").Replace(drawText.Draw(t, "name"))
	})
	drawFilter = rapid.Custom(func(t *rapid.T) string {
		prefix := rapid.SampledFrom([]string{"", "$share/g/", "$SYS/", "#", "+/"}).Draw(t, "prefix")
		return prefix + "x" + drawName.Draw(t, "filter")
	})
	drawTopic = rapid.Custom(func(t *rapid.T) string {
		return "x" + strings.NewReplacer("+", "", "#", "").Replace(drawName.Draw(t, "topic"))
	})
)
