// Package sources reads this machine's own sensors.
//
// A source that the machine does not have is left out, and one that fails says
// so without keeping the others from being read.
package sources

import (
	"context"
	"errors"
	"math"
	"time"
)

// A Source is one sensor, or several of a kind. It may remember the last
// reading, to tell rates; so only one goroutine may read it.
type Source struct {
	// Name is a word that can be a level of a topic.
	Name string
	// Read returns the fields of one reading: numbers, text or booleans.
	// ErrAbsent says that this machine has no such sensor, ErrLater that the
	// first reading is the base of those that follow.
	Read func(ctx context.Context) (map[string]any, error)
}

// What Read may return instead of a reading.
var (
	ErrAbsent = errors.New("this machine has no such sensor")
	ErrLater  = errors.New("there will be a reading next time")
)

// Host returns the sources of this machine.
func Host() []Source {
	return []Source{
		{"cpu", cpuUse()},
		{"load", loadAverage},
		{"memory", memory},
		{"disk", diskUse},
		{"diskio", diskRates()},
		{"network", networkRates()},
		{"temperature", temperatures},
	}
}

// rate tells how fast counters grow.
type rate struct {
	now  func() time.Time
	at   time.Time
	last map[string]uint64
}

// per returns the growth per second of each counter since the last call. A
// counter that is new, or that was set back, has none this time.
func (r *rate) per(counters map[string]uint64) (map[string]float64, error) {
	now := r.now()
	seconds, last := now.Sub(r.at).Seconds(), r.last
	r.at, r.last = now, counters
	if last == nil || seconds <= 0 {
		return nil, ErrLater
	}
	out := map[string]float64{}
	for name, n := range counters {
		if before, ok := last[name]; ok && n >= before {
			out[name] = round(float64(n-before) / seconds)
		}
	}
	return out, nil
}

// round keeps two decimals: more are noise, and cost the device's bandwidth.
func round(f float64) float64 { return math.Round(f*100) / 100 }
