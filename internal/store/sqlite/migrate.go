package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/keepmq/keepmq/internal/errs"
)

// migrate brings the schema up to date. Each step is one transaction, so an
// interrupted one was never made. When another process does the same at the same
// time, one of the two meets what the other has done; it then looks again and
// finds nothing left.
func migrate(ctx context.Context, db *sql.DB, steps fs.FS) error {
	const attempts, pause = 20, 100 * time.Millisecond
	var err error
	for range attempts {
		var again bool
		if again, err = migrateOnce(ctx, db, steps); err == nil || !again {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return err
}

// migrateOnce reports also whether a second attempt could succeed.
func migrateOnce(ctx context.Context, db *sql.DB, steps fs.FS) (again bool, err error) {
	// Before anything is written: a newer or a foreign file must stay as it is.
	before, err := checkVersion(ctx, db, steps)
	if err != nil {
		return busy(err), err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, steps,
		goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return false, fmt.Errorf("read schema steps: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		after, _ := checkVersion(ctx, db, steps)
		return busy(err) || after > before || tableExists(err), fmt.Errorf("bring schema up to date: %w", err)
	}
	return false, nil
}

// checkVersion returns the newest schema step that the file has: 0 if it is new.
// It refuses a file of a newer KeepMQ or of another program.
func checkVersion(ctx context.Context, db *sql.DB, steps fs.FS) (have int64, err error) {
	var tables, versions int
	const list = `SELECT COUNT(*), COALESCE(SUM(name = $1), 0) FROM sqlite_master WHERE type = 'table'`
	if err := db.QueryRowContext(ctx, list, goose.DefaultTablename).Scan(&tables, &versions); err != nil {
		return 0, fmt.Errorf("read schema: %w", err)
	}
	if versions == 0 {
		if tables > 0 {
			return 0, errs.E(errs.Unavailable, "the file is a database, but not one of KeepMQ; choose another data folder")
		}
		return 0, nil
	}
	const newest = `SELECT COALESCE(MAX(version_id), 0) FROM ` + goose.DefaultTablename
	if err := db.QueryRowContext(ctx, newest).Scan(&have); err != nil {
		return 0, fmt.Errorf("read schema version: %w", err)
	}
	want, err := newestStep(steps)
	if err != nil {
		return 0, err
	}
	if have > want {
		return 0, errs.E(errs.Unavailable, "the data was written by a newer KeepMQ (schema %d, this program knows %d); upgrade this program or restore a backup", have, want)
	}
	return have, nil
}

func newestStep(steps fs.FS) (int64, error) {
	names, err := fs.Glob(steps, "*.sql")
	if err != nil {
		return 0, err
	}
	var newest int64
	for _, name := range names {
		n, err := goose.NumericComponent(name)
		if err != nil {
			return 0, fmt.Errorf("schema step %s: %w", name, err)
		}
		newest = max(newest, n)
	}
	return newest, nil
}
