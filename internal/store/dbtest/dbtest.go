// Package dbtest runs the tests of a package that keeps state on each of the
// stores there are, one after the other.
package dbtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/postgres"
	"github.com/keepmq/keepmq/internal/store/postgres/pgtest"
	"github.com/keepmq/keepmq/internal/store/sqlite"
)

type kind struct {
	name string
	open func(t testing.TB, dir string) store.DB
}

var (
	kinds   = []kind{{"SQLite", openSQLite}, {"PostgreSQL", openPostgres}}
	present = kinds[0]
)

// only names one store, in the environment, for who wants the tests on that alone.
const only = "KEEPMQ_TEST_STORE"

// Main is what a TestMain calls: it runs all tests on each store, or on the one
// that the environment names. Fuzzing and benchmarks are for the first one.
func Main(m *testing.M) int {
	flag.Parse()
	code := 0
	wanted := kinds
	if name := os.Getenv(only); name != "" {
		wanted = slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !strings.EqualFold(k.name, name) })
		if len(wanted) == 0 {
			fmt.Printf("%s must be SQLite or PostgreSQL, is %q\n", only, name)
			return 2
		}
	}
	for _, k := range wanted {
		present = k
		fmt.Println("--- on", k.name)
		code = max(code, m.Run())
		if given("test.fuzz") || given("test.bench") || given("test.list") {
			break
		}
	}
	return code
}

func given(name string) bool {
	f := flag.Lookup(name)
	return f != nil && f.Value.String() != ""
}

// Open opens the database that belongs to the folder dir, for the length of the
// test at most. It is made when it is asked for the first time.
func Open(t testing.TB, dir string) store.DB {
	t.Helper()
	return present.open(t, dir)
}

// OnlySQLite skips a test on other stores, for a reason.
func OnlySQLite(t testing.TB, reason string) {
	t.Helper()
	if present.name != kinds[0].name {
		t.Skip("only with SQLite: " + reason)
	}
}

// OnPostgres reports whether the present store is PostgreSQL.
func OnPostgres() bool { return present.name == kinds[1].name }

// Blob returns bytes, written in hex, as a literal of the present store.
func Blob(hex string) string {
	if present.name == kinds[0].name {
		return `x'` + hex + `'`
	}
	return `'\x` + hex + `'::bytea`
}

// Dump returns what is in all rows of a store that is not in the folder of its test.
func Dump(t testing.TB, db store.DB) []byte {
	t.Helper()
	if s, ok := db.(*sharing); ok {
		return pgtest.Dump(t, s.config())
	}
	return nil
}

// Break makes a change of db fail with "injected" at a point: "BEFORE INSERT ON
// table" or "AFTER UPDATE ON table WHEN NEW.column = 'value'".
func Break(t testing.TB, db store.DB, point string) {
	t.Helper()
	s, ok := db.(*sharing)
	if !ok {
		execute(t, db, `CREATE TRIGGER fault `+point+` BEGIN SELECT RAISE(ABORT, 'injected'); END`)
		return
	}
	on, when, _ := strings.Cut(point, " WHEN ")
	if when != "" {
		when = " WHEN (" + when + ")"
	}
	pgtest.Exec(t, s.config(), `CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''injected''; END'`,
		`CREATE TRIGGER fault `+on+` FOR EACH ROW`+when+` EXECUTE FUNCTION fault()`)
}

// Mend ends what Break did.
func Mend(t testing.TB, db store.DB) {
	t.Helper()
	if s, ok := db.(*sharing); ok {
		pgtest.Exec(t, s.config(), `DROP FUNCTION fault() CASCADE`)
		return
	}
	execute(t, db, `DROP TRIGGER fault`)
}

func execute(t testing.TB, db store.DB, query string) {
	t.Helper()
	if err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), query)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func openSQLite(t testing.TB, dir string) store.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "keepmq.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // again, perhaps
	return db
}

// A PostgreSQL database is held once, so who opens one twice shares it.
type sharing struct {
	store.DB
	dir  string
	once sync.Once
}

type hold struct {
	config postgres.Config
	db     store.DB
	users  int
}

var (
	mu    sync.Mutex // guards holds
	holds = map[string]*hold{}
)

func openPostgres(t testing.TB, dir string) store.DB {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	h := holds[dir]
	if h == nil {
		h = &hold{config: pgtest.New(t)}
		holds[dir] = h
	}
	if h.users == 0 {
		db, err := postgres.Open(t.Context(), h.config)
		if err != nil {
			t.Fatal(err)
		}
		h.db = db
	}
	h.users++
	s := &sharing{DB: h.db, dir: dir}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *sharing) config() postgres.Config {
	mu.Lock()
	defer mu.Unlock()
	return holds[s.dir].config
}

// Close closes the database when nobody else uses it.
func (s *sharing) Close() (err error) {
	s.once.Do(func() {
		mu.Lock()
		defer mu.Unlock()
		h := holds[s.dir]
		if h.users--; h.users == 0 {
			err = h.db.Close()
		}
	})
	return err
}
