package broker

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/mqtt"
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
	dir, seal := t.TempDir(), newTestSealer()
	w = &world{t: t, dir: newDirectory(), pki: sharedPKI()}
	w.dir.add(testOrg, "u", nil)
	w.dir.add(testOrg, "v", nil)
	var open *embedded.Engine
	begin := func() {
		e, err := embedded.Open(context.Background(), embedded.Options{
			Dir: dir, Log: slog.New(slog.DiscardHandler),
			Sealer: func(context.Context, auth.OrgID) (embedded.Sealer, error) { return seal, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		open, w.eng = e, e
		w.serve(nil)
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
		if m := c.receive("a/r", "kept"); !m.Retain {
			t.Error("not retained")
		}
		c.bye()
		restart()
		w.resume(v, "c", true, lasting).bye()
	})
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
