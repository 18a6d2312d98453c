package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/postgres"
	"github.com/keepmq/keepmq/internal/store/postgres/pgtest"
)

// two makes a database with two organisations that have a device type each.
func two(t *testing.T) (*postgres.DB, postgres.Config) {
	t.Helper()
	c := pgtest.New(t)
	db := mustOpen(t, c)
	if err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		for _, org := range []string{"aaaaaa", "bbbbbb"} {
			for _, q := range []string{
				`INSERT INTO org (id, name, profile, created_at) VALUES ($1, 'x', 'iot2', 1)`,
				`INSERT INTO device_type (org, id, class, description, created_at) VALUES ($1, 't', 'device', '', 1)`,
				`INSERT INTO data_key (name, wrapped, created_at) VALUES ('org:' || $1, '', 1)`,
				`INSERT INTO lockout (org, id, kind, target, reason, maker, created_at) VALUES ($1, 'l', 'client', 'x', '', '', 1)`,
			} {
				if _, err := tx.ExecContext(t.Context(), q, org); err != nil {
					return fmt.Errorf("%s: %w", q, err)
				}
			}
		}
		_, err := tx.ExecContext(t.Context(), `INSERT INTO lockout (org, id, kind, target, reason, maker, created_at) VALUES ('', 'l', 'client', 'x', '', '', 1)`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return db, c
}

func texts(ctx context.Context, db store.DB, q string) (all []string, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, q)
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
	return all, err
}

// A statement that does not say which organisation it is about reaches only that
// of its transaction, and none without one.
func TestOrganisationsAreKeptApart(t *testing.T) {
	db, _ := two(t)
	for scope, tc := range map[string]struct {
		ctx   context.Context
		types []string
		keys  []string
		locks []string
	}{
		"all":     {store.ForAll(t.Context()), []string{"aaaaaa", "bbbbbb"}, []string{"org:aaaaaa", "org:bbbbbb"}, []string{"", "aaaaaa", "bbbbbb"}},
		"one":     {store.ForOrg(t.Context(), "aaaaaa"), []string{"aaaaaa"}, []string{"org:aaaaaa"}, []string{"aaaaaa"}},
		"another": {store.ForOrg(store.ForAll(t.Context()), "bbbbbb"), []string{"bbbbbb"}, []string{"org:bbbbbb"}, []string{"bbbbbb"}},
		"unknown": {store.ForOrg(t.Context(), "cccccc"), nil, nil, nil},
	} {
		for q, want := range map[string][]string{
			`SELECT org FROM device_type ORDER BY org`: tc.types,
			`SELECT id FROM org ORDER BY id`:           tc.types,
			`SELECT name FROM data_key ORDER BY name`:  tc.keys,
			`SELECT org FROM lockout ORDER BY org`:     tc.locks,
		} {
			if got, err := texts(tc.ctx, db, q); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %s: %q, %v; want %q", scope, q, got, err, want)
			}
		}
	}
}

// A transaction that does not say whose it is is refused, and sees nothing where
// nobody refuses it.
func TestNoScope(t *testing.T) {
	db, c := two(t)
	for name, ctx := range map[string]context.Context{"none": t.Context(), "no name": store.ForOrg(store.ForAll(t.Context()), ""), "an * name": store.ForOrg(t.Context(), "*")} {
		for _, run := range []func(context.Context, func(*store.Tx) error) error{db.View, db.Update} {
			if err := run(ctx, func(*store.Tx) error { t.Errorf("%s: it ran", name); return nil }); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
	conn, err := pgx.Connect(t.Context(), c.DSN.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for range 2 { // once with a setting that was never made, once with one that has ended
		for _, table := range []string{"org", "device_type", "lockout", "data_key"} {
			var n int
			if err := conn.QueryRow(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil || n != 0 {
				t.Errorf("%d rows of %s, %v", n, table, err)
			}
		}
		if tag, err := conn.Exec(t.Context(), `UPDATE lockout SET reason = 'x'`); err != nil || tag.RowsAffected() != 0 {
			t.Errorf("it changed %v, %v", tag, err)
		}
		if _, err := conn.Exec(t.Context(), `SELECT set_config('keepmq.org', '*', TRUE)`); err != nil {
			t.Fatal(err)
		}
	}
}

// Nor does a change reach another organisation, or leave a row to it.
func TestChangesStayInside(t *testing.T) {
	db, _ := two(t)
	for _, q := range []string{
		`UPDATE device_type SET description = 'changed'`,
		`DELETE FROM lockout`,
		`DELETE FROM org WHERE id = 'bbbbbb'`,
	} {
		if err := db.Update(store.ForOrg(t.Context(), "aaaaaa"), func(tx *store.Tx) error {
			_, err := tx.ExecContext(t.Context(), q)
			return err
		}); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
	for _, q := range []string{
		`INSERT INTO device_type (org, id, class, description, created_at) VALUES ('bbbbbb', 'u', 'device', '', 1)`,
		`UPDATE device_type SET org = 'bbbbbb', id = 'v'`,
		`INSERT INTO lockout (org, id, kind, target, reason, maker, created_at) VALUES ('', 'm', 'client', 'x', '', '', 1)`,
	} {
		if err := db.Update(store.ForOrg(t.Context(), "aaaaaa"), func(tx *store.Tx) error {
			_, err := tx.ExecContext(t.Context(), q)
			return err
		}); err == nil {
			t.Errorf("%s was done", q)
		}
	}
	got, err := texts(store.ForAll(t.Context()), db, `SELECT org || ':' || id || ':' || description FROM device_type ORDER BY org, id`)
	if want := []string{"aaaaaa:t:changed", "bbbbbb:t:"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	got, err = texts(store.ForAll(t.Context()), db, `SELECT org FROM lockout ORDER BY org`)
	if want := []string{"", "bbbbbb"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("locks of %q, %v; want of %q", got, err, want)
	}
}

// The scope is that of one transaction: the next one on the connection has its own.
func TestScopeEnds(t *testing.T) {
	db, _ := two(t)
	for range 30 {
		if got, err := texts(store.ForAll(t.Context()), db, `SELECT id FROM org`); err != nil || len(got) != 2 {
			t.Fatal(got, err)
		}
		if got, err := texts(store.ForOrg(t.Context(), "aaaaaa"), db, `SELECT id FROM org`); err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
	}
}

// Every table with an org column is protected, also from its owner, and a
// database where one is not is refused until its owner has mended it.
func TestEveryTableIsProtected(t *testing.T) {
	db, c := two(t)
	open, err := texts(store.ForAll(t.Context()), db, `SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
		WHERE a.attname = 'org' AND c.relkind = 'r' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`)
	if err != nil || len(open) != 0 {
		t.Errorf("not protected: %q, %v", open, err)
	}
	all, err := texts(store.ForAll(t.Context()), db, `SELECT tablename FROM pg_policies WHERE policyname = 'keepmq_org'`)
	if err != nil || len(all) < 20 {
		t.Errorf("only %d tables have a policy: %q, %v", len(all), all, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	only := postgres.Config{DSN: c.DSN}
	for _, q := range []string{
		`DROP POLICY keepmq_org ON device`,
		`ALTER TABLE device NO FORCE ROW LEVEL SECURITY`,
		`ALTER TABLE data_key DISABLE ROW LEVEL SECURITY`,
		`CREATE TABLE later (org TEXT NOT NULL)`,
	} {
		pgtest.Exec(t, c, q)
		_, err := postgres.Open(t.Context(), only)
		wantUnavailable(t, err, "keep organisations apart")
		pgtest.Exec(t, c, `ALTER TABLE IF EXISTS later OWNER TO `+pgtest.Owner)
		if err := mustOpen(t, c).Close(); err != nil {
			t.Fatal(err)
		}
		if err := mustOpen(t, only).Close(); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Exec(t, c, `CREATE POLICY more ON device USING (TRUE)`)
	_, err = postgres.Open(t.Context(), c)
	wantUnavailable(t, err, "keep organisations apart")
	pgtest.Exec(t, c, `DROP POLICY more ON device`, `ALTER TABLE device OWNER TO `+pgtest.Role)
	_, err = postgres.Open(t.Context(), only)
	wantUnavailable(t, err, "owns tables")
}
