package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUpTo(t *testing.T) {
	for most, want := range map[int][]int{1: {1}, 5: {1, 5}, 10: {1, 10}, 11: {1, 10, 11}, 5000: {1, 10, 100, 5000}} {
		if got := upTo(most, 1, 10, 100); !slices.Equal(got, want) {
			t.Errorf("up to %d: %v, want %v", most, got, want)
		}
	}
}

func TestGrowthTable(t *testing.T) {
	var r Result
	for _, v := range []float64{2, 1, 6} { // the median of the ratios 2, 0.25 and 1, not 2/4
		r.point("orgs", "stored", "ours", 1, v, map[float64]float64{2: 1, 1: 4, 6: 6}[v])
	}
	r.point("orgs", "stored", "ours", 10, 3, 2)
	r.point("orgs", "collected", "ours", 10, 100, 2)
	var b strings.Builder
	if err := writeGrowth(&b, []Result{{}, r}); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("█", 40)
	fill := strings.Repeat(" ", 40)
	want := `
Growth
| grows | broker | CPU per message | ` + fill + ` | size |               µs | µs of one that did not grow | ratio |
| ----- | ------ | --------------- | ` + strings.Repeat("-", 40) + ` | ---: | ---------------: | --------------------------: | ----: |
| orgs  | ours   | stored          | ██████████` + fill[10:] + ` |    1 | 2.00 (1.00–6.00) |            4.00 (1.00–6.00) |  1.00 |
|       |        |                 | ███████████████` + fill[15:] + ` |   10 |             3.00 |                        2.00 |  1.50 |
| orgs  | ours   | collected       | ` + long + ` |   10 |              100 |                        2.00 | 50.00 |
`
	if got := b.String(); got != want {
		t.Errorf("got:%swant:%s", got, want)
	}
	b.Reset()
	if err := writeGrowth(&b, []Result{{}}); err != nil || b.Len() > 0 {
		t.Errorf("no curve is shown as %q, %v", b.String(), err)
	}
}

// TestGrow lets connections to the floor grow, and checks that each size has
// its rounds.
func TestGrow(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	b := &bench{peers: []Peer{relay{}}, rounds: 2, seconds: 100 * time.Millisecond, connections: 30, stdout: io.Discard, stderr: io.Discard}
	var r Result
	if err := growConnections(context.Background(), b, &r); err != nil || r.Failed || len(r.Notes) > 0 {
		t.Fatal(err, r.Notes)
	}
	if len(r.Curves) != 1 || len(r.Curves[0].Points) != 2 {
		t.Fatalf("curves: %+v", r.Curves)
	}
	for i, p := range r.Curves[0].Points {
		if p.Size != []int{10, 30}[i] || len(p.Values) != b.rounds || len(p.Beside) != b.rounds {
			t.Errorf("point %d: %+v", i, p)
		}
	}
}

// TestExactly: what is asked for is sent, no more, whatever the share of each.
func TestExactly(t *testing.T) {
	b := &bench{}
	err := b.fresh(t.Context(), relay{}, "", func(broker *Broker) error {
		l, err := connectLoad(t.Context(), broker, few())
		if err != nil {
			return err
		}
		defer l.close()
		for _, n := range []int{0, 1, 203} {
			if m, err := l.exactly(n); err != nil || m.delivered != int64(n) || m.lost != 0 || m.extra != 0 {
				t.Errorf("%d messages: %+v, %v", n, m, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSyncOneByOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	took, err := syncOneByOne(file, 100, time.Millisecond)
	if err != nil || len(took) == 0 {
		t.Fatal(took, err)
	}
	if s, err := os.Stat(file); err != nil || s.Size() != int64(100*len(took)) {
		t.Errorf("%v, %v; want %d records", s, err, len(took))
	}
	if _, err := syncOneByOne(filepath.Join(file, "below"), 100, 0); err == nil {
		t.Error("a file below a file was made")
	}
}
