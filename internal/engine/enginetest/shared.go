package enginetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

// member is a session of the application "app" in organisation a.
func member(client string) engine.SessionID {
	return engine.SessionID{Owner: owner("a", "app"), Client: client}
}

func testSharedBalance(t *testing.T, s Store) {
	e := s.Open(t)
	var members []*client
	for i := range 4 {
		c := claim(t, e, member(fmt.Sprint(i)), time.Duration(i%2)*time.Hour)
		c.subscribe("t/+", 1, inGroup("g"))
		members = append(members, c)
	}
	all := claim(t, e, sid("a", "all"), 0)
	all.subscribe("t/+", 1)
	const n = 100
	for i := range n {
		publish(t, e, "a", "t/x", fmt.Sprint(i), byte(i%2))
	}
	total := 0
	for _, c := range members {
		got := len(c.take()) + len(c.read())
		total += got
		if got < n/4-5 || got > n/4+5 {
			t.Errorf("member %s got %d of %d messages", c.id.Client, got, n)
		}
	}
	if total != n {
		t.Errorf("the group got %d messages, want %d", total, n)
	}
	if got := len(all.take()); got != n {
		t.Errorf("who does not share got %d messages, want %d", got, n)
	}
}

func testSharedPrefersHeld(t *testing.T, s Store) {
	e := s.Open(t)
	off := claim(t, e, member("off"), time.Hour)
	off.subscribe("t", 1, inGroup("g"))
	off.close(time.Hour)
	on := claim(t, e, member("on"), 0)
	on.subscribe("t", 1, inGroup("g"))
	for range 10 {
		publish(t, e, "a", "t", "m", 1)
	}
	if got := len(on.take()); got != 10 {
		t.Errorf("who is connected got %d of 10", got)
	}
	claim(t, e, member("off"), time.Hour).wantRead()
}

func testSharedOffline(t *testing.T, s Store) {
	e := s.Open(t)
	for _, id := range []string{"1", "2"} {
		c := claim(t, e, member(id), time.Hour)
		c.subscribe("t", 1, inGroup("g"))
		c.close(time.Hour)
	}
	for i := range 10 {
		publish(t, e, "a", "t", fmt.Sprint(i), 1)
		publish(t, e, "a", "t", "lost", 0)
	}
	s.Crash(t)
	e = s.Open(t)
	seen := map[string]bool{}
	for _, id := range []string{"1", "2"} {
		for _, en := range claim(t, e, member(id), time.Hour).read() {
			p := string(en.Message.Payload)
			if seen[p] {
				t.Errorf("%s came twice", p)
			}
			seen[p] = true
		}
	}
	if len(seen) != 10 || seen["lost"] {
		t.Errorf("got %v", seen)
	}
}

func testSharedOwners(t *testing.T, s Store) {
	e := s.Open(t)
	mine := claim(t, e, sid("a", "mine"), 0)
	theirs := claim(t, e, sid("a", "theirs"), 0)
	foreign := claim(t, e, sid("b", "mine"), 0)
	for _, c := range []*client{mine, theirs, foreign} {
		c.subscribe("t", 1, inGroup("g"))
	}
	for range 6 {
		publish(t, e, "a", "t", "m", 1)
	}
	// Whoever takes the name of a group of another owner takes nothing from it.
	for _, c := range []*client{mine, theirs} {
		if got := len(c.take()); got != 6 {
			t.Errorf("%s got %d of 6", c.id.Client, got)
		}
	}
	foreign.wantDelivered()
}

func testSharedFull(t *testing.T, s Store) {
	e := s.Open(t)
	for _, id := range []string{"1", "2"} {
		c := claim(t, e, member(id), time.Hour, func(c *engine.Claim) { c.Queue = 3 })
		c.subscribe("t", 1, inGroup("g"))
		c.close(time.Hour)
	}
	pub := claim(t, e, sid("a", "pub"), 0)
	for i := range 6 {
		pub.publish("t", fmt.Sprint(i), 1)
	}
	wantErr(t, "publish to a full group", pub.tryPublish("t", "6", 1, 0), engine.ErrQueueFull)
	total := 0
	for _, id := range []string{"1", "2"} {
		total += len(claim(t, e, member(id), time.Hour).read())
	}
	if total != 6 {
		t.Errorf("the group kept %d messages, want 6", total)
	}
}

func testSharedLeave(t *testing.T, s Store) {
	e := s.Open(t)
	one := claim(t, e, member("1"), 0)
	two := claim(t, e, member("2"), 0)
	one.subscribe("t", 0, inGroup("g"))
	two.subscribe("t", 0, inGroup("g"))
	one.close(0)
	for range 4 {
		publish(t, e, "a", "t", "m", 0)
	}
	if got := len(two.take()); got != 4 {
		t.Errorf("who stayed got %d of 4", got)
	}
	if existed, err := two.session.Unsubscribe(context.Background(), filter(t, "t"), "g"); !existed || err != nil {
		t.Errorf("unsubscribe: %v, %v", existed, err)
	}
	publish(t, e, "a", "t", "m", 0)
	two.wantDelivered()
}
