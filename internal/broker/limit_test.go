package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// limited starts a broker with these limits and a log of who reaches them.
func limited(t *testing.T, limits quota.Limits) (*world, *quota.Log) {
	log := quota.NewLog(nil)
	return start(t, func(c *Config) { c.Limits, c.LimitLog = limits, log }), log
}

// limitedBubble is limited in a bubble.
func limitedBubble(t *testing.T, limits quota.Limits, run func(t *testing.T, w *world, log *quota.Log)) {
	t.Helper()
	log := quota.NewLog(nil)
	bubble(t, func(c *Config) { c.Limits, c.LimitLog = limits, log }, func(t *testing.T, w *world) { run(t, w, log) })
}

// device makes a user one device of a type.
func (d *directory) device(org auth.OrgID, typ, id string, f func(*auth.Spec)) {
	d.add(org, typ+":"+id, func(s *auth.Spec) {
		s.Principal.Kind = auth.Device
		if f != nil {
			f(s)
		}
	})
}

// event requires that an event is in the log, and returns it.
func event(t *testing.T, log *quota.Log, org auth.OrgID, l quota.Limit, o quota.Outcome) quota.Event {
	t.Helper()
	for _, e := range log.Events(string(org)) {
		if e.Limit == l && e.Outcome == o {
			return e
		}
	}
	t.Fatalf("%s was not %s: %+v", l, o, log.Events(string(org)))
	return quota.Event{}
}

// refused requires that a CONNECT is refused over its quota, in either version.
func (w *world) refused(v mqtt.Version, id, user string) {
	w.t.Helper()
	_, ack := w.try(hello(v, id, func(p *mqtt.Connect) { as(p, testOrg, user) }))
	want := mqtt.QuotaExceeded
	if v < mqtt.V5 {
		want = mqtt.ReasonCode(mqtt.ReturnServerUnavailable)
	}
	if ack.Code != want {
		w.t.Errorf("connect %s: %v, want %v", id, ack.Code, want)
	}
}

// Connections are counted for each user, each device type and each organisation,
// and a place is free again when its connection has gone.
func TestConnectionLimits(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w, log := limited(t, quota.Limits{}.With(quota.ClientConnections, 2).With(quota.TypeConnections, 3).With(quota.OrgConnections, 5))
		for i := range 4 {
			w.dir.device(testOrg, "sensor", fmt.Sprint(i), nil)
		}
		device := func(i int) *client {
			return w.connect(v, fmt.Sprint("d", i), func(p *mqtt.Connect) { as(p, testOrg, fmt.Sprint("sensor:", i)) })
		}
		first := w.connect(v, "u1", nil)
		w.connect(v, "u2", nil)
		w.refused(v, "u3", "u")
		if e := event(t, log, testOrg, quota.ClientConnections, quota.Refused); e.Client != "u3" || e.Principal != "user:"+string(testOrg)+":u" {
			t.Errorf("event %+v", e)
		}
		again := w.connect(v, "u1", nil) // takes the place of the first
		first.closed()
		for i := range 3 {
			device(i)
		}
		w.refused(v, "d3", "sensor:3") // the fourth of its type, and the sixth of its organisation
		event(t, log, testOrg, quota.OrgConnections, quota.Refused)
		again.bye()
		eventually(t, "a place is free", func() bool { return w.b.Snapshot().Connected == 4 })
		w.refused(v, "d3", "sensor:3")
		event(t, log, testOrg, quota.TypeConnections, quota.Refused)
		w.connect(v, "v1", func(p *mqtt.Connect) { as(p, testOrg, "v") }).ping()
		w.connect(v, "x", func(p *mqtt.Connect) { as(p, "other1", "u") }).ping() // another organisation
		if events := log.Events("other1"); len(events) != 0 {
			t.Errorf("events of the other organisation: %+v", events)
		}
	})
}

// A client over its rate is read more slowly: every message arrives, in order,
// none is refused, and neither its keep alive nor anybody else suffers.
func TestRateSlowsDown(t *testing.T) {
	for name, l := range map[string]quota.Limits{
		"client messages": quota.Limits{}.With(quota.ClientMessageRate, 20),
		"client bytes":    quota.Limits{}.With(quota.ClientByteRate, 2*1024),
		"type messages":   quota.Limits{}.With(quota.TypeMessageRate, 20),
		"type bytes":      quota.Limits{}.With(quota.TypeByteRate, 2*1024),
		"org messages":    quota.Limits{}.With(quota.OrgMessageRate, 20),
		"org bytes":       quota.Limits{}.With(quota.OrgByteRate, 2*1024),
	} {
		t.Run(name, func(t *testing.T) {
			limitedBubble(t, l, func(t *testing.T, w *world, log *quota.Log) {
				w.dir.device(testOrg, "sensor", "1", nil)
				sub := w.connect(mqtt.V5, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v") })
				sub.sub("#", 1)
				c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "sensor:1"); p.KeepAlive = 1 })
				began := time.Now()
				payload := strings.Repeat("x", 92) // with topic and header 100 bytes
				for i := range 60 {
					c.send(pub("a", payload, 1, uint16(i+1)))
				}
				for i := range 60 {
					c.expectAck(mqtt.PUBACK, uint16(i+1), mqtt.Success)
					m := sub.receive("a", payload)
					sub.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
				}
				if d := time.Since(began); d < 900*time.Millisecond || d > 1100*time.Millisecond { // 20 are over the burst of 40
					t.Errorf("60 messages took %v", d)
				}
				limit := quota.Limit(0)
				for _, k := range quota.All() {
					if l.Get(k) != 0 {
						limit = k
					}
				}
				if e := event(t, log, testOrg, limit, quota.Delayed); e.Count < 10 || e.Value != l.Get(limit) {
					t.Errorf("event %+v", e)
				}
				other := w.connect(mqtt.V5, "o", func(p *mqtt.Connect) { as(p, "other1", "u") })
				at := time.Now()
				other.publish("a", "at once")
				other.came(at)
			})
		})
	}
}

// What would have to wait too long behind others is refused, and costs nothing.
func TestSharedRateRefuses(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		limitedBubble(t, quota.Limits{}.With(quota.OrgMessageRate, 1), func(t *testing.T, w *world, log *quota.Log) {
			refused := func() bool { return w.b.Snapshot().PublishRefused[errs.Exhausted] > 0 }
			var clients []*client
			for i := 0; i < 60 && !refused(); i++ { // 2 at once, then one a second: 5 more may wait
				c := w.connect(v, fmt.Sprint("c", i), nil)
				c.send(pub("a", "x", 1, 1))
				clients = append(clients, c)
				eventually(t, "it is read", func() bool { return w.b.Snapshot().MessagesIn[1] == uint64(i+1) })
			}
			eventually(t, "one is refused", refused)
			if v < mqtt.V5 {
				eventually(t, "it is disconnected", func() bool { return w.b.Snapshot().Connected < int64(len(clients)) })
			} else {
				clients[len(clients)-1].expectAck(mqtt.PUBACK, 1, mqtt.QuotaExceeded)
			}
			event(t, log, testOrg, quota.OrgMessageRate, quota.Refused)
		})
	})
}

// Requests that are no messages, and messages that are not allowed, count too.
func TestOtherRequestsAreSlowed(t *testing.T) {
	for name, send := range map[string]func(i int) mqtt.Packet{
		"ping": func(int) mqtt.Packet { return &mqtt.Pingreq{} },
		"subscribe": func(i int) mqtt.Packet {
			return &mqtt.Subscribe{PacketID: uint16(i + 1), Subscriptions: []mqtt.Subscription{{Filter: "a"}}}
		},
		"unsubscribe": func(i int) mqtt.Packet { return &mqtt.Unsubscribe{PacketID: uint16(i + 1), Filters: []string{"a"}} },
		"denied":      func(i int) mqtt.Packet { return pub("denied", "", 1, uint16(i+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			limitedBubble(t, quota.Limits{}.With(quota.ClientMessageRate, 20), func(t *testing.T, w *world, log *quota.Log) {
				w.dir.add(testOrg, "some", func(s *auth.Spec) { s.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: filter("a")}} })
				c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "some") })
				began := time.Now()
				for i := range 50 {
					c.send(send(i))
				}
				for range 50 {
					if _, err := c.packet(); err != nil {
						t.Fatal(err)
					}
				}
				if d := time.Since(began); d != 500*time.Millisecond { // 10 are over the burst of 40
					t.Errorf("50 requests took %v", d)
				}
				event(t, log, testOrg, quota.ClientMessageRate, quota.Delayed)
			})
		})
	}
}

// A topic may have so many levels and no more, in every place where one stands.
func TestTopicLevels(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w, log := limited(t, quota.Limits{}.With(quota.ClientTopicLevels, 3))
		c := w.connect(v, "c", nil)
		got := c.subscribe(mqtt.Subscription{Filter: "a/b/c"}, mqtt.Subscription{Filter: "a/b/c/#"}, mqtt.Subscription{Filter: "///"})
		want := [2]mqtt.ReasonCode{mqtt.QuotaExceeded, mqtt.QuotaExceeded}
		if v < mqtt.V5 {
			want = [2]mqtt.ReasonCode{mqtt.UnspecifiedError, mqtt.UnspecifiedError}
		}
		if got[0] != 0 || got[1] != want[0] || got[2] != want[1] {
			t.Errorf("codes %v", got)
		}
		p := w.connect(v, "p", nil)
		p.publish("a/b/c", "x")
		c.receive("a/b/c", "x")
		p.send(pub("a/b/c/d", "x", 1, 5))
		if v == mqtt.V5 {
			p.expectAck(mqtt.PUBACK, 5, mqtt.QuotaExceeded)
			p.ping()
		} else {
			p.closed()
		}
		event(t, log, testOrg, quota.ClientTopicLevels, quota.Refused)
		_, ack := w.try(hello(v, "w", func(p *mqtt.Connect) { p.Will = &mqtt.Will{Topic: "a/b/c/d"} }))
		if ack.Code == mqtt.Success {
			t.Error("a will that is too deep is accepted")
		}
	})
}

// What is set for an organisation lies over the installation's limits, and for a
// device type under both; a change of them reaches a live connection.
func TestLimitsAreLive(t *testing.T) {
	w, _ := limited(t, quota.Limits{}.With(quota.ClientPayload, 10))
	w.dir.device(testOrg, "sensor", "1", func(s *auth.Spec) {
		s.OrgLimits = quota.Limits{}.With(quota.ClientPayload, 20)
		s.TypeLimits = quota.Limits{}.With(quota.ClientPayload, 30)
	})
	c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "sensor:1") })
	try := func(size int) mqtt.ReasonCode {
		c.send(pub("a", strings.Repeat("x", size), 1, 1))
		return expect[*mqtt.Ack](c).Code
	}
	if try(20) != mqtt.Success || try(21) != mqtt.QuotaExceeded {
		t.Error("the organisation's limit does not hold")
	}
	w.dir.set(testOrg, "sensor:1", func(u *user) { u.spec.TypeLimits = quota.Limits{}.With(quota.ClientPayload, 5) })
	eventually(t, "the new limit holds", func() bool { return try(6) == mqtt.QuotaExceeded })
	if try(5) != mqtt.Success {
		t.Error("what is within the limit is refused")
	}
}

// What the engine is to enforce, it is told: with the first client of an
// organisation, and again when it changes.
func TestEngineIsToldLimits(t *testing.T) {
	w, _ := limited(t, quota.Limits{}.With(quota.OrgRetained, 7))
	told := func() int64 {
		w.mem.mu.Lock()
		defer w.mem.mu.Unlock()
		l := w.mem.limits[testOrg]
		return l.Get(quota.OrgRetained)
	}
	w.connect(mqtt.V5, "c", nil)
	if told() != 7 {
		t.Errorf("told %d", told())
	}
	w.dir.set(testOrg, "u", func(u *user) { u.spec.OrgLimits = quota.Limits{}.With(quota.OrgRetained, 3) })
	eventually(t, "it is told", func() bool { return told() == 3 })
}

// The queue of a session is bounded as its client's limits say.
func TestClaimCarriesLimits(t *testing.T) {
	w, _ := limited(t, quota.Limits{}.With(quota.ClientQueue, 5).With(quota.ClientQueueBytes, 100_000).With(quota.ClientQueueFull, quota.EndSession))
	var got engine.Claim
	w.mem.onClaim = func(k engine.Claim) { got = k }
	w.connect(mqtt.V5, "c", nil)
	if got.Queue != 5 || got.QueueBytes != 100_000 || !got.EndWhenFull {
		t.Errorf("claim %+v", got)
	}
}

// A packet over the limit ends the connection, and its owner sees why; QoS 0
// messages that a slow client loses are seen too.
func TestLimitEvents(t *testing.T) {
	w, log := limited(t, quota.Limits{}.With(quota.ClientPacket, 2000).With(quota.ClientOutbound, 1<<10))
	c := w.connect(mqtt.V5, "c", nil)
	c.raw([]byte{0x30, 0xff, 0x7f})
	if code := c.closed(); code != mqtt.PacketTooLarge {
		t.Errorf("code %v", code)
	}
	event(t, log, testOrg, quota.ClientPacket, quota.Ended)

	slow := w.connect(mqtt.V5, "slow", nil)
	slow.small()
	slow.sub("#", 0)
	p := w.connect(mqtt.V5, "p", nil)
	for range 20_000 {
		p.publish("a", strings.Repeat("x", 1500))
		if w.b.Snapshot().DroppedSlow > 5 {
			break
		}
	}
	slow.cut()
	eventually(t, "the slow one is gone", func() bool { return w.b.Snapshot().Connected == 1 })
	e := event(t, log, testOrg, quota.ClientOutbound, quota.Dropped)
	eventually(t, "all are counted", func() bool {
		e = event(t, log, testOrg, quota.ClientOutbound, quota.Dropped)
		return uint64(e.Count) == w.b.Snapshot().DroppedSlow
	})
	if e.Client != "slow" {
		t.Errorf("event %+v", e)
	}
}

// A will that a limit refuses is forgotten, not kept for another try, and its
// owner sees why.
func TestWillRefusedByLimit(t *testing.T) {
	w, log := limited(t, quota.Defaults())
	c := w.connect(mqtt.V5, "c", willed(0))
	w.mem.mu.Lock()
	w.mem.refuse = quota.Exceeded(quota.OrgRetained, 5)
	w.mem.mu.Unlock()
	c.cut()
	eventually(t, "the limit is reached", func() bool { return len(log.Events(string(testOrg))) > 0 })
	eventually(t, "no will is kept", func() bool { return w.mem.wills() == 0 })
	if n := w.b.Snapshot().Wills; n != 0 {
		t.Errorf("%d wills published", n)
	}
	if ev := event(t, log, testOrg, quota.OrgRetained, quota.Refused); ev.Value != 5 || ev.Client != "c" {
		t.Errorf("event %+v", ev)
	}
}

// What a client repeats, or sends for nothing, counts as requests do.
func TestRepetitionsAreSlowed(t *testing.T) {
	for name, send := range map[string]func(i int) mqtt.Packet{
		"QoS 2 again":     func(int) mqtt.Packet { p := pub("a", "x", 2, 1); p.Dup = true; return p },
		"unknown PUBACK":  func(i int) mqtt.Packet { return &mqtt.Ack{Type: mqtt.PUBACK, PacketID: uint16(i + 1)} },
		"unknown PUBREC":  func(i int) mqtt.Packet { return &mqtt.Ack{Type: mqtt.PUBREC, PacketID: uint16(i + 1)} },
		"unknown PUBREL":  func(i int) mqtt.Packet { return &mqtt.Ack{Type: mqtt.PUBREL, PacketID: uint16(i + 1)} },
		"unknown PUBCOMP": func(i int) mqtt.Packet { return &mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: uint16(i + 1)} },
		"PUBREC again":    func(int) mqtt.Packet { return &mqtt.Ack{Type: mqtt.PUBREC, PacketID: 1} },
	} {
		t.Run(name, func(t *testing.T) {
			limitedBubble(t, quota.Limits{}.With(quota.ClientMessageRate, 20), func(t *testing.T, w *world, _ *quota.Log) {
				c := w.connect(mqtt.V5, "c", nil)
				switch name {
				case "QoS 2 again":
					c.send(pub("a", "x", 2, 1))
					c.expectAck(mqtt.PUBREC, 1, mqtt.Success)
				case "PUBREC again":
					p := w.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v") })
					c.sub("b", 2)
					p.send(pub("b", "x", 2, 1))
					c.receive("b", "x")
				}
				time.Sleep(10 * time.Second) // what came before is forgotten
				began := time.Now()
				for i := range 49 {
					c.send(send(i))
				}
				c.send(&mqtt.Pingreq{})
				for {
					p, err := c.packet()
					if err != nil {
						t.Fatal(err)
					}
					if _, last := p.(*mqtt.Pingresp); last {
						break
					}
				}
				if d := time.Since(began); d < 400*time.Millisecond { // 10 are over the burst of 40; the first may be due
					t.Errorf("50 packets took %v", d)
				}
			})
		})
	}
}

// The bytes of requests that are no messages, and of messages that are not
// allowed, count too.
func TestOtherBytesAreSlowed(t *testing.T) {
	long := strings.Repeat("x", 192)
	for name, send := range map[string]func(i int) mqtt.Packet{
		"subscribe": func(i int) mqtt.Packet {
			return &mqtt.Subscribe{PacketID: uint16(i + 1), Subscriptions: []mqtt.Subscription{{Filter: long}}}
		},
		"unsubscribe": func(i int) mqtt.Packet { return &mqtt.Unsubscribe{PacketID: uint16(i + 1), Filters: []string{long}} },
		"denied":      func(i int) mqtt.Packet { return pub("denied", long, 1, uint16(i+1)) },
	} {
		t.Run(name, func(t *testing.T) {
			limitedBubble(t, quota.Limits{}.With(quota.ClientByteRate, 2048), func(t *testing.T, w *world, log *quota.Log) {
				w.dir.add(testOrg, "some", func(s *auth.Spec) { s.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: filter("#")}} })
				c := w.connect(mqtt.V5, "c", func(p *mqtt.Connect) { as(p, testOrg, "some") })
				began := time.Now()
				for i := range 50 {
					c.send(send(i))
				}
				for range 50 {
					if _, err := c.packet(); err != nil {
						t.Fatal(err)
					}
				}
				if d := time.Since(began); d < 2500*time.Millisecond || d > 3500*time.Millisecond { // some 200 bytes each, of which 4 KiB at once
					t.Errorf("50 requests took %v", d)
				}
				event(t, log, testOrg, quota.ClientByteRate, quota.Delayed)
			})
		})
	}
}

// Long filters take the place of several subscriptions.
func TestLongFilters(t *testing.T) {
	for _, resumed := range []bool{false, true} {
		w, log := limited(t, quota.Limits{}.With(quota.ClientSubscriptions, 1000))
		session := func(p *mqtt.Connect) { lasting(p); p.CleanStart = false }
		c := w.connect(mqtt.V5, "c", session)
		name := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 50_000)) }
		for i := range 5 { // 250,000 bytes of 256,000
			c.sub(name(i), 0)
		}
		if resumed {
			c.bye()
			ack := (*mqtt.Connack)(nil)
			if c, ack = w.try(hello(mqtt.V5, "c", session)); !ack.SessionPresent {
				t.Fatal("the session is gone")
			}
		}
		refused := func(i int, want mqtt.ReasonCode) {
			t.Helper()
			if codes := c.subscribe(mqtt.Subscription{Filter: name(i)}); codes[0] != want {
				t.Errorf("filter %d: %v", i, codes)
			}
		}
		refused(5, mqtt.QuotaExceeded)
		refused(4, mqtt.Success) // it is there
		event(t, log, testOrg, quota.ClientSubscriptions, quota.Refused)
		c.sub("short", 0)
		c.send(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{name(0)}})
		expect[*mqtt.Unsuback](c)
		refused(5, mqtt.Success)
		codes := c.subscribe(mqtt.Subscription{Filter: name(6)}, mqtt.Subscription{Filter: "a"}, mqtt.Subscription{Filter: name(7)})
		if codes[0] != mqtt.QuotaExceeded || codes[1] != mqtt.Success || codes[2] != mqtt.QuotaExceeded {
			t.Errorf("%v", codes)
		}
	}
}
