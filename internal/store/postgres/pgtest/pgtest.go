// Package pgtest starts a real PostgreSQL for tests: one server for a test
// process, in a temporary folder, and a database of its own for each test.
//
// The server ends with the process that started it, however that ends. It does
// not wait for the disk, so it is not for measuring, nor for tests of crashes of
// the machine.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store/postgres"
)

// The roles of every server.
const (
	Super = "super"        // may do everything
	Owner = "keepmq_owner" // owns the databases
	Role  = "keepmq"       // reads and writes rows

	Password = "role secret" // of Role
)

// A Server is a running PostgreSQL.
type Server struct {
	Dir  string // of its socket, which lets in everybody who can enter the folder
	port int    // in the name of the socket
	last atomic.Int64
}

var shared = sync.OnceValues(func() (*Server, error) {
	s, err := start(nil)
	if err != nil {
		return nil, err
	}
	// Every test gets a copy of a database that has the schema already.
	if err := s.create("template", ""); err != nil {
		return nil, err
	}
	db, err := postgres.Open(context.Background(), s.Config("template"))
	if err != nil {
		return nil, err
	}
	return s, db.Close()
})

// Shared returns the server of this test process.
func Shared(t testing.TB) *Server {
	t.Helper()
	if _, err := program("postgres"); err != nil {
		if testing.Short() {
			t.Skip("short mode: PostgreSQL is not installed (Debian: scripts/setup-test installs it)")
		}
		t.Fatal("PostgreSQL is not installed; run scripts/setup-test")
	}
	s, err := shared()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	return s
}

// New makes a database with the present schema and no rows. It is deleted when
// the test has ended.
func New(t testing.TB) postgres.Config {
	t.Helper()
	return Shared(t).database(t, "template")
}

// Empty makes a database without a schema.
func Empty(t testing.TB) postgres.Config {
	t.Helper()
	return Shared(t).database(t, "")
}

// Open opens a new database, which is closed when the test has ended.
func Open(t testing.TB) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), New(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// Exec runs statements as a superuser in the database of c, behind KeepMQ's back.
func Exec(t testing.TB, c postgres.Config, statements ...string) {
	t.Helper()
	if err := exec1(super(t, c), statements...); err != nil {
		t.Fatal(err)
	}
}

// super returns the URL of a superuser in the database of c.
func super(t testing.TB, c postgres.Config) string {
	t.Helper()
	u, err := url.Parse(c.DSN.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(Super)
	return u.String()
}

// Dump returns the bytes and texts in all rows of the database of c.
func Dump(t testing.TB, c postgres.Config) []byte {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, super(t, c))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	var all []byte
	for _, name := range tables {
		rows, err := conn.Query(ctx, `SELECT * FROM `+name)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range values {
				switch v := v.(type) {
				case []byte:
					all = append(all, v...)
				case string:
					all = append(all, v...)
				}
			}
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (s *Server) database(t testing.TB, template string) postgres.Config {
	t.Helper()
	name := fmt.Sprintf("t%d", s.last.Add(1))
	if err := s.create(name, template); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		if err := s.exec("postgres", `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return s.Config(name)
}

func (s *Server) create(name, template string) error {
	q := `CREATE DATABASE ` + name + ` OWNER ` + Owner
	if template != "" {
		q += ` TEMPLATE ` + template
	}
	return s.exec("postgres", q)
}

// Config returns how a database is reached through the socket.
func (s *Server) Config(name string) postgres.Config {
	return postgres.Config{DSN: secret.New(s.url(Role, name)), OwnerDSN: secret.New(s.url(Owner, name))}
}

func (s *Server) url(role, name string) string {
	u := url.URL{Scheme: "postgresql", User: url.User(role), Path: "/" + name,
		RawQuery: url.Values{"host": {s.Dir}, "port": {strconv.Itoa(s.port)}}.Encode()}
	return u.String()
}

func (s *Server) exec(name string, statements ...string) error {
	return exec1(s.url(Super, name), statements...)
}

func exec1(dsn string, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, q := range statements {
		if _, err := conn.Exec(ctx, q); err != nil {
			return fmt.Errorf("%.80s: %w", q, err)
		}
	}
	return nil
}

// program finds a program of the newest PostgreSQL of Debian, which are not on
// the path.
func program(name string) (string, error) {
	all, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		return "", err
	}
	newest := 0
	for _, p := range all {
		if n, err := strconv.Atoi(strings.Split(p, "/")[4]); err == nil {
			newest = max(newest, n)
		}
	}
	if newest > 0 {
		return fmt.Sprintf("/usr/lib/postgresql/%d/bin/%s", newest, name), nil
	}
	return exec.LookPath(name)
}

// unprivileged returns who runs the server: PostgreSQL refuses to run as root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

// script starts the server and waits for the end of its input, which comes with
// the end of the process that holds the other end. Then nothing stays.
const script = `
"$1" -D "$2/data" >"$2/log" 2>&1 &
pid=$!
cat >/dev/null
kill -QUIT $pid
wait $pid
rm -rf "$2"
`

// start makes a server that others reach by its socket. prepare, if not nil, puts
// into its folder what settings, lines of its configuration, need.
func start(prepare func(dir string, who *syscall.Credential) error, settings ...string) (*Server, error) {
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	initdb, err := program("initdb")
	if err != nil {
		return nil, err
	}
	server, err := program("postgres")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "keepmq-pg") // short: the name of a socket has 107 bytes at most
	if err != nil {
		return nil, err
	}
	if who != nil {
		if err := os.Chown(dir, int(who.Uid), int(who.Gid)); err != nil {
			return nil, err
		}
	}
	attr := &syscall.SysProcAttr{Credential: who, Setsid: true}
	make := exec.Command(initdb, "-D", dir+"/data", "-U", Super, "--no-sync", "-E", "UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256")
	make.SysProcAttr, make.Dir = attr, dir
	if out, err := make.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	if prepare != nil {
		if err := prepare(dir, who); err != nil {
			return nil, err
		}
	}
	settings = append([]string{"listen_addresses = ''", "unix_socket_directories = '" + dir + "'", "fsync = off",
		"full_page_writes = off", "max_connections = 300", "shared_buffers = 32MB", "autovacuum = off", "wal_level = minimal", "max_wal_senders = 0"}, settings...)
	f, err := os.OpenFile(dir+"/data/postgresql.conf", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteString("\n" + strings.Join(settings, "\n") + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	holdOpen = append(holdOpen, write)
	run := exec.Command("sh", "-c", script, "sh", server, dir)
	run.SysProcAttr, run.Dir, run.Stdin = attr, dir, read
	if err := run.Start(); err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, port: 5432}
	for _, line := range settings {
		_, _ = fmt.Sscanf(line, "port = %d", &s.port) // or it is another line
	}
	return s, s.settle()
}

// holdOpen are the inputs of the scripts: a file that nothing names is closed by
// the garbage collector.
var holdOpen []*os.File

// settle waits until the server answers, and makes its roles.
func (s *Server) settle() error {
	var err error
	for range 200 {
		err = s.exec("postgres",
			`CREATE ROLE `+Owner+` LOGIN PASSWORD 'owner secret'`,
			`CREATE ROLE `+Role+` LOGIN PASSWORD '`+Password+`'`)
		if err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(s.Dir + "/log")
	return fmt.Errorf("%w; its log: %s", err, text)
}
