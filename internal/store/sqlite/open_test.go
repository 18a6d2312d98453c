package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/migrations"
)

func newDB(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(ctx context.Context, db store.DB, name string, value []byte) error {
	return db.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO data_key (name, wrapped, created_at) VALUES ($1, $2, 0)`, name, value)
		return err
	})
}

func names(t *testing.T, db store.DB) (all []string) {
	t.Helper()
	err := db.View(t.Context(), func(tx *store.Tx) error {
		rows, err := tx.QueryContext(t.Context(), `SELECT name FROM data_key ORDER BY name`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				return err
			}
			all = append(all, s)
		}
		return rows.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// refused checks that an error tells the person who runs KeepMQ what to do.
func refused(t *testing.T, err error, want string) {
	t.Helper()
	if errs.CodeOf(err) != errs.Unavailable || !strings.Contains(errs.Message(err), want) {
		t.Errorf("got %v, want a refusal that says %q", err, want)
	}
}

func TestModeAndSettings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "odd ?#%41 näme")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keepmq.db")
	db := newDB(t, path)
	if err := put(t.Context(), db, "a", nil); !strings.Contains(fmt.Sprint(err), "NOT NULL") {
		t.Errorf("insert of nothing: %v", err)
	}
	if err := put(t.Context(), db, "a", []byte{1}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info, err)
		}
	}
	for _, pool := range []*sql.DB{db.read, db.write} {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "secure_delete": "1"} {
			var got string
			if err := pool.QueryRowContext(t.Context(), `PRAGMA `+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s = %s, %v; want %s", pragma, got, err, want)
			}
		}
	}
	if _, err := db.write.ExecContext(t.Context(), `SELECT "not a column"`); err == nil {
		t.Error("a quoted name that is not there is taken for text")
	}
}

func TestModeCorrected(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keepmq.db")
	if err := newDB(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	newDB(t, path)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}
}

func TestNoFolder(t *testing.T) {
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "missing", "keepmq.db"))
	refused(t, err, "does not exist")
}

func TestNewerSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keepmq.db")
	newer := fstest.MapFS{"9999_future.sql": {Data: []byte("-- +goose Up\nCREATE TABLE future (id BIGINT);\n")}}
	err := fs.WalkDir(migrations.Files(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(migrations.Files(), name)
		newer[name] = &fstest.MapFile{Data: b}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	db, err := open(t.Context(), path, newer)
	if err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), db, "a", []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path)
	refused(t, err, "written by a newer KeepMQ")
	refused(t, err, "upgrade this program or restore a backup")
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Error("the refused file was changed")
	}
}

func TestForeignDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keepmq.db")
	other, err := pool(path, 1, "_txlock", "immediate")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(t.Context(), `CREATE TABLE songs (id INTEGER)`); err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path)
	refused(t, err, "not one of KeepMQ")
}

func TestDamaged(t *testing.T) {
	tests := map[string]func([]byte) []byte{
		"no database": func([]byte) []byte { return []byte(strings.Repeat("this is not a database ", 300)) },
		"header":      func(b []byte) []byte { copy(b, "garbage garbage "); return b },
		"schema": func(b []byte) []byte {
			for i := 100; i < 2000; i++ {
				b[i] = 0xee
			}
			return b
		},
		"cut": func(b []byte) []byte { return b[:len(b)/2] },
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keepmq.db")
			if err := newDB(t, path).Close(); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), path)
			refused(t, err, "damaged")
			if !strings.Contains(fmt.Sprint(err), path) || strings.Contains(errs.Message(err), path) {
				t.Errorf("the log must name the file, the message must not: %v", err)
			}
		})
	}
}

// TestFullDisk lets the database not grow, which SQLite reports as a full disk.
func TestFullDisk(t *testing.T) {
	db := newDB(t, filepath.Join(t.TempDir(), "keepmq.db"))
	if err := put(t.Context(), db, "before", []byte{1}); err != nil {
		t.Fatal(err)
	}
	var pages int
	if err := db.write.QueryRowContext(t.Context(), `PRAGMA page_count`).Scan(&pages); err != nil {
		t.Fatal(err)
	}
	limit := func(n int) {
		t.Helper()
		var got int
		if err := db.write.QueryRowContext(t.Context(), fmt.Sprintf(`PRAGMA max_page_count = %d`, n)).Scan(&got); err != nil || got != n {
			t.Fatal(got, err)
		}
	}
	limit(pages + 1)
	refused(t, put(t.Context(), db, "large", make([]byte, 1<<20)), "full")
	if got := names(t, db); len(got) != 1 {
		t.Errorf("after a full disk there are %v", got)
	}
	limit(1 << 20) // space was freed
	if err := put(t.Context(), db, "large", make([]byte, 1<<20)); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// TestInterruptedSchema breaks the creation in each step, and opens again.
func TestInterruptedSchema(t *testing.T) {
	for _, at := range []string{"0001_foundation.sql", "0002_ca.sql"} {
		t.Run(at, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keepmq.db")
			broken := fstest.MapFS{}
			for _, name := range []string{"0001_foundation.sql", "0002_ca.sql"} {
				b, err := fs.ReadFile(migrations.Files(), name)
				if err != nil {
					t.Fatal(err)
				}
				if name == at {
					b = append(b, "\nINSERT INTO nowhere VALUES (1);\n"...) // the last statement fails
				}
				broken[name] = &fstest.MapFile{Data: b}
			}
			if _, err := open(t.Context(), path, broken); err == nil || !strings.Contains(err.Error(), "nowhere") {
				t.Fatalf("open: %v, want the failing statement", err)
			}
			db := newDB(t, path)
			if err := put(t.Context(), db, "a", []byte{1}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keepmq.db")
	var wg sync.WaitGroup
	for i := range 6 { // each with its own connections, as processes have
		wg.Go(func() {
			db, err := Open(context.Background(), path)
			if err != nil {
				t.Error(err)
				return
			}
			if err := put(context.Background(), db, fmt.Sprint(i), []byte{1}); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := names(t, newDB(t, path)); len(got) != 6 {
		t.Errorf("%v, want six", got)
	}
}

func TestUpdateInUpdate(t *testing.T) {
	db := newDB(t, filepath.Join(t.TempDir(), "keepmq.db"))
	db.waitAt = 10 * time.Millisecond
	err := db.Update(t.Context(), func(*store.Tx) error { return put(t.Context(), db, "inner", []byte{1}) })
	refused(t, err, "busy")
	if err := put(t.Context(), db, "after", []byte{1}); err != nil {
		t.Error(err)
	}
}

// TestAbandoned leaves the connection inside a transaction, as a rollback does
// that fails, and goes on.
func TestAbandoned(t *testing.T) {
	db := newDB(t, filepath.Join(t.TempDir(), "keepmq.db"))
	conn, err := db.write.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`BEGIN IMMEDIATE`, `INSERT INTO data_key (name, wrapped, created_at) VALUES ('half', x'00', 0)`} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	abandon(conn)
	abandon(conn) // there is nothing left to undo
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), db, "whole", []byte{1}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(names(t, db)); got != "[whole]" {
		t.Errorf("%s, want the whole one only", got)
	}
}

// TestShredded looks for a deleted value in the files.
func TestShredded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keepmq.db")
	db := newDB(t, path)
	mark := []byte("a key that must not stay behind")
	if err := put(t.Context(), db, "a", mark); err != nil {
		t.Fatal(err)
	}
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `DELETE FROM data_key`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if strings.Contains(string(b), string(mark)) {
			t.Errorf("%s still holds what was deleted", name)
		}
	}
}
