package ca_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/ca/catest"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store/dbtest"
	"github.com/keepmq/keepmq/internal/store/sqlite"
)

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	first, db, _ := openCA(t, dir)
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:1"}
	cert, err := first.Issue(t.Context(), ca.Request{Principal: p, CSR: catest.Request(t, newKey(t))})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	second, _, _ := openCA(t, dir)
	if !bytes.Equal(first.RootPEM(), second.RootPEM()) || !first.Chain()[0].Equal(second.Chain()[0]) {
		t.Error("after reopening the authority is another one")
	}
	if err := verifyClient(second, cert); err != nil {
		t.Errorf("an old certificate: %v", err)
	}
	if revoked, err := second.Revoked(t.Context(), cert.SerialNumber); err != nil || revoked {
		t.Errorf("an old certificate: Revoked = %v, %v", revoked, err)
	}
}

// TestInterrupted breaks the creation at every statement that writes, and then
// opens again.
func TestInterrupted(t *testing.T) {
	points := []string{
		"BEFORE INSERT ON ca_certificate WHEN NEW.profile = 'root'",
		"AFTER INSERT ON ca_authority WHEN NEW.role = 'root'",
		"AFTER UPDATE ON ca_certificate WHEN NEW.state = 'issued' AND NEW.profile = 'root'",
		"BEFORE INSERT ON ca_certificate WHEN NEW.profile = 'issuing'",
		"AFTER INSERT ON ca_authority WHEN NEW.role = 'issuing'",
		"AFTER INSERT ON audit_hash WHEN NEW.idx > 1",
	}
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			db, ring := openDB(t, t.TempDir())
			dbtest.Break(t, db, point)
			if _, err := ca.Open(t.Context(), db, ring); err == nil || !strings.Contains(err.Error(), "injected") {
				t.Fatalf("open: %v, want the injected error", err)
			}
			for _, table := range []string{"ca_authority", "ca_certificate", "audit_event", "audit_hash"} {
				if n := count(t, db, `SELECT COUNT(*) FROM `+table); n != 0 {
					t.Errorf("%d rows are left in %s", n, table)
				}
			}
			dbtest.Mend(t, db)
			c, err := ca.Open(t.Context(), db, ring)
			if err != nil {
				t.Fatalf("open again: %v", err)
			}
			if err := c.Chain()[0].CheckSignatureFrom(rootOf(t, c)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReservedOnly breaks an issue between the record and its completion.
func TestReservedOnly(t *testing.T) {
	c, db, _ := openCA(t, t.TempDir())
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:1"}
	dbtest.Break(t, db, "BEFORE UPDATE ON ca_certificate")
	if _, err := c.Issue(t.Context(), ca.Request{Principal: p, CSR: catest.Request(t, newKey(t))}); err == nil {
		t.Fatal("a certificate was issued that is not complete in the ledger")
	}
	dbtest.Mend(t, db)
	list, err := c.Certificates(t.Context(), p)
	if err != nil || len(list) != 1 || list[0].Issued {
		t.Fatalf("ledger: %+v, %v; want one that is reserved", list, err)
	}
	if n := count(t, db, `SELECT COUNT(*) FROM audit_event WHERE org = 'abc123'`); n != 0 {
		t.Errorf("%d audit events for a certificate that was not issued", n)
	}

	dbtest.Break(t, db, "BEFORE INSERT ON ca_certificate")
	if _, err := c.Issue(t.Context(), ca.Request{Principal: p, CSR: catest.Request(t, newKey(t))}); err == nil {
		t.Fatal("a certificate was issued that is not in the ledger")
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]string{
		"root gone":          `DELETE FROM ca_authority WHERE role = 'root'`,
		"key changed":        `UPDATE ca_authority SET sealed_key = substr(sealed_key, 1, 40) || ` + dbtest.Blob("00") + ` || substr(sealed_key, 42)`,
		"keys exchanged":     `UPDATE ca_authority SET sealed_key = (SELECT sealed_key FROM ca_authority o WHERE o.role <> ca_authority.role)`,
		"certificate broken": `UPDATE ca_authority SET certificate = ` + dbtest.Blob("3000") + ` WHERE role = 'issuing'`,
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, db, ring := openCA(t, dir)
			run(t, db, change)
			if _, err := ca.Open(t.Context(), db, ring); err == nil {
				t.Error("it opened")
			}
		})
	}
}

// asProcess is what this test program does when it is started by
// TestTwoProcesses.
const asProcess = "KEEPMQ_CA_TEST_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asProcess); dir != "" {
		if err := openAndPrint(dir); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(dbtest.Main(m))
}

func openAndPrint(dir string) error {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "keepmq.db"))
	if err != nil {
		return err
	}
	ring, err := keyring.Open(ctx, dir, db)
	if err != nil {
		return err
	}
	c, err := ca.Open(ctx, db, ring)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(c.RootPEM())
	return errors.Join(err, db.Close())
}

func TestTwoProcesses(t *testing.T) {
	dbtest.OnlySQLite(t, "one process holds a PostgreSQL database")
	dir := t.TempDir()
	const processes = 4
	var roots [processes][]byte
	var wg sync.WaitGroup
	for i := range processes {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), asProcess+"="+dir)
		wg.Go(func() {
			out, err := cmd.Output()
			if exit := new(exec.ExitError); errors.As(err, &exit) {
				t.Errorf("process: %v: %s", err, exit.Stderr)
			} else if err != nil {
				t.Error(err)
			}
			roots[i] = out
		})
	}
	wg.Wait()
	for _, r := range roots {
		if len(r) == 0 || !bytes.Equal(r, roots[0]) {
			t.Errorf("the processes have made different authorities")
		}
	}
	c, db, ring := openCA(t, dir)
	if !bytes.Equal(c.RootPEM(), roots[0]) {
		t.Error("another authority stayed")
	}
	if n := count(t, db, `SELECT COUNT(*) FROM ca_certificate`); n != 2 {
		t.Errorf("%d certificates in the ledger, want root and issuing", n)
	}
	log, err := audit.Open(t.Context(), db, ring)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestKilled kills a process in the middle of its first start, again and again
// in the same folder, and then starts it to the end.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	killed := 0
	for i := range 20 { // each one lives a little longer
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*4)*time.Millisecond)
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), asProcess+"="+dir)
		if cmd.Run() != nil {
			killed++
		}
		cancel()
	}
	if killed < 3 {
		t.Errorf("only %d processes were killed", killed)
	}
	c, db, _ := openCA(t, dir)
	if err := c.Chain()[0].CheckSignatureFrom(rootOf(t, c)); err != nil {
		t.Error(err)
	}
	if n := count(t, db, `SELECT COUNT(*) FROM ca_authority`); n != 2 {
		t.Errorf("%d authorities, want 2", n)
	}
}

// TestAuditFollows checks that an issue and a revocation stand on the record, of
// the right organisation, and that they are undone with it.
func TestAuditFollows(t *testing.T) {
	c, db, ring := openCA(t, t.TempDir())
	log, err := audit.Open(t.Context(), db, ring)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:1"}
	by := auth.Principal{Kind: auth.Person, ID: "ada"}
	cert, err := c.Issue(t.Context(), ca.Request{Principal: p, CSR: catest.Request(t, newKey(t)), Actor: by, Address: "192.0.2.7", RequestID: "r-1"})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Break(t, db, "BEFORE INSERT ON audit_event")
	if err := c.Revoke(t.Context(), cert.SerialNumber, 0); err == nil {
		t.Error("revoked without a record of it")
	}
	if revoked, err := c.Revoked(t.Context(), cert.SerialNumber); err != nil || revoked {
		t.Errorf("half a revocation is there: %v, %v", revoked, err)
	}
	dbtest.Mend(t, db)
	if err := c.Revoke(t.Context(), cert.SerialNumber, 1); err != nil {
		t.Fatal(err)
	}
	events, _, err := log.Search(t.Context(), audit.Scope{Org: "abc123"}, audit.Filter{}, audit.Page{})
	if err != nil || len(events) != 2 {
		t.Fatalf("events: %+v, %v", events, err)
	}
	if e := events[1]; e.Action != "certificate.sign" || e.Actor != by.String() || e.Target != p.String() || e.Address != "192.0.2.7" || e.RequestID != "r-1" {
		t.Errorf("issue: %+v", e)
	}
	if e := events[0]; e.Action != "certificate.revoke" || e.Target != p.String() || e.Detail["serial"] != events[1].Detail["serial"] {
		t.Errorf("revocation: %+v", e)
	}
	if err := log.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestKeysAreSealed looks for private keys in what is stored.
func TestKeysAreSealed(t *testing.T) {
	dir := t.TempDir()
	c, db, _ := openCA(t, dir)
	cert, err := c.ServerCertificate(t.Context(), []string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret := scalarOf(t, cert.PrivateKey)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, secret) {
			t.Errorf("%s holds a private key in the clear", f)
		}
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, info.Mode(), err)
		}
	}
}
