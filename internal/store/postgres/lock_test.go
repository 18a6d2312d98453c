package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keepmq/keepmq/internal/store/postgres"
	"github.com/keepmq/keepmq/internal/store/postgres/pgtest"
)

// holdLock takes the lock away from whoever has it, without beginning an epoch,
// and returns what gives it back.
func holdLock(t *testing.T, c postgres.Config) func() {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		pgtest.Exec(t, c, loseLock)
		for range 20 {
			var locked bool
			if err := conn.QueryRow(t.Context(), `SELECT pg_try_advisory_lock($1)`, int64(postgres.LockKey)).Scan(&locked); err != nil {
				t.Fatal(err)
			}
			if locked {
				return func() { _ = conn.Close(context.Background()) }
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	t.Fatal("the lock cannot be had")
	return nil
}
