package enginetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
)

// wantInvalid checks that a handle can do nothing any more.
func (c *client) wantInvalid() {
	c.t.Helper()
	ctx := context.Background()
	_, err := c.session.Subscribe(ctx, []engine.Subscription{{Filter: filter(c.t, "x")}})
	wantErr(c.t, "subscribe", err, engine.ErrLost)
	_, err = c.session.Unsubscribe(ctx, filter(c.t, "x"), "")
	wantErr(c.t, "unsubscribe", err, engine.ErrLost)
	for qos := range byte(3) {
		wantErr(c.t, "publish", c.tryPublish("x", "from the grave", qos, 0), engine.ErrLost)
	}
	_, err = c.session.Read(ctx, 0, make([]engine.Entry, 0, 1))
	wantErr(c.t, "read", err, engine.ErrLost)
	wantErr(c.t, "release", result(c.t, "release", func(done func(error)) { c.session.Release(1, done) }), engine.ErrLost)
	wantErr(c.t, "close", c.session.Close(ctx, engine.Close{}), engine.ErrLost)
	c.session.Ack(1)
}

func testTakeOver(t *testing.T, s Store) {
	e := s.Open(t)
	for _, expiry := range []time.Duration{0, time.Hour} {
		first := claim(t, e, sid("a", "c"), expiry)
		first.subscribe("x", 1)
		publish(t, e, "a", "x", "1", 1)
		second := claim(t, e, sid("a", "c"), expiry)
		wantErr(t, "former holder", first.wantLost(), engine.ErrTakenOver)
		first.wantInvalid()
		if present := expiry > 0; second.claimed.Present != present || (len(second.claimed.Subscriptions) == 1) != present {
			t.Errorf("expiry %v: claimed %+v", expiry, second.claimed)
		}
		second.subscribe("x", 1)
		publish(t, e, "a", "x", "2", 1)
		if expiry == 0 {
			second.wantDelivered("2")
			first.wantDelivered("1")
		} else {
			second.wantRead("1", "2")
		}
		select {
		case why := <-first.lost:
			t.Errorf("told twice: %v", why)
		default:
		}
		second.close(0)
	}
}

func testTakeOverRace(t *testing.T, s Store) {
	e := s.Open(t)
	const n = 20
	clients := make([]*client, n)
	var wait sync.WaitGroup
	for i := range n {
		c := newClient(t, sid("a", "c"))
		clients[i] = c
		wait.Go(func() {
			var err error
			if c.claimed, err = e.Claim(context.Background(), engine.Claim{ID: c.id, Expiry: time.Hour, Sink: c}); err != nil {
				t.Errorf("claim: %v", err)
			}
			c.session = c.claimed.Session
		})
	}
	wait.Wait()
	holders := 0
	for _, c := range clients {
		if _, err := c.session.Read(context.Background(), 0, nil); err == nil {
			holders++
		} else {
			wantErr(t, "read", err, engine.ErrLost)
			wantErr(t, "lost", c.wantLost(), engine.ErrTakenOver)
		}
	}
	if holders != 1 {
		t.Errorf("%d holders", holders)
	}
}

func testClean(t *testing.T, s Store) {
	e := s.Open(t)
	for _, held := range []bool{true, false} {
		c := claim(t, e, sid("a", "c"), time.Hour)
		c.subscribe("t", 1)
		publish(t, e, "a", "t", "old", 1)
		c.publish2("x", 3)
		if !held {
			c.close(time.Hour)
		}
		c = claim(t, e, sid("a", "c"), time.Hour, clean)
		if c.claimed.Present || len(c.claimed.Subscriptions) != 0 {
			t.Errorf("claimed %+v", c.claimed)
		}
		c.wantReceived()
		s.Crash(t)
		e = s.Open(t)
		c = claim(t, e, sid("a", "c"), time.Hour)
		if !c.claimed.Present || len(c.claimed.Subscriptions) != 0 {
			t.Errorf("claimed after a crash: %+v", c.claimed)
		}
		c.wantReceived()
		publish(t, e, "a", "t", "new", 1)
		c.wantRead()
		c.close(0)
	}
}

// A session that is claimed with expiry 0 goes on, and ends with the connection.
func testExpiryZero(t *testing.T, s Store) {
	for _, end := range []string{"close", "crash", "takeover"} {
		e := s.Open(t)
		c := claim(t, e, sid("a", "c"), time.Hour)
		c.subscribe("t", 1)
		c.close(time.Hour)
		publish(t, e, "a", "t", "1", 1)
		c = claim(t, e, sid("a", "c"), 0)
		if !c.claimed.Present {
			t.Fatal("the session is not there")
		}
		publish(t, e, "a", "t", "2", 1)
		c.wantRead("1", "2")
		switch end {
		case "close":
			c.close(0)
		case "crash":
			s.Crash(t)
			e = s.Open(t)
		}
		if c = claim(t, e, sid("a", "c"), time.Hour); c.claimed.Present {
			t.Errorf("after %s the session is still there", end)
		}
		c.wantRead()
		c.close(0)
		s.Close(t)
	}
}

func testDrop(t *testing.T, s Store) {
	e := s.Open(t)
	mine := []*client{
		claim(t, e, member("1"), time.Hour, withWill("a", "will")),
		claim(t, e, member("2"), 0),
		claim(t, e, member("3"), time.Hour),
	}
	other := claim(t, e, sid("a", "other"), time.Hour)
	for _, c := range append(mine, other) {
		c.subscribe("t", 1)
	}
	mine[2].close(time.Hour)
	publish(t, e, "a", "t", "before", 1)
	publish(t, e, "a", "t", "kept", 1, retain)
	mine[1].take()
	if err := e.Drop(context.Background(), owner("a", "app")); err != nil {
		t.Fatal(err)
	}
	for _, c := range mine[:2] {
		c.wantInvalid()
		wantErr(t, "lost", c.wantLost(), engine.ErrDropped)
	}
	publish(t, e, "a", "t", "after", 1)
	mine[0].wantDelivered()
	mine[1].wantDelivered()
	for _, id := range []string{"1", "2", "3"} {
		c := claim(t, e, member(id), time.Hour)
		if c.claimed.Present || len(c.claimed.Subscriptions) != 0 {
			t.Errorf("session %s: %+v", id, c.claimed)
		}
		c.wantRead()
	}
	if got := wills(t, e); len(got) != 0 {
		t.Errorf("wills: %v", got)
	}
	other.wantRead("before", "kept", "after")
	wantRetained(t, e, "a", "#", "t=kept")
}

func testDropOrganisation(t *testing.T, s Store) {
	e := s.Open(t)
	for _, org := range []string{"a", "ab"} {
		for i := range 3 {
			c := claim(t, e, sid(org, fmt.Sprint(i)), time.Hour, withWill(org, "will"))
			c.subscribe("t", 1)
			if i == 0 {
				c.close(time.Hour)
			}
		}
		publish(t, e, org, "t", "m", 1, retain)
	}
	if err := e.Drop(context.Background(), auth.Principal{Org: "a"}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		wantRetained(t, e, "a", "#")
		wantRetained(t, e, "ab", "#", "t=m")
		for i := range 3 {
			if c := claim(t, e, sid("a", fmt.Sprint(i)), time.Hour); c.claimed.Present {
				t.Errorf("session %d of a is there", i)
			} else {
				c.wantRead()
				c.close(0)
			}
			c := claim(t, e, sid("ab", fmt.Sprint(i)), time.Hour)
			c.wantRead("m")
		}
	}
	check()
	s.Crash(t)
	e = s.Open(t)
	check()
}

func testDropKept(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	publish(t, e, "a", "t", "m", 1)
	if err := e.Drop(context.Background(), c.id.Owner); err != nil {
		t.Fatal(err)
	}
	s.Crash(t)
	e = s.Open(t)
	if c = claim(t, e, sid("a", "c"), time.Hour); c.claimed.Present {
		t.Error("a dropped session came back")
	}
	c.wantRead()
}

// A session belongs to one holder of a name: a later one does not find it, also
// when nobody was there to drop it.
func testUID(t *testing.T, s Store) {
	e := s.Open(t)
	as := func(uid string) func(*engine.Claim) { return func(c *engine.Claim) { c.UID = uid } }
	c := claim(t, e, sid("a", "c"), time.Hour, as("first"))
	c.subscribe("t", 1)
	c.close(time.Hour)
	publish(t, e, "a", "t", "for the first", 1)
	s.Crash(t)
	e = s.Open(t)
	c = claim(t, e, sid("a", "c"), time.Hour, as("first"))
	if !c.claimed.Present || len(c.claimed.Subscriptions) != 1 {
		t.Errorf("the same owner found %+v", c.claimed)
	}
	c.close(time.Hour)
	c = claim(t, e, sid("a", "c"), time.Hour, as("second"))
	if c.claimed.Present || len(c.claimed.Subscriptions) != 0 {
		t.Errorf("a later owner of the name found %+v", c.claimed)
	}
	if got, err := c.session.Read(context.Background(), 0, make([]engine.Entry, 0, 8)); err != nil || len(got) != 0 {
		t.Errorf("a later owner of the name reads %v, %v", got, err)
	}
}

func testLost(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.close(time.Hour)
	c.wantInvalid()
	select {
	case why := <-c.lost:
		t.Errorf("who closed is told: %v", why)
	default:
	}
}

func testClosed(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	s.Close(t)
	c.wantLost()
	m := message(t, "a", "t", "m", 1)
	if err := result(t, "publish", func(done func(error)) { e.Publish(context.Background(), m, done) }); err == nil {
		t.Error("a closed engine kept a message")
	}
	if _, err := e.Claim(context.Background(), engine.Claim{ID: c.id, Sink: c}); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("claim of a closed engine: %v", err)
	}
}

func testStats(t *testing.T, s Store) {
	e := s.Open(t)
	want := func(w engine.Stats) {
		t.Helper()
		got, err := e.Stats(context.Background(), "")
		got.QueuedBytes, got.RetainedBytes = 0, 0 // how bytes are counted is the engine's
		if err != nil || got != w {
			t.Fatalf("stats %+v, %v, want %+v", got, err, w)
		}
	}
	want(engine.Stats{})
	a := claim(t, e, sid("a", "1"), time.Hour)
	b := claim(t, e, sid("b", "1"), 0)
	a.subscribe("t", 1)
	b.subscribe("t", 1)
	b.subscribe("u", 1)
	publish(t, e, "a", "t", "1", 1, retain)
	publish(t, e, "a", "t", "2", 1)
	want(engine.Stats{Sessions: 2, Persistent: 1, Held: 2, Subscriptions: 3, Queued: 2, Retained: 1})
	b.close(0)
	a.close(time.Hour)
	want(engine.Stats{Sessions: 1, Persistent: 1, Subscriptions: 1, Queued: 2, Retained: 1})
	s.Crash(t)
	e = s.Open(t)
	want(engine.Stats{Sessions: 1, Persistent: 1, Subscriptions: 1, Queued: 2, Retained: 1})
	publish(t, e, "a", "t", "", 1, retain)
	claim(t, e, sid("a", "1"), time.Hour, clean).close(0)
	want(engine.Stats{})
}
