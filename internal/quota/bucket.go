package quota

import (
	"sync/atomic"
	"time"
)

// A Bucket bounds a rate, with bursts of two seconds' worth. The zero Bucket is
// full. It may be used by many goroutines, and has no lock.
type Bucket struct {
	// empty is when all that was taken will have run in again, in Unix
	// nanoseconds: the virtual schedule of the generic cell rate algorithm (ITU-T I.371).
	empty atomic.Int64
}

// burst is how much may be taken at once, as the time in which it runs in again.
const burst = 2 * time.Second

// Take takes n out of the bucket, into which rate run per second, and returns
// how long the taker has to wait before it goes on. If that is longer than
// patience nothing is taken, and ok is false.
func (b *Bucket) Take(n, rate int64, now time.Time, patience time.Duration) (wait time.Duration, ok bool) {
	if n <= 0 {
		return 0, true
	}
	cost := costOf(n, rate)
	at := now.UnixNano()
	for {
		old := b.empty.Load()
		empty := max(old, at) + cost
		wait := time.Duration(empty - at - int64(burst))
		if cost > int64(burst) {
			wait = time.Duration(empty - at - cost) // more than the bucket holds goes when it is full
		}
		if wait > patience {
			return wait, false
		}
		if b.empty.CompareAndSwap(old, empty) {
			return max(wait, 0), true
		}
	}
}

// Return puts n back that were taken.
func (b *Bucket) Return(n, rate int64) {
	if n > 0 {
		b.empty.Add(-costOf(n, rate))
	}
}

// costOf returns the time in which n run into a bucket, in nanoseconds.
func costOf(n, rate int64) int64 {
	whole, rest := int64(0), n
	if n >= rate { // a division takes longer than all else
		whole, rest = n/rate, n%rate
	}
	return whole*int64(time.Second) + int64(float64(rest)/float64(rate)*float64(time.Second))
}
