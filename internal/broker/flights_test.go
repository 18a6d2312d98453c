package broker

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/engine"
)

// A table of flights does what a map does.
func TestFlights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f flights
		want := map[uint16]outgoing{}
		next := rapid.Uint16().Draw(t, "first")
		ids := rapid.OneOf(rapid.Uint16(), rapid.Uint16Range(1, 20), rapid.Map(rapid.Bool(), func(bool) uint16 { next++; return next }))
		for i := range rapid.IntRange(0, 300).Draw(t, "steps") {
			id := ids.Draw(t, "id")
			if m, ok := f.get(id); m != want[id] || ok != (want[id] != outgoing{}) {
				t.Fatalf("step %d: get %d: %v, %v, want %v", i, id, m, ok, want[id])
			}
			if id != 0 && rapid.IntRange(0, 2).Draw(t, "put") > 0 {
				m := outgoing{offset: engine.Offset(i + 1), qos: byte(i % 2)}
				f.put(id, m)
				want[id] = m
			} else {
				f.remove(id)
				delete(want, id)
			}
			if f.len() != len(want) {
				t.Fatalf("step %d: %d messages, want %d", i, f.len(), len(want))
			}
		}
		for id, m := range want {
			if got, ok := f.get(id); !ok || got != m {
				t.Errorf("get %d: %v, %v, want %v", id, got, ok, m)
			}
			f.remove(id)
		}
		if f.len() != 0 {
			t.Errorf("%d messages are left", f.len())
		}
	})
}
