package broker

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// testSealer seals under a key that lives as long as the test.
type testSealer struct{ aead cipher.AEAD }

func newTestSealer() testSealer {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return testSealer{aead}
}

func (s testSealer) Seal(dst, plaintext, additional []byte) []byte {
	return s.aead.Seal(dst, nil, plaintext, additional)
}

func (s testSealer) Open(dst, sealed, additional []byte) ([]byte, error) {
	return s.aead.Open(dst, nil, sealed, additional)
}

// durable starts a broker on the embedded engine. restart stops both and starts
// them again on the same folder.
func durable(t *testing.T) (w *world, restart func()) {
	t.Helper()
	seal := newTestSealer()
	return sealed(t, func(context.Context, auth.OrgID) (embedded.Sealer, error) { return seal, nil })
}

func sealed(t *testing.T, sealer func(context.Context, auth.OrgID) (embedded.Sealer, error)) (w *world, restart func()) {
	t.Helper()
	dir := t.TempDir()
	w = &world{t: t, dir: newDirectory(), pki: sharedPKI(), seen: quota.NewLog(nil)}
	w.dir.add(testOrg, "u", nil)
	w.dir.add(testOrg, "v", nil)
	var open *embedded.Engine
	begin := func() {
		e, err := embedded.Open(context.Background(), embedded.Options{
			Dir: dir, Log: slog.New(slog.DiscardHandler), LimitLog: w.seen,
			Ended:  func(id engine.SessionID) { w.b.SessionEnded(id) },
			Sealer: sealer,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		open, w.eng = e, e
		w.serve(func(c *Config) { c.LimitLog = w.seen })
	}
	begin()
	return w, func() {
		w.shutdown()
		if err := open.Close(); err != nil {
			t.Fatal(err)
		}
		begin()
	}
}

// Sessions, subscriptions, queues, QoS 2 state, retained messages and wills
// outlive the server.
func TestRestart(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w, restart := durable(t)
		c := w.resume(v, "c", false, lasting)
		c.sub("a/#", 2)
		c.send(pub("b", "once", 2, 9))
		c.expectAck(mqtt.PUBREC, 9, 0)
		p := w.connect(v, "p", nil)
		p.publish("a/1", "sent")
		first := c.receive("a/1", "sent")
		p.send(pub("a/2", "twice", 2, 4))
		p.expectAck(mqtt.PUBREC, 4, 0)
		second := c.receive("a/2", "twice")
		c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: second.PacketID})
		c.expectAck(mqtt.PUBREL, second.PacketID, 0)
		c.cut()
		eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 })
		p.publish("a/3", "while away")
		p.send(retain("a/r", "kept", 1, 5))
		p.expectAck(mqtt.PUBACK, 5, 0)
		w.connect(v, "d", func(p *mqtt.Connect) {
			willed(0)(p)
			p.Will.Topic = "a/will"
		}).cut()
		eventually(t, "the will is published", func() bool { return w.b.Snapshot().Wills == 1 })
		restart()

		c = w.resume(v, "c", true, lasting)
		again := c.receive("a/1", "sent")
		if !again.Dup || again.PacketID != first.PacketID {
			t.Errorf("again: %+v, first: %+v", again, first)
		}
		c.expectAck(mqtt.PUBREL, second.PacketID, 0)
		c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: second.PacketID}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: again.PacketID})
		for _, want := range [][2]string{{"a/3", "while away"}, {"a/r", "kept"}, {"a/will", "gone"}} {
			m := c.receive(want[0], want[1])
			c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		}
		dup := pub("b", "once", 2, 9)
		dup.Dup = true
		c.send(dup)
		c.expectAck(mqtt.PUBREC, 9, 0)
		c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 9})
		c.expectAck(mqtt.PUBCOMP, 9, 0)
		c.sub("a/r", 1)
		kept := c.receive("a/r", "kept")
		if !kept.Retain {
			t.Error("not retained")
		}
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: kept.PacketID})
		c.bye()
		restart()
		w.resume(v, "c", true, lasting).bye()
	})
}

// A crash between the deletion of an organisation, with its key, and the end of
// what the engine has of it does not keep the server from its next start.
func TestStartWithoutKey(t *testing.T) {
	seal := newTestSealer()
	var shredded atomic.Bool
	w, restart := sealed(t, func(_ context.Context, org auth.OrgID) (embedded.Sealer, error) {
		if org == testOrg && shredded.Load() {
			return nil, errs.E(errs.NotFound, "no data key")
		}
		return seal, nil
	})
	const other auth.OrgID = "other1"
	w.dir.add(other, "z", nil)
	for i := range 3 {
		w.connect(mqtt.V5, fmt.Sprint("gone", i), willed(50)).cut()
	}
	w.connect(mqtt.V5, "stays", func(p *mqtt.Connect) { willed(50)(p); as(p, other, "z") }).cut()
	eventually(t, "all are away", func() bool { return w.b.Snapshot().Connected == 0 })
	w.dir.mu.Lock()
	for _, name := range []string{"u", "v"} {
		delete(w.dir.users, string(testOrg)+"/"+name)
	}
	w.dir.mu.Unlock()
	shredded.Store(true)
	restart()
	w.connect(mqtt.V5, "new", func(p *mqtt.Connect) { as(p, other, "z") }).bye()
	if st, err := w.eng.Stats(context.Background(), testOrg); err != nil || st != (engine.Stats{}) {
		t.Errorf("it has %+v, %v", st, err)
	}
	left := 0
	for will, err := range w.eng.Wills(context.Background()) {
		if err != nil {
			t.Errorf("will of %+v: %v", will, err)
		}
		left++
	}
	if left != 1 {
		t.Errorf("%d wills are left", left)
	}
}

// Retained messages belong to the session state of who subscribed: what was not
// acknowledged is sent again under its identifier, and what was is not.
func TestRetainedResent(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, restarted := range []bool{false, true} {
			w, restart := durable(t)
			p := w.connect(v, "p", nil)
			p.send(retain("r/0", "direct", 0, 0), retain("r/1", "one", 1, 1), retain("r/2", "two", 2, 2), retain("r/3", "three", 2, 3))
			p.expectAck(mqtt.PUBACK, 1, 0)
			p.expectAck(mqtt.PUBREC, 2, 0)
			p.expectAck(mqtt.PUBREC, 3, 0)
			p.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: 2}, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: 3})
			p.expectAck(mqtt.PUBCOMP, 2, 0)
			p.expectAck(mqtt.PUBCOMP, 3, 0)
			away := func(c *client) {
				t.Helper()
				c.ping()
				c.cut()
				eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 })
				if restarted {
					restart()
					p = w.connect(v, "p", nil)
				}
			}
			c := w.resume(v, "c", false, lasting)
			c.sub("r/#", 2)
			if m := c.receive("r/0", "direct"); m.QoS != 0 || !m.Retain {
				t.Errorf("direct: %+v", m)
			}
			var first [3]*mqtt.Publish
			for i, payload := range []string{"one", "two", "three"} {
				m := c.receive(fmt.Sprint("r/", i+1), payload)
				if m.Dup || !m.Retain || m.QoS != byte(min(i+1, 2)) || m.PacketID != uint16(i+1) {
					t.Errorf("first: %+v", m)
				}
				first[i] = m
			}
			c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: first[2].PacketID})
			c.expectAck(mqtt.PUBREL, first[2].PacketID, 0)
			away(c)

			p.send(pub("r/1", "live", 1, 4)) // must not get an identifier that is in use
			p.expectAck(mqtt.PUBACK, 4, 0)
			c = w.resume(v, "c", true, lasting)
			for i, payload := range []string{"one", "two"} {
				m := c.receive(fmt.Sprint("r/", i+1), payload)
				if !m.Dup || !m.Retain || m.PacketID != first[i].PacketID || m.QoS != first[i].QoS {
					t.Errorf("again: %+v, first: %+v", m, first[i]) // [MQTT-4.4.0-1]
				}
			}
			c.expectAck(mqtt.PUBREL, first[2].PacketID, 0)
			live := c.receive("r/1", "live")
			if live.Dup || live.Retain || live.PacketID != 4 {
				t.Errorf("live: %+v", live)
			}
			c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: first[2].PacketID}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: first[0].PacketID})
			c.send(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: first[1].PacketID})
			c.expectAck(mqtt.PUBREL, first[1].PacketID, 0)
			c.send(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: first[1].PacketID}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: live.PacketID})
			c.ping()
			// Acknowledgements ride along with what is committed next.
			p.send(retain("other", "x", 1, 5))
			p.expectAck(mqtt.PUBACK, 5, 0)
			away(c)
			c = w.resume(v, "c", true, lasting)
			c.ping() // nothing again
			c.bye()
		}
	})
}

// A session that goes on has its queue, also if it is to end with the connection.
func TestLastConnection(t *testing.T) {
	w, _ := durable(t)
	p := w.connect(mqtt.V5, "p", nil)
	p.send(retain("r", "retained", 1, 1))
	p.expectAck(mqtt.PUBACK, 1, 0)
	c := w.resume(mqtt.V5, "c", false, lasting)
	c.sub("a", 1)
	c.bye()
	eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 })
	p.publish("a", "while away")
	c = w.resume(mqtt.V5, "c", true, func(p *mqtt.Connect) { p.CleanStart = false })
	first := c.receive("a", "while away")
	c.sub("r", 1)
	if second := c.receive("r", "retained"); second.PacketID != first.PacketID+1 {
		t.Errorf("identifiers %d and %d", first.PacketID, second.PacketID)
	}
	c.ping()
}

// Live messages that wait for retained ones do not wait for what has expired.
func TestRetainedExpiresInQueue(t *testing.T) {
	durably(t, nil, func(t *testing.T, w *stable) {
		p := w.connect(mqtt.V5, "p", nil)
		short := retain("r/2", "short", 1, 2)
		short.Expiry = mqtt.Some[uint32](1)
		p.send(retain("r/1", "long", 1, 1), short)
		p.expectAck(mqtt.PUBACK, 1, 0)
		p.expectAck(mqtt.PUBACK, 2, 0)
		c := w.resume(mqtt.V5, "c", false, func(p *mqtt.Connect) {
			lasting(p)
			p.Properties.ReceiveMaximum = mqtt.Some[uint16](1)
		})
		c.sub("r/+", 1)
		m := c.receive("r/1", "long")
		p.send(pub("r/1", "live", 0, 0))
		p.ping()
		time.Sleep(time.Second)
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		c.receive("r/1", "live")
		c.ping()
	})
}

// A queue that has no room for all retained messages takes what it can, and the
// subscription stands.
func TestRetainedLeftOut(t *testing.T) {
	w := start(t, func(c *Config) { c.Limits = c.Limits.With(quota.ClientQueue, 2) })
	p := w.connect(mqtt.V5, "p", nil)
	for i := range 5 {
		p.send(retain(fmt.Sprint("r/", i), "m", 1, 1))
		p.expectAck(mqtt.PUBACK, 1, 0)
	}
	c := w.resume(mqtt.V5, "c", false, lasting)
	c.sub("r/#", 1)
	for i := range 2 {
		m := c.receive(fmt.Sprint("r/", i), "m")
		c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
	}
	c.ping()
	if n := w.b.Snapshot().RetainedLeftOut; n != 3 {
		t.Errorf("%d left out, want 3", n)
	}
	p.publish("r/4", "live")
	c.receive("r/4", "live")
}

// Many clients at once, on the real engine: every QoS 1 message arrives, in the
// order of its publisher.
func TestManyClients(t *testing.T) {
	w, _ := durable(t)
	const publishers, messages = 8, 50
	for _, expiry := range []uint32{0, 100} {
		sub := w.connect(mqtt.V5, "sub", func(p *mqtt.Connect) {
			p.Properties.SessionExpiry = mqtt.Some(expiry)
			p.Properties.ReceiveMaximum = mqtt.Some[uint16](17)
		})
		sub.sub("m/+", 1)
		var wg sync.WaitGroup
		for i := range publishers {
			c := w.connect(mqtt.V5, fmt.Sprint("p", i), func(p *mqtt.Connect) { as(p, testOrg, "v") })
			wg.Go(func() {
				for n := range messages {
					c.send(pub(fmt.Sprint("m/", i), fmt.Sprint(n), 1, uint16(n+1)))
				}
				for n := range messages {
					p, err := c.packet()
					if a, ok := p.(*mqtt.Ack); err != nil || !ok || a.PacketID != uint16(n+1) || a.Code != 0 {
						t.Errorf("publisher %d: acknowledgement %d: %+v %v", i, n, p, err)
						return
					}
				}
			})
		}
		next := map[string]int{}
		for range publishers * messages {
			m := expect[*mqtt.Publish](sub)
			if got := string(m.Payload); got != fmt.Sprint(next[string(m.Topic)]) {
				t.Fatalf("%s: got %s, want %d", m.Topic, got, next[string(m.Topic)])
			}
			next[string(m.Topic)]++
			sub.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: m.PacketID})
		}
		wg.Wait()
		sub.ping()
	}
}

// What an organisation may keep is bounded, and whoever meets the bound is told.
func TestOrgKeeps(t *testing.T) {
	w, restart := durable(t)
	w.dir.add(testOrg, "few", func(s *auth.Spec) {
		s.OrgLimits = quota.Limits{}.With(quota.OrgSessions, 1).With(quota.OrgSubscriptions, 2).
			With(quota.OrgQueue, 2).With(quota.OrgRetained, 1)
	})
	few := func(p *mqtt.Connect) { lasting(p); as(p, testOrg, "few") }
	c := w.resume(mqtt.V5, "c", false, few)
	c.sub("a/1", 1)
	c.sub("a/2", 1)
	_, ack := w.try(hello(mqtt.V5, "d", few))
	if ack.Code != mqtt.QuotaExceeded {
		t.Errorf("one session too many: %v", ack.Code)
	}
	codes := c.subscribe(mqtt.Subscription{Filter: "a/1", QoS: 2}, mqtt.Subscription{Filter: "a/3", QoS: 1}, mqtt.Subscription{Filter: "a/2"})
	if want := []mqtt.ReasonCode{2, mqtt.QuotaExceeded, 0}; !slices.Equal(codes, want) {
		t.Errorf("subscribe: %v, want %v", codes, want)
	}
	p := w.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "few") })
	p.send(retain("r/1", "kept", 1, 1))
	p.expectAck(mqtt.PUBACK, 1, mqtt.Success)
	p.send(retain("r/2", "not kept", 1, 2))
	p.expectAck(mqtt.PUBACK, 2, mqtt.QuotaExceeded)
	c.cut()
	eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 1 })
	for id := range uint16(2) {
		p.send(pub("a/1", "queued", 1, id+1))
		p.expectAck(mqtt.PUBACK, id+1, mqtt.Success)
	}
	p.send(pub("a/1", "no room", 2, 3))
	p.expectAck(mqtt.PUBREC, 3, mqtt.QuotaExceeded)
	restart()
	p = w.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "few") })
	p.send(pub("a/1", "no room", 1, 3), retain("r/2", "not kept", 1, 4), retain("r/1", "replaced", 1, 5))
	p.expectAck(mqtt.PUBACK, 3, mqtt.QuotaExceeded)
	p.expectAck(mqtt.PUBACK, 4, mqtt.QuotaExceeded)
	p.expectAck(mqtt.PUBACK, 5, mqtt.Success)
}

// A session with a full queue ends, if that is its policy: its client is told,
// its will is published, its owner sees it, and nobody else notices.
func TestEndSession(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w, _ := durable(t)
		w.dir.add(testOrg, "ends", func(s *auth.Spec) {
			s.OrgLimits = quota.Limits{}.With(quota.ClientQueue, 3).With(quota.ClientQueueFull, quota.EndSession)
		})
		ends := func(more func(*mqtt.Connect)) func(*mqtt.Connect) {
			return func(p *mqtt.Connect) {
				lasting(p)
				more(p)
				as(p, testOrg, "ends")
				p.CleanStart = false
			}
		}
		sub := w.connect(v, "sub", nil)
		sub.sub("will", 0)
		p := w.connect(v, "p", nil)
		fill := func(n int) {
			t.Helper()
			for i := range n {
				p.publish("t", fmt.Sprint(i))
			}
		}
		held := w.connect(v, "held", ends(willed(60)))
		held.sub("t", 1)
		fill(4)
		code := held.closed()
		if v == mqtt.V5 && code != mqtt.QuotaExceeded {
			t.Errorf("the client is told %v", code)
		}
		sub.receive("will", "gone")
		if ev := event(t, w.seen, testOrg, quota.ClientQueue, quota.Ended); ev.Client != "held" || ev.Value != 3 || ev.Count != 1 {
			t.Errorf("event %+v", ev)
		}
		held = w.resume(v, "held", false, ends(func(*mqtt.Connect) {}))
		held.bye()

		away := w.connect(v, "away", ends(willed(60)))
		away.sub("t", 1)
		away.cut()
		eventually(t, "it is away", func() bool { return w.b.Snapshot().Connected == 2 })
		fill(4)
		sub.receive("will", "gone")
		w.resume(v, "away", false, ends(func(*mqtt.Connect) {})).bye()
		sub.ping()
		eventually(t, "no will is kept", func() bool {
			for range w.eng.Wills(context.Background()) {
				return false
			}
			return true
		})
	})
}

// The will comes after all that its client has published.
func TestWillAfterLastWords(t *testing.T) {
	w, _ := durable(t)
	sub := w.connect(mqtt.V5, "sub", nil)
	sub.sub("will", 0)
	for range 50 {
		c := w.resume(mqtt.V5, "c", false, willed(0, func(p *mqtt.Connect) { p.Will.QoS = 2 }))
		c.send(pub("will", "here", 2, 1))
		c.cut()
		sub.receive("will", "here")
		sub.receive("will", "gone")
		w.connect(mqtt.V5, "c", nil).bye() // ends the session
	}
}
