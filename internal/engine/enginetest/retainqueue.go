package enginetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

func wants(when engine.RetainedWhen) func(*engine.Subscription) {
	return func(s *engine.Subscription) { s.Retained = when }
}

// always asks for the retained messages.
func always(s *engine.Subscription) { s.Retained = engine.RetainedAlways }

func testRetainedQueued(t *testing.T, s Store) {
	e := s.Open(t)
	for q := range byte(3) {
		publish(t, e, "a", fmt.Sprint("t/", q), fmt.Sprint("r", q), q, retain)
		publish(t, e, "b", fmt.Sprint("t/", q), "theirs", q, retain)
	}
	publish(t, e, "a", "u", "other", 2, retain)
	c := claim(t, e, sid("a", "c"), time.Hour)
	if got, want := c.subscribed("t/#", 2, withID(7), always), (engine.Subscribed{Queued: true, Direct: 1, Last: 2}); got != want {
		t.Errorf("subscribed: %+v, want %+v", got, want)
	}
	c.wantWake()
	publish(t, e, "a", "t/1", "live", 1, retain)
	all := c.wantRead("r1", "r2", "live")
	for i, d := range []engine.Delivery{{QoS: 1, Retain: true}, {QoS: 2, Retain: true}, {QoS: 1}} {
		got := all[i].Delivery
		if got.QoS != d.QoS || got.Retain != d.Retain || !slices.Equal(got.IDs, []uint32{7}) || all[i].Sent {
			t.Errorf("entry %d: %+v, want %+v", i, all[i], d)
		}
	}
	c.wantDelivered()
	c.ack(all)
	if got := c.subscribed("t/2", 1, always); got.Existed || got.LeftOut != 0 || got.Direct != 0 {
		t.Errorf("subscribed: %+v", got)
	}
	if again := c.wantRead("r2"); again[0].Delivery.QoS != 1 || again[0].Delivery.IDs != nil {
		t.Errorf("effective delivery %+v", again[0].Delivery)
	}
}

// Who asks for none, is in a group, has QoS 0 or no queue gets none queued.
func testRetainedQueuedWhen(t *testing.T, s Store) {
	e := s.Open(t)
	publish(t, e, "a", "t", "r", 2, retain)
	c := claim(t, e, sid("a", "c"), time.Hour)
	for i, test := range []struct {
		when                    engine.RetainedWhen
		qos                     byte
		group                   string
		existed, queued, unsubs bool
	}{
		{when: engine.RetainedNever, qos: 1},
		{when: engine.RetainedIfNew, qos: 1, existed: true},
		{when: engine.RetainedAlways, qos: 1, existed: true, queued: true},
		{when: engine.RetainedAlways, qos: 0, existed: true, unsubs: true},
		{when: engine.RetainedIfNew, qos: 1, queued: true},
		{when: engine.RetainedAlways, qos: 2, group: "g"},
	} {
		if got := c.subscribed("t", test.qos, wants(test.when), inGroup(test.group)); got.Existed != test.existed || got.Queued != test.queued {
			t.Errorf("%d: subscribed %+v, want %+v", i, got, test)
		}
		if test.queued {
			c.wantRead("r")
		} else {
			c.wantRead()
		}
		if test.unsubs {
			if _, err := c.session.Unsubscribe(context.Background(), filter(t, "t"), ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	volatile := claim(t, e, sid("a", "volatile"), 0)
	if got := volatile.subscribed("t", 2, always); got != (engine.Subscribed{}) {
		t.Errorf("subscribed without a queue: %+v", got)
	}
	volatile.wantRead()
	// What was asked for is not part of the subscription that goes on.
	back := claim(t, e, sid("a", "c"), time.Hour)
	for _, sub := range back.claimed.Subscriptions {
		if sub.Retained != engine.RetainedNever {
			t.Errorf("kept: %+v", sub)
		}
	}
}

// A queued retained message is resent under its offset until it is
// acknowledged, whatever becomes of the topic.
func testRetainedQueuedKept(t *testing.T, s Store) {
	restarts(t, s, func(t *testing.T, restart func(*testing.T)) {
		e := s.Open(t)
		id := sid("a", t.Name())
		publish(t, e, "a", "t/1", "1", 1, retain)
		publish(t, e, "a", "t/2", "2", 2, retain)
		c := claim(t, e, id, time.Hour)
		c.subscribe("t/+", 2, always)
		first := c.wantRead("1", "2")
		publish(t, e, "a", "t/2", "", 1, retain)
		restart(t)
		e = s.Open(t)
		c = claim(t, e, id, time.Hour)
		again := c.wantRead("1", "2", "")
		for i := range first {
			if again[i].Offset != first[i].Offset || again[i].Delivery.QoS != first[i].Delivery.QoS || !again[i].Delivery.Retain || !again[i].Sent {
				t.Errorf("again %+v, first %+v", again[i], first[i])
			}
		}
		c.ack(again)
		settle(t, e)
		restart(t)
		e = s.Open(t)
		c = claim(t, e, id, time.Hour)
		c.wantRead()
		c.close(0)
		publish(t, e, "a", "t/1", "", 1, retain)
	})
}

func testRetainedQueuedMany(t *testing.T, s Store) {
	e := s.Open(t)
	var want []string
	for i := range Limits.Queue / 2 {
		want = append(want, fmt.Sprintf("%04d%s", i, strings.Repeat("x", i%7*1000)))
		publish(t, e, "a", fmt.Sprintf("t/%04d", i), want[i], 1, retain)
	}
	c := claim(t, e, sid("a", "c"), time.Hour)
	if got := c.subscribed("t/+", 1, always); got.LeftOut != 0 || got.Direct != 0 {
		t.Errorf("subscribed: %+v", got)
	}
	s.Crash(t)
	e = s.Open(t)
	all := claim(t, e, sid("a", "c"), time.Hour).read()
	if len(all) != len(want) {
		t.Fatalf("read %d, want %d", len(all), len(want))
	}
	for i := range all {
		if string(all[i].Message.Payload) != want[i] {
			t.Fatalf("entry %d: %.4s, want %.4s", i, all[i].Message.Payload, want[i])
		}
	}
}

// The rest of what finds no room is left out; the subscription stands.
func testRetainedQueuedFull(t *testing.T, s Store) {
	e := s.Open(t)
	for i := range 9 {
		publish(t, e, "a", fmt.Sprint("t/", i), fmt.Sprint(i), 1, retain)
	}
	publish(t, e, "a", "t/9", "direct", 0, retain)
	c := claim(t, e, sid("a", "c"), time.Hour, func(k *engine.Claim) { k.Queue = 6 })
	c.subscribe("u", 1)
	publish(t, e, "a", "u", "before", 1)
	if got, want := c.subscribed("t/#", 1, always), (engine.Subscribed{Queued: true, Direct: 1, LeftOut: 4, Last: 6}); got != want {
		t.Errorf("subscribed: %+v, want %+v", got, want)
	}
	if err := c.tryPublish("t/1", "no room", 1, 0); !errors.Is(err, engine.ErrQueueFull) {
		t.Errorf("publish to a full queue: %v", err)
	}
	c.ack(c.wantRead("before", "0", "1", "2", "3", "4"))
	settle(t, e)
	publish(t, e, "a", "t/1", "room", 1)
	c.wantRead("room")
}

// A value of each topic goes up, in retained and in other messages. Whoever
// subscribes meanwhile sees it go up, and gets no retained message twice.
func testRetainedQueuedOrder(t *testing.T, s Store) {
	e := s.Open(t)
	const topics = 20
	for i := range topics {
		publish(t, e, "a", fmt.Sprint("t/", i), "0", 1, retain)
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for p := range 4 {
		pub := claim(t, e, sid("a", fmt.Sprint("pub", p)), 0)
		under := make(chan struct{}, 4)
		wait.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprint("t/", p*topics/4+n%(topics/4))
				m := message(t, "a", name, fmt.Sprint(n), byte(1+n%2))
				m.Retain = n%3 == 0
				under <- struct{}{}
				pub.session.Publish(context.Background(), m, 0, func(err error) {
					if <-under; err != nil && !errors.Is(err, engine.ErrQueueFull) {
						t.Errorf("publish: %v", err)
					}
				})
			}
		})
	}
	for round := range 30 {
		c := claim(t, e, sid("a", fmt.Sprint("sub", round)), time.Hour, func(k *engine.Claim) { k.Queue = 1 << 20 })
		became := c.subscribed("t/+", 2, always)
		last := map[string]int{}
		seen := map[string]bool{}
		for _, r := range c.read() {
			name := r.Message.Topic.String()
			n, err := strconv.Atoi(string(r.Message.Payload))
			if err != nil {
				t.Fatal(err)
			}
			if was, ok := last[name]; ok && n <= was {
				t.Errorf("round %d: %s: %d comes after %d (retained %v)", round, name, n, was, r.Delivery.Retain)
			}
			if r.Delivery.Retain && seen[name] {
				t.Errorf("round %d: %s: retained message not at the beginning", round, name)
			}
			last[name], seen[name] = n, true
		}
		if len(seen) != topics {
			t.Errorf("round %d: got messages of %d topics; %+v", round, len(seen), became)
		}
		c.close(0)
	}
	close(stop)
	wait.Wait()
}

// What is replaced or cleared is not queued, even before that is durable.
func testRetainedQueuedCleared(t *testing.T, s Store) {
	e := s.Open(t)
	pub := claim(t, e, sid("a", "pub"), 0)
	var wait sync.WaitGroup
	for i := range 100 {
		var want []string
		id := sid("a", fmt.Sprint("c", i))
		c := claim(t, e, id, time.Hour)
		for k := range 3 {
			p := fmt.Sprint(i, k)
			if (i+k)%4 == 3 {
				p = ""
			} else {
				want = append(want, p)
			}
			wait.Add(1)
			pub.session.Publish(context.Background(), message(t, "a", fmt.Sprint("t/", k), p, 1, retain), 0, func(err error) {
				if err != nil {
					t.Errorf("publish: %v", err)
				}
				wait.Done()
			})
		}
		c.subscribe("t/#", 1, always)
		got := c.read()
		var payloads []string
		for _, r := range got {
			payloads = append(payloads, string(r.Message.Payload))
		}
		slices.Sort(payloads) // the topics are in any order
		if slices.Sort(want); !slices.Equal(payloads, want) {
			t.Fatalf("round %d: got %q, want %q", i, payloads, want)
		}
		c.close(0)
	}
	wait.Wait()
}

// Losing the session in between ends the subscribing, and leaves nothing behind.
func testRetainedQueuedLost(t *testing.T, s Store) {
	e := s.Open(t)
	for i := range 300 {
		publish(t, e, "a", fmt.Sprint("t/", i), "r", 1, retain)
	}
	for range 10 {
		c := claim(t, e, sid("a", "c"), time.Hour, clean)
		done := make(chan error, 1)
		go func() {
			_, err := c.session.Subscribe(context.Background(), []engine.Subscription{{Filter: filter(t, "#"), QoS: 1, Retained: engine.RetainedAlways}})
			done <- err
		}()
		next := claim(t, e, sid("a", "c"), time.Hour)
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, engine.ErrLost) {
				t.Errorf("subscribe: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("subscribe does not return")
		}
		before := len(next.read())
		next.subscribe("t/1", 1, always)
		if got := len(next.read()); got != 1 {
			t.Errorf("read %d after %d", got, before)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := next.session.Subscribe(ctx, []engine.Subscription{{Filter: filter(t, "#"), QoS: 1, Retained: engine.RetainedAlways}}); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("subscribe: %v", err)
		}
		settle(t, e) // it may subscribe, though nobody waits for it
		publish(t, e, "a", "t/2", "live", 1)
		if all := next.read(); len(all) == 0 || string(all[len(all)-1].Message.Payload) != "live" {
			t.Errorf("read %d entries", len(all))
		}
	}
}

// A retained message that has expired is not queued; one that expires in the
// queue goes as any other, though the next of its topic stays.
func testRetainedQueuedExpiry(t *testing.T, s Store) {
	e := s.Open(t)
	publish(t, e, "a", "t/1", "over", 1, retain, in(time.Second))
	publish(t, e, "a", "t/2", "short", 1, retain, in(time.Minute))
	publish(t, e, "a", "t/3", "long", 1, retain, in(time.Hour))
	time.Sleep(2 * time.Second)
	c := claim(t, e, sid("a", "c"), 3*time.Hour)
	if got := c.subscribed("t/+", 1, always); got.Direct != 0 || got.LeftOut != 0 {
		t.Errorf("subscribed: %+v", got)
	}
	if n := queued(t, e).Queued; n != 2 {
		t.Errorf("%d queued", n)
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	if n := queued(t, e).Queued; n != 1 {
		t.Errorf("%d queued after one expired", n)
	}
	if all := c.wantRead("long"); all[0].Offset != 2 || all[0].Message.Expires.IsZero() {
		t.Errorf("entry %+v", all[0])
	}
}
