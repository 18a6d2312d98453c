package enginetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/quota"
)

// limit sets one limit of an organisation; the others have their defaults.
func limit(e engine.Engine, org string, l quota.Limit, v int64) {
	e.Limit(auth.OrgID(org), quota.Defaults().With(l, v))
}

// wantExceeded checks that err is the refusal of what goes beyond a limit.
func wantExceeded(t *testing.T, what string, err error, l quota.Limit, v int64) {
	t.Helper()
	if got, value, ok := quota.ExceededBy(err); !ok || got != l || value != v {
		t.Errorf("%s: %v, want a refusal by %s, %d", what, err, l, v)
	}
}

func stats(t *testing.T, e engine.Engine, org string) engine.Stats {
	t.Helper()
	s, err := e.Stats(context.Background(), auth.OrgID(org))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tryPublish publishes without a session.
func tryPublish(t *testing.T, e engine.Engine, org, topic, payload string, qos byte, opts ...func(*engine.Message)) error {
	t.Helper()
	m := message(t, org, topic, payload, qos, opts...)
	return result(t, "publish", func(done func(error)) { e.Publish(context.Background(), m, done) })
}

func queue(n int) func(*engine.Claim)        { return func(c *engine.Claim) { c.Queue = n } }
func queueBytes(n int64) func(*engine.Claim) { return func(c *engine.Claim) { c.QueueBytes = n } }

// A queue is bounded in messages and in bytes, also while nobody has claimed it
// since a restart, and who meets its bound learns which one it was.
func testQueueBytes(t *testing.T, s Store) {
	e := s.Open(t)
	probe := claim(t, e, sid("a", "probe"), time.Hour)
	probe.subscribe("t", 1)
	publish(t, e, "a", "t", "123", 1)
	size := stats(t, e, "a").QueuedBytes
	probe.close(0)
	if size <= 0 || stats(t, e, "a").QueuedBytes != 0 {
		t.Fatalf("a message has %d bytes; %+v after it", size, stats(t, e, "a"))
	}
	most := 3*size + size/2
	for i := range 2 {
		id := sid("a", fmt.Sprint("c", i))
		c := claim(t, e, id, time.Hour, queueBytes(most))
		c.subscribe(fmt.Sprint("t/", i), 1)
		topic := fmt.Sprint("t/", i)
		for _, p := range []string{"1", "2", "3"} {
			publish(t, e, "a", topic, p, 1)
		}
		refused := func() {
			t.Helper()
			err := tryPublish(t, e, "a", topic, strings.Repeat("x", int(size)), 1)
			wantErr(t, "publish", err, engine.ErrQueueFull)
			wantExceeded(t, "publish", err, quota.ClientQueueBytes, most)
		}
		refused()
		if i == 0 {
			s.Crash(t)
		} else {
			s.Close(t)
		}
		e = s.Open(t)
		refused()
		// A claim sets it anew; what is there stays.
		claim(t, e, id, time.Hour, queueBytes(size), queue(4))
		err := tryPublish(t, e, "a", topic, "4", 1)
		wantExceeded(t, "publish over a lower limit", err, quota.ClientQueueBytes, size)
		c = claim(t, e, id, time.Hour, queueBytes(100*size), queue(4))
		publish(t, e, "a", topic, "4", 1)
		err = tryPublish(t, e, "a", topic, "5", 1)
		wantErr(t, "publish", err, engine.ErrQueueFull)
		wantExceeded(t, "publish", err, quota.ClientQueue, 4)
		c.ack(c.wantRead("1", "2", "3", "4"))
		c.close(0)
	}
}

// An organisation has no more persistent sessions than it may. Whoever has one
// keeps it.
func testOrgSessions(t *testing.T, s Store) {
	e := s.Open(t)
	limit(e, "a", quota.OrgSessions, 2)
	one := claim(t, e, sid("a", "1"), time.Hour)
	claim(t, e, sid("a", "2"), time.Hour).close(time.Hour)
	volatile := claim(t, e, sid("a", "3"), 0)
	refused := func(client string) {
		t.Helper()
		c := newClient(t, sid("a", client))
		_, err := e.Claim(context.Background(), engine.Claim{ID: c.id, Expiry: time.Hour, Sink: c})
		wantExceeded(t, "claim", err, quota.OrgSessions, 2)
	}
	refused("4")
	refused("3")
	volatile.subscribe("t", 0) // it is held as before
	claim(t, e, sid("b", "4"), time.Hour)
	claim(t, e, sid("a", "2"), time.Hour, clean)
	claim(t, e, sid("a", "2"), time.Hour, func(c *engine.Claim) { c.UID = "another" })
	if got := stats(t, e, "a"); got.Persistent != 2 || got.Sessions != 3 || got.Held != 3 {
		t.Errorf("stats %+v", got)
	}
	if got := stats(t, e, ""); got.Persistent != 3 || got.Sessions != 4 {
		t.Errorf("stats of all %+v", got)
	}
	s.Crash(t)
	e = s.Open(t)
	limit(e, "a", quota.OrgSessions, 2)
	refused("4")
	one = claim(t, e, one.id, time.Hour)
	one.close(0)
	four := claim(t, e, sid("a", "4"), time.Hour)
	refused("5")
	limit(e, "a", quota.OrgSessions, 1) // what is there stays
	claim(t, e, sid("a", "2"), time.Hour)
	if err := e.Drop(context.Background(), four.id.Owner); err != nil {
		t.Fatal(err)
	}
	limit(e, "a", quota.OrgSessions, 2)
	claim(t, e, sid("a", "5"), time.Hour)
	refused("6")
	if err := e.Drop(context.Background(), auth.Principal{Org: "a", Kind: auth.AnyKind}); err != nil {
		t.Fatal(err)
	}
	claim(t, e, sid("a", "6"), time.Hour)
	claim(t, e, sid("a", "7"), time.Hour)
	refused("8")
}

// An organisation has no more subscriptions than it may. Those it has may be
// replaced.
func testOrgSubscriptions(t *testing.T, s Store) {
	e := s.Open(t)
	limit(e, "a", quota.OrgSubscriptions, 3)
	kept := claim(t, e, sid("a", "kept"), time.Hour)
	volatile := claim(t, e, sid("a", "volatile"), 0)
	kept.subscribe("1", 1)
	kept.subscribe("2", 1, inGroup("g"))
	volatile.subscribe("3", 1)
	refused := func(c *client, filters ...string) {
		t.Helper()
		var subs []engine.Subscription
		for _, f := range filters {
			subs = append(subs, engine.Subscription{Filter: filter(t, f), QoS: 1})
		}
		before := stats(t, e, "a").Subscriptions
		_, err := c.session.Subscribe(context.Background(), subs)
		wantExceeded(t, "subscribe", err, quota.OrgSubscriptions, 3)
		if after := stats(t, e, "a").Subscriptions; after != before {
			t.Errorf("%d subscriptions after a refusal, %d before", after, before)
		}
	}
	refused(kept, "4")
	refused(volatile, "4")
	refused(volatile, "3", "4")
	kept.subscribe("1", 2)
	volatile.subscribe("3", 0)
	claim(t, e, sid("b", "other"), 0).subscribe("4", 0)
	s.Crash(t)
	e = s.Open(t)
	limit(e, "a", quota.OrgSubscriptions, 3)
	kept = claim(t, e, kept.id, time.Hour)
	subs := []engine.Subscription{{Filter: filter(t, "4")}, {Filter: filter(t, "4"), QoS: 1}, {Filter: filter(t, "1")}}
	if _, err := kept.session.Subscribe(context.Background(), subs); err != nil {
		t.Errorf("subscribe to one more: %v", err)
	}
	refused(kept, "5")
	if _, err := kept.session.Unsubscribe(context.Background(), filter(t, "4"), ""); err != nil {
		t.Fatal(err)
	}
	kept.subscribe("5", 1)
	volatile = claim(t, e, sid("a", "volatile"), 0)
	refused(volatile, "6")
	kept.close(0)
	for i := range 3 {
		volatile.subscribe(fmt.Sprint(i), 0)
	}
	refused(volatile, "6")
}

// The queues of an organisation hold no more than it may have: a message goes
// into all that must get it or into none.
func testOrgQueue(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		org := "q" + t.Name()[len(t.Name())-5:]
		limit(e, org, quota.OrgQueue, 5)
		one := claim(t, e, sid(org, "1"), time.Hour)
		two := claim(t, e, sid(org, "2"), time.Hour)
		one.subscribe("+", 1)
		two.subscribe("both", 2)
		live := claim(t, e, sid(org, "live"), 0)
		live.subscribe("+", 0)
		publish(t, e, org, "both", "1", 1)
		publish(t, e, org, "both", "2", 2)
		refused := func(topic string) {
			t.Helper()
			before := stats(t, e, org)
			wantExceeded(t, "publish", tryPublish(t, e, org, topic, "more", 1), quota.OrgQueue, 5)
			wantExceeded(t, "publish", tryPublish(t, e, org, topic, "more", 2, retain), quota.OrgQueue, 5)
			if after := stats(t, e, org); after != before {
				t.Errorf("stats %+v, before the refusal %+v", after, before)
			}
		}
		refused("both")
		wantRetained(t, e, org, "#")
		publish(t, e, org, "one", "3", 1)
		refused("one")
		publish(t, e, org, "none/of/them", "x", 1)
		publish(t, e, org, "both", "live", 0)
		live.wantDelivered("1", "2", "3", "live")
		if got := stats(t, e, org); got.Queued != 5 {
			t.Errorf("%d queued", got.Queued)
		}
		bytes := stats(t, e, org).QueuedBytes
		restart(t)
		e = s.Open(t)
		limit(e, org, quota.OrgQueue, 5)
		if got := stats(t, e, org); got.Queued != 5 || got.QueuedBytes != bytes {
			t.Errorf("after the restart %+v", got)
		}
		refused("one")
		two = claim(t, e, two.id, time.Hour)
		all := two.wantRead("1", "2")
		two.release(all[1].Offset)
		two.ack(all)
		settle(t, e)
		publish(t, e, org, "both", "4", 1)
		refused("one")
		two.close(0)
		publish(t, e, org, "both", "5", 1)
		refused("one")
		if err := e.Drop(context.Background(), one.id.Owner); err != nil {
			t.Fatal(err)
		}
		if got := stats(t, e, org); got.Queued != 0 || got.QueuedBytes != 0 {
			t.Errorf("after the sessions %+v", got)
		}
		s.Close(t)
	})
}

func testOrgQueueBytes(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), time.Hour)
	c.subscribe("t", 1)
	publish(t, e, "a", "t", "1", 1)
	size := stats(t, e, "a").QueuedBytes
	most := 3 * size
	limit(e, "a", quota.OrgQueueBytes, most)
	wantExceeded(t, "publish", tryPublish(t, e, "a", "t", strings.Repeat("x", int(3*size)), 1), quota.OrgQueueBytes, most)
	publish(t, e, "a", "t", "2", 1)
	publish(t, e, "a", "t", "3", 1)
	wantExceeded(t, "publish", tryPublish(t, e, "a", "t", "4", 1), quota.OrgQueueBytes, most)
	s.Crash(t)
	e = s.Open(t)
	limit(e, "a", quota.OrgQueueBytes, most)
	wantExceeded(t, "publish", tryPublish(t, e, "a", "t", "4", 1), quota.OrgQueueBytes, most)
	// Retained messages that a subscription asks for count, and are left out.
	limit(e, "a", quota.OrgQueueBytes, 100*size)
	for i := range 3 {
		publish(t, e, "a", fmt.Sprint("r/", i), "r", 1, retain)
	}
	limit(e, "a", quota.OrgQueue, 5)
	c = claim(t, e, c.id, time.Hour)
	if got := c.subscribed("r/+", 1, always); got.LeftOut != 1 {
		t.Errorf("subscribed: %+v", got)
	}
	if got := stats(t, e, "a"); got.Queued != 5 {
		t.Errorf("stats %+v", got)
	}
}

// What is on its way to a session that ends meanwhile is counted no longer.
func testOrgQueueGone(t *testing.T, s Store) {
	e := s.Open(t)
	for range 20 {
		c := claim(t, e, sid("a", "c"), time.Hour)
		c.subscribe("t", 1)
		var wait sync.WaitGroup
		m := message(t, "a", "t", "m", 1)
		for n := range 100 {
			wait.Add(1)
			e.Publish(context.Background(), m, func(error) { wait.Done() })
			if n == 50 {
				wait.Go(func() { c.close(0) })
			}
		}
		wait.Wait()
		if got := stats(t, e, "a"); got != (engine.Stats{}) {
			t.Fatalf("stats %+v", got)
		}
	}
}

// An organisation retains no more messages than it may. A message that would be
// one too many goes to nobody.
func testOrgRetained(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		org := "r" + t.Name()[len(t.Name())-5:]
		limit(e, org, quota.OrgRetained, 2)
		live := claim(t, e, sid(org, "live"), 0)
		live.subscribe("#", 2)
		kept := claim(t, e, sid(org, "kept"), time.Hour)
		kept.subscribe("#", 1)
		publish(t, e, org, "1", "a", 1, retain)
		publish(t, e, org, "2", "b", 0, retain)
		settle(t, e)
		refused := func(topic string) {
			t.Helper()
			for q := range byte(3) {
				wantExceeded(t, "publish", tryPublish(t, e, org, topic, "more", q, retain), quota.OrgRetained, 2)
			}
			wantExceeded(t, "publish", kept.tryPublish(topic, "more", 2, 7, retain), quota.OrgRetained, 2)
		}
		refused("3")
		live.wantDelivered("a", "b")
		kept.wantRead("a")
		wantRetained(t, e, org, "#", "1=a", "2=b")
		publish(t, e, org, "3", "not retained", 1)
		publish(t, e, org, "3", "", 1, retain)
		publish(t, e, org, "1", "replaced, and longer", 1, retain)
		publish(t, e, "other", "3", "c", 1, retain)
		refused("3")
		restart(t)
		e = s.Open(t)
		limit(e, org, quota.OrgRetained, 2)
		kept = claim(t, e, kept.id, time.Hour)
		refused("3")
		publish(t, e, org, "1", "", 1, retain)
		publish(t, e, org, "1", "", 1, retain)
		publish(t, e, org, "3", "c", 1, retain)
		refused("1")
		wantRetained(t, e, org, "#", "2=b", "3=c")
		limit(e, org, quota.OrgRetained, 1) // what is there stays
		publish(t, e, org, "3", "d", 1, retain)
		wantRetained(t, e, org, "#", "2=b", "3=d")
		if got := stats(t, e, org); got.Retained != 2 {
			t.Errorf("stats %+v", got)
		}
		if err := e.Drop(context.Background(), auth.Principal{Org: auth.OrgID(org), Kind: auth.AnyKind}); err != nil {
			t.Fatal(err)
		}
		if got := stats(t, e, org); got != (engine.Stats{}) {
			t.Errorf("stats after the end %+v", got)
		}
		limit(e, org, quota.OrgRetained, 2)
		publish(t, e, org, "2", "a", 1, retain)
		publish(t, e, org, "4", "b", 1, retain)
		wantExceeded(t, "publish", tryPublish(t, e, org, "5", "more", 1, retain), quota.OrgRetained, 2)
	})
}

// Bytes are counted too: what grows is refused, what shrinks is not.
func testOrgRetainedBytes(t *testing.T, s Store) {
	e := s.Open(t)
	long := strings.Repeat("x", 1000)
	publish(t, e, "a", "1", "short", 1, retain)
	small := stats(t, e, "a").RetainedBytes
	publish(t, e, "a", "1", long, 1, retain)
	large := stats(t, e, "a").RetainedBytes
	publish(t, e, "a", "1", "short", 1, retain)
	if got := stats(t, e, "a").RetainedBytes; got != small || large < small+900 {
		t.Fatalf("%d bytes, want %d; large %d", got, small, large)
	}
	most := small + large
	limit(e, "a", quota.OrgRetainedBytes, most)
	publish(t, e, "a", "2", long, 1, retain)
	refused := func(topic, payload string) {
		t.Helper()
		wantExceeded(t, "publish", tryPublish(t, e, "a", topic, payload, 1, retain), quota.OrgRetainedBytes, most)
	}
	refused("3", "x")
	refused("1", "longer than before")
	s.Crash(t)
	e = s.Open(t)
	limit(e, "a", quota.OrgRetainedBytes, most)
	refused("3", "x")
	refused("1", "longer than before")
	publish(t, e, "a", "1", "same!", 1, retain)
	publish(t, e, "a", "2", "short", 1, retain)
	publish(t, e, "a", "3", "short", 1, retain)
	if got := stats(t, e, "a").RetainedBytes; got != 3*small {
		t.Errorf("%d bytes, want %d", got, 3*small)
	}
	for _, topic := range []string{"1", "2", "3"} {
		publish(t, e, "a", topic, "", 1, retain)
	}
	if got := stats(t, e, "a"); got != (engine.Stats{}) {
		t.Errorf("stats at the end %+v", got)
	}
}

// Many publish to the same few topics at once, in and out. There are never more
// than may be, and at the end there is room for exactly as many.
func testOrgLimitsRace(t *testing.T, s Store) {
	e := s.Open(t)
	const most = 5
	e.Limit("a", quota.Defaults().With(quota.OrgRetained, most).With(quota.OrgQueue, 40))
	sub := claim(t, e, sid("a", "sub"), time.Hour)
	sub.subscribe("q/#", 1)
	var wait sync.WaitGroup
	for p := range 6 {
		pub := claim(t, e, sid("a", fmt.Sprint("pub", p)), 0)
		wait.Go(func() {
			var under sync.WaitGroup
			for n := range 300 {
				payload := strings.Repeat("x", n%50)
				if n%3 == 0 {
					payload = ""
				}
				m := message(t, "a", fmt.Sprint("t/", (n+p)%8), payload, byte(n%3), retain)
				if n%5 == 0 {
					m = message(t, "a", fmt.Sprint("q/", n%2), "queued", 1)
				}
				under.Add(1)
				pub.session.Publish(context.Background(), m, 0, func(err error) {
					if _, _, ok := quota.ExceededBy(err); err != nil && !ok {
						t.Errorf("publish: %v", err)
					}
					under.Done()
				})
				if got := stats(t, e, "a"); got.Retained > most {
					t.Errorf("%d retained", got.Retained)
				}
				if n%97 == 0 && p == 0 {
					if err := e.Drop(context.Background(), auth.Principal{Org: "a", Kind: auth.Device, ID: "nobody"}); err != nil {
						t.Error(err)
					}
					e.Limit("a", quota.Defaults().With(quota.OrgRetained, most).With(quota.OrgQueue, 40))
				}
			}
			under.Wait()
		})
	}
	wait.Wait()
	settle(t, e)
	var got []string
	for round := range 2 {
		got = retained(t, e, "a", "#")
		if st := stats(t, e, "a"); st.Retained != int64(len(got)) || len(got) > most || st.Queued != 40 {
			t.Errorf("round %d: %d retained, %d queued; there are %q", round, st.Retained, st.Queued, got)
		}
		s.Crash(t)
		e = s.Open(t)
	}
	limit(e, "a", quota.OrgRetained, most)
	for i := range most - len(got) {
		publish(t, e, "a", fmt.Sprint("more/", i), "x", 1, retain)
	}
	wantExceeded(t, "publish", tryPublish(t, e, "a", "full", "x", 1, retain), quota.OrgRetained, most)
	for _, r := range retained(t, e, "a", "#") {
		topic, _, _ := strings.Cut(r, "=")
		publish(t, e, "a", topic, "", 1, retain)
	}
	if st := stats(t, e, "a"); st.Retained != 0 || st.RetainedBytes != 0 {
		t.Errorf("stats at the end %+v", st)
	}
}

// A whole organisation is dropped while it publishes, again and again.
func testOrgLimitsDrop(t *testing.T, s Store) {
	e := s.Open(t)
	for round := range 30 {
		limit(e, "a", quota.OrgRetained, 3)
		var wait sync.WaitGroup
		dropped := make(chan struct{})
		for p := range 3 {
			wait.Add(40)
			go func() {
				for n := range 40 {
					payload := strings.Repeat("x", (n*7+p)%100)
					m := message(t, "a", fmt.Sprint("t/", (n+p)%5), payload, 1, retain)
					e.Publish(context.Background(), m, func(err error) {
						if _, _, ok := quota.ExceededBy(err); err != nil && !ok && !errors.Is(err, engine.ErrDropped) {
							t.Errorf("publish: %v", err)
						}
						wait.Done()
					})
					if n == 20 && p == 0 {
						close(dropped)
					}
				}
			}()
		}
		<-dropped
		if err := e.Drop(context.Background(), auth.Principal{Org: "a", Kind: auth.AnyKind}); err != nil {
			t.Error(err)
		}
		wait.Wait()
		before := stats(t, e, "a")
		if n := len(retained(t, e, "a", "#")); int64(n) != before.Retained || n > 3 {
			t.Errorf("round %d: %d retained, stats %+v", round, n, before)
		}
		if round%10 == 9 {
			s.Crash(t)
			e = s.Open(t)
			if after := stats(t, e, "a"); after != before {
				t.Errorf("stats %+v after the crash, %+v before", after, before)
			}
		}
	}
}

// What expires makes room, and is counted no longer.
func testOrgLimitsExpiry(t *testing.T, s Store) {
	e := s.Open(t)
	limits := quota.Defaults().With(quota.OrgSessions, 1).With(quota.OrgQueue, 2).With(quota.OrgRetained, 2)
	e.Limit("a", limits)
	c := claim(t, e, sid("a", "c"), time.Minute)
	c.subscribe("t", 1)
	full := func(queued, kept bool) {
		t.Helper()
		if err := tryPublish(t, e, "a", "t", "x", 1); (err != nil) != queued {
			t.Errorf("publish to the queue: %v", err)
		}
		if err := tryPublish(t, e, "a", "other", "x", 1, retain); (err != nil) != kept {
			t.Errorf("publish retained: %v", err)
		}
	}
	publish(t, e, "a", "t", "1", 1, in(10*time.Second))
	publish(t, e, "a", "t", "2", 1, in(20*time.Second))
	publish(t, e, "a", "r/1", "1", 1, retain, in(10*time.Second))
	publish(t, e, "a", "r/2", "1", 1, retain, in(10*time.Second))
	publish(t, e, "a", "r/2", "2", 1, retain, in(20*time.Second)) // it goes on for longer
	publish(t, e, "a", "r/2", "2", 1, retain, in(20*time.Second))
	full(true, true)
	time.Sleep(11 * time.Second)
	synctest.Wait()
	if got := stats(t, e, "a"); got.Queued != 1 || got.Retained != 1 {
		t.Errorf("stats %+v", got)
	}
	full(false, false)
	full(true, false)
	c.close(time.Minute)
	s.Crash(t)
	e = s.Open(t)
	e.Limit("a", limits)
	time.Sleep(11 * time.Second)
	synctest.Wait()
	if got := stats(t, e, "a"); got.Queued != 1 || got.Retained != 1 {
		t.Errorf("stats %+v", got)
	}
	publish(t, e, "a", "other", "", 1, retain)
	time.Sleep(time.Minute)
	synctest.Wait()
	if got := stats(t, e, "a"); got != (engine.Stats{}) {
		t.Errorf("stats at the end %+v", got)
	}
	claim(t, e, sid("a", "another"), time.Hour)
}
