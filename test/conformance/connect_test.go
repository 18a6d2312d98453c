package conformance

import (
	"bytes"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Two clients connect, subscribe, publish with each QoS, ping, unsubscribe and leave.
func TestWholeConversation(t *testing.T) {
	everywhere(t, func(t *trial) {
		sub, pub := t.connect(), t.connect()
		sub.subscribe(2, t.topic("a"), t.topic("b"))
		for qos := range byte(3) {
			pub.publish(message(t.topic("a"), "hello", qos))
			if p := sub.takes(t.topic("a"), "hello"); p.QoS != qos {
				t.Errorf("got %s, want QoS %d", describe(p), qos)
			}
		}
		sub.nothing()
		sub.send(&mqtt.Unsubscribe{PacketID: 2, Filters: []string{t.topic("a")}})
		expect[*mqtt.Unsuback](sub)
		pub.publish(message(t.topic("a"), "again", 1))
		pub.publish(message(t.topic("b"), "other", 1))
		sub.takes(t.topic("b"), "other")
		sub.leave()
		pub.leave()
	})
}

// A client need not wait for CONNACK, which comes first and once all the same
// [MQTT-3.2.0-1] [MQTT-3.2.0-2].
func TestPipelinedConnect(t *testing.T) {
	everywhere(t, func(t *trial) {
		c := t.dial()
		c.send(t.hello(),
			&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: t.topic("a"), QoS: 1}}},
			message(t.topic("a"), "x", 1), &mqtt.Pingreq{})
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
			t.Fatalf("refused: %v", ack.Code)
		}
		expect[*mqtt.Suback](c)
		var message, acked, ping int
		for range 3 {
			switch p := c.next().(type) {
			case *mqtt.Publish:
				message++
			case *mqtt.Ack:
				acked++
			case *mqtt.Pingresp:
				ping++
			default:
				t.Fatalf("got %s", describe(p))
			}
		}
		if message != 1 || acked != 1 || ping != 1 {
			t.Errorf("%d messages, %d acknowledgements, %d answers to the ping, want one each", message, acked, ping)
		}
		c.nothing()
	})
}

// The first packet must be CONNECT. Anything else ends the connection, and as
// there was no CONNACK there is no DISCONNECT [MQTT-3.1.0-1] [MQTT-3.14.0-1].
func TestFirstPacketIsConnect(t *testing.T) {
	both(t, func(t *trial) {
		witness := t.connect()
		witness.subscribe(0, t.topic("#"))
		for _, b := range t.legal() {
			c := t.dial()
			c.raw(b)
			c.closed()
		}
		for _, b := range []string{"\xf0\x00", "\x00\x00", "\x20\x02\x00\x00", "GE\x00", "\xff", "\x16\x03\x01"} {
			c := t.dial()
			c.raw([]byte(b))
			_ = c.closeWrite()
			c.closed()
		}
		// PUBLISH and then a good CONNECT: the one is as void as the other.
		c := t.dial()
		c.raw(append(packet(0x30, text(t.topic("a")), t.props(), "early"), t.hello().Append(nil, t.version)...))
		c.closed()
		witness.nothing()
	})
}

// A second CONNECT ends the connection, and is not answered with CONNACK
// [MQTT-3.1.0-2] [MQTT-3.2.0-2].
func TestSecondConnect(t *testing.T) {
	everywhere(t, func(t *trial) {
		p := t.hello()
		c := t.connectAs(p)
		c.send(p)
		c.ended(mqtt.ProtocolError)
		other := t.connect()
		other.send(t.hello()) // another identifier makes no difference
		other.ended(mqtt.ProtocolError)
	})
}

// A protocol name other than MQTT is not served, nor answered: who speaks another
// protocol would not understand [MQTT-3.1.2-1].
func TestProtocolName(t *testing.T) {
	both(t, func(t *trial) {
		for _, name := range []string{"", "M", "mqtt", "MQTX", "MQTT ", "MQT", "MQTTX", "HTTP", strings.Repeat("M", 200)} {
			c := t.dial()
			c.raw(packet(0x10, text(name), t.version, cleanFlag|userFlag|passwordFlag, u16(60), t.props(), text(t.freshID()), t.site.ann.credentials()))
			c.closed()
		}
	})
}

// A version that is not spoken is answered with 0x84, or with 1 as 3.1.1 has it,
// and closed [MQTT-3.1.2-2].
func TestProtocolVersion(t *testing.T) {
	both(t, func(t *trial) {
		for _, level := range []int{0, 1, 2, 3, 6, 7, 0x7F, 0x80, 0x84, 0x85, 0xFF} {
			c := t.dial()
			c.raw(packet(0x10, text("MQTT"), level, cleanFlag, u16(60), text(t.freshID())))
			// Whatever the trial speaks, the answer is in the nearest version to the level.
			want := "\x00\x01"
			if level > 5 && level < 0x80 {
				want = join(0, 0x84)
			}
			t.flush()
			h, body, err := c.r.Next()
			if err != nil || h.Type != mqtt.CONNACK || !strings.HasPrefix(string(body), want) {
				t.Errorf("level %d: %v % x %v, want CONNACK % x", level, h.Type, body, err, want)
				continue
			}
			c.closed()
		}
	})
}

// The reserved flag must be 0 [MQTT-3.1.2-3].
func TestReservedConnectFlag(t *testing.T) {
	both(t, func(t *trial) {
		c := t.dial()
		c.raw(t.connectBytes(cleanFlag|userFlag|passwordFlag|1, text(t.freshID()), t.site.ann.credentials()))
		c.refused(mqtt.MalformedPacket, silence)
	})
}

// The payload is read in its order: client identifier, will, user name, password
// [MQTT-3.1.3-1]. A field that a flag announces must be there, and no other
// [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19]
// [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.3-3].
func TestConnectPayload(t *testing.T) {
	both(t, func(t *trial) {
		will := join(t.props(), text(t.topic("will")), text("gone"))
		name, password := join(text(t.site.ann.Username)), join(text(t.site.ann.Password))
		witness := t.connect()
		witness.subscribe(0, t.topic("#"))
		c := t.dial()
		c.raw(t.connectBytes(cleanFlag|willFlag|userFlag|passwordFlag, text(t.freshID()), will, name, password))
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
			t.Fatalf("refused: %#x", byte(ack.Code))
		}
		c.cut()
		witness.takes(t.topic("will"), "gone")

		for what, b := range map[string][]byte{
			"no payload":                     t.connectBytes(cleanFlag),
			"no client identifier":           t.connectBytes(cleanFlag|userFlag|passwordFlag, name, password),
			"no will":                        t.connectBytes(cleanFlag|willFlag|userFlag|passwordFlag, text(t.freshID()), name, password),
			"half a will":                    t.connectBytes(cleanFlag|willFlag, text(t.freshID()), t.props(), text(t.topic("will"))),
			"no user name":                   t.connectBytes(cleanFlag|userFlag|passwordFlag, text(t.freshID()), password),
			"neither user name nor password": t.connectBytes(cleanFlag|userFlag, text(t.freshID())),
			"no password":                    t.connectBytes(cleanFlag|userFlag|passwordFlag, text(t.freshID()), name),
			"a will too many":                t.connectBytes(cleanFlag|userFlag|passwordFlag, text(t.freshID()), will, name, password),
			"a user name too many":           t.connectBytes(cleanFlag, text(t.freshID()), name),
			"a password too many":            t.connectBytes(cleanFlag|userFlag, text(t.freshID()), name, password),
			"a byte too many":                t.connectBytes(cleanFlag|userFlag|passwordFlag, text(t.freshID()), name, password, 0),
		} {
			c := t.dial()
			c.raw(b)
			if ack, ok := c.next().(*mqtt.Connack); ok && !t.is5() {
				t.Errorf("%s: answered with %#x", what, byte(ack.Code))
			} else if ok && ack.Code != mqtt.MalformedPacket && ack.Code != mqtt.ProtocolError {
				t.Errorf("%s: answered with %v", what, ack.Code)
			} else if !ok && t.is5() {
				t.Errorf("%s: no CONNACK", what)
			}
			c.closed()
		}
		witness.nothing()

		// In another order the fields mean something else.
		c = t.dial()
		c.raw(t.connectBytes(cleanFlag|userFlag|passwordFlag, text(t.freshID()), password, name))
		c.refused(mqtt.BadUserNameOrPassword, mqtt.ReturnNotAuthorized)
	})
}

// Without a user name 3.1.1 allows no password [MQTT-3.1.2-22]; MQTT 5 does.
func TestPasswordWithoutUserName(t *testing.T) {
	both(t, func(t *trial) {
		c := t.dial()
		c.raw(t.connectBytes(cleanFlag|passwordFlag, text(t.freshID()), text(t.site.ann.Password)))
		c.refused(mqtt.BadUserNameOrPassword, silence)
	})
}

// Client identifiers of 1 to 23 digits and letters are taken [MQTT-3.1.3-5], and
// longer ones with other characters too.
func TestClientIdentifiers(t *testing.T) {
	both(t, func(t *trial) {
		owner := t.site.newUser(t.site.org, t.id("owner"))
		const all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
		for _, id := range []string{"0", "z", all[:23], all[23:46], all[39:], strings.Repeat("x", 22), all, "a/b c-d_e.f:é😀", strings.Repeat("long", 250)} {
			p := t.hello()
			p.ClientID, p.Username, p.Password = id, mqtt.Some(owner.Username), mqtt.Credential(owner.Password)
			t.connectAs(p).leave()
		}
	})
}

// A client without an identifier is given one of its own [MQTT-3.1.3-6], which
// MQTT 5 tells it [MQTT-3.1.3-7] [MQTT-3.2.2-16], and is served as if it had come with it.
func TestEmptyClientIdentifier(t *testing.T) {
	both(t, func(t *trial) {
		anonymous := func(p *mqtt.Connect) {
			p.ClientID = ""
			if t.is5() {
				p.Properties.SessionExpiry = mqtt.Some[uint32](600)
			}
		}
		a, b := t.connect(anonymous), t.connect(anonymous)
		a.subscribe(1, t.topic("a"))
		b.publish(message(t.topic("a"), "x", 1))
		a.takes(t.topic("a"), "x")
		b.nothing() // both are still there: they do not share a session
		if !t.is5() {
			return
		}
		id, ok := a.ack.Properties.AssignedClientID.Get()
		if other := b.ack.Properties.AssignedClientID.Or(""); !ok || id == "" || id == other {
			t.Fatalf("assigned %q and %q", id, other)
		}
		a.leave()
		p := t.hello()
		p.ClientID, p.CleanStart = id, false
		if a = t.connectAs(p); !a.ack.SessionPresent || a.ack.Properties.AssignedClientID.Present() {
			t.Errorf("session present: %v, assigned: %v", a.ack.SessionPresent, a.ack.Properties.AssignedClientID)
		}
		b.publish(message(t.topic("a"), "y", 1))
		a.takes(t.topic("a"), "y")
		p = t.hello()
		p.ClientID, p.CleanStart = "", false
		if c := t.connectAs(p); c.ack.SessionPresent || !c.ack.Properties.AssignedClientID.Present() {
			t.Error("without Clean Start: no new session or no identifier")
		}
	})
}

// In 3.1.1 a client without an identifier must want a clean session
// [MQTT-3.1.3-7] [MQTT-3.1.3-8].
func TestEmptyClientIdentifierWithoutCleanSession(t *testing.T) {
	only(t, mqtt.V311, func(t *trial) {
		c := t.dial()
		p := t.hello()
		p.ClientID, p.CleanStart = "", false
		c.send(p)
		c.refused(0, mqtt.ReturnIdentifierRejected)
	})
}

// A client identifier that is not the one of its credentials is refused and
// closed [MQTT-3.1.4-2].
func TestClientIdentifierOfAnother(t *testing.T) {
	both(t, func(t *trial) {
		good := t.device()
		t.connectAs(good).leave()
		for _, id := range []string{strings.TrimSuffix(good.ClientID, "one") + "two", strings.TrimSuffix(good.ClientID, ":one"), "d::::"} {
			p := *good
			p.ClientID = id
			c := t.dial()
			c.send(&p)
			c.refused(mqtt.BadUserNameOrPassword, mqtt.ReturnNotAuthorized)
		}
	})
}

// Who cannot show who it is is refused and closed [MQTT-3.1.4-2] [MQTT-3.2.2-7]
// [MQTT-3.2.2-5], with a code of CONNACK [MQTT-3.2.2-8] and without a session,
// though there is one of that name [MQTT-3.2.2-6] [MQTT-3.2.2-4].
func TestWrongCredentials(t *testing.T) {
	both(t, func(t *trial) {
		t.connectAs(t.persistent("s")).leave()
		for what, change := range map[string]func(*mqtt.Connect){
			"wrong password":  func(p *mqtt.Connect) { p.Password = mqtt.Credential("wrong") },
			"empty password":  func(p *mqtt.Connect) { p.Password = mqtt.Credential{} },
			"no password":     func(p *mqtt.Connect) { p.Password = nil },
			"another's":       func(p *mqtt.Connect) { p.Password = mqtt.Credential(t.site.bob.Password) },
			"unknown user":    func(p *mqtt.Connect) { p.Username = mqtt.Some(t.site.org + "/nobody") },
			"no organisation": func(p *mqtt.Connect) { p.Username = mqtt.Some("ann") },
			"no credentials":  func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Opt[string]{}, nil },
		} {
			t.Log(what)
			p := t.persistent("s")
			change(p)
			c := t.dial()
			c.send(p)
			c.refused(mqtt.BadUserNameOrPassword, mqtt.ReturnNotAuthorized)
		}
		if c := t.connectAs(t.persistent("s")); !c.ack.SessionPresent {
			t.Error("the session is gone")
		}
	})
}

// What follows a refused CONNECT is not processed [MQTT-3.1.4-6] [MQTT-3.1.4-5].
func TestNothingAfterRefusedConnect(t *testing.T) {
	everywhere(t, func(t *trial) {
		witness := t.connect()
		witness.subscribe(1, t.topic("#"))
		p := t.hello()
		p.Password = mqtt.Credential("wrong")
		p.Will = &mqtt.Will{Topic: t.topic("will"), Payload: []byte("x")}
		c := t.dial()
		c.send(p, message(t.topic("a"), "x", 0), message(t.topic("a"), "x", 1), &mqtt.Pingreq{})
		c.refused(mqtt.BadUserNameOrPassword, mqtt.ReturnNotAuthorized)
		witness.nothing()
	})
}

// The flags of CONNACK are 0, but for Session Present [MQTT-3.2.2-1], and MQTT 5
// lists what is not the default: the server takes each QoS, retained messages,
// wildcards, subscription identifiers and shared subscriptions.
func TestConnack(t *testing.T) {
	both(t, func(t *trial) {
		for present := range 2 {
			c := t.connectAs(t.persistent("s"))
			if !bytes.HasPrefix(c.body, []byte{byte(present), 0}) {
				t.Errorf("CONNACK % x, want 0%d 00", c.body, present)
			}
			q := c.ack.Properties
			if q.MaximumQoS.Present() || !q.RetainAvailable.Or(true) || !q.WildcardSubscriptions.Or(true) ||
				!q.SubscriptionIDsUsable.Or(true) || !q.SharedSubscriptions.Or(true) || q.AuthMethod.Present() || q.ServerReference.Present() {
				t.Errorf("got %+v", q)
			}
			c.leave()
		}
	})
}

// A CONNACK that would be too large for the client loses its reason string, and
// one that is too large even so is not sent [MQTT-3.2.2-19] [MQTT-3.1.2-24].
func TestConnackFits(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		refused := func(max uint32) *client {
			p := t.hello()
			p.Password = mqtt.Credential("wrong")
			p.Properties.MaximumPacketSize = mqtt.Some(max)
			c := t.dial()
			c.send(p)
			return c
		}
		c := refused(1000)
		if ack := expect[*mqtt.Connack](c); !ack.Properties.ReasonString.Present() {
			t.Error("no reason string, though there is room")
		}
		for _, max := range []uint32{20, 5} {
			c := refused(max)
			ack := expect[*mqtt.Connack](c)
			if ack.Code != mqtt.BadUserNameOrPassword || ack.Properties.ReasonString.Present() || c.header.Size() > int(max) {
				t.Errorf("at most %d: %d bytes, %+v", max, c.header.Size(), ack)
			}
			c.closed()
		}
		refused(4).closed()
	})
}

// Response Information is for those who ask [MQTT-3.1.2-28].
func TestResponseInformation(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, tt := range []struct {
			ask  mqtt.Opt[bool]
			want bool
		}{{mqtt.Opt[bool]{}, false}, {mqtt.Some(false), false}, {mqtt.Some(true), true}} {
			c := t.connect(func(p *mqtt.Connect) { p.Properties.RequestResponseInfo = tt.ask })
			if got := c.ack.Properties.ResponseInfo.Present(); got != tt.want {
				t.Errorf("asked %v: got any: %v", tt.ask, got)
			}
		}
	})
}

// A client that wants no problem information gets no reason strings and no user
// properties but in PUBLISH, CONNACK and DISCONNECT [MQTT-3.1.2-29].
func TestProblemInformation(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		for _, want := range []bool{true, false} {
			c := t.connect(func(p *mqtt.Connect) { p.Properties.RequestProblemInfo = mqtt.Some(want) })
			for qos := byte(1); qos <= 2; qos++ {
				c.send(message("$SYS/"+t.topic("a"), "x", qos))
				ack := expect[*mqtt.Ack](c)
				if !ack.Code.IsError() || ack.ReasonString.Present() != want || len(ack.UserProperties) > 0 {
					t.Errorf("problem information %v: %v %+v", want, ack.Type, ack)
				}
			}
			c.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: t.topic("a#")}}})
			ack := expect[*mqtt.Suback](c)
			if !ack.Codes[0].IsError() || !want && ack.ReasonString.Present() || len(ack.UserProperties) > 0 {
				t.Errorf("problem information %v: SUBACK %+v", want, ack)
			}
		}
	})
}
