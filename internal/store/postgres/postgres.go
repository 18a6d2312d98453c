// Package postgres keeps the control plane's state in a PostgreSQL database.
//
// It keeps the promises of store.DB with serializable updates, one at a time,
// and with views of one snapshot. The connection is TLS with a verified server,
// or a unix socket. One process at a time holds the database, because it
// remembers what it has read: a second one is refused, and one that cannot prove
// any more that it is the holder answers nothing until it can.
//
// Two roles use the database. The owner makes the schema and is not needed
// afterwards; the other one reads and writes rows, and can do nothing else.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	readers  = 8
	turnWait = 30 * time.Second // for the writer; longer means that somebody holds it for good
	attempts = 10               // of an update that meets changes of others
)

// A Config says where the database is.
type Config struct {
	// DSN is the URL with which rows are read and written.
	DSN secret.String
	// OwnerDSN is the URL with which the schema is made and brought up to date.
	// Empty: the schema must be up to date.
	OwnerDSN secret.String
}

// A DB is a store.DB in a PostgreSQL database.
type DB struct {
	holder *holder
	turn   chan struct{} // one token: held by the update that runs
	write  *sql.DB
	read   *sql.DB
	waitAt time.Duration
}

// Open takes the database for this process and brings its schema up to date. It
// refuses a database that another process holds, or that a newer KeepMQ wrote.
func Open(ctx context.Context, c Config) (*DB, error) {
	app, err := parse(c.DSN)
	if err != nil {
		return nil, err
	}
	if err := check(ctx, app); err != nil {
		return nil, fmt.Errorf("open database: %w", explain(err))
	}
	h := newHolder(app)
	if err := h.take(ctx); err != nil {
		return nil, fmt.Errorf("open database: %w", explain(err))
	}
	err = prepare(ctx, c, app)
	if err == nil {
		err = h.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", explain(err)), h.close())
	}
	return &DB{holder: h, turn: make(chan struct{}, 1), write: pool(app, 1), read: pool(app, readers), waitAt: turnWait}, nil
}

// Check reports whether the database can be reached and used, and changes nothing.
func Check(ctx context.Context, c Config) error {
	app, err := parse(c.DSN)
	if err != nil {
		return err
	}
	if err := check(ctx, app); err != nil {
		return explain(err)
	}
	if c.OwnerDSN.Reveal() == "" {
		return nil
	}
	owner, err := parseOwner(c.OwnerDSN, app)
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, owner)
	if err != nil {
		return explain(err)
	}
	return conn.Close(ctx)
}

func pool(c *pgx.ConnConfig, size int) *sql.DB {
	p := stdlib.OpenDB(*c)
	p.SetMaxOpenConns(size)
	p.SetMaxIdleConns(size)
	return p
}

// View implements store.DB.
func (db *DB) View(ctx context.Context, fn func(*store.Tx) error) error {
	opts := &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true}
	return explain(store.Transact(ctx, db.read, opts, func(tx *store.Tx) error {
		if err := db.holder.confirm(ctx, tx, false); err != nil {
			return err
		}
		return fn(tx)
	}))
}

// Update implements store.DB. Updates of this process wait for each other, as
// they all write the audit record, and so meet only what others change.
func (db *DB) Update(ctx context.Context, fn func(*store.Tx) error) error {
	if err := db.begin(ctx); err != nil {
		return err
	}
	defer func() { <-db.turn }()
	opts := &sql.TxOptions{Isolation: sql.LevelSerializable}
	pause := time.Millisecond
	for n := 1; ; n++ {
		err := store.Transact(ctx, db.write, opts, func(tx *store.Tx) error {
			if err := db.holder.confirm(ctx, tx, true); err != nil {
				return err
			}
			return fn(tx)
		})
		if !again(err) || n == attempts {
			return explain(err)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return fmt.Errorf("repeat an update: %w", ctx.Err())
		}
	}
}

// begin takes the writer's turn. The wait is bounded so that an update inside an
// update, which would wait for itself, is an error and not a standstill.
func (db *DB) begin(ctx context.Context) error {
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

// Lost is closed when another process has taken the database. There is no way
// back then: what this process remembers may be wrong.
func (db *DB) Lost() <-chan struct{} { return db.holder.lost }

// Close implements store.DB, and gives the database free.
func (db *DB) Close() error {
	return errors.Join(db.read.Close(), db.write.Close(), db.holder.close())
}
