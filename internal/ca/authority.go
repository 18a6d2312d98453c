package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	year          = 365 * 24 * time.Hour
	rootLife      = 20 * year
	issuingLife   = 5 * year
	issuingMargin = year // the next issuing authority is made so long before the end; more than MaxTTL

	// Clients whose clock is a little behind accept a new certificate too.
	backdate = 5*time.Minute - time.Second

	roleRoot    = "root"
	roleIssuing = "issuing"
)

// load reads the authorities, and makes what is missing, all in one transaction.
// A start that was interrupted has made nothing; of two that run at the same
// time, the second finds what the first has made.
func (c *CA) load(ctx context.Context) error {
	var s *state
	err := c.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		roots, err := c.authorities(ctx, tx, roleRoot)
		if err != nil {
			return err
		}
		issuing, err := c.authorities(ctx, tx, roleIssuing)
		if err != nil {
			return err
		}
		if len(roots) == 0 {
			if len(issuing) > 0 {
				return errs.E(errs.Unavailable, "the root certificate is missing; restore a backup")
			}
			root, err := c.create(ctx, tx, roleRoot, nil)
			if err != nil {
				return err
			}
			roots = append(roots, root)
		}
		if len(issuing) == 0 || c.ending(&state{roots[0].cert, issuing}) {
			next, err := c.create(ctx, tx, roleIssuing, &roots[0])
			if err != nil {
				return err
			}
			issuing = append([]authority{next}, issuing...)
		}
		s = &state{root: roots[0].cert, issuing: issuing}
		return nil
	})
	if err != nil {
		return err
	}
	c.state.Store(s)
	return nil
}

// issuer returns the authority that signs now.
func (c *CA) issuer(ctx context.Context) (authority, error) {
	if c.ending(c.state.Load()) {
		if err := c.load(ctx); err != nil {
			return authority{}, fmt.Errorf("make the next issuing authority: %w", err)
		}
	}
	a := c.state.Load().issuing[0]
	if now := c.clock(); now.Before(a.cert.NotBefore) {
		return authority{}, errs.E(errs.Unavailable, "the clock of the server is wrong: it says %s, which is before the certificate authority was made", now.UTC().Format(time.DateTime))
	}
	return a, nil
}

// ending reports whether the next issuing authority is due: the newest is near
// its end, and another one would not end with the root as well.
func (c *CA) ending(s *state) bool {
	end := s.issuing[0].cert.NotAfter
	return c.clock().After(end.Add(-issuingMargin)) && end.Before(s.root.NotAfter)
}

// authorities returns those of a role, the newest first.
func (c *CA) authorities(ctx context.Context, tx *store.Tx, role string) ([]authority, error) {
	const q = `SELECT serial, certificate, sealed_key FROM ca_authority WHERE role = $1 ORDER BY not_before DESC, serial`
	rows, err := tx.QueryContext(ctx, q, role)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	defer rows.Close()
	var all []authority
	for rows.Next() {
		var serial string
		var der, sealed []byte
		if err := rows.Scan(&serial, &der, &sealed); err != nil {
			return nil, fmt.Errorf("read authority: %w", err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read authority %s: %w", serial, err)
		}
		key, err := c.openKey(serial, sealed, cert.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("read authority %s: %w", serial, err)
		}
		all = append(all, authority{cert, key})
	}
	return all, rows.Err()
}

// create makes a root, or an issuing authority that parent signs.
func (c *CA) create(ctx context.Context, tx *store.Tx, role string, parent *authority) (authority, error) {
	now := c.clock()
	if now.Year() < 2025 {
		return authority{}, errs.E(errs.Unavailable, "the clock of this machine says %s; set it, and start again", now.UTC().Format(time.DateOnly))
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, fmt.Errorf("make key: %w", err)
	}
	tbs := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: notBefore(now), NotAfter: now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: 1,
	}
	// The number makes two installations' authorities different names.
	tbs.Subject = pkix.Name{Organization: []string{"KeepMQ"}, CommonName: "KeepMQ " + role + " " + hexSerial(tbs.SerialNumber)[:8]}
	signer := authority{tbs, key}
	if role == roleIssuing {
		tbs.NotAfter = earlier(now.Add(issuingLife), parent.cert.NotAfter)
		tbs.MaxPathLen, tbs.MaxPathLenZero = 0, true
		tbs.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		signer = *parent
	}
	who := auth.Principal{Kind: auth.System, ID: role}
	res, err := c.reserve(ctx, tx, entry{profile: role, principal: who, tbs: tbs, issuer: signer.cert, key: key.Public()})
	if err != nil {
		return authority{}, err
	}
	cert, err := signer.sign(res)
	if err != nil {
		return authority{}, err
	}
	sealed, err := c.sealKey(hexSerial(cert.SerialNumber), key)
	if err != nil {
		return authority{}, err
	}
	const q = `INSERT INTO ca_authority (serial, role, certificate, sealed_key, not_before) VALUES ($1, $2, $3, $4, $5)`
	if _, err := tx.ExecContext(ctx, q, hexSerial(cert.SerialNumber), role, cert.Raw, sealed, cert.NotBefore.UnixMicro()); err != nil {
		return authority{}, fmt.Errorf("store authority: %w", err)
	}
	err = c.complete(ctx, tx, res, audit.Event{Actor: self(), Action: "ca.create", Target: role})
	return authority{cert, key}, err
}

// self is who acts where nobody else asked.
func self() auth.Principal { return auth.Principal{Kind: auth.System, ID: "ca"} }

func keyPurpose(serial string) string { return "certificate key " + serial }

// sealKey seals a private key for the certificate with that serial, so that it
// cannot be put beside another one.
func (c *CA) sealKey(serial string, key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	defer clear(der)
	return c.ring.Seal(keyPurpose(serial), der)
}

func (c *CA) openKey(serial string, sealed []byte, pub crypto.PublicKey) (crypto.Signer, error) {
	der, err := c.ring.Open(keyPurpose(serial), sealed)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("the stored key is damaged") // the cause could quote it
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(pub) {
		return nil, errors.New("the stored key does not belong to the certificate")
	}
	return key, nil
}

func notBefore(now time.Time) time.Time { return now.Add(-backdate).Truncate(time.Second) }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
