package enginetest

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

// TestTime checks what happens when time passes, each check in a bubble of
// testing/synctest, in which the store is made, too.
func TestTime(t *testing.T, newStore func(t *testing.T) Store) {
	tests := []struct {
		name string
		run  func(*testing.T, Store)
	}{
		{"MessageExpiry", testMessageExpiry},
		{"MessageExpirySwept", testMessageExpirySwept},
		{"MessageExpiryPassedOver", testMessageExpiryPassedOver},
		{"MessageExpirySent", testMessageExpirySent},
		{"MessageExpiryKept", testMessageExpiryKept},
		{"MessageExpiryShared", testMessageExpiryShared},
		{"RetainedExpiry", testRetainedExpiry},
		{"RetainedQueuedExpiry", testRetainedQueuedExpiry},
		{"RetainedExpiryReplaced", testRetainedExpiryReplaced},
		{"OrgLimitsExpiry", testOrgLimitsExpiry},
		{"SessionExpiry", testSessionExpiry},
		{"SessionExpiryAfterCrash", testSessionExpiryAfterCrash},
		{"SessionForever", testSessionForever},
		{"WillOutlivesSession", testWillOutlivesSession},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.run(t, newStore(t)) })
		})
	}
}

func in(d time.Duration) func(*engine.Message) { return expires(time.Now().Add(d)) }

func queued(t *testing.T, e engine.Engine) engine.Stats {
	t.Helper()
	st, err := e.Stats(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func testMessageExpiry(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 2)
	publish(t, e, "a", "t", "short", 1, in(10*time.Second))
	publish(t, e, "a", "t", "long", 1, in(60*time.Second))
	publish(t, e, "a", "t", "ever", 1)
	time.Sleep(11 * time.Second)
	all := c.wantRead("long", "ever")
	if all[0].Offset != 2 {
		t.Errorf("offset %d, want 2", all[0].Offset)
	}
}

// What has expired goes even if nobody reads it.
func testMessageExpirySwept(t *testing.T, s Store) {
	e := s.Open(t)
	for _, id := range []string{"1", "2"} {
		c := claim(t, e, sid("a", id), 2*time.Hour)
		c.subscribe("t", 1)
		c.close(2 * time.Hour)
	}
	for i := range Limits.Queue {
		publish(t, e, "a", "t", fmt.Sprint(i), 1, in(time.Duration(1+i%3)*time.Minute))
	}
	if n := queued(t, e).Queued; n != int64(2*Limits.Queue) {
		t.Fatalf("%d queued", n)
	}
	time.Sleep(time.Minute + time.Second)
	synctest.Wait()
	if n := queued(t, e).Queued; n != int64(2*(Limits.Queue-(Limits.Queue+2)/3)) {
		t.Errorf("%d queued after the first expired", n)
	}
	publish(t, e, "a", "t", "there is room", 1)
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	if n := queued(t, e).Queued; n != 2 {
		t.Errorf("%d queued after all expired", n)
	}
	s.Crash(t)
	e = s.Open(t)
	claim(t, e, sid("a", "1"), time.Hour).wantRead("there is room")
}

// What a reader passes over because it has expired goes too, although the reader
// is sent what came after it.
func testMessageExpiryPassedOver(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	for i := range 50 { // who is first at that moment, the reader or the sweeper, changes
		publish(t, e, "a", "t", fmt.Sprint(i), 1, in(10*time.Second))
		publish(t, e, "a", "t", fmt.Sprint("ever", i), 1)
		time.Sleep(10 * time.Second)
		c.wantRead(fmt.Sprint("ever", i))
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	if n := queued(t, e).Queued; n != 50 {
		t.Errorf("%d queued, want those that do not expire", n)
	}
}

// A message on its way may be completed after it has expired: the client may
// hold its packet identifier.
func testMessageExpirySent(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 2)
	publish(t, e, "a", "t", "sent", 2, in(10*time.Second))
	c.wantRead("sent")
	publish(t, e, "a", "t", "not sent", 2, in(10*time.Second))
	time.Sleep(time.Minute)
	synctest.Wait()
	c = claim(t, e, sid("a", "c"), time.Hour)
	all := c.wantRead("sent")
	if !all[0].Sent {
		t.Error("not marked as sent")
	}
	c.ack(all)
	settle(t, e)
	if n := queued(t, e).Queued; n != 0 {
		t.Errorf("%d queued", n)
	}
}

func testMessageExpiryKept(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	c.close(time.Hour)
	publish(t, e, "a", "t", "short", 1, in(10*time.Second))
	publish(t, e, "a", "t", "long", 1, in(time.Hour))
	s.Crash(t)
	time.Sleep(time.Minute)
	e = s.Open(t)
	synctest.Wait()
	if n := queued(t, e).Queued; n != 1 {
		t.Errorf("%d queued", n)
	}
	claim(t, e, sid("a", "c"), time.Hour).wantRead("long")
}

// A message that expires in one queue is there for who was sent it.
func testMessageExpiryShared(t *testing.T, s Store) {
	e := s.Open(t)
	reader := claim(t, e, sid("a", "reader"), time.Hour)
	reader.subscribe("t", 1)
	away := claim(t, e, sid("a", "away"), time.Hour)
	away.subscribe("t", 1)
	away.close(time.Hour)
	publish(t, e, "a", "t", "m", 1, in(10*time.Second))
	reader.wantRead("m")
	time.Sleep(time.Minute)
	synctest.Wait()
	claim(t, e, sid("a", "reader"), time.Hour).wantRead("m")
	claim(t, e, sid("a", "away"), time.Hour).wantRead()
}

func testRetainedExpiry(t *testing.T, s Store) {
	e := s.Open(t)
	publish(t, e, "a", "t/short", "1", 1, retain, in(10*time.Second))
	publish(t, e, "a", "t/long", "2", 1, retain, in(time.Hour))
	wantRetained(t, e, "a", "#", "t/long=2", "t/short=1")
	time.Sleep(11 * time.Second)
	wantRetained(t, e, "a", "#", "t/long=2")
	wantRetained(t, e, "a", "t/short")
	synctest.Wait()
	if n := queued(t, e).Retained; n != 1 {
		t.Errorf("%d retained", n)
	}
}

func testRetainedExpiryReplaced(t *testing.T, s Store) {
	e := s.Open(t)
	publish(t, e, "a", "t", "1", 1, retain, in(10*time.Second))
	publish(t, e, "a", "t", "2", 1, retain, in(time.Hour))
	publish(t, e, "a", "u", "1", 1, retain, in(10*time.Second))
	publish(t, e, "a", "u", "3", 1, retain)
	time.Sleep(time.Minute)
	synctest.Wait()
	wantRetained(t, e, "a", "#", "t=2", "u=3")
	s.Crash(t)
	e = s.Open(t)
	wantRetained(t, e, "a", "#", "t=2", "u=3")
}

func testSessionExpiry(t *testing.T, s Store) {
	e := s.Open(t)
	for i, d := range []time.Duration{3 * time.Minute, time.Minute, 2 * time.Minute} {
		c := claim(t, e, sid("a", fmt.Sprint(i)), time.Hour)
		c.subscribe("t", 1)
		c.close(d)
	}
	held := claim(t, e, sid("a", "held"), time.Minute)
	publish(t, e, "a", "t", "m", 1)
	sessions := func(want int64) {
		t.Helper()
		synctest.Wait()
		if st := queued(t, e); st.Sessions != want+1 || st.Queued != want || st.Subscriptions != want {
			t.Errorf("stats %+v, want %d sessions", st, want)
		}
	}
	sessions(3)
	time.Sleep(time.Minute + time.Second)
	sessions(2)
	back := claim(t, e, sid("a", "2"), time.Hour)
	if !back.claimed.Present {
		t.Error("a session has expired too early")
	}
	time.Sleep(2 * time.Minute)
	sessions(1)
	if c := claim(t, e, sid("a", "0"), 0); c.claimed.Present {
		t.Error("an expired session is there")
	}
	back.wantRead("m")
	held.close(0)
}

func testSessionExpiryAfterCrash(t *testing.T, s Store) {
	e := s.Open(t)
	claim(t, e, sid("a", "held"), time.Minute)
	c := claim(t, e, sid("a", "closed"), time.Hour)
	c.close(time.Minute)
	s.Crash(t)
	time.Sleep(50 * time.Second)
	e = s.Open(t) // what was held counts from now
	time.Sleep(30 * time.Second)
	synctest.Wait()
	if n := queued(t, e).Sessions; n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	s.Crash(t)
	e = s.Open(t) // and not from now again
	time.Sleep(31 * time.Second)
	synctest.Wait()
	if n := queued(t, e).Sessions; n != 0 {
		t.Errorf("%d sessions, want none", n)
	}
}

func testSessionForever(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), engine.Forever)
	c.close(engine.Forever)
	time.Sleep(2 * time.Hour)
	s.Crash(t)
	e = s.Open(t)
	time.Sleep(2 * time.Hour)
	if c := claim(t, e, sid("a", "c"), engine.Forever); !c.claimed.Present {
		t.Error("a session that does not expire has expired")
	}
}

func testWillOutlivesSession(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Minute, withWill("a", "will"))
	if err := c.session.Close(context.Background(), engine.Close{Expiry: time.Minute, KeepWill: true}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Minute)
	synctest.Wait()
	wantWills(t, e, "will")
}
