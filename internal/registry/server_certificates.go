package registry

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/servercert"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	maxServerCertificates = 10
	maxChain              = 10
)

// A ServerCertificate is what the server shows to clients that ask for a name of
// an organisation. Its key never leaves the server: it was made here, with a
// request for somebody to sign, or was uploaded.
type ServerCertificate struct {
	Org     auth.OrgID
	ID      string
	Request []byte              // PEM; nil: it was uploaded with its key
	Chain   []*x509.Certificate // the server's own first; empty: it waits to be signed
	Names   []string            // for which it is shown
	Created time.Time
	Changed time.Time

	sealed []byte
	der    []byte // of the chain
}

const serverCertificateColumns = `org, id, sealed_key, request, chain, created_at, changed_at`

func (c *ServerCertificate) scan(row scanner) error {
	var created, changed int64
	if err := row.Scan(&c.Org, &c.ID, &c.sealed, &c.Request, &c.der, &created, &changed); err != nil {
		return err
	}
	c.Created, c.Changed = fromMicros(created), fromMicros(changed)
	if len(c.Request) == 0 {
		c.Request = nil
	}
	var err error
	if len(c.der) > 0 {
		c.Chain, err = x509.ParseCertificates(c.der)
	}
	return wrap("read certificate", err)
}

func noServerCertificate(id string) error {
	return errs.E(errs.NotFound, "server certificate %q not found", clip(id))
}

func serverKeyPurpose(org auth.OrgID, id string) string {
	return "registry/server-certificate/" + string(org) + "/" + id
}

// RequestServerCertificate makes a key, and a request for the names of an
// organisation that an authority of its choice signs.
func (r *Registry) RequestServerCertificate(ctx context.Context, a Actor, org auth.OrgID) (ServerCertificate, error) {
	ctx, err := r.may(ctx, a, org, permission.NetworkWrite)
	if err != nil {
		return ServerCertificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ServerCertificate{}, fault(fmt.Errorf("make key: %w", err))
	}
	c := ServerCertificate{Org: org}
	err = r.insertServerCertificate(ctx, a, &c, "server-certificate.request", func(names []string) ([]byte, error) {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names}, key)
		if err != nil {
			return nil, fmt.Errorf("make request: %w", err)
		}
		c.Request = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		return x509.MarshalPKCS8PrivateKey(key)
	})
	return c, err
}

// UploadServerCertificate takes a certificate chain and its key, both PEM, into
// use for those names of an organisation that the certificate is for.
func (r *Registry) UploadServerCertificate(ctx context.Context, a Actor, org auth.OrgID, chain []byte, key secret.String) (ServerCertificate, error) {
	ctx, err := r.may(ctx, a, org, permission.NetworkWrite)
	if err != nil {
		return ServerCertificate{}, err
	}
	pair, err := servercert.Pair(chain, []byte(key.Reveal()), r.now())
	if err != nil {
		return ServerCertificate{}, err
	}
	c := ServerCertificate{Org: org}
	if err := c.take(pair.Certificate); err != nil {
		return ServerCertificate{}, err
	}
	err = r.insertServerCertificate(ctx, a, &c, "server-certificate.upload", func(names []string) ([]byte, error) {
		if err := c.shownFor(names); err != nil {
			return nil, err
		}
		return x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	})
	return c, err
}

// insertServerCertificate stores c with the key, in PKCS #8, that make returns for
// the names of its organisation.
func (r *Registry) insertServerCertificate(ctx context.Context, a Actor, c *ServerCertificate, action string, make func(names []string) ([]byte, error)) error {
	var err error
	if c.ID, err = newUID(); err != nil {
		return err
	}
	c.Created = r.now()
	c.Changed = c.Created
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: c.Org, action: action, target: c.ID, certificates: true}
		names, err := r.serverNames(ctx, tx, c.Org)
		if err != nil {
			return e, err
		}
		if err := room(ctx, tx, c.Org, "org_server_certificate", maxServerCertificates); err != nil {
			return e, err
		}
		pkcs8, err := make(names)
		if err != nil {
			return e, err
		}
		defer clear(pkcs8)
		if c.sealed, err = r.ring.Seal(serverKeyPurpose(c.Org, c.ID), pkcs8); err != nil {
			return e, err
		}
		e.detail = c.detail()
		const q = `INSERT INTO org_server_certificate (` + serverCertificateColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7)`
		_, err = tx.ExecContext(ctx, q, c.Org, c.ID, c.sealed, orEmpty(c.Request), orEmpty(c.der), micros(c.Created), micros(c.Changed))
		return e, wrap("insert server certificate", err)
	})
	return err
}

func orEmpty(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// detail describes c for the audit record.
func (c *ServerCertificate) detail() map[string]any {
	if len(c.Chain) == 0 {
		return map[string]any{"signed": false}
	}
	leaf := c.Chain[0]
	return map[string]any{"signed": true, "names": strings.Join(c.Names, " "), "serial": leaf.SerialNumber.Text(16),
		"issuer": clip(leaf.Issuer.String()), "ends": leaf.NotAfter.UTC().Format(time.RFC3339)}
}

// take makes chain, in DER, the chain of c.
func (c *ServerCertificate) take(chain [][]byte) error {
	if len(chain) > maxChain {
		return errs.E(errs.Invalid, "a chain must have at most %d certificates, has %d", maxChain, len(chain))
	}
	c.der = bytes.Join(chain, nil)
	var err error
	if c.Chain, err = x509.ParseCertificates(c.der); err != nil {
		return errs.Wrap(errs.Invalid, err, "a certificate of the chain cannot be read")
	}
	for i := range len(c.Chain) - 1 {
		if err := c.Chain[i].CheckSignatureFrom(c.Chain[i+1]); err != nil {
			return errs.Wrap(errs.Invalid, err, fmt.Sprintf("certificate %d of the chain is not signed by the next one; the server's own must be the first", i+1))
		}
	}
	return nil
}

// shownFor fills in for which of names c is shown.
func (c *ServerCertificate) shownFor(names []string) error {
	c.Names = nil
	for _, n := range names {
		if len(c.Chain) > 0 && c.Chain[0].VerifyHostname(n) == nil {
			c.Names = append(c.Names, n)
		}
	}
	if len(c.Names) == 0 {
		return errs.E(errs.Invalid, "the certificate is for none of the names of this organisation: %s", strings.Join(names, ", "))
	}
	return nil
}

// CompleteServerCertificate takes the chain (PEM) that an authority made from a
// request into use, or another one for the same key.
func (r *Registry) CompleteServerCertificate(ctx context.Context, a Actor, org auth.OrgID, id string, chain []byte) (ServerCertificate, error) {
	ctx, err := r.may(ctx, a, org, permission.NetworkWrite)
	if err != nil {
		return ServerCertificate{}, err
	}
	var c ServerCertificate
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "server-certificate.complete", target: id, certificates: true}
		names, err := r.serverNames(ctx, tx, org)
		if err != nil {
			return e, err
		}
		if c, err = readServerCertificate(ctx, tx, org, id); err != nil {
			return e, err
		}
		pkcs8, err := r.ring.Open(serverKeyPurpose(org, id), c.sealed)
		if err != nil {
			return e, err
		}
		defer clear(pkcs8)
		key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
		defer clear(key)
		pair, err := servercert.Pair(chain, key, r.now())
		if err != nil {
			return e, err
		}
		if err := c.take(pair.Certificate); err != nil {
			return e, err
		}
		if err := c.shownFor(names); err != nil {
			return e, err
		}
		c.Changed = r.now()
		e.detail = c.detail()
		_, err = tx.ExecContext(ctx, `UPDATE org_server_certificate SET chain = $3, changed_at = $4 WHERE org = $1 AND id = $2`, org, id, c.der, micros(c.Changed))
		return e, wrap("update server certificate", err)
	})
	return c, err
}

func readServerCertificate(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (ServerCertificate, error) {
	const q = `SELECT ` + serverCertificateColumns + ` FROM org_server_certificate WHERE org = $1 AND id = $2`
	return one[ServerCertificate](tx.QueryRowContext(ctx, q, org, id), noServerCertificate(id))
}

// ServerCertificates lists the server certificates of an organisation, and its
// names.
func (r *Registry) ServerCertificates(ctx context.Context, a Actor, org auth.OrgID) (all []ServerCertificate, names []string, err error) {
	ctx, err = r.may(ctx, a, org, permission.NetworkRead)
	if err != nil {
		return nil, nil, err
	}
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		names, err = r.serverNames(ctx, tx, org)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	const q = `SELECT ` + serverCertificateColumns + ` FROM org_server_certificate WHERE org = $1 ORDER BY created_at, id`
	if all, err = list[ServerCertificate](ctx, r, q, org); err != nil {
		return nil, nil, err
	}
	for i := range all {
		_ = all[i].shownFor(names) // it may be for none any more
	}
	return all, names, nil
}

// DeleteServerCertificate has the server show a certificate no more, and forgets
// its key.
func (r *Registry) DeleteServerCertificate(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	ctx, err := r.may(ctx, a, org, permission.NetworkWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		res, err := tx.ExecContext(ctx, `DELETE FROM org_server_certificate WHERE org = $1 AND id = $2`, org, id)
		return effect{org: org, action: "server-certificate.delete", target: id, certificates: true}, found(res, err, noServerCertificate(id))
	})
}

// ShownCertificates returns what the server is to show for names of organisations
// that are not disabled. One that cannot be opened, or is over, is left out.
func (r *Registry) ShownCertificates(ctx context.Context) ([]servercert.OfOrg, error) {
	ctx = store.ForAll(ctx)
	const q = `SELECT c.org, c.id, c.sealed_key, c.request, c.chain, c.created_at, c.changed_at FROM org_server_certificate c JOIN org o ON o.id = c.org
		WHERE NOT o.disabled ORDER BY c.org, c.changed_at DESC, c.id`
	all, err := list[ServerCertificate](ctx, r, q)
	if err != nil {
		return nil, err
	}
	var shown []servercert.OfOrg
	for _, c := range all {
		if len(c.Chain) == 0 || r.now().After(c.Chain[0].NotAfter) {
			continue
		}
		var names []string
		err := r.view(ctx, func(tx *store.Tx) (err error) {
			names, err = r.serverNames(ctx, tx, c.Org)
			return err
		})
		if err != nil {
			return nil, err
		}
		if c.shownFor(names) != nil {
			continue
		}
		pkcs8, err := r.ring.Open(serverKeyPurpose(c.Org, c.ID), c.sealed)
		if err != nil {
			r.log.ErrorContext(ctx, "the key of a server certificate cannot be opened", "org", string(c.Org), "id", c.ID, "err", err)
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(pkcs8)
		clear(pkcs8)
		if err != nil {
			r.log.ErrorContext(ctx, "the key of a server certificate is damaged", "org", string(c.Org), "id", c.ID)
			continue
		}
		x := servercert.OfOrg{Org: string(c.Org), Names: c.Names, Certificate: tls.Certificate{PrivateKey: key, Leaf: c.Chain[0]}}
		for _, cert := range c.Chain {
			x.Certificate.Certificate = append(x.Certificate.Certificate, cert.Raw)
		}
		shown = append(shown, x)
	}
	return shown, nil
}

// serverNames returns the names under which clients may ask for an organisation,
// {org}.messaging.{domain} first.
func (r *Registry) serverNames(ctx context.Context, tx *store.Tx, org auth.OrgID) ([]string, error) {
	if _, err := readOrg(ctx, tx, org); err != nil {
		return nil, err
	}
	names := []string{string(org) + ".messaging." + r.domain}
	rows, err := tx.QueryContext(ctx, `SELECT name FROM org_server_name WHERE org = $1 ORDER BY name`, org)
	if err != nil {
		return nil, fmt.Errorf("list names: %w", err)
	}
	return names, each(rows, func() error {
		names = append(names, "")
		return wrap("read name", rows.Scan(&names[len(names)-1]))
	})
}

// ownName reports whether a name is one of the installation's own, or below one
// that tells organisations apart.
func (r *Registry) ownName(name string) bool {
	labels := strings.Split(name, ".")
	return name == r.domain || strings.HasSuffix(name, "."+r.domain) || len(labels) > 1 && labels[1] == "messaging" && orgLike(labels[0]) ||
		slices.Contains(r.names, name)
}

func orgLike(s string) bool { _, err := auth.ParseOrgID(s); return err == nil }
