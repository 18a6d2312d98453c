package quota_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
)

// Each limit says everything about itself, and its default is one that may be set.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range quota.All() {
		least, most := l.Range()
		if d := l.Default(); least < 1 || d < least || d > most {
			t.Errorf("%s: default %d, range %d to %d", l, d, least, most)
		}
		scope, _, _ := strings.Cut(l.String(), ".")
		if scope != "client" && scope != "type" && scope != "org" || l.OfOrg() != (scope == "org") {
			t.Errorf("%s: of an organisation %v", l, l.OfOrg())
		}
		if seen[l.String()] || l.About() == "" || l.AtLimit() == "" {
			t.Errorf("%s: twice, or not described", l)
		}
		seen[l.String()] = true
		if again, ok := quota.Named(l.String()); !ok || again != l {
			t.Errorf("Named(%s) = %v, %v", l, again, ok)
		}
	}
	if _, ok := quota.Named("client.nothing"); ok {
		t.Error("found a limit that is not there")
	}
}

func TestLayers(t *testing.T) {
	low := quota.Limits{}.With(quota.ClientQueue, 10).With(quota.ClientQueueFull, quota.EndSession)
	high := quota.Limits{}.With(quota.ClientQueue, 1_000_000).With(quota.OrgRetained, 5)
	base := quota.Defaults()
	raised, lowered := high.Over(base), low.Under(high.Over(base))
	for _, tt := range []struct {
		in   quota.Limits
		l    quota.Limit
		want int64
	}{
		{raised, quota.ClientQueue, 1_000_000},
		{raised, quota.OrgRetained, 5},
		{raised, quota.ClientPacket, quota.ClientPacket.Default()},
		{lowered, quota.ClientQueue, 10},
		{lowered, quota.OrgRetained, 5},
		{lowered, quota.ClientQueueFull, quota.EndSession},
		{high.Under(base), quota.ClientQueue, quota.ClientQueue.Default()},
		{low.Under(quota.Limits{}), quota.ClientQueue, 10},
	} {
		if got := tt.in.Get(tt.l); got != tt.want {
			t.Errorf("%s is %d, want %d", tt.l, got, tt.want)
		}
	}
}

func TestText(t *testing.T) {
	s := quota.Limits{}.With(quota.ClientQueue, 10).With(quota.ClientQueueFull, quota.EndSession).With(quota.OrgByteRate, 1<<33)
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back quota.Limits
	if err := json.Unmarshal(j, &back); err != nil || back != s {
		t.Errorf("%s is read as %+v, %v", j, back, err)
	}
	y, err := yaml.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	over := quota.Defaults()
	if err := yaml.Unmarshal(y, &over); err != nil || over != s.Over(quota.Defaults()) {
		t.Errorf("%s is read as %+v, %v", y, over, err)
	}
}

func TestMistakes(t *testing.T) {
	for in, want := range map[string]string{
		`{"client.queue": 0}`:                 "client.queue: 0 is not within 1 and 10000000",
		`{"client.queue": -1}`:                "client.queue: -1 is not",
		`{"client.queue": 1.5}`:               "client.queue: 1.5 is not",
		`{"client.queue": 1e300}`:             "client.queue: 1e300 is not",
		`{"client.queue": "many"}`:            "client.queue: many is not",
		`{"client.queue": null}`:              "client.queue: <nil> is not",
		`{"client.packet": 1000}`:             "client.packet: 1000 is not within 1024",
		`{"client.queue_full": "forget"}`:     "client.queue_full: must be refuse or end_session",
		`{"client.queue_full": 1}`:            "client.queue_full: must be",
		`{"queue": 1, "client.inflight": 0}`:  "queue: there is no such limit",
		`{"queue": 1, "client.inflight": "0}`: "unexpected end",
		`[]`:                                  "cannot unmarshal",
	} {
		var s quota.Limits
		err := json.Unmarshal([]byte(in), &s)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
	_, err := quota.Parse(map[string]any{"queue": 1, "client.inflight": 0, "client.queue": 5})
	if errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), "queue: there is no such limit") || !strings.Contains(errs.Message(err), "client.inflight: 0") {
		t.Errorf("not every mistake is reported: %v", err)
	}
}

func TestExceeded(t *testing.T) {
	err := fmt.Errorf("publish: %w", quota.Exceeded(quota.OrgRetained, 7))
	l, v, ok := quota.ExceededBy(err)
	if l != quota.OrgRetained || v != 7 || !ok || errs.CodeOf(err) != errs.Exhausted || !strings.Contains(errs.Message(err), "org.retained is 7") {
		t.Errorf("%v: %v, %v, %v", err, l, v, ok)
	}
	if _, _, ok := quota.ExceededBy(errors.New("another")); ok {
		t.Error("another error is one of a limit")
	}
}

// Two seconds' worth go at once, then one at a time as they run in.
func TestBucket(t *testing.T) {
	var b quota.Bucket
	now := time.Unix(1_000_000, 0)
	take := func(n, rate int64, patience, want time.Duration, ok bool) {
		t.Helper()
		wait, got := b.Take(n, rate, now, patience)
		if wait.Round(time.Microsecond) != want || got != ok {
			t.Errorf("Take(%d, %d): %v, %v, want %v, %v", n, rate, wait, got, want, ok)
		}
	}
	for range 20 {
		take(1, 10, 0, 0, true)
	}
	take(1, 10, 0, 100*time.Millisecond, false)
	take(1, 10, time.Second, 100*time.Millisecond, true)
	take(1, 10, time.Second, 200*time.Millisecond, true)
	b.Return(2, 10)
	take(1, 10, time.Second, 100*time.Millisecond, true)
	now = now.Add(time.Hour)
	take(20, 10, 0, 0, true)
	now = now.Add(time.Hour)
	take(50, 10, 0, 0, true) // more than it ever holds: it goes when the bucket is full
	take(1, 10, 10*time.Second, 3100*time.Millisecond, true)
	now = now.Add(1000 * time.Hour)
	take(256<<20, 1024, 0, 0, true)
	take(0, 10, 0, 0, true)
}

func TestLog(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	g := quota.NewLog(func() time.Time { now = now.Add(time.Second); return now })
	e := quota.Event{Org: "a", Principal: "device:a:t:d", Client: "c", Limit: quota.ClientQueue, Value: 5, Outcome: quota.Refused}
	g.Add(e)
	e.Value = 6
	g.Add(e)
	e.Outcome = quota.Dropped
	g.Add(e)
	e.Org = "b"
	g.Add(e)
	all := g.Events("a")
	if len(all) != 2 || all[0].Outcome != quota.Dropped || all[1].Count != 2 || all[1].Value != 6 || all[1].Last.Sub(all[1].First) != time.Second {
		t.Errorf("events of a: %+v", all)
	}
	for i := range 5000 {
		g.Add(quota.Event{Org: "a", Principal: fmt.Sprint(i)})
	}
	all = g.Events("a")
	if len(all) > 500 || len(all) < 300 || all[0].Principal != "4999" {
		t.Errorf("%d events, the first of %s", len(all), all[0].Principal)
	}
	g.Forget("a")
	if len(g.Events("a")) != 0 || len(g.Events("b")) != 1 {
		t.Error("the wrong events are forgotten")
	}
	for i := range 1000 { // all together have room for less than half of this
		for k := range 450 {
			g.Add(quota.Event{Org: fmt.Sprint("org", i), Principal: fmt.Sprint(k)})
		}
	}
	kept := 0
	for i := range 1000 {
		kept += len(g.Events(fmt.Sprint("org", i)))
	}
	if kept > 200_000 || kept < 190_000 || len(g.Events("org999")) != 450 {
		t.Errorf("%d events are kept in all, %d of the last organisation", kept, len(g.Events("org999")))
	}
	(*quota.Log)(nil).Add(e)
}

func FuzzLimits(f *testing.F) {
	f.Add(`{"client.queue": 10, "client.queue_full": "end_session"}`)
	f.Add(`{"client.queue": 1e300}`)
	f.Fuzz(func(t *testing.T, in string) {
		var s, back quota.Limits
		if json.Unmarshal([]byte(in), &s) != nil {
			return
		}
		j, err := json.Marshal(s)
		if err != nil || json.Unmarshal(j, &back) != nil || back != s {
			t.Fatalf("%q is %+v, which is %s", in, s, j)
		}
	})
}

func TestChange(t *testing.T) {
	old := quota.Limits{}.With(quota.ClientQueue, 5).With(quota.OrgRetained, 7)
	got, err := old.Change(map[string]any{"client.queue": nil, "client.queue_full": "end_session", "org.retained": json.Number("9"), "client.packet": nil})
	if want := (quota.Limits{}).With(quota.ClientQueueFull, quota.EndSession).With(quota.OrgRetained, 9); err != nil || got != want {
		t.Errorf("got %v, %v", got.Map(), err)
	}
	if got.Value(quota.ClientQueueFull) != "end_session" || got.Value(quota.OrgRetained) != int64(9) || got.Value(quota.ClientQueue) != nil {
		t.Errorf("values %v", got.Map())
	}
	_, err = old.Change(map[string]any{"client.queue": 0, "client.hats": nil, "org.hats": 3, "client.packet": "many", "client.queue_full": 1})
	for _, name := range []string{"client.queue: 0 is not within 1 and 10000000", "client.hats", "org.hats", "client.packet", "client.queue_full: must be"} {
		if err == nil || !strings.Contains(errs.Message(err), name) {
			t.Errorf("%q does not say %q", errs.Message(err), name)
		}
	}
}

// A client's name is as long as the client likes; what is remembered of it is not.
func TestLogShortensNames(t *testing.T) {
	g := quota.NewLog(nil)
	g.Add(quota.Event{Org: "abc123", Client: strings.Repeat("é", 30_000)})
	if got := g.Events("abc123")[0].Client; len(got) > 210 || !strings.HasSuffix(got, "é…") {
		t.Errorf("kept %d bytes", len(got))
	}
}
