package audit

import (
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/postgres/pgtest"
)

// TestPostgres: what is done with SQLite in the other tests is the same there.
func TestPostgres(t *testing.T) {
	db := pgtest.Open(t)
	ring, err := keyring.Open(t.Context(), t.TempDir(), db)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), db, ring)
	if err != nil {
		t.Fatal(err)
	}
	lite := newLog(t, 0)
	addVaried(t, l, 700)
	addVaried(t, lite, 700)
	saved := checkpoint(t, l)
	for i, f := range everyFilter() {
		if i%7 != 0 { // each takes a while, and all are the same statement
			continue
		}
		for _, s := range []Scope{{Org: "abc123"}, {All: true}} {
			if got, want := searchAll(t, l, s, f, 50), searchAll(t, lite, s, f, 50); len(got) != len(want) || strings.Join(texts(t, l, s, f), "") != strings.Join(texts(t, lite, s, f), "") {
				t.Fatalf("%+v %+v: %v, want %v", s, f, got, want)
			}
		}
	}
	verifyAll(t, l, 0, saved)
	removed := pruneAt(t, l, 650)
	if removed == 0 || removed != pruneAt(t, lite, 650) {
		t.Errorf("%d were removed", removed)
	}
	verifyAll(t, l, removed, saved, checkpoint(t, l))
	days := 90
	err = db.Update(t.Context(), func(tx *store.Tx) error { return SetDays(t.Context(), tx, &days) })
	if err != nil {
		t.Fatal(err)
	}
	if n, err := l.prune(t.Context(), 0, start.Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	addVaried(t, l, 10)
	for _, q := range []string{`DELETE FROM audit_event WHERE seq = 690`, `DELETE FROM audit_search WHERE seq = 690`} {
		run(t, l, q)
	}
	if err := l.Verify(t.Context(), saved); err == nil {
		t.Error("a record is missing, and it is verified")
	}
}

// texts returns what of the records that are found is the same in every log.
func texts(t *testing.T, l *Log, s Scope, f Filter) (all []string) {
	t.Helper()
	records, _, err := l.Search(t.Context(), s, f, Page{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		all = append(all, r.Time.String(), string(r.Org), r.Actor, r.Action, r.Target)
	}
	return all
}
