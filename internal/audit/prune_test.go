package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// start is when addVaried begins.
var start = time.Unix(1_700_000_000, 0)

// pruneAt removes what is older than 30 days at the time at which addVaried has
// added seconds events.
func pruneAt(t testing.TB, l *Log, seconds int) int64 {
	t.Helper()
	n, err := l.prune(t.Context(), MinDays, start.Add(time.Duration(seconds)*time.Second+MinDays*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func count(t testing.TB, l *Log, table string) (n int64) {
	t.Helper()
	err := l.db.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// verifyAll verifies the database and every export of it.
func verifyAll(t *testing.T, l *Log, removed int64, saved ...string) {
	t.Helper()
	if err := l.Verify(t.Context(), saved...); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{JSONLines, CSV} {
		v, err := VerifyExport(strings.NewReader(exported(t, l, Export{Scope: Scope{All: true}, Kind: kind})), l.VerifierKey(), saved...)
		if err != nil || v.Removed != removed {
			t.Fatalf("the whole as %s: %+v, %v, want %d removed", kind, v, err, removed)
		}
		sum := int64(0)
		for _, org := range []auth.OrgID{"abc123", "def456"} {
			v, err := VerifyExport(strings.NewReader(exported(t, l, Export{Scope: Scope{Org: org}, Kind: kind})), l.VerifierKey())
			if err != nil {
				t.Fatalf("%s as %s: %v", org, kind, err)
			}
			sum += v.Removed
		}
		if sum != removed {
			t.Errorf("as %s %d are removed, want %d", kind, sum, removed)
		}
	}
}

// TestPrune removes more and more, and all that was signed before stays good.
func TestPrune(t *testing.T) {
	l := newLog(t, 0)
	saved := []string{checkpoint(t, l)}
	const n = 3*prunePage + 77
	addVaried(t, l, n)
	saved = append(saved, checkpoint(t, l))
	removed := int64(0)
	for _, at := range []int{0, 1, 40, 41, 200, n - 300, n - 300} {
		removed += pruneAt(t, l, at)
		saved = append(saved, checkpoint(t, l))
		verifyAll(t, l, removed, saved...)
	}
	// Some are late by the clock, so that up to 20 more stay.
	if removed < n-350 || removed > n-300 {
		t.Errorf("%d texts were removed", removed)
	}
	left := n - removed
	acts := searchAll(t, l, Scope{All: true}, Filter{Action: pruned}, 100)
	if got := count(t, l, "audit_event"); got != left+int64(len(acts)) || len(acts) != 8 {
		t.Errorf("%d records are left, %d of them say that others were removed", got, len(acts))
	}
	records, _, err := l.Search(t.Context(), Scope{Org: "def456"}, Filter{Action: pruned}, Page{Limit: 1})
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	r := records[0]
	if r.Actor != "system::audit" || r.Target != "def456" || fmt.Sprint(r.Detail["days"]) != "30" || r.Detail["before"] == nil || fmt.Sprint(r.Detail["kept"]) == "0" {
		t.Errorf("%+v", r)
	}
	addVaried(t, l, 20)
	verifyAll(t, l, removed, saved...)
}

func TestPruneOldFormat(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	addVaried(t, l, 60)
	makeOld(t, l)
	saved := checkpoint(t, l)
	l = openLog(t, dir)
	if n := pruneAt(t, l, 30); n == 0 {
		t.Fatal("nothing was removed")
	} else {
		verifyAll(t, l, n, saved)
		n += pruneAt(t, l, 50)
		verifyAll(t, l, n, saved)
	}
	run(t, l, `DELETE FROM audit_event WHERE seq = 52`, `DELETE FROM audit_search WHERE seq = 52`)
	if err := l.Verify(t.Context(), saved); !errors.Is(err, ErrTampered) {
		t.Errorf("%v, want tampering", err)
	}
}

// The text of what was removed is nowhere in the database.
func TestPrunedTextIsGone(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	word := "very-private-target"
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		e := varied(0)
		e.Target = word
		return appendEvent(t.Context(), tx, e, start, "salt")
	})
	if err != nil {
		t.Fatal(err)
	}
	pruneAt(t, l, 100)
	if err := l.db.Close(); err != nil { // empties the write-ahead log
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if b, err := os.ReadFile(f); err != nil || bytes.Contains(b, []byte(word)) {
			t.Errorf("it is in %s, %v", filepath.Base(f), err)
		}
	}
}

// What says that others were removed is itself no reason to remove.
func TestPruneEnds(t *testing.T) {
	l := newLog(t, 0)
	addVaried(t, l, 20)
	pruneAt(t, l, 1000)
	size := count(t, l, "audit_hash")
	for day := range 100 {
		pruneAt(t, l, day*24*3600)
	}
	if got := count(t, l, "audit_hash"); got != size || count(t, l, "audit_event") != 2 {
		t.Errorf("%d hashes instead of %d, %d records", got, size, count(t, l, "audit_event"))
	}
	verifyAll(t, l, 20)
	if n, err := l.prune(t.Context(), 0, start.Add(1000*24*time.Hour)); n != 0 || err != nil {
		t.Errorf("for ever: %d removed, %v", n, err)
	}
}

// A stop between saying that texts are removed and removing them, and a reader
// that is at work, change nothing that can be verified.
func TestPruneInterrupted(t *testing.T) {
	l := newLog(t, 0)
	addVaried(t, l, 2*prunePage+200)
	at := start.Add(10_000*time.Second + MinDays*24*time.Hour)
	l.reading.RLock()
	n, err := l.prune(t.Context(), MinDays, at)
	l.reading.RUnlock()
	if n != 0 || !errors.Is(err, ErrReading) || errs.CodeOf(err) != errs.Conflict {
		t.Fatalf("%d removed, %v", n, err)
	}
	if acts := searchAll(t, l, Scope{All: true}, Filter{Action: pruned}, 10); len(acts) != 1 {
		t.Fatalf("it is on the record %d times", len(acts))
	}
	removed := int64(prunePage + 100) // of one organisation
	verifyAll(t, l, removed)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.prune(ctx, MinDays, at); err == nil {
		t.Fatal("it ran to the end")
	}
	verifyAll(t, l, removed)
	if n, err := l.prune(t.Context(), MinDays, at); err != nil || n != 2*removed {
		t.Errorf("%d removed, %v", n, err)
	}
	verifyAll(t, l, 2*removed)
}

// TestPrunedTampering: that some texts may be missing excuses no other.
func TestPrunedTampering(t *testing.T) {
	const first = `(SELECT MIN(seq) FROM audit_event WHERE org = 'abc123')`
	gone := func(which string) []string {
		return []string{`DELETE FROM audit_search WHERE seq = ` + which, `DELETE FROM audit_event WHERE seq = ` + which}
	}
	act := `(SELECT MAX(seq) FROM audit_event WHERE org = 'abc123' AND record LIKE '%audit.prune%')`
	for name, do := range map[string][]string{
		"one in the middle":                    gone(`60`),
		"the first that is kept":               {`DELETE FROM audit_event WHERE seq = ` + first, `DELETE FROM audit_search WHERE seq NOT IN (SELECT seq FROM audit_event)`},
		"the first, said not to be kept":       {`DELETE FROM audit_event WHERE seq = ` + first, `DELETE FROM audit_search WHERE seq NOT IN (SELECT seq FROM audit_event)`, `UPDATE audit_org SET kept = kept + 1 WHERE org = 'abc123'`},
		"said not to be kept":                  {`UPDATE audit_org SET kept = kept + 1`},
		"said to be kept":                      {`UPDATE audit_org SET kept = 0`},
		"what says that others were removed":   {`DELETE FROM audit_event WHERE seq = ` + act, `DELETE FROM audit_search WHERE seq NOT IN (SELECT seq FROM audit_event)`},
		"an organisation":                      {`DELETE FROM audit_event WHERE org = 'abc123'`, `DELETE FROM audit_search WHERE org = 'abc123'`},
		"an organisation that there never was": {`DELETE FROM audit_event WHERE org = 'abc123'`, `DELETE FROM audit_search WHERE org = 'abc123'`, `DELETE FROM audit_org WHERE org = 'abc123'`},
		"the hash of one that is removed":      {`UPDATE audit_hash SET hash = ` + dbtest.Blob(zeros) + ` WHERE idx = 0`},
		"no hash of one that is removed":       {`DELETE FROM audit_hash WHERE idx = 0`},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, 0)
			addVaried(t, l, 80)
			if pruneAt(t, l, 40) == 0 {
				t.Fatal("nothing was removed")
			}
			saved := checkpoint(t, l)
			addVaried(t, l, 2)
			run(t, l, do...)
			if err := l.Verify(t.Context(), saved); !errors.Is(err, ErrTampered) || errs.Message(err) == "" {
				t.Errorf("verify: %v, want tampering", err)
			}
			for _, s := range []Scope{{All: true}, {Org: "abc123"}} {
				if s.Org != "" && strings.Contains(name, "hash") {
					continue // it is in the database, not in the proofs of this organisation
				}
				var b bytes.Buffer
				err := l.Export(t.Context(), &b, Export{Scope: s, Kind: JSONLines})
				if err == nil {
					_, err = VerifyExport(&b, l.VerifierKey(), saved)
				}
				if err == nil {
					t.Errorf("%+v: the export is verified", s)
				}
			}
		})
	}
}

// TestPrunedExportTampering does in an export what hides a record behind those
// that were removed.
func TestPrunedExportTampering(t *testing.T) {
	l := newLog(t, 0)
	addVaried(t, l, 80)
	before := lines(exported(t, l, Export{Scope: Scope{Org: "abc123"}, Kind: JSONLines}))
	whole := lines(exported(t, l, Export{Scope: Scope{All: true}, Kind: JSONLines}))
	pruneAt(t, l, 40)
	org := lines(exported(t, l, Export{Scope: Scope{Org: "abc123"}, Kind: JSONLines}))
	all := lines(exported(t, l, Export{Scope: Scope{All: true}, Kind: JSONLines}))
	if _, err := VerifyExport(strings.NewReader(joined(org)), l.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyExport(strings.NewReader(joined(all)), l.VerifierKey()); err != nil {
		t.Fatal(err)
	}
	hide := func(i int) string { // the record in line i counts as removed, by its right hash
		h := leafHash(t, l, int64(i-1))
		return joined(append(append(append([]string{}, all[:i]...), `{"removed":"`+h+`"}`), all[i+1:]...))
	}
	changed := map[string]string{
		"the first that is kept":            joined(append(org[:1:1], org[2:]...)),
		"one in the middle":                 joined(append(org[:5:5], org[6:]...)),
		"the last":                          joined(org[:len(org)-1]),
		"all but the last":                  joined(append(org[:1:1], org[len(org)-1])),
		"all":                               joined(org[:1]),
		"one that was removed, with others": joined(append(append(org[:1:1], before[1]), org[1:]...)),
		"hidden, the last":                  hide(len(all) - 1),
		"hidden, the first":                 hide(firstKept(t, all)),
		"hidden, in the middle":             hide(60),
		"shown again":                       joined(append(append(all[:1:1], whole[1]), all[2:]...)),
		"removed by no hash":                strings.Replace(joined(all), `{"removed":"`, `{"removed": "`, 1),
		"removed by another hash":           strings.Replace(joined(all), `{"removed":"`+leafHash(t, l, 0), `{"removed":"`+leafHash(t, l, 1), 1),
	}
	for name, text := range changed {
		if v, err := VerifyExport(strings.NewReader(text), l.VerifierKey()); err == nil {
			t.Errorf("%s: verified %+v", name, v)
		}
	}
}

// firstKept returns the first line with a text.
func firstKept(t *testing.T, all []string) int {
	t.Helper()
	for i := 1; i < len(all); i++ {
		if !strings.HasPrefix(all[i], `{"removed"`) {
			return i
		}
	}
	t.Fatal("there is none")
	return 0
}

func leafHash(t *testing.T, l *Log, seq int64) string {
	t.Helper()
	var b []byte
	err := l.db.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		h, err := hashReader(t.Context(), tx).ReadHashes([]int64{tlog.StoredHashIndex(0, seq)})
		if err == nil {
			b = h[0][:]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestDays(t *testing.T) {
	l := newLog(t, 0)
	set := func(days *int) error {
		return l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return SetDays(t.Context(), tx, days) })
	}
	for _, bad := range []int{-1, 1, MinDays - 1, MaxDays + 1} {
		if err := set(&bad); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%d days: %v", bad, err)
		}
	}
	addVaried(t, l, 10)
	now := start.Add(50 * 24 * time.Hour)
	for _, days := range []int{0, 60, 30} { // what is set goes before what is configured
		if err := set(&days); err != nil {
			t.Fatal(err)
		}
		configured := 90 - days
		if n, err := l.prune(t.Context(), configured, now); err != nil || (n > 0) != (days == 30) {
			t.Errorf("%d days: %d removed, %v", days, n, err)
		}
	}
	if err := set(nil); err != nil {
		t.Fatal(err)
	}
	if n, err := l.prune(t.Context(), 0, now.Add(100*24*time.Hour)); err != nil || n != 0 {
		t.Errorf("%d removed, %v", n, err)
	}
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		e := varied(0)
		e.Action = pruned
		return Append(t.Context(), tx, e)
	})
	if errs.CodeOf(err) != errs.Invalid {
		t.Errorf("somebody else says that texts were removed: %v", err)
	}
}
