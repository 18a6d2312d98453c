package registry

import (
	"hash/maphash"
	"sync"
	"time"
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
		p.tokens = float64(burst)
	} else if d := now.Sub(p.last); d > 0 {
		p.tokens = min(float64(burst), p.tokens+float64(d)/float64(every))
	}
	p.last = now
	return p
}

// wait returns how long to wait until one more try of key is free, of which there
// is one every so often, and burst at once. 0: it is free now.
func (t *throttle) wait(key string, every time.Duration, burst int, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.at(key, every, burst, now); p.tokens < 1 {
		return max(time.Second, time.Duration((1-p.tokens)*float64(every)))
	}
	return 0
}

// count counts a try of key.
func (t *throttle) count(key string, every time.Duration, burst int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.at(key, every, burst, now)
	p.tokens = max(0, p.tokens-1)
}
