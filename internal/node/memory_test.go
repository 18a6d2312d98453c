package node

import "testing"

// Memory is given back once when it has become quiet, and not under load.
func TestQuiet(t *testing.T) {
	const mb = 1 << 20
	var q quiet
	for i, step := range []struct {
		what string
		heap heap
		want bool
	}{
		{"connections come", heap{allocs: 200 * mb, live: 50 * mb, held: 120 * mb}, false},
		{"more come", heap{allocs: 400 * mb, live: 90 * mb, held: 180 * mb}, false},
		{"it is quiet", heap{allocs: 401 * mb, live: 90 * mb, held: 180 * mb}, true},
	} {
		if got := q.look(step.heap); got != step.want {
			t.Fatalf("step %d, %s: %v", i, step.what, got)
		}
	}
	q.done = 402 * mb
	for i, step := range []struct {
		what string
		heap heap
		want bool
	}{
		{"it stays quiet, and nothing is left to give", heap{allocs: 403 * mb, live: 95 * mb, held: 96 * mb}, false},
		{"nor is it worth it again", heap{allocs: 404 * mb, live: 95 * mb, held: 180 * mb}, false},
		{"much happens", heap{allocs: 900 * mb, live: 95 * mb, held: 190 * mb}, false},
		{"and it is over", heap{allocs: 901 * mb, live: 95 * mb, held: 190 * mb}, true},
	} {
		if got := q.look(step.heap); got != step.want {
			t.Fatalf("then step %d, %s: %v", i, step.what, got)
		}
	}
}

// What the runtime is asked for is there.
func TestReadHeap(t *testing.T) {
	if h := readHeap(); h.allocs == 0 || h.held == 0 || h.held < h.live/2 {
		t.Errorf("not a heap: %+v", h)
	}
}
