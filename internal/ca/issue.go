package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	profileDevice = "device"
	profileServer = "server"
)

// Issue implements Issuer.
func (c *CA) Issue(ctx context.Context, r Request) (*x509.Certificate, error) {
	cert, err := c.issueDevice(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return cert, nil
}

func (c *CA) issueDevice(ctx context.Context, r Request) (*x509.Certificate, error) {
	if r.CSR == nil {
		return nil, errs.E(errs.Invalid, "certificate request is missing")
	}
	csr, err := ParseRequest(r.CSR.Raw) // once more, whatever the caller did
	if err != nil {
		return nil, err
	}
	ttl := r.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < MinTTL || ttl > MaxTTL {
		return nil, errs.E(errs.Invalid, "a certificate must be good for %v to %v, not %v", MinTTL, MaxTTL, ttl)
	}
	n, err := namesOf(r.Principal)
	if err != nil {
		return nil, err
	}
	tbs := &x509.Certificate{
		Subject: pkix.Name{CommonName: n.common}, EmailAddresses: []string{n.email}, URIs: []*url.URL{n.uri},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	actor := r.Actor
	if actor == (auth.Principal{}) {
		actor = r.Principal
	}
	e := entry{profile: profileDevice, principal: r.Principal, tbs: tbs, key: csr.PublicKey}
	return c.issue(ctx, e, ttl, nil, audit.Event{
		Org: r.Principal.Org, Actor: actor, Action: "certificate.sign", Target: r.Principal.String(),
		Address: r.Address, RequestID: r.RequestID,
	})
}

// issue reserves, signs and completes, in this order: each of the three is on
// disk, or done, before the next begins. also, if not nil, runs in the
// transaction that completes.
func (c *CA) issue(ctx context.Context, e entry, ttl time.Duration,
	also func(*store.Tx, *x509.Certificate) error, event audit.Event) (*x509.Certificate, error) {
	a, err := c.issuer(ctx)
	if err != nil {
		return nil, err
	}
	if ctx = store.ForAll(ctx); e.principal.Org != "" {
		ctx = store.ForOrg(ctx, string(e.principal.Org))
	}
	now := c.clock()
	e.issuer = a.cert
	e.tbs.SerialNumber = newSerial()
	e.tbs.NotBefore = later(notBefore(now), a.cert.NotBefore)
	e.tbs.NotAfter = earlier(now.Add(ttl), a.cert.NotAfter)
	e.tbs.KeyUsage = x509.KeyUsageDigitalSignature
	e.tbs.BasicConstraintsValid = true

	var res reserved
	err = c.db.Update(ctx, func(tx *store.Tx) (err error) {
		res, err = c.reserve(ctx, tx, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	cert, err := a.sign(res)
	if err != nil {
		return nil, err
	}
	err = c.db.Update(ctx, func(tx *store.Tx) error {
		if also != nil {
			if err := also(tx, cert); err != nil {
				return err
			}
		}
		return c.complete(ctx, tx, res, event)
	})
	if err != nil {
		return nil, err
	}
	// Commit point: from here on the certificate is good.
	return cert, nil
}

// sign signs what was reserved.
func (a authority) sign(res reserved) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, res.tbs, a.cert, res.key, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read signed certificate: %w", err)
	}
	return cert, nil
}
