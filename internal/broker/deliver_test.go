package broker

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

func TestSubscribeRefused(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		w.dir.add(testOrg, "narrow", func(s *auth.Spec) {
			s.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: filter("mine/#")}, {Action: auth.Receive, Filter: filter("mine/#")}}
			s.TypeLimits = s.TypeLimits.With(quota.ClientSubscriptions, 2)
		})
		c := w.connect(v, "c", func(p *mqtt.Connect) { as(p, testOrg, "narrow") })
		got := c.subscribe(
			mqtt.Subscription{Filter: "mine/a", QoS: 2}, mqtt.Subscription{Filter: "theirs/#", QoS: 1},
			mqtt.Subscription{Filter: "a#"}, mqtt.Subscription{Filter: "$share//a"}, mqtt.Subscription{Filter: "mine/b", QoS: 1},
			mqtt.Subscription{Filter: "mine/c"}, mqtt.Subscription{Filter: "mine/a"}, mqtt.Subscription{Filter: "#"},
		)
		want := []mqtt.ReasonCode{2, mqtt.NotAuthorized, mqtt.TopicFilterInvalid, mqtt.TopicFilterInvalid, 1, mqtt.QuotaExceeded, 0, mqtt.NotAuthorized}
		for i := range want {
			if v < mqtt.V5 && want[i].IsError() {
				want[i] = mqtt.UnspecifiedError // 0x80
			}
			if got[i] != want[i] {
				t.Errorf("filter %d: %v, want %v", i, got[i], want[i])
			}
		}
		c.send(&mqtt.Unsubscribe{PacketID: 2, Filters: []string{"mine/a", "mine/none", "a#"}})
		ack := expect[*mqtt.Unsuback](c)
		if v == mqtt.V5 && fmt.Sprint(ack.Codes) != fmt.Sprint([]mqtt.ReasonCode{0, mqtt.NoSubscriptionExisted, mqtt.TopicFilterInvalid}) {
			t.Errorf("unsuback: %v", ack.Codes)
		}
		p := w.connect(v, "p", nil)
		p.publish("mine/a", "gone")
		p.publish("mine/b", "there")
		c.receive("mine/b", "there")
	})
}

// A subscription wider than the rights behind it shows nothing.
func TestDeliveryCheck(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, clean := range []bool{true, false} {
			w := start(t, nil)
			w.dir.add(testOrg, "part", func(s *auth.Spec) {
				s.Rules = append(all()[:2], auth.Rule{Action: auth.Receive, Filter: filter("ok/#")})
			})
			c := w.connect(v, "c", func(p *mqtt.Connect) {
				as(p, testOrg, "part")
				p.CleanStart = clean
				if !clean {
					p.Properties.SessionExpiry = mqtt.Some[uint32](100)
				}
			})
			p := w.connect(v, "p", nil)
			p.send(&mqtt.Publish{Topic: []byte("secret/r"), Payload: []byte("no"), Retain: true})
			p.ping()
			c.sub("#", 1)
			p.publish("secret/a", "no")
			p.publish("ok/a", "yes")
			c.receive("ok/a", "yes")
			c.ping()
			eventually(t, "refusals counted", func() bool { return w.b.Snapshot().DroppedDenied == 2 })
			if !clean {
				eventually(t, "the queue moved on", func() bool { return w.mem.queued() == 1 })
			}
		}
	})
}

// Organisations never meet, whatever their clients are called.
func TestOrganisations(t *testing.T) {
	w := start(t, nil)
	a := w.connect(mqtt.V5, "same", nil)
	b := w.connect(mqtt.V5, "same", func(p *mqtt.Connect) { as(p, "other1", "u") })
	a.sub("#", 1)
	b.sub("#", 1)
	a.send(pub("x", "for a", 0, 0))
	a.receive("x", "for a")
	b.ping()
	a.ping()
}

// A client sees the organisation's topics under its own names.
func TestRewrite(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "dev", func(s *auth.Spec) {
		s.Rewrites = []auth.Rewrite{{Client: "iot-2/", Org: "iot-2/type/t/id/d/"}}
		f := filter("iot-2/type/t/id/d/#")
		s.Rules = []auth.Rule{{Action: auth.Publish, Filter: f}, {Action: auth.Subscribe, Filter: f}, {Action: auth.Receive, Filter: f}}
	})
	app := w.connect(mqtt.V311, "app", nil)
	app.sub("#", 0)
	dev := w.connect(mqtt.V311, "dev", func(p *mqtt.Connect) { as(p, testOrg, "dev") })
	dev.sub("iot-2/cmd/+/fmt/+", 0)
	dev.publish("iot-2/evt/e/fmt/json", "{}")
	app.receive("iot-2/type/t/id/d/evt/e/fmt/json", "{}")
	app.send(pub("iot-2/type/t/id/d/cmd/c/fmt/text", "go", 0, 0), pub("iot-2/type/t/id/other/cmd/c/fmt/text", "go", 0, 0))
	dev.receive("iot-2/cmd/c/fmt/text", "go")
	dev.ping()
}

func retain(name, payload string, qos byte, id uint16) *mqtt.Publish {
	p := pub(name, payload, qos, id)
	p.Retain = true
	return p
}

func TestRetained(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		p := w.connect(v, "p", nil)
		p.send(retain("r/1", "one", 1, 1), retain("r/2", "two", 2, 2), retain("r/3", "", 1, 3), retain("s", "no", 1, 4))
		for _, typ := range []mqtt.Type{mqtt.PUBACK, mqtt.PUBREC, mqtt.PUBACK, mqtt.PUBACK} {
			if a := expect[*mqtt.Ack](p); a.Type != typ || a.Code != 0 {
				t.Fatalf("got %+v", a)
			}
		}
		c := w.connect(v, "c", nil)
		c.sub("r/#", 1)
		for i, want := range []string{"one", "two"} {
			m := c.receive(fmt.Sprintf("r/%d", i+1), want)
			if !m.Retain || m.QoS != 1 {
				t.Errorf("%s: %+v", want, m)
			}
			c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		}
		p.send(retain("r/1", "new", 0, 0))
		if m := c.receive("r/1", "new"); m.Retain {
			t.Error("RETAIN on a live message [MQTT-3.3.1-12]")
		}
		p.send(retain("r/1", "", 0, 0)) // deletes, and is passed on
		c.receive("r/1", "")
		c.sub("r/#", 0) // again: sent again
		c.receive("r/2", "two")
		c.ping()
	})
}

func TestRetainHandling(t *testing.T) {
	w := start(t, nil)
	p := w.connect(mqtt.V5, "p", nil)
	p.send(retain("r", "x", 0, 0))
	p.ping()
	c := w.connect(mqtt.V5, "c", nil)
	sub := func(handling byte, want bool) {
		t.Helper()
		c.subscribe(mqtt.Subscription{Filter: "r", RetainHandling: handling})
		if want {
			c.receive("r", "x")
		}
		c.ping()
	}
	sub(mqtt.RetainDoNotSend, false)
	sub(mqtt.RetainSendIfNew, false) // it exists
	sub(mqtt.RetainSend, true)
	c.send(&mqtt.Unsubscribe{PacketID: 3, Filters: []string{"r"}})
	expect[*mqtt.Unsuback](c)
	sub(mqtt.RetainSendIfNew, true)
	c.subscribe(mqtt.Subscription{Filter: "$share/g/r"}) // never to a shared subscription (4.8.2)
	c.ping()
	c.subscribe(mqtt.Subscription{Filter: "r", RetainAsPublished: true, RetainHandling: mqtt.RetainDoNotSend})
	p.send(retain("r", "y", 0, 0))
	flags := map[bool]int{}
	for range 2 { // one for each subscription, or for the shared one too
		m := expect[*mqtt.Publish](c)
		flags[m.Retain]++
		if flags[true] == 1 {
			break
		}
	}
	if flags[true] != 1 {
		t.Errorf("RETAIN as published: %v", flags)
	}
}

// However slowly the retained messages go out, a newer live one comes after.
func TestRetainedBeforeLive(t *testing.T) {
	w := start(t, func(c *Config) { c.Limits = c.Limits.With(quota.ClientInflight, 2) })
	p := w.connect(mqtt.V5, "p", nil)
	for i := range 5 {
		p.send(retain(fmt.Sprintf("r/%d", i), "old", 1, 1))
		p.expectAck(mqtt.PUBACK, 1, mqtt.Success)
	}
	for _, qos := range []byte{0, 1} {
		for _, expiry := range []uint32{0, 100} {
			c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) {
				p.Properties.ReceiveMaximum = mqtt.Some[uint16](1)
				p.Properties.SessionExpiry = mqtt.Some(expiry)
			})
			c.sub("r/#", 1)
			first := c.receive("r/0", "old")
			p.send(pub("r/4", "new", qos, 9)) // while r/4 is still to be sent
			if qos == 1 {
				p.expectAck(mqtt.PUBACK, 9, mqtt.Success)
			}
			p.ping()
			c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: first.PacketID})
			for i := 1; i < 5; i++ {
				m := c.receive(fmt.Sprintf("r/%d", i), "old")
				c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
			}
			m := c.receive("r/4", "new")
			if m.QoS == 1 {
				c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
			}
			c.ping()
			c.bye()
		}
	}
}

// A lateEngine tells when retained messages are looked at.
type lateEngine struct {
	engine.Engine
	looked chan struct{}
}

func (e *lateEngine) Retained(ctx context.Context, org auth.OrgID, f topic.Filter) iter.Seq2[*engine.Message, error] {
	return func(yield func(*engine.Message, error) bool) {
		all := e.Engine.Retained(ctx, org, f)
		e.looked <- struct{}{}
		all(yield)
	}
}

// What is published after SUBACK is not among the retained messages that the
// subscription brings: it would arrive twice.
func TestRetainedAreThoseBeforeSuback(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		late := &lateEngine{newMemory(), make(chan struct{}, 100)}
		w := &world{t: t, dir: newDirectory(), eng: late, pki: sharedPKI()}
		w.dir.add(testOrg, "u", nil)
		w.serve(nil)
		c := w.connect(v, "c", nil)
		for i := range 30 {
			name := fmt.Sprintf("r/%d", i)
			if i%2 == 1 { // there is one before, too
				c.send(retain(name, "before", 0, 0))
				c.ping()
			}
			c.sub(name, 0)
			select {
			case <-late.looked:
			default:
				t.Fatal("SUBACK came before the retained messages were looked at")
			}
			c.send(retain(name, "after", 0, 0))
			if i%2 == 1 {
				c.receive(name, "before")
			}
			c.receive(name, "after")
			c.ping() // and nothing more
		}
	})
}

func TestSubscriptionOptions(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", nil)
	c.send(&mqtt.Subscribe{PacketID: 1, SubscriptionID: 5, Subscriptions: []mqtt.Subscription{{Filter: "a/+", QoS: 1, NoLocal: true}}})
	expect[*mqtt.Suback](c)
	c.send(&mqtt.Subscribe{PacketID: 2, SubscriptionID: 268435455, Subscriptions: []mqtt.Subscription{{Filter: "a/#"}}})
	expect[*mqtt.Suback](c)
	c.send(pub("a/b", "own", 1, 3))
	got := c.receive("a/b", "own")
	if fmt.Sprint(got.SubscriptionIDs) != "[268435455]" || got.QoS != 0 {
		t.Errorf("no local: %+v", got)
	}
	c.expectAck(mqtt.PUBACK, 3, 0)
	p := w.connect(mqtt.V5, "p", nil)
	p.publish("a/b", "other")
	got = c.receive("a/b", "other")
	if fmt.Sprint(got.SubscriptionIDs) != "[5 268435455]" || got.QoS != 1 {
		t.Errorf("identifiers: %+v", got)
	}
}

func TestSharedSubscription(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		a, b := w.connect(v, "a", nil), w.connect(v, "b", nil)
		a.sub("$share/g/x/+", 0)
		b.sub("$share/g/x/+", 0)
		p := w.connect(v, "p", nil)
		for range 10 {
			p.publish("x/1", "m")
		}
		count := func(c *client) (n int) {
			c.send(&mqtt.Pingreq{})
			for {
				q, err := c.packet()
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := q.(*mqtt.Pingresp); ok {
					return n
				}
				n++
			}
		}
		if n, m := count(a), count(b); n+m != 10 || n == 0 || m == 0 {
			t.Errorf("shared %d and %d", n, m)
		}
	})
}

// Connections of a scalable application have one name, do not take one another
// over, and share what they subscribe to.
func TestScalableApplication(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "scale", func(s *auth.Spec) { s.Shared, s.Separate = "app", true })
	connect := func() *client {
		c, ack := w.try(hello(mqtt.V5, "A:app", func(p *mqtt.Connect) {
			as(p, testOrg, "scale")
			p.Properties.SessionExpiry = mqtt.Some[uint32](100)
		}))
		if v, ok := ack.Properties.SessionExpiry.Get(); !ok || v != 0 || ack.SessionPresent {
			t.Errorf("session expiry %v %v", v, ok)
		}
		c.sub("x", 1)
		return c
	}
	a, b := connect(), connect()
	p := w.connect(mqtt.V5, "p", nil)
	p.publish("x", "1")
	p.publish("x", "2")
	expect[*mqtt.Publish](a)
	expect[*mqtt.Publish](b)
	a.ping()
	b.ping()
}

// An instance of one shares too, but it has a session that can last and be
// taken over.
func TestSharingInstance(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "scale", func(s *auth.Spec) { s.Shared = "app" })
	instance := func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "scale") }
	a := w.resume(mqtt.V311, "A:app:1", false, instance)
	a.sub("x", 1)
	b := w.resume(mqtt.V311, "A:app:2", false, instance)
	b.sub("x", 1)
	w.resume(mqtt.V311, "A:app:2", true, instance).ping()
	b.closed()
	p := w.connect(mqtt.V311, "p", nil)
	p.publish("x", "1")
	p.publish("x", "2")
	expect[*mqtt.Publish](a)
	a.ping()
}

func TestTopicAliasToClient(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { p.Properties.TopicAliasMaximum = mqtt.Some[uint16](1) })
	c.sub("#", 0)
	p := w.connect(mqtt.V5, "p", nil)
	for range 3 {
		p.publish("often/1", "x")
		p.publish("often/2", "x")
	}
	for i, want := range []struct {
		name  string
		alias uint16
	}{{"often/1", 1}, {"often/2", 0}, {"", 1}, {"often/2", 0}, {"", 1}, {"often/2", 0}} {
		if m := c.receive(want.name, "x"); m.TopicAlias != want.alias {
			t.Errorf("message %d: alias %d, want %d", i, m.TopicAlias, want.alias)
		}
	}
}

// What is too large for the client is not sent, and is done with [MQTT-3.1.2-25].
func TestMaximumPacketSizeOfClient(t *testing.T) {
	for _, expiry := range []uint32{0, 100} {
		w := start(t, nil)
		c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) {
			p.Properties.MaximumPacketSize = mqtt.Some[uint32](60)
			p.Properties.SessionExpiry = mqtt.Some(expiry)
		})
		c.sub("#", 1)
		p := w.connect(mqtt.V5, "p", nil)
		p.publish("a", strings.Repeat("x", 60))
		p.publish("a", "fits")
		m := c.receive("a", "fits")
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		c.ping()
		eventually(t, "the queue is empty", func() bool { return w.mem.queued() == 0 })
		if w.b.Snapshot().DroppedLarge != 1 {
			t.Error("not counted")
		}
	}
}

func TestPropertiesAreForwarded(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", nil)
	c.sub("#", 0)
	p := w.connect(mqtt.V5, "p", nil)
	m := pub("a", "x", 1, 1)
	m.SetProperties(&mqtt.Properties{
		PayloadFormat: mqtt.Some[byte](1), ContentType: mqtt.Some("text/plain"), ResponseTopic: mqtt.Some("r"),
		CorrelationData: []byte{0, 1}, UserProperties: []mqtt.UserProperty{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}},
	})
	p.send(m)
	if got := c.receive("a", "x"); !bytes.Equal(got.Carried, m.Carried) {
		t.Errorf("got %x, want %x", got.Carried, m.Carried)
	}
}

// The window keeps a client from getting more than its Receive Maximum, in
// order, whatever kind of session it has.
func TestReceiveMaximumOfClient(t *testing.T) {
	for _, expiry := range []uint32{0, 100} {
		w := start(t, nil)
		c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) {
			p.Properties.ReceiveMaximum = mqtt.Some[uint16](2)
			p.Properties.SessionExpiry = mqtt.Some(expiry)
		})
		c.sub("a", 2)
		p := w.connect(mqtt.V5, "p", nil)
		for i := range 6 {
			p.publish("a", fmt.Sprint(i))
		}
		first := c.receive("a", "0")
		second := c.receive("a", "1")
		c.ping() // nothing more
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: second.PacketID})
		third := c.receive("a", "2")
		c.ping()
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: first.PacketID}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: third.PacketID})
		c.receive("a", "3")
		c.receive("a", "4")
		c.ping()
	}
}

// A PUBREC with an error ends the message; an acknowledgement that does not fit
// is a protocol error; one for nothing is none.
func TestOddAcknowledgements(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { p.Properties.ReceiveMaximum = mqtt.Some[uint16](1) })
	c.sub("a", 2)
	p := w.connect(mqtt.V5, "p", nil)
	two := func(payload string) {
		p.send(pub("a", payload, 2, 3))
		p.expectAck(mqtt.PUBREC, 3, 0)
		p.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 3})
		p.expectAck(mqtt.PUBCOMP, 3, 0)
	}
	two("1")
	two("2")
	m := c.receive("a", "1")
	c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: m.PacketID, Code: mqtt.QuotaExceeded})
	m = c.receive("a", "2")
	c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: 999}, &mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: 999})
	c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: 999})
	c.expectAck(mqtt.PUBREL, 999, mqtt.PacketIdentifierNotFound)
	c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
	if code := c.closed(); code != mqtt.ProtocolError {
		t.Errorf("code %v", code)
	}
}

// Who does not read costs others nothing: QoS 0 is dropped for it, a volatile
// QoS 1 subscriber is ended for all to see, and a persistent one's messages wait.
func TestSlowReader(t *testing.T) {
	const limit = 64 << 10
	payload := strings.Repeat("x", 8<<10)
	for _, tt := range []struct {
		name   string
		qos    byte
		expiry uint32
	}{{"qos 0", 0, 0}, {"volatile qos 1", 1, 0}, {"persistent qos 1", 1, 100}} {
		t.Run(tt.name, func(t *testing.T) {
			w := start(t, func(c *Config) {
				c.Limits = c.Limits.With(quota.ClientOutbound, int64(limit))
				c.Limits = c.Limits.With(quota.ClientInflight, 60000)
			})
			slow := w.connect(mqtt.V5, "slow", func(p *mqtt.Connect) { p.Properties.SessionExpiry = mqtt.Some(tt.expiry) })
			slow.small()
			slow.sub("#", tt.qos)
			fast := w.connect(mqtt.V5, "fast", nil)
			fast.sub("#", 0)
			p := w.connect(mqtt.V5, "p", nil)
			sent := 0
			stop := func() bool {
				s := w.b.Snapshot()
				return sent >= 500 || tt.expiry == 0 && s.DroppedSlow > 10
			}
			for ; !stop(); sent++ { // far more than the kernel buffers
				p.publish("a", payload)
				fast.receive("a", payload)
				if tt.name == "volatile qos 1" && w.b.Snapshot().Connected == 2 {
					break
				}
			}
			slow.readAhead(1 << 20)
			switch tt.name {
			case "qos 0":
				if w.b.Snapshot().DroppedSlow == 0 {
					t.Error("nothing was dropped")
				}
				slow.receive("a", payload)
			case "volatile qos 1":
				eventually(t, "the slow one is gone", func() bool { return w.b.Snapshot().Connected == 2 })
			case "persistent qos 1":
				for range sent {
					m := slow.receive("a", payload)
					slow.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
				}
				slow.ping()
			}
			p.ping()
			fast.ping()
		})
	}
}
