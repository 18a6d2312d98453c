package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
)

func testIsolation(t *testing.T, s Store) {
	e := s.Open(t)
	for _, expiry := range []time.Duration{0, time.Hour} {
		a := claim(t, e, sid("a", "1"), expiry)
		b := claim(t, e, sid("b", "1"), expiry)
		if b.claimed.Present || len(b.claimed.Subscriptions) != 0 {
			t.Fatalf("organisation b found a session of a: %+v", b.claimed)
		}
		a.subscribe("#", 1)
		b.subscribe("#", 1)
		publish(t, e, "a", "evt/temp", "20", 1)
		if expiry == 0 {
			a.wantDelivered("20")
		} else {
			a.wantRead("20")
		}
		if got := len(b.read()) + len(b.take()); got != 0 {
			t.Errorf("organisation b received %d messages", got)
		}
		a.close(0)
		b.close(0)
	}
}

func testOtherOrganisation(t *testing.T, s Store) {
	e := s.Open(t)
	a := claim(t, e, sid("a", "1"), 0)
	b := claim(t, e, sid("b", "1"), 0)
	b.subscribe("#", 0)
	m := message(t, "b", "evt", "x", 1, retain)
	err := result(t, "publish", func(done func(error)) { a.session.Publish(context.Background(), m, 0, done) })
	if err == nil {
		t.Error("a session published into another organisation")
	}
	b.wantDelivered()
	wantRetained(t, e, "b", "#")
}

func testOrder(t *testing.T, s Store) {
	e := s.Open(t)
	kept := claim(t, e, sid("a", "kept"), time.Hour)
	live := claim(t, e, sid("a", "live"), 0)
	kept.subscribe("t/+", 2)
	live.subscribe("t/+", 2)
	pub := claim(t, e, sid("a", "pub"), 0)
	var want []string
	var wait sync.WaitGroup
	for i := range 500 {
		p := fmt.Sprint(i)
		want = append(want, p)
		wait.Add(1)
		m := message(t, "a", "t/"+fmt.Sprint(i%3), p, 1)
		pub.session.Publish(context.Background(), m, 0, func(err error) {
			if err != nil {
				t.Errorf("publish %s: %v", p, err)
			}
			wait.Done()
		})
		copy(m.Payload, "xxx") // the engine must not keep it
	}
	wait.Wait()
	kept.wantWake()
	for i, en := range kept.wantRead(want...) {
		if en.Offset != engine.Offset(i+1) {
			t.Fatalf("entry %d has offset %d", i, en.Offset)
		}
	}
	live.wantDelivered(want...)
}

func testMatchOnce(t *testing.T, s Store) {
	e := s.Open(t)
	for _, expiry := range []time.Duration{0, time.Hour} {
		c := claim(t, e, sid("a", "c"), expiry)
		c.subscribe("a/b", 0, withID(7))
		c.subscribe("a/+", 2, withID(8))
		c.subscribe("#", 1)
		c.subscribe("other", 2, withID(9))
		publish(t, e, "a", "a/b", "x", 2)
		var d engine.Delivery
		if expiry == 0 {
			d = c.wantDelivered("x")[0].Delivery
		} else {
			d = c.wantRead("x")[0].Delivery
		}
		ids := slices.Sorted(slices.Values(d.IDs))
		if d.QoS != 2 || !slices.Equal(ids, []uint32{7, 8}) {
			t.Errorf("delivered with QoS %d and identifiers %v, want 2 and [7 8]", d.QoS, ids)
		}
		c.close(0)
	}
}

func testNoLocal(t *testing.T, s Store) {
	e := s.Open(t)
	noLocal := func(s *engine.Subscription) { s.NoLocal = true }
	for _, expiry := range []time.Duration{0, time.Hour} {
		a := claim(t, e, sid("a", "1"), expiry)
		b := claim(t, e, sid("a", "2"), expiry)
		a.subscribe("x", 1, noLocal)
		b.subscribe("x", 1, noLocal)
		a.publish("x", "from a", 1)
		publish(t, e, "a", "x", "from nobody", 1)
		if expiry == 0 {
			a.wantDelivered("from nobody")
			b.wantDelivered("from a", "from nobody")
		} else {
			a.wantRead("from nobody")
			b.wantRead("from a", "from nobody")
		}
		// Another subscription that matches is not local only.
		a.subscribe("#", 1)
		a.publish("x", "again", 1)
		if expiry == 0 {
			a.wantDelivered("again")
		} else {
			a.wantRead("again")
		}
		a.close(0)
		b.close(0)
	}
}

func testRetainAsPublished(t *testing.T, s Store) {
	e := s.Open(t)
	for _, expiry := range []time.Duration{0, time.Hour} {
		with := claim(t, e, sid("a", "with"), expiry)
		without := claim(t, e, sid("a", "without"), expiry)
		with.subscribe("x", 1, func(s *engine.Subscription) { s.RetainAsPublished = true })
		without.subscribe("x", 1)
		publish(t, e, "a", "x", "1", 1, retain)
		publish(t, e, "a", "x", "2", 1)
		flags := func(c *client) (f []bool) {
			for _, d := range c.take() {
				f = append(f, d.Retain)
			}
			for _, en := range c.read() {
				f = append(f, en.Delivery.Retain)
			}
			return f
		}
		if f := flags(with); !slices.Equal(f, []bool{true, false}) {
			t.Errorf("expiry %v: retain flags with RAP: %v", expiry, f)
		}
		if f := flags(without); !slices.Equal(f, []bool{false, false}) {
			t.Errorf("expiry %v: retain flags without RAP: %v", expiry, f)
		}
		with.close(0)
		without.close(0)
	}
}

func testEffectiveQoS(t *testing.T, s Store) {
	e := s.Open(t)
	for pub := range byte(3) {
		for sub := range byte(3) {
			live := claim(t, e, sid("a", "live"), 0)
			kept := claim(t, e, sid("a", "kept"), time.Hour)
			live.subscribe("x", sub)
			kept.subscribe("x", sub)
			publish(t, e, "a", "x", "m", pub)
			want := min(pub, sub)
			if d := live.wantDelivered("m"); d[0].QoS != want {
				t.Errorf("published at %d, subscribed at %d: delivered at %d", pub, sub, d[0].QoS)
			}
			if want == 0 {
				kept.wantDelivered("m")
				kept.wantRead()
			} else if en := kept.wantRead("m"); en[0].Delivery.QoS != want {
				t.Errorf("published at %d, subscribed at %d: queued at %d", pub, sub, en[0].Delivery.QoS)
			}
			live.close(0)
			kept.close(0)
		}
	}
}

func testUnsubscribe(t *testing.T, s Store) {
	e := s.Open(t)
	for _, expiry := range []time.Duration{0, time.Hour} {
		c := claim(t, e, sid("a", "c"), expiry)
		c.subscribe("x", 1)
		c.subscribe("y", 1)
		for _, want := range []bool{true, false} {
			existed, err := c.session.Unsubscribe(context.Background(), filter(t, "x"), "")
			if err != nil || existed != want {
				t.Errorf("unsubscribe: %v, %v, want %v", existed, err, want)
			}
		}
		publish(t, e, "a", "x", "gone", 1)
		publish(t, e, "a", "y", "there", 1)
		if expiry == 0 {
			c.wantDelivered("there")
		} else {
			c.wantRead("there")
		}
		c.close(0)
	}
}

func testResubscribe(t *testing.T, s Store) {
	e := s.Open(t)
	for _, expiry := range []time.Duration{0, time.Hour} {
		c := claim(t, e, sid("a", "c"), expiry)
		if c.subscribe("x", 2, withID(1)) {
			t.Error("a new subscription existed")
		}
		if !c.subscribe("x", 0, withID(2)) {
			t.Error("a replaced subscription did not exist")
		}
		if !c.subscribe("x", 0, withID(2)) {
			t.Error("a repeated subscription did not exist")
		}
		publish(t, e, "a", "x", "m", 2)
		if d := c.wantDelivered("m"); d[0].QoS != 0 || !slices.Equal(d[0].IDs, []uint32{2}) {
			t.Errorf("delivered %v", d)
		}
		if got := c.read(); len(got) != 0 {
			t.Errorf("queued %v", got)
		}
		c.close(0)
	}
}

func testWithoutSession(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("#", 1)
	publish(t, e, "a", "x", "live", 0)
	publish(t, e, "a", "x", "kept", 1)
	publish(t, e, "a", "$SYS/x", "hidden", 1)
	c.wantDelivered("live")
	c.wantRead("kept")
}

func testContent(t *testing.T, s Store) {
	e := s.Open(t)
	props := (&mqtt.Properties{
		ContentType: mqtt.Some("text/plain"), CorrelationData: []byte{0, 1},
		UserProperties: []mqtt.UserProperty{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}},
	}).Carried()
	at := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	m := message(t, "a", "x/y", "payload", 2, retain, expires(at), func(m *engine.Message) { m.Properties = props })
	same := func(where string, got *engine.Message) {
		t.Helper()
		if got.Org != m.Org || got.Topic != m.Topic || string(got.Payload) != "payload" || !slices.Equal(got.Properties, props) ||
			got.QoS != 2 || !got.Retain || got.From != m.From || !got.Expires.Equal(at) {
			t.Errorf("%s: %+v, want %+v", where, got, m)
		}
	}
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("x/#", 2)
	two := claim(t, e, sid("a", "two"), time.Hour)
	two.subscribe("x/#", 2)
	if err := result(t, "publish", func(done func(error)) { e.Publish(context.Background(), m, done) }); err != nil {
		t.Fatal(err)
	}
	same("from memory", c.wantRead("payload")[0].Message)
	s.Crash(t)
	e = s.Open(t)
	for _, id := range []string{"c", "two"} {
		same("from disk", claim(t, e, sid("a", id), time.Hour).wantRead("payload")[0].Message)
	}
	n := 0
	for got, err := range e.Retained(context.Background(), "a", filter(t, "x/y")) {
		if err != nil {
			t.Fatal(err)
		}
		same("retained", got)
		n++
	}
	if n != 1 {
		t.Errorf("%d retained messages", n)
	}
}

func testConcurrent(t *testing.T, s Store) {
	e := s.Open(t)
	const publishers, each = 16, 50
	kept := claim(t, e, sid("a", "kept"), time.Hour)
	kept.subscribe("p/+", 1)
	var wait sync.WaitGroup
	for p := range publishers {
		c := claim(t, e, sid("a", fmt.Sprint("pub", p)), 0)
		wait.Go(func() {
			for i := range each {
				if err := c.tryPublish(fmt.Sprint("p/", p), fmt.Sprint(i), 1, 0); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	next := map[string]int{}
	got := 0
	deadline := time.Now().Add(patience)
	for got < publishers*each && time.Now().Before(deadline) {
		kept.wantWake()
		all := kept.read()
		for _, en := range all {
			topic := en.Message.Topic.String()
			if p := string(en.Message.Payload); p != fmt.Sprint(next[topic]) {
				t.Fatalf("%s: got %s, want %d", topic, p, next[topic])
			}
			next[topic]++
			got++
		}
		kept.ack(all)
	}
	wait.Wait()
	if got != publishers*each {
		t.Errorf("got %d of %d messages", got, publishers*each)
	}
}

// wantErr checks for an error that is want.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
