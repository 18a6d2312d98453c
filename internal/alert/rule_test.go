package alert

import (
	"fmt"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
)

func TestBursts(t *testing.T) {
	for kind, th := range thresholds {
		d, now := NewDetector(), time.Unix(1_700_000_000, 0)
		f := Fact{Kind: kind, Org: "abc123", Who: "device:t:d", Client: "c", Address: "192.0.2.1"}
		see := func() bool {
			_, ok := d.Observe(f, now)
			return ok
		}
		for range th.count - 1 {
			if see() {
				t.Fatalf("%s: too early", th.rule)
			}
		}
		other := f
		other.Org = "xyz789"
		if _, ok := d.Observe(other, now); ok && th.count > 1 {
			t.Errorf("%s: another organisation's facts are counted", th.rule)
		}
		if !see() {
			t.Errorf("%s: nothing after %d", th.rule, th.count)
		}
		if see() {
			t.Errorf("%s: said twice", th.rule)
		}
		// The same at a slower pace is usual, where one alone is.
		now = now.Add(th.within + time.Second)
		for i := range 3 * th.count {
			if see() && th.count > 1 {
				t.Fatalf("%s: slow facts are a burst after %d", th.rule, i)
			}
			now = now.Add(th.within/time.Duration(th.count-1+1) + time.Second + th.within/10)
		}
	}
}

// What strangers do cannot take more memory than there is for it.
func TestBounded(t *testing.T) {
	d, now := NewDetector(), time.Unix(1_700_000_000, 0)
	for i := range maxSubjects + 1000 {
		d.Observe(Fact{Kind: ConnectRefused, Org: "abc123", Address: fmt.Sprint(i)}, now)
		d.Traffic(auth.Principal{Org: "abc123", Kind: auth.Device, ID: fmt.Sprint(i)}, 1)
	}
	if len(d.bursts) > maxSubjects || len(d.habits) > maxSubjects {
		t.Errorf("%d and %d are remembered", len(d.bursts), len(d.habits))
	}
}

func TestTraffic(t *testing.T) {
	who := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "t:d"}
	for _, tt := range []struct {
		name   string
		usual  func(minute int) int64
		latest int64
		want   bool
	}{
		{"a steady one surges", func(int) int64 { return 60 }, 3000, true},
		{"a steady one sends a little more", func(int) int64 { return 60 }, 110, false},
		{"a silent one speaks", func(int) int64 { return 0 }, 100, false},
		{"a silent one shouts", func(int) int64 { return 0 }, 1000, true},
		{"a busy one is busy", func(int) int64 { return 6000 }, 9000, false},
		{"one in bursts has another", func(m int) int64 { return int64(m%5/4) * 2000 }, 2200, false},
		{"one falls silent", func(int) int64 { return 600 }, 0, false},
	} {
		d := NewDetector()
		for m := range 120 {
			if a, ok := d.Traffic(who, tt.usual(m)); ok && m > learning {
				t.Errorf("%s: in minute %d already: %s", tt.name, m, a.Summary)
			}
		}
		if _, ok := d.Traffic(who, tt.latest); ok != tt.want {
			t.Errorf("%s: %v", tt.name, ok)
		}
	}
	d := NewDetector()
	for m := range learning {
		if _, ok := d.Traffic(who, int64(m%2)*5000); ok {
			t.Errorf("unusual in minute %d, with no habit yet", m)
		}
	}
}

func TestNewPlace(t *testing.T) {
	home := SignIn{"p", "192.0.2.7", "Firefox"}
	for name, tt := range map[string]struct {
		now    SignIn
		before []SignIn
		want   int
	}{
		"the first":          {home, nil, 0},
		"the same":           {home, []SignIn{home}, 0},
		"same network, port": {SignIn{"p", "192.0.2.99:4711", "Firefox"}, []SignIn{home}, 0},
		"another network":    {SignIn{"p", "198.51.100.1", "Firefox"}, []SignIn{home}, 1},
		"another device":     {SignIn{"p", "192.0.2.7", "curl"}, []SignIn{home}, 1},
		"both":               {SignIn{"p", "2001:db8::1", "curl"}, []SignIn{home}, 2},
		"one of two":         {SignIn{"p", "2001:db8:0:9::1", "curl"}, []SignIn{home, {"p", "2001:db8::1", "curl"}}, 0},
	} {
		if got := NewPlace(tt.now, tt.before); len(got) != tt.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
