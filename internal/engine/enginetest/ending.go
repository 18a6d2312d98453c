package enginetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/quota"
)

// ends has a session end when its queue is full.
func ends(c *engine.Claim) { c.EndWhenFull = true }

// wantEnded checks that a session has ended, with all it held.
func wantEnded(t *testing.T, e engine.Engine, id engine.SessionID) {
	t.Helper()
	c := claim(t, e, id, time.Hour, func(k *engine.Claim) { k.Queue = 1000 })
	if c.claimed.Present || len(c.claimed.Subscriptions) > 0 {
		t.Errorf("%s is there: %+v", id.Client, c.claimed)
	}
	c.wantRead()
	c.close(0)
}

// A session whose queue is full ends, if it is to, and nobody else notices.
func testEndWhenFull(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		org := "e" + t.Name()[len(t.Name())-5:]
		away := claim(t, e, sid(org, "away"), time.Hour, ends, queue(2))
		away.subscribe("t", 1)
		away.close(time.Hour)
		held := claim(t, e, sid(org, "held"), time.Hour, ends, queue(3))
		held.subscribe("t", 2)
		other := claim(t, e, sid(org, "other"), time.Hour)
		other.subscribe("t", 1)
		live := claim(t, e, sid(org, "live"), 0)
		live.subscribe("t", 1)
		publish(t, e, org, "t", "1", 1)
		publish(t, e, org, "t", "2", 2)
		restart(t) // the flag is the session's, like its queue
		e = s.Open(t)
		publish(t, e, org, "t", "3", 1)
		wantEnded(t, e, away.id)
		held = claim(t, e, held.id, time.Hour, ends, queue(3))
		other = claim(t, e, other.id, time.Hour)
		publish(t, e, org, "t", "4", 2, retain)
		why := held.wantLost()
		wantErr(t, "lost", why, engine.ErrEnded)
		wantErr(t, "lost", why, engine.ErrLost)
		wantExceeded(t, "lost", why, quota.ClientQueue, 3)
		if err := held.tryPublish("t", "x", 1, 0); !errors.Is(err, engine.ErrLost) {
			t.Errorf("publish: %v", err)
		}
		other.wantRead("1", "2", "3", "4")
		wantRetained(t, e, org, "t", "t=4")
		s.Crash(t) // what was acknowledged is kept, and so is what ended
		e = s.Open(t)
		if got := stats(t, e, org); got.Sessions != 1 || got.Queued != 4 || got.Subscriptions != 1 {
			t.Errorf("stats %+v", got)
		}
		wantEnded(t, e, held.id)
		claim(t, e, other.id, time.Hour).wantRead("1", "2", "3", "4")
		publish(t, e, org, "t", "", 1, retain)
		s.Close(t)
	})
}

// A message that another session refuses ends nobody.
func testEndWhenFullRefused(t *testing.T, s Store) {
	e := s.Open(t)
	ending := claim(t, e, sid("a", "ends"), time.Hour, ends, queue(1))
	ending.subscribe("+", 1)
	publish(t, e, "a", "t", "1", 1)
	refusing := claim(t, e, sid("a", "refuses"), time.Hour, queue(1))
	refusing.subscribe("t", 1)
	publishes := func(want error) {
		t.Helper()
		wantErr(t, "publish", tryPublish(t, e, "a", "t", "2", 1), want)
	}
	ending.ack(ending.wantRead("1"))
	settle(t, e)
	publish(t, e, "a", "t", "1", 1)
	publishes(engine.ErrQueueFull)
	refusing.wantRead("1")
	// One claim later it refuses as well.
	ending = claim(t, e, ending.id, time.Hour, queue(1))
	refusing.close(0)
	publishes(engine.ErrQueueFull)
	ending = claim(t, e, ending.id, time.Hour, queue(1), ends)
	ending.wantRead("1")
	publishes(nil)
	wantErr(t, "lost", ending.wantLost(), engine.ErrEnded)
	wantEnded(t, e, ending.id)
}

// In a group the message goes to another member first, then one ends; and not
// even one, if another refuses.
func testEndWhenFullShared(t *testing.T, s Store) {
	e := s.Open(t)
	var members []*client
	for i := range 3 {
		c := claim(t, e, member(fmt.Sprint(i)), time.Hour, ends, queue(1))
		c.subscribe("t", 1, inGroup("g"))
		members = append(members, c)
	}
	members[2].close(time.Hour)
	for i := range 3 {
		publish(t, e, "a", "t", fmt.Sprint(i), 1)
	}
	if got := stats(t, e, "a"); got.Persistent != 3 || got.Queued != 3 {
		t.Fatalf("stats %+v", got)
	}
	publish(t, e, "a", "t", "3", 1)
	if got := stats(t, e, "a"); got.Persistent != 2 || got.Queued != 2 {
		t.Errorf("stats %+v", got)
	}
	refusing := claim(t, e, member("refusing"), time.Hour, queue(1))
	refusing.subscribe("t", 1, inGroup("g"))
	publish(t, e, "a", "t", "4", 1)
	for range 4 {
		wantErr(t, "publish", tryPublish(t, e, "a", "t", "5", 1), engine.ErrQueueFull)
	}
	if got := stats(t, e, "a"); got.Persistent != 3 || got.Queued != 3 {
		t.Errorf("stats %+v", got)
	}
}

// A publisher may be the one whose queue is full.
func testEndWhenFullItself(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour, ends, queue(1))
	c.subscribe("t", 2)
	other := claim(t, e, sid("a", "other"), time.Hour)
	other.subscribe("t", 2)
	if err := c.tryPublish("t", "1", 2, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.tryPublish("t", "2", 2, 2); err != nil {
		t.Errorf("publish: %v", err)
	}
	wantErr(t, "lost", c.wantLost(), engine.ErrEnded)
	other.wantRead("1", "2")
	other.close(0)
	// One that gets it twice has room for it once.
	twice := claim(t, e, member("twice"), time.Hour, ends, queue(1))
	twice.subscribe("t", 1)
	twice.subscribe("t", 1, inGroup("g"))
	publish(t, e, "a", "t", "3", 1)
	wantErr(t, "lost", twice.wantLost(), engine.ErrEnded)
	if got := stats(t, e, "a"); got != (engine.Stats{}) {
		t.Errorf("stats %+v", got)
	}
	s.Crash(t)
	wantEnded(t, s.Open(t), c.id)
}

// The will of a session that ended is there to be published.
func testEndWhenFullWill(t *testing.T, s Store) {
	e := s.Open(t)
	id := sid("a", "c")
	c := claim(t, e, id, time.Hour, ends, queue(1), func(k *engine.Claim) {
		k.Will = &engine.Will{Session: id, Message: *message(t, "a", "will", "gone", 1), Delay: time.Minute}
	})
	c.subscribe("t", 1)
	publish(t, e, "a", "t", "1", 1)
	publish(t, e, "a", "t", "2", 1)
	wantErr(t, "lost", c.wantLost(), engine.ErrEnded)
	for range 2 {
		var found []*engine.Will
		for w, err := range e.Wills(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, w)
		}
		if len(found) != 1 || found[0].Session != id || found[0].Delay != 0 || found[0].Closed.IsZero() {
			t.Fatalf("wills %+v", found)
		}
		s.Crash(t)
		e = s.Open(t)
	}
	if err := e.DropWill(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	for range e.Wills(context.Background()) {
		t.Error("the will is still there")
	}
}

// Many publishers fill queues that end, whose clients come back at once, while
// others read. Whoever reads all has all that was acknowledged, in order; whoever
// was ended has not been given a queue with a gap.
func testEndWhenFullRace(t *testing.T, s Store) {
	e := s.Open(t)
	reader := claim(t, e, sid("a", "reader"), time.Hour, queue(1<<20))
	reader.subscribe("t", 1)
	var wait sync.WaitGroup
	const publishers, each = 4, 300
	for p := range publishers {
		wait.Go(func() {
			for n := range each {
				if err := tryPublish(t, e, "a", "t", fmt.Sprint(p, " ", n), byte(1+n%2)); err != nil {
					t.Errorf("publish: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wait.Wait()
		close(done)
	}()
	ended := 0
	for over := false; !over; {
		c := claim(t, e, sid("a", "small"), time.Hour, ends, queue(5))
		if c.claimed.Present {
			t.Error("the session that ended is there")
		}
		subs := []engine.Subscription{{Filter: filter(t, "t"), QoS: 1}}
		if _, err := c.session.Subscribe(context.Background(), subs); err != nil && !errors.Is(err, engine.ErrLost) {
			t.Errorf("subscribe: %v", err)
		}
		select {
		case why := <-c.lost:
			wantErr(t, "lost", why, engine.ErrEnded)
			ended++
		case <-done:
			over = true
		case <-time.After(patience):
			t.Fatal("neither the session nor the publishers end")
		}
	}
	claim(t, e, sid("a", "small"), time.Hour, clean).close(0)
	if got := stats(t, e, "a"); got.Queued != publishers*each || got.Sessions != 1 {
		t.Errorf("stats %+v", got) // what was on its way to who ended is not counted
	}
	if ended == 0 {
		t.Error("no session ended")
	}
	next := map[string]int{}
	all := reader.read()
	for _, r := range all {
		p, n, _ := strings.Cut(string(r.Message.Payload), " ")
		if n != fmt.Sprint(next[p]) {
			t.Fatalf("publisher %s: %s comes where %d is due", p, n, next[p])
		}
		next[p]++
	}
	if len(all) != publishers*each {
		t.Errorf("%d read, want %d", len(all), publishers*each)
	}
}
