package enginetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

func (c *client) publish2(payload string, packetID uint16) {
	c.t.Helper()
	if err := c.tryPublish("t", payload, 2, packetID); err != nil {
		c.t.Fatalf("publish %q with identifier %d: %v", payload, packetID, err)
	}
}

func (c *client) forget(packetID uint16) {
	c.t.Helper()
	if err := result(c.t, "forget", func(done func(error)) { c.session.Forget(packetID, done) }); err != nil {
		c.t.Fatalf("forget %d: %v", packetID, err)
	}
}

func (c *client) release(o engine.Offset) {
	c.t.Helper()
	if err := result(c.t, "release", func(done func(error)) { c.session.Release(o, done) }); err != nil {
		c.t.Fatalf("release %d: %v", o, err)
	}
}

func (c *client) wantReceived(want ...uint16) {
	c.t.Helper()
	got := slices.Sorted(slices.Values(c.claimed.Received))
	if !slices.Equal(got, want) {
		c.t.Fatalf("received %v, want %v", got, want)
	}
}

func testReceivedKept(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		id := sid("a", t.Name())
		c := claim(t, e, id, time.Hour)
		c.wantReceived()
		c.publish2("nobody gets it, its identifier is recorded", 1)
		c.publish2("x", 2)
		c.publish2("x", 65535)
		c.forget(2)
		restart(t)
		e = s.Open(t)
		c = claim(t, e, id, time.Hour)
		c.wantReceived(1, 65535)
		c.forget(1)
		c = claim(t, e, id, time.Hour) // taken over
		c.wantReceived(65535)
		c.close(0)
	})
}

func testReceivedOnce(t *testing.T, s Store) {
	e := s.Open(t)
	kept := claim(t, e, sid("a", "kept"), time.Hour)
	live := claim(t, e, sid("a", "live"), 0)
	kept.subscribe("t", 2)
	live.subscribe("t", 2)
	c := claim(t, e, sid("a", "pub"), time.Hour)
	c.publish2("1", 9)
	c.publish2("1", 9)
	c = claim(t, e, sid("a", "pub"), time.Hour)
	c.publish2("1", 9)
	kept.wantRead("1")
	live.wantDelivered("1")
	s.Crash(t)
	e = s.Open(t)
	kept = claim(t, e, sid("a", "kept"), time.Hour)
	c = claim(t, e, sid("a", "pub"), time.Hour)
	c.publish2("1", 9)
	c.forget(9)
	c.publish2("2", 9)
	kept.wantRead("1", "2")
}

func testForget(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.forget(7) // never recorded
	c.publish2("1", 7)
	c.forget(7)
	c.forget(7)
	s.Crash(t)
	e = s.Open(t)
	claim(t, e, sid("a", "c"), time.Hour).wantReceived()

	volatile := claim(t, e, sid("a", "volatile"), 0)
	volatile.publish2("1", 0)
	volatile.forget(7)
}

func testRelease(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		id := sid("a", t.Name())
		c := claim(t, e, id, time.Hour)
		c.subscribe("t", 2)
		other := claim(t, e, sid("a", "other"), time.Hour)
		other.subscribe("t", 2)
		for _, p := range []string{"1", "2", "3"} {
			publish(t, e, "a", "t", p, 2)
		}
		all := c.wantRead("1", "2", "3")
		c.release(all[0].Offset)
		c.release(all[1].Offset)
		c.release(all[1].Offset)
		c.session.Ack(all[1].Offset)
		settle(t, e)
		restart(t)
		e = s.Open(t)
		c = claim(t, e, id, time.Hour)
		again := c.read()
		if len(again) != 2 || again[0].Offset != all[0].Offset || !again[0].Released || again[0].Message != nil ||
			again[1].Offset != all[2].Offset || again[1].Released {
			t.Fatalf("read %+v", again)
		}
		c.ack(again)
		settle(t, e)
		restart(t)
		e = s.Open(t)
		c = claim(t, e, id, time.Hour)
		c.wantRead()
		other = claim(t, e, sid("a", "other"), time.Hour)
		other.wantRead("1", "2", "3")
		c.close(0)
		other.close(0)
	})
}

// A repetition is not done before the first is, and stores nothing.
func testReceivedAtOnce(t *testing.T, s Store) {
	e := s.Open(t)
	kept := claim(t, e, sid("a", "kept"), time.Hour)
	kept.subscribe("t", 2)
	c := claim(t, e, sid("a", "pub"), time.Hour)
	order := make(chan int, 3)
	for i := range 3 {
		c.session.Publish(context.Background(), message(t, "a", "t", "1", 2), 9, func(err error) {
			if err != nil {
				t.Errorf("publish %d: %v", i, err)
			}
			order <- i
		})
	}
	for i := range 3 {
		if got := <-order; got != i {
			t.Errorf("done %d comes before %d", got, i)
		}
	}
	kept.wantRead("1")
}

// When a session is taken over while it publishes, the message is kept and its
// identifier is known to the next holder, or neither.
func testReceivedTakeOver(t *testing.T, s Store) {
	e := s.Open(t)
	kept := claim(t, e, sid("a", "kept"), time.Hour)
	kept.subscribe("t", 2)
	live := claim(t, e, sid("a", "live"), 0)
	live.subscribe("t", 2)
	next := claim(t, e, sid("a", "pub"), time.Hour)
	for i := range uint16(60) {
		former := next
		done := make(chan error, 1)
		m := message(t, "a", "t", "m", 2)
		go former.session.Publish(context.Background(), m, i+1, func(err error) { done <- err })
		next = claim(t, e, sid("a", "pub"), time.Hour)
		err := <-done
		all := kept.read()
		kept.ack(all)
		recorded := slices.Contains(next.claimed.Received, i+1)
		delivered := len(live.take())
		switch {
		case err == nil && recorded && len(all) == 1 && delivered == 1:
		case errors.Is(err, engine.ErrLost) && !recorded && len(all) == 0 && delivered == 0:
		default:
			t.Fatalf("done with %v, recorded %v, queued %d, delivered %d", err, recorded, len(all), delivered)
		}
	}
}
