// Package crash ends the real server in every way it may end — killed, cut off
// from its power, out of disk, interrupted while it stops, with damaged files —
// and checks that nothing it acknowledged is lost.
//
// Strict clients keep the state that the standard gives to a client, across
// every restart, and note what they send and what they are told. At the end the
// checker compares what was acknowledged with what arrived. The checker itself
// is tested with histories that are wrong.
//
// KEEPMQ_CRASH_KILLS sets how often the server is killed, KEEPMQ_CRASH_SEED
// repeats the choices of an earlier run, which every run prints. What the
// operating system makes of them differs from run to run.
package crash

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// number returns what an environment variable says, or def.
func number(t *testing.T, name string, def int64) int64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// seed returns the seed of this run.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(number(t, "KEEPMQ_CRASH_SEED", time.Now().UnixNano()%1e9))
	t.Logf("KEEPMQ_CRASH_SEED=%d", n)
	return n
}

// Kill -9 at any time loses nothing that was acknowledged.
func TestKill(t *testing.T) {
	kills := int(number(t, "KEEPMQ_CRASH_KILLS", 60))
	w := newWorld(t, filepath.Join(t.TempDir(), "data"), seed(t))
	w.cast()
	for n := 0; n < kills && !t.Failed(); n++ {
		w.live(w.choose())
		if n%40 == 39 { // queues are not to grow for ever
			w.gather()
		}
	}
	w.finish()
	w.report(kills)
}

// A power cut is worse than a kill: what was written and not synced is gone. The
// server is killed first, because a sync that is under way while ext4 is shut
// down may be reported as done, and is not.
func TestPowerCut(t *testing.T) {
	if !root(t) {
		return
	}
	d := newDisk(t, 600)
	w := newWorld(t, d.data(), seed(t))
	w.cast()
	cuts := int(number(t, "KEEPMQ_CRASH_KILLS", 60)) / 3
	w.between = func() {
		d.cut()
		d.again()
	}
	for n := 0; n < cuts && !t.Failed(); n++ {
		w.live(w.choose())
		if n%40 == 39 {
			w.gather()
		}
	}
	w.between = func() {}
	w.finish()
	w.report(cuts)
}

// choose decides when the next life of the server ends.
func (w *world) choose() ending {
	switch n := w.rng.IntN(100); {
	case n < 10: // while it starts
		return ending{starting: time.Duration(w.rng.IntN(250)) * time.Millisecond}
	case n < 20: // while everybody comes back
		return ending{after: time.Duration(w.rng.IntN(60)) * time.Millisecond}
	case n < 55: // at an acknowledgement
		return ending{after: time.Second, acks: 1 + w.rng.Int64N(800)}
	}
	return ending{after: time.Duration(20+w.rng.IntN(580)) * time.Millisecond}
}

// SIGKILL while the server is stopping loses no more than SIGKILL before.
func TestInterruptedStop(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "data"), seed(t))
	w.cast()
	for n := 0; n < 14 && !t.Failed(); n++ {
		e := ending{after: time.Duration(50+w.rng.IntN(300)) * time.Millisecond, term: true}
		e.grace = time.Duration(w.rng.IntN(200)) * time.Millisecond
		if n%4 == 3 {
			e.grace = time.Minute // as it should be
		}
		w.live(e)
	}
	w.finish()
	w.report(14)
}

func newRand(seed, stream uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, stream)) }
