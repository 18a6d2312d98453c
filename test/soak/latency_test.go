package soak

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// latencies are the times from publishing to receiving, of messages whose
// receiver was connected before.
type latencies struct {
	name string

	mu  sync.Mutex // guards all
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *latencies) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return l.name + ": no latency was measured"
	}
	slices.Sort(l.all)
	at := func(p float64) time.Duration { return l.all[int(p*float64(len(l.all)-1))].Round(10 * time.Microsecond) }
	return fmt.Sprintf("%-5s: %d latencies, p50 %v, p90 %v, p99 %v, p99.9 %v, most %v",
		l.name, len(l.all), at(.5), at(.9), at(.99), at(.999), at(1))
}
