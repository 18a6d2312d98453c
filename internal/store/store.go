// Package store is the state seam: a database for the control plane.
//
// A DB promises that a change is there completely or not at all, whatever
// happens in between, that it survives a crash once Update has returned nil,
// and that no two updates see each other half done.
//
// It does not hold messages, and it hides no SQL: the domain packages write one
// portable text. Parameters are $1, $2, …; columns are TEXT, BIGINT (times as
// microseconds since 1970), BYTEA and BOOLEAN DEFAULT FALSE; JSON is TEXT;
// constraints have names; upserts are ON CONFLICT … DO UPDATE … RETURNING;
// pages are cut by row values.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// A DB is a database of the control plane. Its methods may be called from any
// goroutine, but not inside fn: there may be one writer only, and few readers,
// so that fn could wait for itself.
type DB interface {
	// View calls fn with a consistent snapshot of what was committed. Inside fn
	// a write is an error.
	View(ctx context.Context, fn func(*Tx) error) error

	// Update calls fn and commits what it changed. An error or panic of fn, and
	// the end of ctx before the commit, undo all of it. If nil is returned, the
	// change is on disk. fn may be called again when the database asks for a
	// retry, so what it sets outside must start from the beginning each time.
	Update(ctx context.Context, fn func(*Tx) error) error

	// Close waits for what runs and gives the files free.
	Close() error
}

// A Tx is a transaction. It belongs to the function that it was given to.
type Tx struct {
	tx        *sql.Tx
	committed []func()
}

// ExecContext runs a statement that returns no rows.
func (t *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(ctx, query, args...)
}

// QueryContext runs a statement that returns rows.
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(ctx, query, args...)
}

// QueryRowContext runs a statement that returns at most one row.
func (t *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(ctx, query, args...)
}

// OnCommit has fn called after the transaction was committed, before Update
// returns, and not at all otherwise. It is for what is kept in memory: fn must
// not fail and must not use the database.
func (t *Tx) OnCommit(fn func()) { t.committed = append(t.committed, fn) }

// A Beginner begins transactions: *sql.DB or *sql.Conn.
type Beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// Transact calls fn in one transaction of b. Drivers make View and Update of it.
func Transact(ctx context.Context, b Beginner, opts *sql.TxOptions, fn func(*Tx) error) error {
	inner, err := b.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	tx := &Tx{tx: inner}
	done := false
	defer func() {
		if !done { // an error, a panic, or the end of the goroutine
			_ = inner.Rollback() // nothing was promised yet
		}
	}()
	if err := fn(tx); err != nil {
		return err
	}
	if err := inner.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	// Commit point: the change is on disk.
	done = true
	for _, f := range tx.committed {
		f()
	}
	return nil
}

// IsUnique reports whether err says that a row with that key exists. It knows
// the codes of SQLite and PostgreSQL by the methods their drivers' errors have.
func IsUnique(err error) bool {
	const primaryKey, unique, uniqueViolation = 1555, 2067, "23505"
	var lite interface{ Code() int }
	if errors.As(err, &lite) && (lite.Code() == primaryKey || lite.Code() == unique) {
		return true
	}
	var postgres interface{ SQLState() string }
	return errors.As(err, &postgres) && postgres.SQLState() == uniqueViolation
}
