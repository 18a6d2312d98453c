package registry

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
)

// A throttle bounds how often something is tried. Its memory is fixed: what it
// bounds share some thousands of places, so that nobody can push another's count
// out of it; in the worst case somebody waits for another.
type throttle struct {
	mu     sync.Mutex // guards places
	places [1 << 14]place
	seed   maphash.Seed
}

type place struct {
	tokens float64
	last   time.Time
}

func newThrottle() *throttle { return &throttle{seed: maphash.MakeSeed()} }

// at returns the place of key, with what it may have by now. mu is held.
func (t *throttle) at(key string, every time.Duration, burst int, now time.Time) *place {
	p := &t.places[maphash.String(t.seed, key)%uint64(len(t.places))]
	if p.last.IsZero() {
		p.tokens, p.last = float64(burst), now
	} else if d := now.Sub(p.last); d > 0 {
		p.tokens = min(float64(burst), p.tokens+float64(d)/float64(every))
		p.last = now
	}
	return p
}

// A try is something of which one more is free every so often, and burst at once.
type try struct {
	key   string
	every time.Duration
	burst int
}

// take takes one of each of tries, or none and returns how long to wait for it. It
// takes before the answer is known: else as many as come at one time are free.
func (t *throttle) take(now time.Time, tries ...try) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	var wait time.Duration
	for _, x := range tries {
		if p := t.at(x.key, x.every, x.burst, now); p.tokens < 1 {
			wait = max(wait, time.Second, time.Duration((1-p.tokens)*float64(x.every)))
		}
	}
	if wait > 0 {
		return wait
	}
	for _, x := range tries {
		t.at(x.key, x.every, x.burst, now).tokens--
	}
	return 0
}

// back gives back what was taken for an attempt that was good.
func (t *throttle) back(now time.Time, tries ...try) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range tries {
		p := t.at(x.key, x.every, x.burst, now)
		p.tokens = min(float64(x.burst), p.tokens+1)
	}
}

// tooMany is the answer to somebody who has to wait.
func tooMany(wait time.Duration) error {
	return errs.E(errs.Exhausted, "too many attempts; try again in %v", wait.Round(time.Second))
}
