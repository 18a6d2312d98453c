package ca_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/ca/catest"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// openDB opens the state of the data folder dir, for the length of the test.
func openDB(t testing.TB, dir string) (store.DB, *keyring.Ring) {
	t.Helper()
	db := dbtest.Open(t, dir)
	ring, err := keyring.Open(t.Context(), dir, db)
	if err != nil {
		t.Fatal(err)
	}
	return db, ring
}

func openCA(t testing.TB, dir string) (*ca.CA, store.DB, *keyring.Ring) {
	t.Helper()
	db, ring := openDB(t, dir)
	c, err := ca.Open(t.Context(), db, ring)
	if err != nil {
		t.Fatal(err)
	}
	return c, db, ring
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestContract(t *testing.T) {
	catest.Test(t, func(t *testing.T) catest.Authority {
		c, _, _ := openCA(t, t.TempDir())
		return c
	})
}

func count(t testing.TB, db store.DB, query string, args ...any) (n int) {
	t.Helper()
	err := db.View(store.ForAll(context.Background()), func(tx *store.Tx) error {
		return tx.QueryRowContext(context.Background(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func run(t testing.TB, db store.DB, query string, args ...any) {
	t.Helper()
	err := db.Update(store.ForAll(context.Background()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(context.Background(), query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func verifyClient(c *ca.CA, cert *x509.Certificate) error {
	_, err := cert.Verify(x509.VerifyOptions{Roots: c.ClientAuthorities(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

func rootOf(t testing.TB, c *ca.CA) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(c.RootPEM())
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func scalarOf(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	b, err := key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
