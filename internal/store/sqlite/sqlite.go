// Package sqlite keeps the control plane's state in one SQLite file.
//
// It keeps the promises of store.DB with a write-ahead log that is synced at
// every commit. There is one writer; readers never wait for it. The file and
// its neighbours are for their owner only. What is in the file is not
// encrypted: columns that need it are sealed by those who write them.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"modernc.org/sqlite"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/migrations"
)

const (
	readers  = 4
	turnWait = 30 * time.Second // for the writer; longer means that somebody holds it for good
	busyWait = 5 * time.Second  // for the writer of another process
)

// A DB is a store.DB in a SQLite file.
type DB struct {
	path   string
	turn   chan struct{} // one token: held by the update that runs
	write  *sql.DB
	read   *sql.DB
	waitAt time.Duration
}

// Open opens the database in the file path, creates it if it is not there, and
// brings its schema up to date. It refuses a file of a newer KeepMQ.
func Open(ctx context.Context, path string) (*DB, error) {
	return open(ctx, path, migrations.Files())
}

func open(ctx context.Context, path string, steps fs.FS) (*DB, error) {
	if err := prepareFile(path); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db := &DB{path: path, turn: make(chan struct{}, 1), waitAt: turnWait}
	var err error
	if db.write, err = pool(path, 1, "_txlock", "immediate"); err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if db.read, err = pool(path, readers, "_pragma", "query_only(1)"); err != nil {
		_ = db.write.Close()
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := migrate(ctx, db.write, steps); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, explain(path, err)), db.Close())
	}
	return db, nil
}

// prepareFile makes sure that the file is there and for its owner only, before
// SQLite would create it with the mode that the process has by default. The
// write-ahead log gets the same mode.
func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return unopened(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		if err := f.Chmod(0o600); err != nil {
			return errs.Wrap(errs.Unavailable, err, "the database file can be read by other users, and its mode could not be changed; run: chmod 600 "+path)
		}
	}
	if info.Size() > 0 || runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path)) // a new file: its name must survive a crash too
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func unopened(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission) || readOnly(err):
		return errs.Wrap(errs.Unavailable, err, "the database "+path+" cannot be written; make the file and its folder writable for the user that runs KeepMQ")
	case errors.Is(err, fs.ErrNotExist):
		return errs.Wrap(errs.Unavailable, err, "the folder "+filepath.Dir(path)+" does not exist; create it first")
	case noSpace(err):
		return errs.Wrap(errs.Unavailable, err, fullDisk)
	}
	return err
}

// pool returns connections to the file with the settings that every connection
// needs, and one setting more.
func pool(path string, size int, key, value string) (*sql.DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	q := url.Values{
		"_dqs": {"0"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", busyWait.Milliseconds()),
			"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "trusted_schema(0)",
			"secure_delete(1)", // a shredded key must not stay in a free page
		},
	}
	q.Add(key, value)
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(abs), RawQuery: q.Encode()}
	c, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	p := sql.OpenDB(c)
	p.SetMaxOpenConns(size)
	p.SetMaxIdleConns(size)
	return p, nil
}

// View implements store.DB.
func (db *DB) View(ctx context.Context, fn func(*store.Tx) error) error {
	return explain(db.path, store.Transact(ctx, db.read, &sql.TxOptions{ReadOnly: true}, fn))
}

// Update implements store.DB. SQLite has one writer, so nothing is retried.
func (db *DB) Update(ctx context.Context, fn func(*store.Tx) error) error {
	if err := db.begin(ctx); err != nil {
		return err
	}
	defer func() { <-db.turn }()
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return explain(db.path, fmt.Errorf("take the writing connection: %w", err))
	}
	defer conn.Close()
	clean := false
	defer func() {
		if !clean { // an error, or a panic of fn
			abandon(conn)
		}
	}()
	err = store.Transact(ctx, conn, nil, fn)
	clean = err == nil
	return explain(db.path, err)
}

// abandon makes sure that no transaction stays open on conn, which is the only
// one that writes: where the rollback did not succeed either, as on a failing
// disk, the connection is given up and the next update opens another.
func abandon(conn *sql.Conn) {
	_, err := conn.ExecContext(context.Background(), "ROLLBACK")
	if err == nil || code(err) == codeError { // "no transaction is active"
		return
	}
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// begin takes the writer's turn. The wait is bounded so that an update inside an
// update, which would wait for itself, is an error and not a standstill.
func (db *DB) begin(ctx context.Context) error {
	select {
	case db.turn <- struct{}{}:
		return nil
	default:
	}
	limit := time.NewTimer(db.waitAt)
	defer limit.Stop()
	select {
	case db.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer: %w", ctx.Err())
	case <-limit.C:
		return errs.E(errs.Unavailable, "the database is busy; try again")
	}
}

// Close implements store.DB. The last one to close a file also empties its
// write-ahead log.
func (db *DB) Close() error {
	return errors.Join(db.read.Close(), db.write.Close())
}
