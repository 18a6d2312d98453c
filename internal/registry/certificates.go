package registry

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// An Authority issues certificates, and knows which of them are revoked.
type Authority interface {
	ca.Issuer
	// Revoked reports whether the certificate with this serial number is revoked
	// or was never issued.
	Revoked(ctx context.Context, serial *big.Int) (bool, error)
	// Chain returns the issuing certificates, from the one that signs up to, but
	// without, the root.
	Chain() []*x509.Certificate
}

// maxCertificates is how many certificates of one device may be good at a time.
// A device renews well before one ends, so that it has two or three.
const maxCertificates = 32

// Reasons of RFC 5280, section 5.3.1.
const (
	reasonUnspecified = 0
	reasonCessation   = 5
)

// A Certificate is one that a device was given and that has not ended.
type Certificate struct {
	Serial   string // 32 hexadecimal digits
	Issued   time.Time
	NotAfter time.Time
}

func (c *Certificate) scan(row scanner) error {
	var issued, notAfter int64
	err := row.Scan(&c.Serial, &issued, &notAfter)
	c.Issued, c.NotAfter = fromMicros(issued), fromMicros(notAfter)
	return err
}

// Certificates lists the certificates of a device that have not ended.
func (r *Registry) Certificates(ctx context.Context, a Actor, org auth.OrgID, typ, id string) ([]Certificate, error) {
	if _, err := r.Device(ctx, a, org, typ, id); err != nil {
		return nil, err
	}
	return r.liveCertificates(ctx, org, typ, id)
}

func (r *Registry) liveCertificates(ctx context.Context, org auth.OrgID, typ, id string) ([]Certificate, error) {
	const q = `SELECT serial, issued_at, not_after FROM device_certificate
		WHERE org = $1 AND type = $2 AND device = $3 AND not_after > $4 ORDER BY issued_at, serial`
	return list[Certificate](forOrg(ctx, org), r, q, org, typ, id, micros(r.now()))
}

// RevokeCertificate revokes one certificate of a device. It is refused from now
// on, and connections made with it end.
func (r *Registry) RevokeCertificate(ctx context.Context, a Actor, org auth.OrgID, typ, id, serial string) error {
	missing := errs.E(errs.NotFound, "certificate %q of device %q not found", serial, id)
	err := r.revokeLive(ctx, a, permission.DeviceCredential, org, typ, id, reasonUnspecified, func(c Certificate) bool { return c.Serial == serial }, missing)
	if err != nil {
		return err
	}
	return r.changeDevice(ctx, a, permission.DeviceCredential, org, typ, id, "certificate.revoke", func(tx *store.Tx, d Device, e *effect) error {
		e.detail = map[string]any{"serial": serial}
		const q = `DELETE FROM device_certificate WHERE serial = $1 AND org = $2 AND type = $3 AND device = $4`
		res, err := tx.ExecContext(ctx, q, serial, org, typ, id)
		return found(res, err, missing)
	})
}

// revokeLive revokes those certificates of a device that match chooses; missing
// is returned if there is none. The authority comes before our own rows: if we
// stop between the two, a certificate is refused that should be, not let in.
func (r *Registry) revokeLive(ctx context.Context, a Actor, p permission.Permission, org auth.OrgID, typ, id string, reason int,
	match func(Certificate) bool, missing error) error {
	d, err := r.device(ctx, a, p, org, typ, id)
	if err != nil {
		return err
	}
	live, err := r.liveCertificates(ctx, org, typ, id)
	if err != nil {
		return err
	}
	for _, c := range live {
		if !match(c) {
			continue
		}
		if err := r.revoke(ctx, c.Serial, reason); err != nil {
			return fault(err)
		}
		missing = nil
		r.announce(effect{affected: d.affected()})
	}
	return missing
}

// serialOf returns how the serial number of c is written everywhere.
func serialOf(c *x509.Certificate) string { return fmt.Sprintf("%032x", c.SerialNumber) }

func (r *Registry) revoke(ctx context.Context, serial string, reason int) error {
	n, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		return fmt.Errorf("serial number %q is not hexadecimal", serial)
	}
	err := r.issuer.Revoke(ctx, n, reason)
	if err != nil && errs.CodeOf(err) == errs.NotFound {
		return nil // what the authority does not know is not good
	}
	return wrap("revoke certificate", err)
}

// RenewCertificate gives a device a certificate for the key of a new request,
// because it came with a good one: peer, which TLS has verified.
func (r *Registry) RenewCertificate(ctx context.Context, peer *x509.Certificate, csrDER []byte) ([]*x509.Certificate, error) {
	csr, err := ca.ParseRequest(csrDER)
	if err != nil {
		return nil, err
	}
	p, err := ca.PrincipalOf(peer)
	if err != nil {
		r.log.InfoContext(ctx, "renewal refused", "err", err)
		return nil, errRefused
	}
	if err := r.checkCertificate(ctx, p, serialOf(peer)); err != nil {
		return nil, r.refuse(ctx, p, err)
	}
	if r.clock().After(peer.NotAfter) {
		return nil, r.refuse(ctx, p, errEnded)
	}
	return r.certify(ctx, Actor{Principal: p}, csr)
}

// certify has a certificate issued for the device a, and notes it. What is not
// noted here is not let in, so that an answer that never got out does no harm.
func (r *Registry) certify(ctx context.Context, a Actor, csr *x509.CertificateRequest) ([]*x509.Certificate, error) {
	p := a.Principal
	typ, id := p.TypeAndID()
	err := r.view(forOrg(ctx, p.Org), func(tx *store.Tx) error {
		if _, err := enabledDevice(ctx, tx, p); err != nil {
			return err
		}
		return r.roomForCertificate(ctx, tx, p)
	})
	if err != nil {
		return nil, err
	}
	cert, err := r.issuer.Issue(ctx, ca.Request{Principal: p, CSR: csr, Address: clip(a.Address), RequestID: clip(a.RequestID)})
	if err != nil {
		return nil, fault(fmt.Errorf("issue certificate: %w", err))
	}
	serial := serialOf(cert)
	err = r.change(forOrg(ctx, p.Org), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: p.Org, action: "certificate.issue", target: p.ID,
			detail: map[string]any{"serial": serial, "expires": cert.NotAfter.UTC().Format(time.RFC3339)}}
		// It may have been disabled or deleted while the authority worked.
		if _, err := enabledDevice(ctx, tx, p); err != nil {
			return e, err
		}
		if err := r.roomForCertificate(ctx, tx, p); err != nil {
			return e, err
		}
		const prune = `DELETE FROM device_certificate WHERE org = $1 AND type = $2 AND device = $3 AND not_after < $4`
		if _, err := tx.ExecContext(ctx, prune, p.Org, typ, id, micros(r.now())); err != nil {
			return e, fmt.Errorf("delete ended certificates: %w", err)
		}
		const q = `INSERT INTO device_certificate (serial, org, type, device, issued_at, not_after) VALUES ($1, $2, $3, $4, $5, $6)`
		_, err := tx.ExecContext(ctx, q, serial, p.Org, typ, id, micros(r.now()), micros(cert.NotAfter))
		return e, wrap("insert certificate", err)
	})
	if err != nil {
		if err := r.revoke(context.WithoutCancel(ctx), serial, reasonUnspecified); err != nil {
			r.log.ErrorContext(ctx, "a certificate that nobody got is not revoked", "code", serial, "err", err)
		}
		return nil, err
	}
	return append([]*x509.Certificate{cert}, r.issuer.Chain()...), nil
}

func (r *Registry) roomForCertificate(ctx context.Context, tx *store.Tx, p auth.Principal) error {
	typ, id := p.TypeAndID()
	const q = `SELECT COUNT(*) FROM device_certificate WHERE org = $1 AND type = $2 AND device = $3 AND not_after > $4`
	var n int
	if err := tx.QueryRowContext(ctx, q, p.Org, typ, id, micros(r.now())).Scan(&n); err != nil {
		return fmt.Errorf("count certificates: %w", err)
	}
	if n >= maxCertificates {
		return errs.E(errs.Exhausted, "device %q has %d certificates; wait until one ends, or revoke one", id, n)
	}
	return nil
}
