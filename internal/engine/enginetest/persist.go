package enginetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

// restarts are the two ways in which an engine ends.
func restarts(t *testing.T, s Store, run func(t *testing.T, restart func(*testing.T))) {
	t.Run("close", func(t *testing.T) { run(t, s.Close) })
	s.Close(t)
	t.Run("crash", func(t *testing.T) { run(t, s.Crash) })
}

func testQueueKept(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		id := sid("a", t.Name())
		c := claim(t, e, id, time.Hour)
		c.subscribe("t/#", 1)
		c.close(time.Hour)
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
			publish(t, e, "a", "t/x", want[i], 1)
		}
		restart(t)
		e = s.Open(t)
		c = claim(t, e, id, time.Hour)
		if !c.claimed.Present {
			t.Fatal("the session is not there")
		}
		all := c.wantRead(want...)
		c.ack(all[:50])
		settle(t, e)
		restart(t)
		e = s.Open(t)
		c = claim(t, e, id, time.Hour)
		c.wantRead(want[50:]...)
		c.close(0)
	})
}

// A session that falls behind what is kept in memory misses nothing.
func testQueueBehind(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	var want []string
	pad := strings.Repeat("x", 2000)
	for i := range Limits.Queue {
		want = append(want, fmt.Sprint(i, pad))
		publish(t, e, "a", "t", want[i], 1)
		if i == 10 {
			c.ack(c.wantRead(want...))
			want = nil
		}
		if i == Limits.Queue/2 {
			got, err := c.session.Read(context.Background(), c.after, make([]engine.Entry, 0, 3))
			if err != nil || len(got) != 3 || got[0].Offset != 12 {
				t.Fatalf("read %d entries: %v", len(got), err)
			}
		}
		if want == nil {
			want = make([]string, i+1)
		}
	}
	c.wantRead(want[11:]...)
}

func testSubscriptionsKept(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		id := sid("a", t.Name())
		c := claim(t, e, id, time.Hour)
		c.subscribe("x/+", 1, withID(5))
		c.subscribe("x/+", 2, withID(6), func(s *engine.Subscription) { s.NoLocal, s.RetainAsPublished = true, true })
		c.subscribe("y", 1)
		c.subscribe("z", 1, inGroup("g"))
		if _, err := c.session.Unsubscribe(context.Background(), filter(t, "y"), ""); err != nil {
			t.Fatal(err)
		}
		restart(t)
		e = s.Open(t)
		publish(t, e, "a", "x/1", "x", 2, retain)
		publish(t, e, "a", "y", "y", 2)
		publish(t, e, "a", "z", "z", 2)
		c = claim(t, e, id, time.Hour)
		if len(c.claimed.Subscriptions) != 2 {
			t.Fatalf("subscriptions: %+v", c.claimed.Subscriptions)
		}
		for _, sub := range c.claimed.Subscriptions {
			want := engine.Subscription{Filter: filter(t, "x/+"), QoS: 2, NoLocal: true, RetainAsPublished: true, ID: 6}
			if sub.Group != "" {
				want = engine.Subscription{Filter: filter(t, "z"), QoS: 1, Group: "g"}
			}
			if sub != want {
				t.Errorf("subscription %+v, want %+v", sub, want)
			}
		}
		all := c.wantRead("x", "z")
		if d := all[0].Delivery; d.QoS != 2 || !d.Retain || len(d.IDs) != 1 || d.IDs[0] != 6 {
			t.Errorf("delivery %+v", d)
		}
		c.close(0)
	})
}

// Packet identifiers are derived from offsets: one may never stand for two messages.
func testOffsetsNotReused(t *testing.T, s Store) {
	e := s.Open(t)
	last := engine.Offset(0)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	for round := range 6 {
		publish(t, e, "a", "t", "m", 1)
		all := c.wantRead("m")
		if all[0].Offset <= last {
			t.Fatalf("round %d: offset %d after %d", round, all[0].Offset, last)
		}
		last = all[0].Offset
		c.ack(all) // the queue is empty
		switch round % 3 {
		case 0:
			settle(t, e)
			s.Crash(t)
			e = s.Open(t)
		case 1:
			c.close(time.Hour)
			s.Close(t)
			e = s.Open(t)
		default:
			continue
		}
		c = claim(t, e, sid("a", "c"), time.Hour)
		c.after = last
	}
}

// A message that several sessions need is there until the last one has it.
func testSharedPayload(t *testing.T, s Store) {
	e := s.Open(t)
	ids := []string{"1", "2", "3"}
	for _, id := range ids {
		c := claim(t, e, sid("a", id), time.Hour)
		c.subscribe("t", 1)
		c.close(time.Hour)
	}
	for i := range 5 {
		publish(t, e, "a", "t", fmt.Sprint(i), 1)
	}
	for i, id := range ids {
		c := claim(t, e, sid("a", id), time.Hour)
		all := c.wantRead("0", "1", "2", "3", "4")
		if i == 0 {
			c.close(0) // ends with its queue
			s.Crash(t)
			e = s.Open(t)
			continue
		}
		c.ack(all)
		c.close(time.Hour)
		s.Crash(t)
		e = s.Open(t)
		claim(t, e, sid("a", id), time.Hour).wantRead()
	}
}

func sent(all []engine.Entry) (flags []bool) {
	for _, en := range all {
		flags = append(flags, en.Sent)
	}
	return flags
}

func testSent(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	publish(t, e, "a", "t", "1", 1)
	publish(t, e, "a", "t", "2", 1)
	got, err := c.session.Read(context.Background(), 0, make([]engine.Entry, 0, 1))
	if err != nil || len(got) != 1 || got[0].Sent {
		t.Fatalf("read %+v, %v", got, err)
	}
	again := claim(t, e, sid("a", "c"), time.Hour) // the same connection was lost
	if f := sent(again.wantRead("1", "2")); !f[0] || f[1] {
		t.Errorf("sent: %v, want [true false]", f)
	}
	publish(t, e, "a", "t", "3", 1)
	s.Crash(t)
	e = s.Open(t)
	c = claim(t, e, sid("a", "c"), time.Hour)
	publish(t, e, "a", "t", "4", 1)
	// All that was there when it was held at the crash may have been sent.
	if f := sent(c.wantRead("1", "2", "3", "4")); !f[0] || !f[1] || !f[2] || f[3] {
		t.Errorf("sent: %v, want [true true true false]", f)
	}
}

func testSentAfterClose(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	publish(t, e, "a", "t", "1", 1)
	c.wantRead("1")
	publish(t, e, "a", "t", "2", 1)
	c.close(time.Hour)
	publish(t, e, "a", "t", "3", 1)
	s.Crash(t)
	e = s.Open(t)
	if f := sent(claim(t, e, sid("a", "c"), time.Hour).wantRead("1", "2", "3")); !f[0] || f[1] || f[2] {
		t.Errorf("sent: %v, want [true false false]", f)
	}
}

func testNotPersistent(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), 0)
	c.subscribe("t", 1)
	c.close(0)
	publish(t, e, "a", "t", "m", 1)
	c = claim(t, e, sid("a", "c"), 0)
	if c.claimed.Present || len(c.claimed.Subscriptions) != 0 {
		t.Errorf("claimed %+v", c.claimed)
	}
	c.subscribe("t", 1)
	s.Crash(t)
	e = s.Open(t)
	if c := claim(t, e, sid("a", "c"), time.Hour); c.claimed.Present {
		t.Error("a session that is not persistent survived")
	}
}

func testQueueFull(t *testing.T, s Store) {
	e := s.Open(t)
	full := claim(t, e, sid("a", "full"), time.Hour)
	full.subscribe("t", 1)
	full.close(time.Hour)
	pub := claim(t, e, sid("a", "pub"), 0)
	for i := range Limits.Queue {
		pub.publish("t", fmt.Sprint(i), 1)
	}
	other := claim(t, e, sid("a", "other"), time.Hour)
	other.subscribe("t", 1)
	wantErr(t, "publish to a full queue", pub.tryPublish("t", "more", 1, 0), engine.ErrQueueFull)
	wantErr(t, "publish to a full queue", pub.tryPublish("t", "more", 2, 0), engine.ErrQueueFull)
	other.wantRead() // kept for all or for nobody
	pub.publish("t", "live", 0)
	full = claim(t, e, sid("a", "full"), time.Hour)
	all := full.read()
	if len(all) != Limits.Queue {
		t.Fatalf("%d entries, want %d", len(all), Limits.Queue)
	}
	full.ack(all[:2])
	settle(t, e)
	pub.publish("t", "fits", 1)
	pub.publish("t", "fits", 1)
	wantErr(t, "publish to a full queue", pub.tryPublish("t", "more", 1, 0), engine.ErrQueueFull)
	full.wantRead("fits", "fits")
	other.wantRead("fits", "fits")
	s.Crash(t)
	e = s.Open(t)
	pub = claim(t, e, sid("a", "pub"), 0)
	wantErr(t, "publish to a full queue after a crash", pub.tryPublish("t", "more", 1, 0), engine.ErrQueueFull)
}

func testQueueLimitOfClaim(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour, func(c *engine.Claim) { c.Queue = 2 })
	c.subscribe("t", 1)
	s.Crash(t)
	e = s.Open(t)
	pub := claim(t, e, sid("a", "pub"), 0)
	pub.publish("t", "1", 1)
	pub.publish("t", "2", 1)
	wantErr(t, "publish over the limit", pub.tryPublish("t", "3", 1, 0), engine.ErrQueueFull)
	claim(t, e, sid("a", "c"), time.Hour, func(c *engine.Claim) { c.Queue = 3 }).wantRead("1", "2")
	pub.publish("t", "3", 1)
}
