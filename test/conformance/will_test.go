package conformance

import (
	"bytes"
	"slices"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// will gives a CONNECT a will.
func (t *trial) will(payload string, qos byte, retain bool) func(*mqtt.Connect) {
	return func(p *mqtt.Connect) {
		p.Will = &mqtt.Will{Topic: t.topic("will"), Payload: []byte(payload), QoS: qos, Retain: retain}
	}
}

// witness returns a client that is sent every will of the trial.
func (t *trial) witness() *client {
	t.Helper()
	c := t.connect()
	c.subscribed(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{
		{Filter: t.topic("will"), QoS: 2, RetainAsPublished: t.is5()},
	}})
	return c
}

// A will is published when its connection ends other than by DISCONNECT: cut, or
// closed by the server because of an error, a takeover or silence
// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-22]; and once [MQTT-3.1.2-10].
func TestWillIsPublished(t *testing.T) {
	everywhere(t, func(t *trial) {
		witness := t.witness()
		for what, end := range map[string]func(c *client, p *mqtt.Connect){
			"cut": func(c *client, _ *mqtt.Connect) { c.cut() },
			"malformed packet": func(c *client, _ *mqtt.Connect) {
				c.raw(packet(0x36, text("a"), u16(1)))
				c.ended(mqtt.MalformedPacket)
			},
			"second CONNECT": func(c *client, p *mqtt.Connect) {
				c.send(p)
				c.ended(mqtt.ProtocolError)
			},
			"takeover": func(c *client, p *mqtt.Connect) {
				q := *p
				q.Will = nil
				next := t.connectAs(&q)
				c.ended(mqtt.SessionTakenOver)
				next.leave()
			},
			"half a packet": func(c *client, _ *mqtt.Connect) {
				c.raw([]byte{0x30, 100, 0, 1})
				t.flush()
				c.cut()
			},
		} {
			p := t.persistent(t.freshID())
			t.will(what, 1, false)(p)
			c := t.connectAs(p)
			witness.nothing()
			end(c, p)
			if m := witness.takes(t.topic("will"), what); m.QoS != 1 || m.Retain {
				t.Errorf("%s: got %s", what, describe(m))
			}
			p.Will = nil
			t.connectAs(p).cut() // the will is gone with the connection that brought it
		}
		marker := t.connect(t.will("last", 0, false))
		marker.cut()
		witness.takes(t.topic("will"), "last")
		witness.nothing()
	})
}

// A client that is silent for one and a half times its keep alive is cut off,
// and its will is published [MQTT-3.1.2-22] [MQTT-3.1.2-24]. The server uses the
// keep alive that the client brings unless it says otherwise [MQTT-3.2.2-22].
func TestSilentClient(t *testing.T) {
	both(t, func(t *trial) {
		witness := t.witness()
		c := t.connect(t.will("silent", 1, false), func(p *mqtt.Connect) { p.KeepAlive = 1 })
		if c.ack.Properties.ServerKeepAlive.Present() {
			t.Error("the server sets another keep alive")
		}
		c.ended(mqtt.KeepAliveTimeout)
		witness.takes(t.topic("will"), "silent")
	})
}

// DISCONNECT discards the will [MQTT-3.14.4-3] [MQTT-3.1.2-8] [MQTT-3.1.2-10],
// and without a will none is published [MQTT-3.1.2-12].
func TestNoWillAfterDisconnect(t *testing.T) {
	everywhere(t, func(t *trial) {
		witness := t.witness()
		t.connect(t.will("left", 1, false)).leave()
		t.connect().cut()
		c := t.connect(t.will("left, and said more", 1, false))
		c.send(&mqtt.Disconnect{}, message(t.topic("will"), "after DISCONNECT", 0), &mqtt.Pingreq{})
		c.closed()
		if t.is5() {
			p := t.persistent("s")
			p.Will = &mqtt.Will{Topic: t.topic("will"), Payload: []byte("delayed"), Delay: 600}
			t.connectAs(p).leave()
			p.Will, p.CleanStart = nil, true
			t.connectAs(p).leave() // ends the session: a will that was there would come now
		}
		t.connect(t.will("last", 1, false)).cut()
		witness.takes(t.topic("will"), "last")
		witness.nothing()
	})
}

// DISCONNECT with 0x04, or with an error, does not discard the will.
func TestWillAfterDisconnectWithWill(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		witness := t.witness()
		for _, code := range []mqtt.ReasonCode{mqtt.DisconnectWithWill, mqtt.UnspecifiedError, mqtt.ImplementationSpecificError, mqtt.QuotaExceeded} {
			c := t.connect(t.will(code.String(), 1, false))
			c.send(&mqtt.Disconnect{Code: code})
			c.closed()
			witness.takes(t.topic("will"), code.String())
		}
	})
}

// A will is published with its QoS, and retained or not as it says
// [MQTT-3.1.2-14] [MQTT-3.1.2-15]; in 3.1.1 [MQTT-3.1.2-16] [MQTT-3.1.2-17].
func TestWillQoSAndRetain(t *testing.T) {
	both(t, func(t *trial) {
		witness := t.witness()
		for qos := range byte(3) {
			for _, retain := range []bool{false, true} {
				t.connect(t.will("gone", qos, retain)).cut()
				if m := witness.takes(t.topic("will"), "gone"); m.QoS != qos || m.Retain != (retain && t.is5()) {
					t.Errorf("QoS %d, retain %v: got %s", qos, retain, describe(m))
				}
				late := t.connect()
				late.subscribe(2, t.topic("will"))
				if !retain {
					late.nothing()
					continue
				}
				if m := late.takes(t.topic("will"), "gone"); m.QoS != qos || !m.Retain {
					t.Errorf("retained with QoS %d: got %s, retain %v", qos, describe(m), m.Retain)
				}
				clean := message(t.topic("will"), "", 0)
				clean.Retain = true
				late.publish(clean)
				late.take()
				witness.take()
			}
		}
	})
}

// The flags of a will without the Will Flag, and QoS 3, are malformed
// [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13]; in 3.1.1 [MQTT-3.1.2-11]
// [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15].
func TestWillFlags(t *testing.T) {
	both(t, func(t *trial) {
		will := join(t.props(), text(t.topic("will")), text("gone"))
		for what, tt := range map[string]struct {
			flags int
			will  string
		}{
			"QoS 3":             {willFlag | 3<<3, will},
			"QoS 1 and no will": {1 << 3, ""},
			"QoS 2 and no will": {2 << 3, ""},
			"retain no will":    {retainFlag, ""},
			"QoS 3 and no will": {3 << 3, ""},
		} {
			t.Log(what)
			c := t.dial()
			c.raw(t.connectBytes(cleanFlag|userFlag|passwordFlag|tt.flags, text(t.freshID()), tt.will, t.site.ann.credentials()))
			c.refused(mqtt.MalformedPacket, silence)
		}
	})
}

// A will topic that nothing may be published on is refused.
func TestWillTopic(t *testing.T) {
	both(t, func(t *trial) {
		for topic, code := range map[string]mqtt.ReasonCode{
			"":                mqtt.ProtocolError,
			t.topic("+"):      mqtt.MalformedPacket,
			t.topic("#"):      mqtt.MalformedPacket,
			"a" + t.topic(""): 0,
		} {
			c := t.dial()
			c.raw(t.willed("", topic))
			if code != 0 {
				c.refused(code, silence)
			} else if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
				t.Errorf("%q: %#x", topic, byte(ack.Code))
			}
		}
		c := t.dial()
		c.raw(t.willed("", "$SYS/broker"))
		c.refused(mqtt.NotAuthorized, mqtt.ReturnNotAuthorized)
	})
}

// The properties of a will go with it, its user properties in their order [MQTT-3.1.3-10].
func TestWillProperties(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		witness := t.witness()
		q := mqtt.Properties{
			PayloadFormat: mqtt.Some[byte](1), ContentType: mqtt.Some("text/plain"), ResponseTopic: mqtt.Some(t.topic("answer")),
			CorrelationData: []byte{0, 1, 2}, MessageExpiry: mqtt.Some[uint32](600),
			UserProperties: []mqtt.UserProperty{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}, {Key: "b", Value: "1"}, {Key: "", Value: ""}, {Key: "a", Value: "0"}},
		}
		t.connect(func(p *mqtt.Connect) {
			t.will("gone", 1, false)(p)
			p.Will.SetProperties(&q)
		}).cut()
		m := witness.takes(t.topic("will"), "gone").Properties()
		if left := m.MessageExpiry.Or(0); left == 0 || left > 600 {
			t.Errorf("expiry %v", m.MessageExpiry)
		}
		if !slices.Equal(m.UserProperties, q.UserProperties) {
			t.Errorf("user properties %v, want %v", m.UserProperties, q.UserProperties)
		}
		if m.MessageExpiry = q.MessageExpiry; !m.Equal(&q) {
			t.Errorf("got %+v, want %+v", m, q)
		}
	})
}

// A will with a delay waits for it; a session that goes on before takes it back,
// and one that ends before lets it go at once [MQTT-3.1.2-8] [MQTT-3.1.3-9].
func TestWillDelay(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		witness := t.witness()
		p := t.persistent("s")
		t.will("taken back", 1, false)(p)
		p.Will.Delay = 600
		t.connectAs(p).cut()
		witness.nothing()
		t.will("at once", 1, false)(p)
		p.Will.Delay = 600
		t.connectAs(p).cut()
		witness.nothing()
		p.Will, p.CleanStart = nil, true
		c := t.connectAs(p)
		c.present(false)
		witness.takes(t.topic("will"), "at once")
		c.leave()
		witness.nothing()
	})
}

// A will that is to be retained is refused where nothing may be [MQTT-3.2.2-13].
func TestRetainedWillWhereNothingIsRetained(t *testing.T) {
	only(t, mqtt.V5, func(t *trial) {
		p := t.device()
		p.Will = &mqtt.Will{Topic: "iot-2/evt/will/fmt/json", Payload: []byte("{}"), Retain: true}
		c := t.dial()
		c.send(p)
		c.refused(mqtt.RetainNotSupported, 0)
		p.Will.Retain = false
		if q := t.connectAs(p).ack.Properties; q.RetainAvailable.Or(true) {
			t.Error("CONNACK does not say that nothing is retained")
		}
	})
}

// A will may be as large as its length can say.
func TestLargestWill(t *testing.T) {
	both(t, func(t *trial) {
		sub := t.connect()
		sub.subscribe(1, t.topic("will"))
		payload := bytes.Repeat([]byte{0, 0xff, 'x'}, mqtt.MaxString/3)
		c := t.connect(func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: t.topic("will"), Payload: payload, QoS: 1} })
		c.cut()
		if got := sub.take(); !bytes.Equal(got.Payload, payload) {
			t.Errorf("%d bytes of %d came", len(got.Payload), len(payload))
		}
	})
}
