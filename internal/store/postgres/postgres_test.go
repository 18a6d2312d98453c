package postgres_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/postgres"
	"github.com/keepmq/keepmq/internal/store/postgres/pgtest"
	"github.com/keepmq/keepmq/internal/store/storetest"
)

func TestContract(t *testing.T) {
	configs := map[store.DB]postgres.Config{}
	open := func(t *testing.T, c postgres.Config) store.DB {
		db, err := postgres.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		configs[db] = c
		return db
	}
	storetest.Test(t,
		func(t *testing.T) store.DB {
			c := pgtest.New(t)
			// The contract makes a table of its own, which no other user of it does.
			pgtest.Exec(t, c, `GRANT CREATE ON SCHEMA public TO `+pgtest.Role)
			return open(t, c)
		},
		func(t *testing.T, db store.DB) store.DB {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, postgres.Config{DSN: configs[db].DSN})
		})
}

func mustOpen(t *testing.T, c postgres.Config) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func wantUnavailable(t *testing.T, err error, words string) {
	t.Helper()
	if errs.CodeOf(err) != errs.Unavailable || !strings.Contains(errs.Message(err), words) {
		t.Errorf("error %v, want Unavailable with %q", err, words)
	}
}

func addOrg(ctx context.Context, db store.DB, id string) error {
	return db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO retired_org (id, deleted_at) VALUES ($1, 1)`, id)
		return err
	})
}

func orgs(ctx context.Context, db store.DB) (n int, err error) {
	err = db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM retired_org`).Scan(&n)
	})
	return n, err
}

// An empty database gets the schema from its owner; afterwards the owner is not
// needed, and the other role can neither change the schema nor its version.
func TestSchema(t *testing.T) {
	c := pgtest.Empty(t)
	_, err := postgres.Open(t.Context(), postgres.Config{DSN: c.DSN})
	wantUnavailable(t, err, "owner's URL")
	db := mustOpen(t, c)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, postgres.Config{DSN: c.DSN})
	for _, q := range []string{`DROP TABLE device`, `ALTER TABLE device ADD COLUMN x TEXT`, `CREATE TABLE x (y TEXT)`,
		`TRUNCATE device`, `UPDATE goose_db_version SET version_id = 1`, `SET ROLE keepmq_owner`} {
		err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
			_, err := tx.ExecContext(t.Context(), q)
			return err
		})
		if err == nil {
			t.Errorf("the role could do: %s", q)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, c, `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)`)
	_, err = postgres.Open(t.Context(), c)
	wantUnavailable(t, err, "newer KeepMQ")
}

func TestForeignDatabase(t *testing.T) {
	c := pgtest.Empty(t)
	pgtest.Exec(t, c, `CREATE TABLE shop (id TEXT)`)
	_, err := postgres.Open(t.Context(), c)
	wantUnavailable(t, err, "another program")
}

// A role that could go around what the database enforces is refused, and so is a
// database that sorts otherwise than SQLite or may forget what was committed.
func TestUnfitDatabase(t *testing.T) {
	c := pgtest.New(t)
	super := secret.New(strings.Replace(c.DSN.Reveal(), pgtest.Role, pgtest.Super, 1))
	_, err := postgres.Open(t.Context(), postgres.Config{DSN: super})
	wantUnavailable(t, err, "may do too much")
	_, err = postgres.Open(t.Context(), postgres.Config{DSN: c.OwnerDSN, OwnerDSN: c.OwnerDSN})
	if errs.CodeOf(err) != errs.Invalid {
		t.Errorf("one role for both: %v", err)
	}
	pgtest.Exec(t, c, `ALTER ROLE keepmq SET synchronous_commit = off`)
	_, err = postgres.Open(t.Context(), c)
	wantUnavailable(t, err, "synchronous_commit")
	pgtest.Exec(t, c, `ALTER ROLE keepmq RESET synchronous_commit`)
	pgtest.Exec(t, c, `CREATE DATABASE sorted TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
	defer pgtest.Exec(t, c, `DROP DATABASE sorted WITH (FORCE)`)
	_, err = postgres.Open(t.Context(), pgtest.Shared(t).Config("sorted"))
	wantUnavailable(t, err, "create it anew")
}

// A transaction that meets the change of another process is repeated, and the
// change of both is there.
func TestRepeats(t *testing.T) {
	c := pgtest.New(t)
	db := mustOpen(t, c)
	if err := addOrg(t.Context(), db, "a"); err != nil {
		t.Fatal(err)
	}
	ran := 0
	err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		ran++
		var at int64
		if err := tx.QueryRowContext(t.Context(), `SELECT deleted_at FROM retired_org WHERE id = 'a'`).Scan(&at); err != nil {
			return err
		}
		if ran == 1 {
			pgtest.Exec(t, c, `UPDATE retired_org SET deleted_at = 10 WHERE id = 'a'`)
		}
		_, err := tx.ExecContext(t.Context(), `UPDATE retired_org SET deleted_at = $1 WHERE id = 'a'`, at+1)
		return err
	})
	if err != nil || ran != 2 {
		t.Fatalf("ran %d times, error %v", ran, err)
	}
	var at int64
	if err := db.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT deleted_at FROM retired_org`).Scan(&at)
	}); err != nil || at != 11 {
		t.Errorf("the value is %d, want 11; error %v", at, err)
	}
	ran = 0
	err = db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { // and not for ever
		ran++
		var at int64
		if err := tx.QueryRowContext(t.Context(), `SELECT deleted_at FROM retired_org WHERE id = 'a'`).Scan(&at); err != nil {
			return err
		}
		pgtest.Exec(t, c, `UPDATE retired_org SET deleted_at = deleted_at + 1 WHERE id = 'a'`)
		_, err := tx.ExecContext(t.Context(), `UPDATE retired_org SET deleted_at = 0 WHERE id = 'a'`)
		return err
	})
	wantUnavailable(t, err, "busy")
	if ran < 2 || ran > 20 {
		t.Errorf("ran %d times", ran)
	}
}

// One process at a time holds the database.
func TestSecondProcess(t *testing.T) {
	c := pgtest.New(t)
	db := mustOpen(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	_, err := postgres.Open(ctx, c)
	wantUnavailable(t, err, "another KeepMQ uses the database")
	if err := addOrg(t.Context(), db, "a"); err != nil {
		t.Errorf("the first one cannot go on: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = mustOpen(t, c)
	if n, err := orgs(t.Context(), db); n != 1 || err != nil {
		t.Errorf("the next one sees %d rows, error %v", n, err)
	}
}

// loseLock ends the connection that holds the lock.
const loseLock = `SELECT pg_terminate_backend(l.pid) FROM pg_locks l, pg_database d
	WHERE l.locktype = 'advisory' AND l.database = d.oid AND d.datname = current_database()`

// Whoever lost the lock answers nothing until it has it again.
func TestLostConnection(t *testing.T) {
	c := pgtest.New(t)
	db := mustOpen(t, c)
	// Nobody can have the lock back while another one has it.
	block := holdLock(t, c)
	refused := false
	for range 100 {
		if _, err := orgs(t.Context(), db); errs.CodeOf(err) == errs.Unavailable {
			refused = true
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !refused {
		t.Fatal("it went on without the lock")
	}
	if err := addOrg(t.Context(), db, "a"); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("an update without the lock: %v", err)
	}
	block()
	var err error
	for range 200 {
		if err = addOrg(t.Context(), db, "b"); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("it did not come back: %v", err)
	}
	select {
	case <-db.Lost():
		t.Error("it says that another one has the database")
	default:
	}
}

// Whoever lost the database to another one without noticing changes nothing, and
// does not come back, because what it remembers may be wrong.
func TestTaken(t *testing.T) {
	c := pgtest.New(t)
	db := mustOpen(t, c)
	inside, leave := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
			close(inside)
			<-leave
			_, err := tx.ExecContext(t.Context(), `INSERT INTO retired_org (id, deleted_at) VALUES ('old', 1)`)
			return err
		})
	}()
	<-inside
	taken := make(chan *postgres.DB, 1)
	go func() { // the lock is free from time to time; the connection of the update stays
		for range 50 {
			pgtest.Exec(t, c, loseLock)
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			other, err := postgres.Open(ctx, c)
			cancel()
			if err == nil {
				taken <- other
				return
			}
		}
		close(taken)
	}()
	select {
	case <-taken:
		t.Error("it was taken in the middle of an update")
	case <-time.After(time.Second):
	}
	close(leave)
	firstErr := <-first
	other := <-taken
	if other == nil {
		t.Fatal("it could not be taken")
	}
	defer other.Close()
	n, err := orgs(t.Context(), other)
	if err != nil || (n == 1) != (firstErr == nil) {
		t.Errorf("the next one sees %d rows, error %v; the update before said %v", n, err, firstErr)
	}
	if err := addOrg(t.Context(), db, "late"); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("an update of the one before: %v", err)
	}
	if _, err := orgs(t.Context(), db); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("a view of the one before: %v", err)
	}
	select {
	case <-db.Lost():
	case <-time.After(10 * time.Second):
		t.Error("it does not say that it has lost the database")
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if err := addOrg(t.Context(), db, "later"); err == nil {
		t.Error("it came back after another one had the database")
	}
}

func TestNotReachable(t *testing.T) {
	dir := t.TempDir()
	c := postgres.Config{DSN: secret.New("postgresql://keepmq:secretword@/keepmq?host=" + dir)}
	_, err := postgres.Open(t.Context(), c)
	wantUnavailable(t, err, "cannot be reached")
	if strings.Contains(err.Error(), "secretword") {
		t.Errorf("the error has the password: %v", err)
	}
	if err := postgres.Check(t.Context(), c); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("check: %v", err)
	}
	good := pgtest.New(t)
	if err := postgres.Check(t.Context(), good); err != nil {
		t.Errorf("check of a good one: %v", err)
	}
	if err := errors.Join(mustOpen(t, good).Close(), postgres.Check(t.Context(), good)); err != nil {
		t.Error(err)
	}
}
