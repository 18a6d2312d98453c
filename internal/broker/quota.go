package broker

import "time"

// A bucket holds what a client may send at once: two seconds' worth.
type bucket struct {
	tokens float64
	last   time.Time
}

// take takes one message out of the bucket, into which rate run per second. It
// reports whether there was one.
func (b *bucket) take(rate float64, now time.Time) bool {
	size := max(1, 2*rate)
	if b.last.IsZero() {
		b.tokens = size
	} else {
		b.tokens = min(size, b.tokens+rate*now.Sub(b.last).Seconds())
	}
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
