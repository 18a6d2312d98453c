package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

func TestPublishSubscribe(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		for qos := range byte(3) {
			sub := w.connect(v, "sub", nil)
			sub.sub("a/+", qos)
			p := w.connect(v, "pub", nil)
			p.send(pub("a/b", "hello", qos, 7))
			switch qos {
			case 1:
				p.expectAck(mqtt.PUBACK, 7, mqtt.Success)
			case 2:
				p.expectAck(mqtt.PUBREC, 7, mqtt.Success)
				p.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 7})
				p.expectAck(mqtt.PUBCOMP, 7, mqtt.Success)
			}
			m := sub.receive("a/b", "hello")
			if m.QoS != qos || m.Dup || m.Retain {
				t.Errorf("QoS %d: got %+v", qos, m)
			}
			switch qos {
			case 1:
				sub.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
			case 2:
				sub.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: m.PacketID})
				sub.expectAck(mqtt.PUBREL, m.PacketID, mqtt.Success)
				sub.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: m.PacketID})
			}
			sub.ping()
			sub.bye()
			p.bye()
		}
	})
}

// A PUBLISH that is not allowed is not passed on and not acknowledged as if it
// were.
func TestDeniedPublish(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		w.dir.add(testOrg, "narrow", func(s *auth.Spec) {
			s.Rules = []auth.Rule{{Action: auth.Publish, Filter: filter("mine/#")}}
		})
		sub := w.connect(v, "sub", nil)
		sub.sub("#", 0)
		connect := func() *client {
			return w.connect(v, "pub", func(p *mqtt.Connect) { as(p, testOrg, "narrow") })
		}
		c := connect()
		for qos := range byte(3) {
			c.send(pub("theirs/x", "no", qos, uint16(qos)))
			if v < mqtt.V5 {
				c.closed()
				c = connect()
				continue
			}
			if qos > 0 {
				c.expectAck(replyTo[qos], uint16(qos), mqtt.NotAuthorized)
			}
			c.ping()
		}
		c.publish("mine/x", "yes")
		sub.receive("mine/x", "yes")
		sub.ping()
		if n := w.b.Snapshot().PublishRefused[errs.Denied]; n != 3 {
			t.Errorf("%d refusals counted", n)
		}
	})
}

// The engine's refusals reach the publisher; nothing is acknowledged that is
// not kept.
func TestEngineRefuses(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for err, want := range map[error]mqtt.ReasonCode{
			engine.ErrQueueFull:                           mqtt.QuotaExceeded,
			errs.E(errs.Exhausted, "too many"):            mqtt.QuotaExceeded,
			errs.E(errs.Unavailable, "not now"):           mqtt.ImplementationSpecificError,
			errors.New("disk on fire"):                    mqtt.UnspecifiedError,
			fmt.Errorf("publish: %w", engine.ErrFailed):   mqtt.UnspecifiedError,
			fmt.Errorf("publish: %w", engine.ErrDiskFull): mqtt.QuotaExceeded,
		} {
			w := start(t, nil)
			w.mem.refuse = err
			for qos := byte(1); qos < 3; qos++ {
				c := w.connect(v, "pub", nil)
				c.send(pub("a", "x", qos, 5))
				if v < mqtt.V5 {
					for {
						p, err := c.packet()
						if err != nil {
							break
						}
						t.Errorf("%v: got %T", err, p)
					}
					continue
				}
				a := expect[*mqtt.Ack](c)
				if a.Code != want {
					t.Errorf("%v: %v, want %v", err, a.Code, want)
				}
				if s, _ := a.ReasonString.Get(); strings.Contains(s, "fire") {
					t.Error("the cause was told")
				}
				c.ping()
			}
		}
	})
}

// An acknowledgement waits for the engine, and acknowledgements go out in the
// order of their packets [MQTT-4.6.0-2].
func TestAcknowledgedMeansKept(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		c := w.connect(v, "pub", nil)
		gate := make(chan struct{})
		w.mem.mu.Lock()
		w.mem.stall = gate
		w.mem.mu.Unlock()
		c.send(pub("a", "1", 1, 1))
		c.ping() // and no PUBACK before
		w.mem.mu.Lock()
		w.mem.stall = nil // the next one is kept at once
		w.mem.mu.Unlock()
		c.send(pub("a", "2", 1, 2), pub("a", "3", 2, 3))
		c.ping()
		close(gate)
		c.expectAck(mqtt.PUBACK, 1, mqtt.Success)
		c.expectAck(mqtt.PUBACK, 2, mqtt.Success)
		c.expectAck(mqtt.PUBREC, 3, mqtt.Success)
	})
}

// A QoS 2 message that is sent again before its PUBREL is one message.
func TestExactlyOnceFromClient(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		sub := w.connect(v, "sub", nil)
		sub.sub("a", 0)
		c := w.connect(v, "pub", nil)
		again := pub("a", "once", 2, 9)
		again.Dup = true
		c.send(pub("a", "once", 2, 9))
		c.expectAck(mqtt.PUBREC, 9, mqtt.Success)
		c.send(again)
		c.expectAck(mqtt.PUBREC, 9, mqtt.Success)
		c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 9})
		c.expectAck(mqtt.PUBCOMP, 9, mqtt.Success)
		sub.receive("a", "once")
		sub.ping()
		c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 9})
		want := mqtt.PacketIdentifierNotFound
		if v < mqtt.V5 {
			want = mqtt.Success
		}
		c.expectAck(mqtt.PUBCOMP, 9, want)
		c.send(pub("a", "next", 2, 9))
		c.expectAck(mqtt.PUBREC, 9, mqtt.Success)
		sub.receive("a", "next")
	})
}

func TestReceiveMaximumOfServer(t *testing.T) {
	w := start(t, func(c *Config) { c.Limits = c.Limits.With(quota.ClientInflight, 2) })
	c := w.connect(mqtt.V5, "pub", nil)
	for range 5 { // acknowledged ones do not count
		c.publish("a", "x")
	}
	c.send(pub("a", "1", 2, 1), pub("a", "2", 2, 2))
	c.expectAck(mqtt.PUBREC, 1, mqtt.Success)
	c.expectAck(mqtt.PUBREC, 2, mqtt.Success)
	c.send(pub("a", "3", 1, 3))
	if code := c.closed(); code != mqtt.ReceiveMaximumExceeded {
		t.Errorf("code %v", code)
	}
}

func TestTopicAliasFromClient(t *testing.T) {
	w := start(t, func(c *Config) { c.TopicAliases = 2 })
	w.dir.add(testOrg, "narrow", func(s *auth.Spec) {
		s.Rules = []auth.Rule{{Action: auth.Publish, Filter: filter("mine/#")}}
	})
	sub := w.connect(mqtt.V5, "sub", nil)
	sub.sub("#", 0)
	connect := func() *client { return w.connect(mqtt.V5, "pub", func(p *mqtt.Connect) { as(p, testOrg, "narrow") }) }
	alias := func(name string, a, id uint16) *mqtt.Publish {
		p := pub(name, "x", 1, id)
		p.TopicAlias = a
		return p
	}
	c := connect()
	c.send(alias("mine/1", 1, 1), alias("mine/2", 2, 2), alias("", 1, 3), alias("mine/3", 1, 4), alias("", 1, 5))
	for id := uint16(1); id <= 5; id++ {
		c.expectAck(mqtt.PUBACK, id, mqtt.Success)
	}
	for _, name := range []string{"mine/1", "mine/2", "mine/1", "mine/3", "mine/3"} {
		if p := sub.receive(name, "x"); p.TopicAlias != 0 {
			t.Error("an alias was passed on")
		}
	}
	// What the alias stands for is authorised, every time.
	c.send(alias("theirs", 2, 6), alias("", 2, 7))
	c.expectAck(mqtt.PUBACK, 6, mqtt.NotAuthorized)
	c.expectAck(mqtt.PUBACK, 7, mqtt.NotAuthorized)
	sub.ping()
	c.send(alias("mine/1", 3, 8))
	if code := c.closed(); code != mqtt.TopicAliasInvalid {
		t.Errorf("above the maximum: %v", code)
	}
	c = connect() // aliases end with the connection [MQTT-3.3.2-7]
	c.send(alias("", 1, 1))
	if code := c.closed(); code != mqtt.ProtocolError {
		t.Errorf("unknown alias: %v", code)
	}
}

func TestRetainNotAvailable(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		w.dir.add(testOrg, "plain", func(s *auth.Spec) { s.Retain = false })
		c := w.connect(v, "c", func(p *mqtt.Connect) { as(p, testOrg, "plain") })
		sub := w.connect(v, "sub", nil)
		sub.sub("a", 0)
		p := pub("a", "x", 1, 1)
		p.Retain = true
		c.send(p)
		if v == mqtt.V5 {
			if code := c.closed(); code != mqtt.RetainNotSupported {
				t.Errorf("code %v", code)
			}
			_, ack := w.try(hello(v, "d", func(p *mqtt.Connect) {
				as(p, testOrg, "plain")
				p.Will = &mqtt.Will{Topic: "a", Retain: true}
			}))
			if ack.Code != mqtt.RetainNotSupported {
				t.Errorf("will: %v", ack.Code)
			}
		} else {
			sub.receive("a", "x")
			c.expectAck(mqtt.PUBACK, 1, mqtt.Success)
		}
		if len(w.mem.retained) != 0 {
			t.Error("it was retained")
		}
	})
}

func TestLimits(t *testing.T) {
	w := start(t, func(c *Config) { c.Limits = c.Limits.With(quota.ClientPacket, 2000) })
	w.dir.add(testOrg, "small", func(s *auth.Spec) { s.OrgLimits = s.OrgLimits.With(quota.ClientPayload, 3) })
	c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "small") })
	c.send(pub("a", "four", 1, 1))
	c.expectAck(mqtt.PUBACK, 1, mqtt.QuotaExceeded)
	c.raw([]byte{0x30, 0xff, 0x7f}) // a PUBLISH larger than the maximum: its body is not waited for
	if code := c.closed(); code != mqtt.PacketTooLarge {
		t.Errorf("code %v", code)
	}
}

func TestProblemInformation(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "none", func(s *auth.Spec) { s.Rules = nil })
	for _, want := range []bool{true, false} {
		c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) {
			as(p, testOrg, "none")
			p.Properties.RequestProblemInfo = mqtt.Some(want)
		})
		c.send(pub("a", "x", 1, 1))
		if a := expect[*mqtt.Ack](c); a.ReasonString.Present() != want {
			t.Errorf("request problem information %v: reason string %v", want, a.ReasonString)
		}
		c.bye()
	}
}

// Packets only a server sends, and malformed ones, end the connection.
func TestBadPackets(t *testing.T) {
	for name, tt := range map[string]struct {
		send []byte
		code mqtt.ReasonCode
	}{
		"CONNACK":              {[]byte{0x20, 3, 0, 0, 0}, mqtt.ProtocolError},
		"PINGRESP":             {[]byte{0xd0, 0}, mqtt.ProtocolError},
		"QoS 3":                {[]byte{0x36, 5, 0, 1, 'a', 0, 1}, mqtt.MalformedPacket},
		"wildcard in topic":    {[]byte{0x30, 4, 0, 1, '#', 0}, mqtt.MalformedPacket},
		"subscription id":      {[]byte{0x30, 6, 0, 1, 'a', 2, 0x0b, 1}, mqtt.ProtocolError},
		"no local on a share":  {append([]byte{0x82, 16, 0, 1, 0, 0, 10}, "$share/g/a\x04"...), mqtt.ProtocolError},
		"empty SUBSCRIBE":      {[]byte{0x82, 3, 0, 1, 0}, mqtt.ProtocolError},
		"length of five bytes": {[]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, mqtt.MalformedPacket},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, nil)
			c := w.connect(mqtt.V5, "c", nil)
			c.raw(tt.send)
			if code := c.closed(); code != tt.code {
				t.Errorf("code %v, want %v", code, tt.code)
			}
		})
	}
}

// What stands behind a message that is refused, and so comes again, is not taken
// before it.
func TestNothingOvertakesRefused(t *testing.T) {
	w := start(t, nil)
	sub := w.connect(mqtt.V311, "sub", nil)
	sub.sub("#", 1)
	w.dir.add(testOrg, "some", func(s *auth.Spec) { s.Rules = []auth.Rule{{Action: auth.Publish, Filter: filter("may/#")}} })
	for i := range 50 {
		c := w.connect(mqtt.V311, fmt.Sprint("c", i), func(p *mqtt.Connect) { as(p, testOrg, "some") })
		c.send(pub("must not", "1", 1, 1), pub("may/x", "2", 1, 2), pub("may/x", "3", 0, 0))
		c.closed()
	}
	sub.ping()
}
