package audit

import (
	"testing"

	"github.com/keepmq/keepmq/internal/store"
)

// BenchmarkAppend is one change with one event: what every write of the control
// plane costs at least, with its sync.
func BenchmarkAppend(b *testing.B) {
	l := newLog(b, 1000)
	for b.Loop() {
		err := l.db.Update(b.Context(), func(tx *store.Tx) error { return Append(b.Context(), tx, event(1)) })
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	l := newLog(b, 10000)
	for b.Loop() {
		if err := l.Verify(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/event")
}
