package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// varied returns an event that differs from others in everything that is
// searched for.
func varied(i int) Event {
	org := auth.OrgID([]string{"abc123", "def456"}[i%2])
	return Event{
		Org: org, Actor: auth.Principal{Org: org, Kind: auth.Application, ID: fmt.Sprint("key", i%3)},
		Action: []string{"device.create", "device.delete", "type.create", "signin"}[i/2%4], Target: fmt.Sprint("t", i%5),
		Address: []string{"", "192.0.2.1", "2001:db8::1"}[i%3], RequestID: []string{"", fmt.Sprint("r", i/6)}[i/3%2],
	}
}

// addVaried appends n events a second apart; every tenth is of the time of the
// one before, and every 25th of an earlier one, as when a clock is put right.
func addVaried(t testing.TB, l *Log, n int) {
	t.Helper()
	start := time.Unix(1_700_000_000, 0)
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		for i := range n {
			at := start.Add(time.Duration(i) * time.Second)
			switch {
			case i%25 == 24:
				at = at.Add(-20 * time.Second)
			case i%10 == 9:
				at = at.Add(-time.Second)
			}
			if err := appendEvent(t.Context(), tx, varied(i), at, "salt"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// searchAll reads every page of a search.
func searchAll(t testing.TB, l *Log, s Scope, f Filter, limit int) (all []int64) {
	t.Helper()
	for page := (Page{Limit: limit}); ; {
		records, next, err := l.Search(t.Context(), s, f, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			all = append(all, r.Seq)
		}
		if page.After = next; next == "" {
			return all
		}
		if len(all) > 10_000 {
			t.Fatal("the search has no end")
		}
	}
}

// everyFilter returns all combinations of what varied can be searched for.
func everyFilter() (all []Filter) {
	start := time.Unix(1_700_000_000, 0)
	for _, actor := range []string{"", "application:abc123:key1", "application:def456:key1"} {
		for _, action := range []string{"", "device.", "device.create", "signin", "signin.", "devic."} {
			for _, target := range []string{"", "t3", "%"} {
				for _, address := range []string{"", "192.0.2.1"} {
					for _, request := range []string{"", "r3", "r4"} {
						for _, span := range [][2]time.Time{{}, {start.Add(20 * time.Second)}, {{}, start.Add(90 * time.Second)}, {start.Add(20 * time.Second), start.Add(90 * time.Second)}} {
							all = append(all, Filter{actor, action, target, address, request, span[0], span[1]})
						}
					}
				}
			}
		}
	}
	return all
}

// TestSearch compares with looking at every record.
func TestSearch(t *testing.T) {
	l := newLog(t, 0)
	addVaried(t, l, 120)
	everything := map[Scope][]Record{}
	for _, s := range []Scope{{Org: "abc123"}, {Org: "def456"}, {All: true}, {}} {
		records, _, err := l.Search(t.Context(), s, Filter{}, Page{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if !s.All && r.Org != s.Org {
				t.Fatalf("a record of %q among those of %q", r.Org, s.Org)
			}
		}
		everything[s] = records
		if !slices.IsSortedFunc(records, func(a, b Record) int { return b.Time.Compare(a.Time) }) {
			t.Errorf("%+v: not newest first", s)
		}
	}
	if a, b, c := len(everything[Scope{Org: "abc123"}]), len(everything[Scope{All: true}]), len(everything[Scope{}]); a != 60 || b != 120 || c != 0 {
		t.Fatalf("%d, %d and %d records", a, b, c)
	}
	found := 0
	for _, f := range everyFilter() {
		for s, records := range everything {
			var want []int64
			for _, r := range records {
				if (f.Actor == "" || r.Actor == f.Actor) && (f.Target == "" || r.Target == f.Target) &&
					(f.Action == "" || r.Action == f.Action || strings.HasSuffix(f.Action, ".") && strings.HasPrefix(r.Action+".", f.Action)) &&
					(f.Address == "" || r.Address == f.Address) && (f.RequestID == "" || r.RequestID == f.RequestID) &&
					!r.Time.Before(f.From) && (f.Until.IsZero() || r.Time.Before(f.Until)) {
					want = append(want, r.Seq)
				}
			}
			found += len(want)
			for _, limit := range []int{7, 1000} {
				if got := searchAll(t, l, s, f, limit); !slices.Equal(got, want) {
					t.Fatalf("%+v %+v by %d: %v, want %v", s, f, limit, got, want)
				}
			}
		}
	}
	if found < 1000 {
		t.Errorf("all filters together found %d records only", found)
	}
}

func TestSearchRefused(t *testing.T) {
	l := newLog(t, 1)
	for want, f := range map[string]Filter{
		"actor must have at most 512 bytes": {Actor: strings.Repeat("x", 513)},
		"target must be UTF-8":              {Target: "\xff"},
		"address must be UTF-8 without NUL": {Address: "\x00"},
		"action must be":                    {Action: "device.create."},
		`a kind with a dot`:                 {Action: "."},
		"from must be before until":         {From: time.Unix(2, 0), Until: time.Unix(2, 0)},
		"until must be within":              {Until: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"from must be within":               {From: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC)},
		"request must have at most":         {RequestID: strings.Repeat("x", 600)},
	} {
		if _, _, err := l.Search(t.Context(), Scope{All: true}, f, Page{}); errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
	for _, after := range []string{"x", "1", "1.", ".1", "1.-1", "01.1", "1.1.1", "1.1 ", "9223372036854775808.0"} {
		if _, _, err := l.Search(t.Context(), Scope{All: true}, Filter{}, Page{After: after}); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("after %q: %v, want a refusal", after, err)
		}
	}
}

// Every search is one range of one index, from the position on and in its order,
// so that a page costs the same however many records there are.
func TestSearchesUseAnIndex(t *testing.T) {
	dbtest.OnlySQLite(t, "PostgreSQL decides by what is in the tables")
	l := newLog(t, 0)
	org := Scope{Org: "abc123"}
	for _, tc := range []struct {
		s         Scope
		f         Filter
		index, on string
	}{
		{org, Filter{}, "by_time", "org=?"},
		{org, Filter{Actor: "a"}, "by_actor", "org=? AND actor=?"},
		{org, Filter{Action: "device.create"}, "by_action", "org=? AND action=?"},
		{org, Filter{Action: "device."}, "by_noun", "org=? AND noun=?"},
		{org, Filter{Target: "t"}, "by_target", "org=? AND target=?"},
		{org, Filter{Address: "::1"}, "by_address", "org=? AND address=?"},
		{org, Filter{RequestID: "r"}, "by_request", "org=? AND request=?"},
		{org, Filter{"a", "device.", "t", "::1", "r", time.Time{}, time.Time{}}, "by_request", "org=? AND request=?"},
		{org, Filter{Actor: "a", Action: "device.create", Target: "t"}, "by_target", "org=? AND target=?"},
		{Scope{All: true}, Filter{}, "all", ""},
		{Scope{All: true}, Filter{Actor: "a"}, "all", ""},
		{Scope{All: true}, Filter{RequestID: "r"}, "all_request", "request=?"},
	} {
		for _, span := range []Filter{{}, {From: time.Unix(1, 0), Until: time.Unix(2, 0)}} {
			f, on := tc.f, strings.TrimPrefix(tc.on+" AND (at,seq)<(?,?)", " AND ")
			f.From, f.Until = span.From, span.Until
			q, args := f.query(tc.s, place{at: 1 << 60}, 10)
			plan := explain(t, l, q, args)
			want := "SEARCH audit_search USING INDEX audit_search_" + tc.index + " (" + on + ")"
			if len(plan) != 1 || plan[0] != want {
				t.Errorf("%+v %+v is read as %q, want %q", tc.s, f, plan, want)
			}
		}
	}
}

// explain returns how SQLite runs a query.
func explain(t *testing.T, l *Log, q string, args []any) (plan []string) {
	t.Helper()
	err := l.db.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+q, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				return err
			}
			plan = append(plan, detail)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// fill makes n records that are only to be searched for, of one actor.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	err := l.db.Update(store.ForAll(context.Background()), func(tx *store.Tx) error {
		const q = `WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < $1)
			INSERT INTO audit_search (org, seq, at, actor, noun, action, target, address, request)
			SELECT 'abc123', 1000 + i, CAST(1000000 AS BIGINT) * i, 'application:abc123:key', 'device', 'device.update', 't' || (i % 1000),
				'192.0.2.' || (i % 250), 'r' || i FROM n`
		_, err := tx.ExecContext(context.Background(), q, n)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What many records have in common and no record has together is not looked for
// in one go.
func TestSearchIsBounded(t *testing.T) {
	l := newLog(t, 0)
	addVaried(t, l, 2) // newer than all that fill makes but for the last
	fill(t, l, 2*searchLimit+10)
	f := Filter{Actor: "application:abc123:key", Action: "device.create"}
	calls := 0
	for p := (Page{}); ; calls++ {
		records, next, err := l.Search(t.Context(), Scope{Org: "abc123"}, f, p)
		if err != nil || len(records) != 0 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		if p.After = next; next == "" {
			break
		}
	}
	if calls != 2 {
		t.Errorf("it took %d more calls, want 2", calls)
	}
}

// TestOldRecords: what was written before there was an index and numbers is found
// and verified like everything else.
func TestOldRecords(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	n := verifyPage + 5
	addVaried(t, l, n)
	makeOld(t, l)
	refused := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return Append(t.Context(), tx, varied(0)) })
	if errs.CodeOf(refused) != errs.Unavailable {
		t.Errorf("appended to a record without numbers: %v", refused)
	}
	l = openLog(t, dir)
	add(t, l, 0, 3)
	if err := l.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	records, _, err := l.Search(t.Context(), Scope{Org: "abc123"}, Filter{}, Page{Limit: 1})
	if err != nil || records[0].Number != int64(n+1)/2+1 {
		t.Errorf("%+v, %v", records, err)
	}
	if got := searchAll(t, l, Scope{All: true}, Filter{Action: "signin."}, 100); len(got) != n/4 {
		t.Errorf("%d records found, want %d", len(got), n/4)
	}
}

// makeOld makes a record look as it did in the first format.
func makeOld(t *testing.T, l *Log) {
	t.Helper()
	var tr tree
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		var texts []string
		err := eachRecord(t.Context(), tx, 0, 1<<40, func(_ int64, _ auth.OrgID, number int64, text []byte) error {
			s := strings.Replace(string(text), `{"v":2`, `{"v":1`, 1)
			before, rest, _ := strings.Cut(s, fmt.Sprintf(`"number":%d,"salt":`, number))
			_, after, _ := strings.Cut(rest, `,"actor"`)
			texts = append(texts, before+`"actor"`+after)
			return nil
		})
		if err != nil {
			return err
		}
		idx := 0
		for seq, s := range texts {
			if _, err := tx.ExecContext(t.Context(), `UPDATE audit_event SET record = $1, number = -1 WHERE seq = $2`, s, seq); err != nil {
				return err
			}
			for _, h := range tr.add([]byte(s)) {
				if _, err := tx.ExecContext(t.Context(), `UPDATE audit_hash SET hash = $1 WHERE idx = $2`, h[:], idx); err != nil {
					return err
				}
				idx++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l, `DELETE FROM audit_search`, `DELETE FROM audit_org`, `UPDATE audit_head SET indexed = 0`)
}

// BenchmarkSearch looks for one of a million records, and for a page of them.
func BenchmarkSearch(b *testing.B) {
	l := newLog(b, 1000)
	run(b, l, `DELETE FROM audit_search`)
	fill(b, l, 1_000_000)
	at := time.UnixMicro(1_000_000 * 500_000)
	for name, f := range map[string]Filter{
		"actor": {Actor: "application:abc123:key"}, "kind": {Action: "device."}, "target": {Target: "t7"}, "address": {Address: "192.0.2.7"},
		"request": {RequestID: "r500000"}, "span": {From: at, Until: at.Add(time.Hour)}, "target and span": {Target: "t7", From: at, Until: at.Add(24 * time.Hour)},
		"in vain": {Actor: "application:abc123:key", Action: "device.create"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				err := l.db.View(b.Context(), func(tx *store.Tx) error {
					_, _, err := search(b.Context(), tx, Scope{Org: "abc123"}, f, place{at: 1 << 62}, pageDefault)
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
