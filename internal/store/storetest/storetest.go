// Package storetest is the contract of store.DB as a test. Every database runs it.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/store"
)

// Test runs the contract. open returns a database with the current schema and no
// rows; the test closes it. reopen closes it and opens the same data again.
func Test(t *testing.T, open func(t *testing.T) store.DB, reopen func(t *testing.T, db store.DB) store.DB) {
	tests := map[string]func(*testing.T, store.DB){
		"Commit":        testCommit,
		"Error":         testError,
		"Panic":         testPanic,
		"Cancel":        testCancel,
		"CancelWaiting": testCancelWaiting,
		"OnCommit":      testOnCommit,
		"ViewWrites":    testViewWrites,
		"ViewEnds":      testViewEnds,
		"Snapshot":      testSnapshot,
		"Serial":        testSerial,
		"Unique":        testUnique,
		"Portable":      testPortable,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			defer closeDB(t, db)
			create(t, db)
			test(t, db)
		})
	}
	t.Run("Reopen", func(t *testing.T) {
		db := open(t)
		create(t, db)
		put(t, db, "kept", 7)
		db = reopen(t, db)
		defer closeDB(t, db)
		if got := get(t, db, "kept"); got != 7 {
			t.Errorf("after reopening: %d, want 7", got)
		}
	})
}

func closeDB(t *testing.T, db store.DB) {
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func create(t *testing.T, db store.DB) {
	t.Helper()
	update(t, db, func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `CREATE TABLE contract (
			name TEXT NOT NULL, n BIGINT NOT NULL, data BYTEA, flag BOOLEAN NOT NULL DEFAULT FALSE,
			CONSTRAINT contract_pk PRIMARY KEY (name), CONSTRAINT contract_n CHECK (n >= 0))`)
		return err
	})
}

func update(t *testing.T, db store.DB, fn func(*store.Tx) error) {
	t.Helper()
	if err := db.Update(store.ForAll(t.Context()), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func insert(ctx context.Context, tx *store.Tx, name string, n int64) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO contract (name, n) VALUES ($1, $2)`, name, n)
	return err
}

func put(t *testing.T, db store.DB, name string, n int64) {
	t.Helper()
	update(t, db, func(tx *store.Tx) error { return insert(t.Context(), tx, name, n) })
}

// get returns the number of a name, or -1.
func get(t *testing.T, db store.DB, name string) int64 {
	t.Helper()
	n := int64(-1)
	err := db.View(store.ForAll(context.Background()), func(tx *store.Tx) error {
		return tx.QueryRowContext(context.Background(),
			`SELECT COALESCE(MAX(n), -1) FROM contract WHERE name = $1`, name).Scan(&n)
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	return n
}

func testCommit(t *testing.T, db store.DB) {
	update(t, db, func(tx *store.Tx) error {
		if err := insert(t.Context(), tx, "a", 1); err != nil {
			return err
		}
		var n int64 // a transaction sees its own changes
		return tx.QueryRowContext(t.Context(), `SELECT n FROM contract WHERE name = $1`, "a").Scan(&n)
	})
	if got := get(t, db, "a"); got != 1 {
		t.Errorf("after commit: %d, want 1", got)
	}
}

func testError(t *testing.T, db store.DB) {
	refused := errors.New("refused")
	err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		if err := insert(t.Context(), tx, "a", 1); err != nil {
			return err
		}
		return fmt.Errorf("decide: %w", refused)
	})
	if !errors.Is(err, refused) {
		t.Errorf("error %v, want that of the function", err)
	}
	if got := get(t, db, "a"); got != -1 {
		t.Errorf("an update that failed left a row")
	}
	put(t, db, "a", 2) // and the database goes on
}

func testPanic(t *testing.T, db store.DB) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not reach the caller")
			}
		}()
		_ = db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
			if err := insert(t.Context(), tx, "a", 1); err != nil {
				return err
			}
			panic("bug")
		})
	}()
	if got := get(t, db, "a"); got != -1 {
		t.Errorf("an update that panicked left a row")
	}
	put(t, db, "a", 2)
}

func testCancel(t *testing.T, db store.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	err := db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		if err := insert(t.Context(), tx, "a", 1); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if err == nil {
		t.Errorf("an update whose context ended before the commit succeeded")
	}
	if got := get(t, db, "a"); got != -1 {
		t.Errorf("it left a row")
	}
	put(t, db, "a", 2)
}

func testCancelWaiting(t *testing.T, db store.DB) {
	inside, leave := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
			if err := insert(t.Context(), tx, "a", 1); err != nil {
				return err
			}
			close(inside)
			<-leave
			return nil
		})
	}()
	<-inside
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := db.Update(store.ForAll(ctx), func(tx *store.Tx) error { return insert(ctx, tx, "a", 2) }); err == nil {
		t.Errorf("a second writer of the same row did not wait")
	}
	if get(t, db, "a") != -1 { // readers do not wait, and see nothing of it
		t.Errorf("a reader saw what is not committed")
	}
	close(leave)
	if err := <-first; err != nil {
		t.Errorf("first update: %v", err)
	}
	if got := get(t, db, "a"); got != 1 {
		t.Errorf("got %d, want that of the first writer", got)
	}
}

func testOnCommit(t *testing.T, db store.DB) {
	var calls []string
	_ = db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		tx.OnCommit(func() { calls = append(calls, "undone") })
		return errors.New("refused")
	})
	update(t, db, func(tx *store.Tx) error {
		tx.OnCommit(func() { calls = append(calls, "first") })
		tx.OnCommit(func() { calls = append(calls, "second") })
		if len(calls) != 0 {
			t.Error("called before the commit")
		}
		return nil
	})
	if got := fmt.Sprint(calls); got != "[first second]" {
		t.Errorf("called %v, want [first second]", got)
	}
}

func testViewWrites(t *testing.T, db store.DB) {
	err := db.View(store.ForAll(t.Context()), func(tx *store.Tx) error { return insert(t.Context(), tx, "a", 1) })
	if err == nil {
		t.Error("a view could write")
	}
	if got := get(t, db, "a"); got != -1 {
		t.Errorf("a view left a row")
	}
	put(t, db, "a", 2)
}

// testViewEnds ends views in every way; none of them may keep something.
func testViewEnds(t *testing.T, db store.DB) {
	refused := errors.New("refused")
	for range 50 {
		err := db.View(store.ForAll(t.Context()), func(*store.Tx) error { return refused })
		if !errors.Is(err, refused) {
			t.Fatalf("error %v, want that of the function", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = db.View(store.ForAll(t.Context()), func(*store.Tx) error { panic("bug") })
		}()
	}
	put(t, db, "a", 1)
	if got := get(t, db, "a"); got != 1 {
		t.Errorf("got %d, want 1", got)
	}
}

func testSnapshot(t *testing.T, db store.DB) {
	put(t, db, "a", 1)
	err := db.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		var before, after int64
		const q = `SELECT COUNT(*) FROM contract`
		if err := tx.QueryRowContext(t.Context(), q).Scan(&before); err != nil {
			return err
		}
		put(t, db, "b", 1) // a writer does not wait for a reader
		if err := tx.QueryRowContext(t.Context(), q).Scan(&after); err != nil {
			return err
		}
		if before != after {
			t.Errorf("a view saw %d rows and then %d", before, after)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if get(t, db, "b") != 1 {
		t.Error("the next view does not see the new row")
	}
}

func testSerial(t *testing.T, db store.DB) {
	put(t, db, "sum", 0)
	const writers, rounds = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
					var n int64
					if err := tx.QueryRowContext(t.Context(), `SELECT n FROM contract WHERE name = 'sum'`).Scan(&n); err != nil {
						return err
					}
					_, err := tx.ExecContext(t.Context(), `UPDATE contract SET n = $1 WHERE name = 'sum'`, n+1)
					return err
				})
				if err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := get(t, db, "sum"); got != writers*rounds {
		t.Errorf("%d of %d increments are there", got, writers*rounds)
	}
}

func testUnique(t *testing.T, db store.DB) {
	put(t, db, "a", 1)
	err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return fmt.Errorf("insert: %w", insert(t.Context(), tx, "a", 2))
	})
	if !store.IsUnique(err) {
		t.Errorf("IsUnique(%v) = false for a row that exists", err)
	}
	err = db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return insert(t.Context(), tx, "b", -1) })
	if err == nil || store.IsUnique(err) {
		t.Errorf("a violated check: error %v, IsUnique %v", err, store.IsUnique(err))
	}
	if store.IsUnique(nil) || store.IsUnique(errors.New("other")) {
		t.Error("IsUnique is true for another error")
	}
}

// testPortable runs each construct that the domain packages rely on.
func testPortable(t *testing.T, db store.DB) {
	ctx := t.Context()
	update(t, db, func(tx *store.Tx) error {
		for i, name := range []string{"a", "b", "c"} {
			if _, err := tx.ExecContext(ctx, `INSERT INTO contract (name, n, data, flag) VALUES ($1, $2, $3, $4)`,
				name, i, []byte{0, 0xff, byte(i)}, i == 1); err != nil {
				return err
			}
		}
		var n int64
		err := tx.QueryRowContext(ctx, `INSERT INTO contract (name, n) VALUES ($1, 5)
			ON CONFLICT (name) DO UPDATE SET n = contract.n + excluded.n RETURNING n`, "b").Scan(&n)
		if err == nil && n != 6 {
			t.Errorf("upsert returned %d, want 6", n)
		}
		return err
	})
	err := db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		var name string
		var data []byte
		var flag bool
		err := tx.QueryRowContext(ctx, `SELECT name, data, flag FROM contract
			WHERE (name, n) > ($1, $2) ORDER BY name, n LIMIT $3`, "a", 0, 1).Scan(&name, &data, &flag)
		if err == nil && (name != "b" || string(data) != "\x00\xff\x01" || !flag) {
			t.Errorf("page after a: %q %x %v", name, data, flag)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
