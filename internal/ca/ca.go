// Package ca is the certificate authority.
//
// A root, whose key is needed only to make another issuing authority, signs an
// issuing authority, which signs everything else. The package promises that
// nothing is signed that was not recorded first, that a certificate's names come
// from the authenticated principal and never from the request, and that what the
// ledger does not know as issued counts as revoked. Keys are sealed by the
// keyring; every issue and every revocation is on the audit record.
//
// It does not authenticate who asks, and it does not end connections: its
// callers do.
package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store"
)

// A Request asks for a client certificate.
type Request struct {
	Principal auth.Principal           // a device or gateway, authenticated by the caller
	CSR       *x509.CertificateRequest // proves who holds the key; everything else in it is ignored
	TTL       time.Duration            // MinTTL to MaxTTL; 0: DefaultTTL

	Actor     auth.Principal // for the audit record: who asked; zero: the principal itself
	Address   string
	RequestID string
}

// How long a client certificate is good.
const (
	DefaultTTL = 24 * time.Hour
	MinTTL     = time.Hour
	MaxTTL     = 90 * 24 * time.Hour
)

// An Issuer signs client certificates and revokes certificates. It must not be
// called inside a transaction of the store.
type Issuer interface {
	// Issue returns a certificate for the principal and the key of the request.
	Issue(ctx context.Context, r Request) (*x509.Certificate, error)

	// Revoke makes a certificate worthless from now on, for a reason of RFC 5280
	// section 5.3.1. Revoking again changes nothing. What was never recorded is
	// errs.NotFound.
	Revoke(ctx context.Context, serial *big.Int, reason int) error
}

// A CA is an authority whose keys are in the store. It may be used from any
// goroutine.
type CA struct {
	db    store.DB
	ring  *keyring.Ring
	clock func() time.Time
	state atomic.Pointer[state] // replaced when there is another issuing authority
}

// state is what Open has found or made.
type state struct {
	root    *x509.Certificate
	issuing []authority // the newest first
}

// An authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Open returns the authority in db. The first time it makes the root and the
// issuing authority, both or none. It also makes the next issuing authority when
// the present one comes to its end.
func Open(ctx context.Context, db store.DB, ring *keyring.Ring) (*CA, error) {
	return open(ctx, db, ring, time.Now)
}

func open(ctx context.Context, db store.DB, ring *keyring.Ring, clock func() time.Time) (*CA, error) {
	c := &CA{db: db, ring: ring, clock: clock}
	if err := c.load(ctx); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	return c, nil
}

// Roots returns what a client needs to verify the server: the root.
func (c *CA) Roots() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.state.Load().root)
	return p
}

// ClientAuthorities returns what the server needs to verify clients: the root and
// the issuing authorities, so that a client that sends only its own certificate
// is verified too.
func (c *CA) ClientAuthorities() *x509.CertPool {
	p := c.Roots()
	for _, a := range c.state.Load().issuing {
		p.AddCert(a.cert)
	}
	return p
}

// RootPEM returns the root certificate as PEM, for a file that clients are given.
func (c *CA) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.state.Load().root.Raw})
}

// Chain returns the certificates between those that are issued now and the root,
// without the root.
func (c *CA) Chain() []*x509.Certificate {
	return []*x509.Certificate{c.state.Load().issuing[0].cert}
}
