package alert

import (
	"fmt"
	"testing"
	"time"
)

func TestBursts(t *testing.T) {
	for kind, th := range thresholds {
		d, now := NewDetector(), time.Unix(1_700_000_000, 0)
		f := Fact{Kind: kind, Org: "abc123", Who: "device:t:d", Address: "192.0.2.1"}
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
	}
	if len(d.bursts) > maxSubjects {
		t.Errorf("%d are remembered", len(d.bursts))
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
