package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		sorted []int64
		p      float64
		want   int64
	}{
		{nil, 0.5, 0},
		{[]int64{7}, 0.999, 7},
		{[]int64{1, 2}, 0.5, 1},
		{[]int64{1, 2, 3}, 0.5, 2},
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 0.999, 100},
		{hundred, 1, 100},
		{hundred, 0, 1},
	} {
		if got := percentile(c.sorted, c.p); got != c.want {
			t.Errorf("percentile of %d values at %v: got %d, want %d", len(c.sorted), c.p, got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	values := []float64{9, 1, 5}
	if got := median(values); got != 5 || values[0] != 9 {
		t.Errorf("median of three: %v, and the values are now %v", got, values)
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median of four: %v", got)
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of none: %v", got)
	}
}

func TestTable(t *testing.T) {
	r := Result{Title: "row"}
	for _, v := range []float64{2, 4, 3} {
		r.add("µs", "ours", v)
		r.add("µs", "theirs", 2*v)
	}
	r.add("rate", "ours", 123456)
	var b strings.Builder
	if err := writeTable(&b, []string{"ours", "theirs"}, []Result{r}); err != nil {
		t.Fatal(err)
	}
	want := `
| row | measure |             ours |           theirs | ours / theirs |
| --- | ------- | ---------------: | ---------------: | ------------: |
| row | µs      | 3.00 (2.00–4.00) | 6.00 (4.00–8.00) |          0.50 |
|     | rate    |           123456 |                – |             – |
`
	if got := "\n" + b.String(); got != want {
		t.Errorf("got:%swant:%s", got, want)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 123456: "123456"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}

func TestParseStat(t *testing.T) {
	// The command holds what a careless parser would trip over.
	const stat = "42 (a) (b c) S 1 42 42 0 -1 4194560 1234 0 0 0 150 25 9 9 20 0 7 0 5000 1 2\n"
	u, err := parseStat([]byte(stat))
	want := usage{User: 1500 * time.Millisecond, System: 250 * time.Millisecond, Threads: 7, MinorFaults: 1234}
	if err != nil || u != want {
		t.Errorf("got %+v, %v; want %+v", u, err, want)
	}
	if u.cpu() != 1750*time.Millisecond {
		t.Errorf("processor time %v", u.cpu())
	}
	for _, bad := range []string{"", "42 a S 1", "42 (a) S 1 2 3", strings.Replace(stat, " 150 ", " many ", 1)} {
		if u, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %+v", bad, u)
		}
	}
}

func TestParseRollup(t *testing.T) {
	n, err := parseRollup([]byte("00400000-7ffd [rollup]\nRss:                1024 kB\nPss:  99 kB\n"))
	if err != nil || n != 1<<20 {
		t.Errorf("got %d, %v; want a mebibyte", n, err)
	}
	for _, bad := range []string{"", "Pss: 1 kB\n", "Rss: 1 MB\n", "Rss: x kB\n", "Rss:\n"} {
		if n, err := parseRollup([]byte(bad)); err == nil {
			t.Errorf("%q is taken for %d", bad, n)
		}
	}
}

// TestUsage reads this very process, which has certainly done something.
func TestUsage(t *testing.T) {
	u, err := readUsage(os.Getpid())
	if err != nil || u.Resident < 1<<20 || u.Threads < 1 {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := readUsage(1 << 30); err == nil {
		t.Error("a process that is not there has used something")
	}
}

func TestChoose(t *testing.T) {
	rows, err := chooseRows("fan-in,connect")
	if got := strings.Join(rowNames(rows), " "); err != nil || got != "fan-in-0 fan-in-1 fan-in-0-4k fan-in-1-4k connect connect-resumed connect-mutual" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"none", ","} {
		if rows, err := chooseRows(bad); err == nil {
			t.Errorf("rows %q are %v", bad, rowNames(rows))
		}
	}
	for _, bad := range []string{"", "nobody", "floor,floor", "floor,"} {
		if _, err := choosePeers(bad, "bin/keepmq"); err == nil {
			t.Errorf("peers %q are accepted", bad)
		}
	}
	if _, err := choosePeers("keepmq", filepath.Join(t.TempDir(), "keepmq")); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("a server that is not built: %v", err)
	}
}

// TestMain lets the test program be the floor's other process, as the bench is.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == fleetArg {
		exit(serveFleet(os.Stdin, os.Stdout))
	}
	if len(os.Args) == 5 && os.Args[1] == relayArg {
		exit(serveRelay(os.Stdout, os.Args[2], os.Args[3], os.Args[4]))
	}
	os.Exit(m.Run())
}

// TestRun measures the floor for a moment, and checks that nothing got lost
// and that the report is complete.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", filepath.Join(dir))
	b := &bench{peers: []Peer{relay{}}, rounds: 2, seconds: 100 * time.Millisecond, connections: 50,
		out: filepath.Join(dir, "out"), profile: dir, stdout: io.Discard, stderr: io.Discard}
	small := fanIn(1)
	small.pubs, small.window = 8, 1000 // room for a machine that is busy
	wide := fanOut(1)
	wide.subs, wide.copies = 5, 5
	rows := []row{{"in", "in", saturation(small)}, {"out", "out", saturation(wide)}, {"steady", "steady", latency(small)}, {"connect", "connect", connects(full)},
		{"connect-resumed", "resumed", connects(resumed)}, {"connect-mutual", "mutual", connects(mutual)}, {"storm", "storm", storm}}
	var out bytes.Buffer
	b.stdout = &out
	if err := b.run(context.Background(), rows); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "out", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("results: %v, %v", files, err)
	}
	body, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var report Report
	if err := json.Unmarshal(body, &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Rows) != len(rows) {
		t.Fatalf("%d rows", len(report.Rows))
	}
	for _, r := range report.Rows {
		if len(r.Notes) > 0 || r.Failed {
			t.Errorf("%s: %v", r.Name, r.Notes)
		}
		for _, m := range r.Measures {
			v := m.Values["floor"]
			if r.Name != "storm" && len(v) != b.rounds || len(v) == 0 || strings.HasSuffix(m.Name, "per second") && v[0] <= 0 {
				t.Errorf("%s, %s: %v", r.Name, m.Name, v)
			}
		}
		if !strings.HasPrefix(r.Name, "connect") && r.Name != "storm" {
			if _, err := os.Stat(filepath.Join(dir, r.Name+"-floor-2.csv")); err != nil {
				t.Error(err)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "keepmq-bench-*")); len(left) > 0 {
		t.Errorf("folders are left: %v", left)
	}
}

// ours is the relay under the name of our server.
type ours struct{ relay }

func (ours) Name() string { return keepmq{}.Name() }

func (o ours) Start(ctx context.Context, dir string) (*Broker, error) {
	b, err := o.relay.Start(ctx, dir)
	if err == nil {
		b.Peer = o
	}
	return b, err
}

// TestFailed: a peer that ends is noted and ends its row early. If it is ours, it
// fails the run.
func TestFailed(t *testing.T) {
	for _, peer := range []Peer{relay{}, ours{}} {
		t.Run(peer.Name(), func(t *testing.T) { testFailed(t, peer) })
	}
}

func testFailed(t *testing.T, peer Peer) {
	b := &bench{peers: []Peer{peer}, rounds: 3, seconds: 100 * time.Millisecond,
		out: t.TempDir(), stdout: io.Discard, stderr: io.Discard}
	calls := 0
	err := b.run(context.Background(), []row{{"dead", "dead", func(ctx context.Context, b *bench, r *Result) error {
		return b.turns(ctx, r, func(broker *Broker, n int) error {
			calls++
			broker.Stop()
			_, err := broker.dial(ctx, 0, "c", true)
			return err
		})
	}}})
	_, mine := peer.(ours)
	if calls != 1 || mine != (err != nil && strings.Contains(err.Error(), "dead")) {
		t.Errorf("got %v after %d calls", err, calls)
	}
}

// TestLoss: what a broker swallows is counted, and later messages still flow.
func TestLoss(t *testing.T) {
	l := &load{shape: fanIn(0)}
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	p := newSender(l, nil, 3)
	l.senders = []*sender{p}
	for i := range p.slots {
		if !p.put(int64(i)) {
			t.Fatalf("slot %d is not free", i)
		}
	}
	if p.put(0) {
		t.Error("a full window takes another message")
	}
	p.part(0)
	p.part(0) // twice
	if got := l.extra.Load(); got != 1 {
		t.Errorf("%d deliveries too many are counted, want 1", got)
	}
	if got := l.missing(); got != int64(len(p.slots)-1) {
		t.Errorf("%d deliveries are missing, want %d", got, len(p.slots)-1)
	}
	lost, err := l.drain()
	if err != nil || lost != int64(len(p.slots)-1) {
		t.Errorf("lost %d, %v; want %d", lost, err, len(p.slots)-1)
	}
	if !p.put(0) {
		t.Error("no slot is free after the drain")
	}
}
