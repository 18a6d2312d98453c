package node

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go's runtime lets a heap grow to twice what lives in it before it looks for
// garbage, and gives memory back slowly. After many connections have come, or
// gone, and then rest, that would stay so: nothing asks for memory, so nobody
// looks. giveBack looks when it has become quiet.
//
// It costs one collection in each quiet time, and none under load.

const (
	quietEvery = 2 * time.Second
	quietMost  = 4 << 20  // allocated within quietEvery, when it counts as quiet
	worthwhile = 16 << 20 // what may be won
)

// giveBack gives memory back to the system in quiet times, until ctx ends.
func giveBack(ctx context.Context) {
	t := time.NewTicker(quietEvery)
	defer t.Stop()
	var q quiet
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if q.look(readHeap()) {
			debug.FreeOSMemory()
			q.done = readHeap().allocs
		}
	}
}

// A heap is what the runtime says of its memory, in bytes.
type heap struct {
	allocs uint64 // in all, since the start
	live   uint64 // after the last collection
	held   uint64 // of the system
}

func readHeap() heap {
	s := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	return heap{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64() + s[3].Value.Uint64() + s[4].Value.Uint64()}
}

// quiet knows when it is quiet.
type quiet struct {
	last uint64 // allocs when it looked last
	done uint64 // allocs when memory was given back last
}

// look reports whether it is quiet, and memory is worth giving back.
func (q *quiet) look(h heap) bool {
	busy := h.allocs-q.last > quietMost
	q.last = h.allocs
	return !busy && h.allocs-q.done > worthwhile && h.held > h.live+min(h.live/8, worthwhile)+worthwhile/2
}
