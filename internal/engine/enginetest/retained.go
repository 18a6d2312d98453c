package enginetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/engine"
)

func testRetained(t *testing.T, s Store) {
	e := s.Open(t)
	wantRetained(t, e, "a", "#")
	publish(t, e, "a", "x", "1", 1, retain)
	publish(t, e, "a", "x", "ignored", 1)
	wantRetained(t, e, "a", "x", "x=1")
	publish(t, e, "a", "x", "2", 1, retain)
	wantRetained(t, e, "a", "x", "x=2")
	wantRetained(t, e, "b", "#")
	publish(t, e, "b", "x", "theirs", 1, retain)
	publish(t, e, "a", "x", "", 1, retain)
	wantRetained(t, e, "a", "#")
	wantRetained(t, e, "b", "#", "x=theirs")
}

func testRetainedWildcards(t *testing.T, s Store) {
	e := s.Open(t)
	for _, n := range []string{"a", "a/b", "a/b/c", "a!", "ab", "b", "$SYS/a", "/", "a/"} {
		publish(t, e, "o", n, "v", 1, retain)
	}
	// An organisation whose name continues that of another.
	publish(t, e, "oo", "a", "v", 1, retain)
	tests := map[string][]string{
		"a":      {"a=v"},
		"a/#":    {"a/=v", "a/b/c=v", "a/b=v", "a=v"},
		"a/+":    {"a/=v", "a/b=v"},
		"+":      {"a!=v", "a=v", "ab=v", "b=v"},
		"#":      {"/=v", "a!=v", "a/=v", "a/b/c=v", "a/b=v", "a=v", "ab=v", "b=v"},
		"+/b":    {"a/b=v"},
		"+/+":    {"/=v", "a/=v", "a/b=v"},
		"a/b/#":  {"a/b/c=v", "a/b=v"},
		"$SYS/#": {"$SYS/a=v"},
		"c":      nil,
		"c/#":    nil,
	}
	for f, want := range tests {
		wantRetained(t, e, "o", f, want...)
	}
}

// Retained sees what was published before, durable or not.
func testRetainedPending(t *testing.T, s Store) {
	e := s.Open(t)
	pub := claim(t, e, sid("a", "pub"), 0)
	var wait sync.WaitGroup
	for i := range 200 {
		p := fmt.Sprint(i)
		if i%10 == 9 {
			p = ""
		}
		wait.Add(1)
		pub.session.Publish(context.Background(), message(t, "a", "x", p, byte(i%3), retain), 0, func(err error) {
			if err != nil {
				t.Errorf("publish: %v", err)
			}
			wait.Done()
		})
		want := []string{"x=" + p}
		if p == "" {
			want = nil
		}
		wantRetained(t, e, "a", "#", want...)
		wantRetained(t, e, "a", "x", want...)
	}
	wait.Wait()
	wantRetained(t, e, "a", "#")
}

func testRetainedKept(t *testing.T, s Store) {
	e := s.Open(t)
	for i := range 20 {
		publish(t, e, "a", fmt.Sprint("t/", i), "old", 1, retain)
		publish(t, e, "a", fmt.Sprint("t/", i), fmt.Sprint(i), 2, retain)
	}
	publish(t, e, "a", "t/7", "", 1, retain)
	s.Crash(t)
	e = s.Open(t)
	if got := retained(t, e, "a", "t/+"); len(got) != 19 {
		t.Errorf("%d retained messages, want 19: %v", len(got), got)
	}
	wantRetained(t, e, "a", "t/7")
	wantRetained(t, e, "a", "t/8", "t/8=8")
}

func testRetainedQoS0(t *testing.T, s Store) {
	e := s.Open(t)
	c := claim(t, e, sid("a", "c"), 0)
	c.subscribe("x", 0, func(s *engine.Subscription) { s.RetainAsPublished = true })
	publish(t, e, "a", "x", "0", 0, retain)
	if d := c.wantDelivered("0"); !d[0].Retain {
		t.Error("delivered without the flag it was published with")
	}
	wantRetained(t, e, "a", "x", "x=0")
	s.Close(t)
	e = s.Open(t)
	wantRetained(t, e, "a", "x", "x=0")
}
