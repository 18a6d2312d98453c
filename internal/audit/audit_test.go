package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// zeros is a hash that nothing has.
var zeros = strings.Repeat("00", 32)

// TestMain runs every test on each of the stores.
func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

func openLog(t testing.TB, dir string) *Log {
	t.Helper()
	db := dbtest.Open(t, dir)
	ring, err := keyring.Open(t.Context(), dir, db)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), db, ring)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// newLog returns a log with n events, of two organisations in turn.
func newLog(t testing.TB, n int) *Log {
	t.Helper()
	l := openLog(t, t.TempDir())
	add(t, l, 0, n)
	return l
}

func add(t testing.TB, l *Log, from, to int) {
	t.Helper()
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		for i := from; i < to; i++ {
			if err := Append(t.Context(), tx, event(i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func event(i int) Event {
	org := auth.OrgID([]string{"abc123", "def456"}[i%2])
	return Event{
		Org: org, Actor: auth.Principal{Org: org, Kind: auth.Application, ID: "key"},
		Action: "device.create", Target: fmt.Sprintf("device %d <&>\u2028", i),
		Detail: map[string]any{"number": i, "list": []string{"a", "b"}, "when": time.Unix(0, 0).UTC()},
	}
}

func run(t testing.TB, l *Log, statements ...string) {
	t.Helper()
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		for _, q := range statements {
			if _, err := tx.ExecContext(t.Context(), q); err != nil {
				return fmt.Errorf("%s: %w", q, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkpoint(t testing.TB, l *Log) string {
	t.Helper()
	c, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAppendAndVerify(t *testing.T) {
	l := newLog(t, 0)
	saved := []string{checkpoint(t, l)}
	for n := range 20 { // every shape of a small tree
		if err := l.Verify(t.Context(), saved...); err != nil {
			t.Fatalf("%d events: %v", n, err)
		}
		add(t, l, n, n+1)
		saved = append(saved, checkpoint(t, l))
	}
	add(t, l, 20, 2*verifyPage+7) // more than a page
	if err := l.Verify(t.Context(), saved...); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	first := openLog(t, dir)
	add(t, first, 0, 5)
	saved := checkpoint(t, first)
	second := openLog(t, dir)
	add(t, second, 5, 9)
	if first.VerifierKey() != second.VerifierKey() {
		t.Error("reopened with another key")
	}
	if err := second.Verify(t.Context(), saved); err != nil {
		t.Error(err)
	}
}

func TestWithTheChange(t *testing.T) {
	l := newLog(t, 3)
	undone := errors.New("undone")
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		if err := Append(t.Context(), tx, event(3)); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	all, _, err := l.Search(t.Context(), Scope{All: true}, Filter{}, Page{})
	if err != nil || len(all) != 3 {
		t.Errorf("%d events after a change that was undone, %v", len(all), err)
	}
	add(t, l, 3, 4)
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestConcurrentAppend(t *testing.T) {
	l := newLog(t, 0)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 5 {
				err := l.db.Update(store.ForAll(context.Background()), func(tx *store.Tx) error {
					return Append(context.Background(), tx, event(i))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if all, _, err := l.Search(t.Context(), Scope{All: true}, Filter{}, Page{}); err != nil || len(all) != 40 {
		t.Errorf("%d events, %v", len(all), err)
	}
}

func TestEvents(t *testing.T) {
	l := newLog(t, 25)
	var got []int64
	page := Page{Limit: 5}
	for range 10 {
		records, next, err := l.Search(t.Context(), Scope{Org: "abc123"}, Filter{}, page)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.Org != "abc123" || r.Actor != "application:abc123:key" || r.Action != "device.create" {
				t.Errorf("%+v", r)
			}
			got = append(got, r.Seq)
		}
		if next == "" {
			break
		}
		page.After = next
	}
	if fmt.Sprint(got) != "[24 22 20 18 16 14 12 10 8 6 4 2 0]" {
		t.Errorf("events %v", got)
	}
	if records, _, err := l.Search(t.Context(), Scope{Org: ""}, Filter{}, Page{}); err != nil || len(records) != 0 {
		t.Errorf("the installation's own: %d, %v", len(records), err)
	}
	for _, p := range []Page{{Limit: -1}, {Limit: 1001}, {After: "x"}, {After: "-1"}, {After: "1 OR 1"}} {
		if _, _, err := l.Search(t.Context(), Scope{Org: "abc123"}, Filter{}, p); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%+v: %v, want a refusal", p, err)
		}
	}
}

func TestRefusedEvents(t *testing.T) {
	l := newLog(t, 1)
	detail := func(v any) Event {
		e := event(0)
		e.Detail = map[string]any{"x": v}
		return e
	}
	deep := any("x")
	for range detailDepth + 1 {
		deep = []any{deep}
	}
	password := secret.New("hunter2")
	tests := map[string]Event{
		"secret":            detail(password),
		"secret behind":     detail(&password),
		"secret in a list":  detail([]any{1, password}),
		"secrets":           detail([]secret.String{password}),
		"secret in a map":   detail(map[string]any{"a": map[string]any{"b": password}}),
		"secret in struct":  detail(struct{ Token secret.String }{password}),
		"bytes":             detail([]byte("key")),
		"array of bytes":    detail([4]byte{}),
		"struct":            detail(struct{ A int }{1}),
		"pointer":           detail(new(int)),
		"function":          detail(func() {}),
		"channel":           detail(make(chan int)),
		"not a number":      detail(nan()),
		"keys not strings":  detail(map[int]string{1: "x"}),
		"too deep":          detail(deep),
		"too long":          detail(strings.Repeat("x", recordLimit)),
		"no action":         {Actor: event(0).Actor},
		"action with space": {Actor: event(0).Actor, Action: "device create"},
		"no actor":          {Action: "device.create"},
	}
	for name, e := range tests {
		t.Run(name, func(t *testing.T) {
			err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return Append(t.Context(), tx, e) })
			if errs.CodeOf(err) != errs.Invalid {
				t.Errorf("%v, want a refusal", err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the refusal shows the secret")
			}
		})
	}
	if all, _, err := l.Search(t.Context(), Scope{All: true}, Filter{}, Page{}); err != nil || len(all) != 1 {
		t.Errorf("%d events, %v", len(all), err)
	}
}

func nan() float64 { zero := 0.0; return zero / zero }

func TestPlainDetails(t *testing.T) {
	l := newLog(t, 0)
	type name string
	e := event(0)
	e.Detail = map[string]any{"nil": nil, "bool": true, "int": -1, "uint": uint8(2), "float": 1.5, "named": name("n"),
		"org": auth.OrgID("abc123"), "list": []any{"a", 1, nil}, "map": map[string]bool{"z": true, "a": false}, "bad": "\xff"}
	for range 2 {
		if err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return Append(t.Context(), tx, e) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	now := time.Now()
	a, err := e.record(1, 0, now, "salt").text()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // maps have no order; the text has
		if b, err := e.record(1, 0, now, "salt").text(); err != nil || string(a) != string(b) {
			t.Fatalf("%s\n%s\n%v", a, b, err)
		}
	}
}
