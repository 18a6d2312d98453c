package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// A world is a registry with everything real behind it, in a temporary folder.
type world struct {
	*Registry
	dir   string
	db    *breakable
	file  store.DB // that of db
	ring  *keyring.Ring
	ca    *ca.CA
	log   *lockedBuffer
	clock *clock
	admin Actor
}

// lockedBuffer collects the log.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// clock is the time, which tests move.
type clock struct {
	mu     sync.Mutex // guards offset
	offset time.Duration
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// breakable is a database that can be told to fail.
type breakable struct {
	store.DB
	mu  sync.Mutex // guards err
	err error
}

func (b *breakable) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *breakable) failing() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *breakable) View(ctx context.Context, fn func(*store.Tx) error) error {
	if err := b.failing(); err != nil {
		return err
	}
	return b.DB.View(ctx, fn)
}

// Update fails where a commit would: after fn has done its work.
func (b *breakable) Update(ctx context.Context, fn func(*store.Tx) error) error {
	return b.DB.Update(ctx, func(tx *store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return b.failing()
	})
}

// TestMain runs every test on each of the stores.
func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

func newWorld(t testing.TB) *world {
	t.Helper()
	return openWorld(t, t.TempDir())
}

func openWorld(t testing.TB, dir string) *world {
	t.Helper()
	ctx := t.Context()
	file := dbtest.Open(t, dir)
	var err error
	w := &world{dir: dir, db: &breakable{DB: file}, file: file, log: &lockedBuffer{}, clock: &clock{},
		admin: Actor{Principal: auth.Principal{Kind: auth.Person, ID: "tester"}, Admin: true, Address: "192.0.2.1:5"}}
	check(t, file.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO person (id, name, admin, created_at) VALUES ('tester', 'Tester', FALSE, 1) ON CONFLICT (id) DO NOTHING`)
		return err
	}))
	w.ring, err = keyring.Open(ctx, dir, file)
	check(t, err)
	w.ca, err = ca.Open(ctx, file, w.ring)
	check(t, err)
	w.Registry = New(Config{DB: w.db, Ring: w.ring, Issuer: w.ca, Now: w.clock.now, Domain: "example.org", Names: []string{"own.example.net"},
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	return w
}

// exec runs a statement on the store.
func (w *world) exec(t testing.TB, query string) error {
	t.Helper()
	return w.db.DB.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), query)
		return err
	})
}

// newPerson makes a person who is a member of nothing.
func (w *world) newPerson(t testing.TB, id string) Actor {
	t.Helper()
	check(t, w.db.DB.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `INSERT INTO person (id, name, admin, created_at) VALUES ($1, $1, FALSE, 1)`, id)
		return err
	}))
	return Actor{Principal: auth.Principal{Kind: auth.Person, ID: id}}
}

// join makes a person a member of org.
func (w *world) join(t testing.TB, org auth.OrgID, person, role string) Actor {
	t.Helper()
	check(t, w.db.DB.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return insertMember(t.Context(), tx, Member{Org: org, Person: person, Role: role, Created: w.now()})
	}))
	return Actor{Principal: auth.Principal{Kind: auth.Person, ID: person}}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code errs.Code) {
	t.Helper()
	if err == nil || errs.CodeOf(err) != code {
		t.Fatalf("error %v has code %d, want %d", err, errs.CodeOf(err), code)
	}
	if errs.Message(err) == "" {
		t.Fatalf("error %v has no message for its owner", err)
	}
}

func (w *world) newOrg(t testing.TB, profile string) auth.OrgID {
	t.Helper()
	o, err := w.CreateOrg(t.Context(), w.admin, Org{Name: "Test", Profile: profile})
	check(t, err)
	return o.ID
}

func (w *world) newType(t testing.TB, org auth.OrgID, id, class string) {
	t.Helper()
	_, err := w.CreateDeviceType(t.Context(), w.admin, DeviceType{Org: org, ID: id, Class: class})
	check(t, err)
}

func (w *world) newDevice(t testing.TB, d Device) secret.String {
	t.Helper()
	_, token, err := w.CreateDevice(t.Context(), w.admin, d)
	check(t, err)
	return token
}

func (w *world) newApplication(t testing.TB, org auth.OrgID) (Application, secret.String) {
	t.Helper()
	p, token, err := w.CreateApplication(t.Context(), w.admin, Application{Org: org, Name: "app", Role: permission.Owner})
	check(t, err)
	return p, token
}

// simple makes an organisation with a device "t:d" and returns both.
func (w *world) simple(t testing.TB) (auth.OrgID, secret.String) {
	t.Helper()
	org := w.newOrg(t, ProfileIoT2)
	w.newType(t, org, "t", ClassDevice)
	return org, w.newDevice(t, Device{Org: org, Type: "t", ID: "d"})
}

// records returns the actions on the audit record.
func (w *world) records(t testing.TB) []string {
	t.Helper()
	var all []string
	check(t, w.db.DB.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		rows, err := tx.QueryContext(t.Context(), `SELECT record FROM audit_event ORDER BY seq`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var record string
			if err := rows.Scan(&record); err != nil {
				return err
			}
			var e struct{ Action string }
			if err := json.Unmarshal([]byte(record), &e); err != nil {
				return err
			}
			all = append(all, e.Action)
		}
		return rows.Err()
	}))
	return all
}

// deviceLogin is what a device with a token presents.
func deviceLogin(org auth.OrgID, id string, token secret.String) auth.Credentials {
	return auth.Credentials{ClientID: "d:" + string(org) + ":" + id, HasUsername: true, Username: "use-token-auth",
		HasPassword: true, Password: token}
}

func applicationLogin(p Application, token secret.String) auth.Credentials {
	return auth.Credentials{ClientID: "a:" + string(p.Org) + ":app", HasUsername: true, Username: p.Key,
		HasPassword: true, Password: token}
}

func newCSR(t testing.TB) []byte {
	t.Helper()
	der, err := makeCSR()
	check(t, err)
	return der
}

func makeCSR() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

// third returns the last of three results.
func third[A, B any](_ A, _ B, err error) error { return err }

// count returns how many rows a table has.
func (w *world) count(t testing.TB, table string) (n int) {
	t.Helper()
	check(t, w.db.DB.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n)
	}))
	return n
}
