package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	gooselock "github.com/pressly/goose/v3/lock"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store/migrations"
)

// The tables of versions: of the schema that SQLite has too, and of the rest.
const (
	sharedVersions = goose.DefaultTablename
	extraVersions  = "goose_db_version_postgres"
)

// check refuses a database that would not keep what a store promises.
func check(ctx context.Context, app *pgx.ConnConfig) error {
	conn, err := pgx.ConnectConfig(ctx, app)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version int
	var encoding, collation, commit string
	var powerful bool
	const q = `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), d.datcollate,
		current_setting('synchronous_commit'), r.rolsuper OR r.rolbypassrls OR r.rolcreaterole
		FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user`
	if err := conn.QueryRow(ctx, q).Scan(&version, &encoding, &collation, &commit, &powerful); err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	switch name := strings.ToLower(strings.ReplaceAll(collation, "-", "")); {
	case version < 150000:
		return errs.E(errs.Unavailable, "the database is older than PostgreSQL 15; upgrade it")
	case encoding != "UTF8" || (name != "c" && name != "posix" && name != "c.utf8"):
		return errs.E(errs.Unavailable, "the database sorts by %s in %s; create it anew: createdb --template template0 --encoding UTF8 --locale C", collation, encoding)
	case commit == "off":
		return errs.E(errs.Unavailable, "synchronous_commit is off, so that a crash would lose what was acknowledged; switch it on for this role")
	case powerful:
		return errs.E(errs.Unavailable, "the role of the database URL may do too much; take one that is NOSUPERUSER NOBYPASSRLS NOCREATEROLE")
	}
	return nil
}

// prepare brings the schema up to date, or checks that it is.
func prepare(ctx context.Context, c Config, app *pgx.ConnConfig) error {
	if c.OwnerDSN.Reveal() != "" {
		owner, err := parseOwner(c.OwnerDSN, app)
		if err != nil {
			return err
		}
		if err := migrate(ctx, owner, app.User); err != nil {
			return err
		}
	}
	db := pool(app, 1)
	defer db.Close()
	for table, steps := range map[string]fs.FS{sharedVersions: migrations.Files(), extraVersions: migrations.Postgres()} {
		have, want, err := versions(ctx, db, table, steps)
		if err != nil {
			return err
		}
		if have < want {
			return errs.E(errs.Unavailable, "the schema of the database is older than this program (%d, not %d); start it once with the owner's URL", have, want)
		}
	}
	return isolated(ctx, db)
}

// migrate makes every step that is missing as the owner, and gives role the
// right to read and write rows. Each step is one transaction.
func migrate(ctx context.Context, owner *pgx.ConnConfig, role string) error {
	db := pool(owner, 2)
	defer db.Close()
	if err := ours(ctx, db); err != nil {
		return err
	}
	locker, err := gooselock.NewPostgresSessionLocker(gooselock.WithLockTimeout(1, 60), gooselock.WithUnlockTimeout(1, 10))
	if err != nil {
		return err
	}
	for _, part := range []struct {
		table string
		steps fs.FS
	}{{sharedVersions, migrations.Files()}, {extraVersions, migrations.Postgres()}} {
		if _, _, err := versions(ctx, db, part.table, part.steps); err != nil {
			return err
		}
		versionStore, err := database.NewStore(database.DialectPostgres, part.table)
		if err != nil {
			return err
		}
		p, err := goose.NewProvider("", db, part.steps, goose.WithStore(versionStore), goose.WithSessionLocker(locker),
			goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
		if err != nil {
			return fmt.Errorf("read schema steps: %w", err)
		}
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("bring schema up to date: %w", err)
		}
	}
	if _, err := db.ExecContext(ctx, `SELECT keepmq_isolate()`); err != nil {
		return fmt.Errorf("protect the rows of organisations: %w", err)
	}
	return grant(ctx, db, role)
}

// isolated refuses a database that would not keep organisations apart: where a
// table of theirs has no policy, or the role could take one away.
func isolated(ctx context.Context, db *sql.DB) error {
	const q = `SELECT COUNT(*) FILTER (WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity)
			OR NOT EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'keepmq_org')
			OR EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname <> 'keepmq_org')),
		COUNT(*) FILTER (WHERE pg_has_role(c.relowner, 'MEMBER'))
		FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND (c.relname IN ('org', 'retired_org', 'data_key')
			OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'org'))`
	var open, owned int
	if err := db.QueryRowContext(ctx, q).Scan(&open, &owned); err != nil {
		return fmt.Errorf("look at the policies: %w", err)
	}
	if open > 0 {
		return errs.E(errs.Unavailable, "%d tables of the database do not keep organisations apart; start it once with the owner's URL", open)
	}
	if owned > 0 {
		return errs.E(errs.Unavailable, "the role of the database URL owns tables, or is a member of their owner; take another one")
	}
	return nil
}

// grant lets role read and write rows of every table that there is now.
func grant(ctx context.Context, db *sql.DB, role string) error {
	name := pgx.Identifier{role}.Sanitize()
	for _, q := range []string{
		`GRANT USAGE ON SCHEMA public TO ` + name,
		`GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO ` + name,
		`REVOKE INSERT, UPDATE, DELETE ON ` + sharedVersions + `, ` + extraVersions + ` FROM ` + name,
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("let the role use the tables: %w", err)
		}
	}
	return nil
}

// ours refuses a database that holds tables of another program.
func ours(ctx context.Context, db *sql.DB) error {
	var tables, versions int
	const q = `SELECT COUNT(*), COUNT(*) FILTER (WHERE tablename = $1) FROM pg_tables WHERE schemaname = 'public'`
	if err := db.QueryRowContext(ctx, q, sharedVersions).Scan(&tables, &versions); err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if tables > 0 && versions == 0 {
		return errs.E(errs.Unavailable, "the database holds the tables of another program; create one for KeepMQ")
	}
	return nil
}

// versions returns the newest step that the database has, and the newest of
// steps. It refuses the database of a newer KeepMQ.
func versions(ctx context.Context, db *sql.DB, table string, steps fs.FS) (have, want int64, err error) {
	names, err := fs.Glob(steps, "*.sql")
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		n, err := goose.NumericComponent(name)
		if err != nil {
			return 0, 0, fmt.Errorf("schema step %s: %w", name, err)
		}
		want = max(want, n)
	}
	var there bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, "public."+table).Scan(&there); err != nil {
		return 0, 0, fmt.Errorf("read schema: %w", err)
	}
	if !there {
		return 0, want, nil
	}
	err = db.QueryRowContext(ctx, `SELECT COALESCE(MAX(version_id), 0) FROM `+table).Scan(&have)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, 0, fmt.Errorf("read schema version: %w", err)
	}
	if have > want {
		return 0, 0, errs.E(errs.Unavailable, "the data was written by a newer KeepMQ (schema %d, this program knows %d); upgrade this program or restore a backup", have, want)
	}
	return have, want, nil
}
