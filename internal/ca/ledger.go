package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	serialBits = 128
	listLimit  = 100
	pruneAfter = 30 * 24 * time.Hour
	pruneBatch = 1000
)

// newSerial returns a random number of 128 bits.
func newSerial() *big.Int {
	b := make([]byte, serialBits/8)
	_, _ = rand.Read(b) // never fails: the program ends instead
	b[0] |= 0x40        // never zero, and always of the same length
	return new(big.Int).SetBytes(b)
}

func hexSerial(n *big.Int) string { return fmt.Sprintf("%032x", n) }

// An entry is what the ledger is asked to record.
type entry struct {
	profile   string
	principal auth.Principal
	tbs       *x509.Certificate
	issuer    *x509.Certificate
	key       crypto.PublicKey
}

// reserved is a certificate that is in the ledger and may be signed. Only reserve
// makes one, so nothing unrecorded can reach sign.
type reserved struct {
	tbs *x509.Certificate
	key crypto.PublicKey
}

func (c *CA) reserve(ctx context.Context, tx *store.Tx, e entry) (reserved, error) {
	spki, err := x509.MarshalPKIXPublicKey(e.key)
	if err != nil {
		return reserved{}, fmt.Errorf("encode public key: %w", err)
	}
	hash := sha256.Sum256(spki)
	const q = `INSERT INTO ca_certificate (serial, profile, issuer, org, kind, name, key_hash, state, not_before, not_after, reserved_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'reserved', $8, $9, $10)`
	p := e.principal
	_, err = tx.ExecContext(ctx, q, hexSerial(e.tbs.SerialNumber), e.profile, hexSerial(e.issuer.SerialNumber),
		string(p.Org), int64(p.Kind), p.ID, hash[:], e.tbs.NotBefore.UnixMicro(), e.tbs.NotAfter.UnixMicro(), c.clock().UnixMicro())
	if err != nil {
		return reserved{}, fmt.Errorf("reserve certificate: %w", err)
	}
	return reserved{e.tbs, e.key}, nil
}

// complete records that a reserved certificate was signed, with the audit event.
// It refuses one that was revoked in the meantime.
func (c *CA) complete(ctx context.Context, tx *store.Tx, res reserved, event audit.Event) error {
	const q = `UPDATE ca_certificate SET state = 'issued', issued_at = $2
		WHERE serial = $1 AND state = 'reserved' AND revoked_at IS NULL`
	serial := hexSerial(res.tbs.SerialNumber)
	if err := changeOne(ctx, tx, q, serial, c.clock().UnixMicro()); err != nil {
		return fmt.Errorf("complete certificate: %w", err)
	}
	event.Detail = maps.Clone(event.Detail)
	if event.Detail == nil {
		event.Detail = map[string]any{}
	}
	event.Detail["serial"] = serial
	event.Detail["expires"] = res.tbs.NotAfter.UTC()
	return audit.Append(ctx, tx, event)
}

func changeOne(ctx context.Context, tx *store.Tx, query string, args ...any) error {
	res, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		err = errs.E(errs.Conflict, "the certificate is not there to be changed any more")
	}
	return err
}

// Revoke implements Issuer. An authority cannot be revoked this way.
func (c *CA) Revoke(ctx context.Context, serial *big.Int, reason int) error {
	switch reason {
	case 0, 1, 3, 4, 5, 9: // unspecified, key, affiliation, superseded, cessation, privilege
	default:
		return errs.E(errs.Invalid, "%d is not a reason to revoke a certificate of a client or server", reason)
	}
	if !possible(serial) {
		return errs.E(errs.NotFound, "no certificate has this serial number")
	}
	err := c.db.Update(store.ForAll(ctx), func(tx *store.Tx) error { return c.revoke(ctx, tx, hexSerial(serial), reason) })
	if err != nil {
		return fmt.Errorf("revoke certificate: %w", err)
	}
	return nil
}

func (c *CA) revoke(ctx context.Context, tx *store.Tx, serial string, reason int) error {
	var profile, org, name string
	var kind int64
	var revoked sql.NullInt64
	const q = `SELECT profile, org, kind, name, revoked_at FROM ca_certificate WHERE serial = $1`
	err := tx.QueryRowContext(ctx, q, serial).Scan(&profile, &org, &kind, &name, &revoked)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return errs.E(errs.NotFound, "no certificate has this serial number")
	case err != nil:
		return err
	case profile != profileDevice && profile != profileServer:
		return errs.E(errs.Denied, "an authority cannot be revoked like a certificate that it issued")
	case revoked.Valid:
		return nil
	}
	const set = `UPDATE ca_certificate SET revoked_at = $2, reason = $3 WHERE serial = $1 AND revoked_at IS NULL`
	if err := changeOne(ctx, tx, set, serial, c.clock().UnixMicro(), reason); err != nil {
		return err
	}
	p := auth.Principal{Org: auth.OrgID(org), Kind: auth.Kind(kind), ID: name}
	return audit.Append(ctx, tx, audit.Event{
		Org: p.Org, Actor: self(), Action: "certificate.revoke", Target: p.String(),
		Detail: map[string]any{"serial": serial, "reason": reason},
	})
}

// possible reports whether n can be a serial number of ours.
func possible(n *big.Int) bool { return n != nil && n.Sign() > 0 && n.BitLen() <= serialBits }

// Revoked reports whether a certificate must not be accepted: it was revoked, or
// it is not in the ledger as issued.
func (c *CA) Revoked(ctx context.Context, serial *big.Int) (bool, error) {
	if !possible(serial) {
		return true, nil
	}
	good := 0
	err := c.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		const q = `SELECT COUNT(*) FROM ca_certificate WHERE serial = $1 AND state = 'issued' AND revoked_at IS NULL`
		return tx.QueryRowContext(ctx, q, hexSerial(serial)).Scan(&good)
	})
	if err != nil {
		return true, fmt.Errorf("look for revocation: %w", err)
	}
	return good != 1, nil
}

// A Certificate is an entry of the ledger.
type Certificate struct {
	Serial    string // 32 hexadecimal digits
	Issued    bool   // false: recorded, but never given to anybody
	NotBefore time.Time
	NotAfter  time.Time
	Revoked   time.Time // zero: it is not
	Reason    int       // of the revocation
}

// Certificates returns the newest hundred certificates of p, the newest first.
func (c *CA) Certificates(ctx context.Context, p auth.Principal) ([]Certificate, error) {
	var all []Certificate
	err := c.db.View(store.ForOrg(ctx, string(p.Org)), func(tx *store.Tx) error {
		const q = `SELECT serial, state = 'issued', not_before, not_after, revoked_at, reason FROM ca_certificate
			WHERE org = $1 AND kind = $2 AND name = $3 ORDER BY reserved_at DESC, serial LIMIT $4`
		rows, err := tx.QueryContext(ctx, q, string(p.Org), int64(p.Kind), p.ID, listLimit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e Certificate
			var from, to int64
			var revoked, reason sql.NullInt64
			if err := rows.Scan(&e.Serial, &e.Issued, &from, &to, &revoked, &reason); err != nil {
				return err
			}
			e.NotBefore, e.NotAfter = time.UnixMicro(from).UTC(), time.UnixMicro(to).UTC()
			if revoked.Valid {
				e.Revoked, e.Reason = time.UnixMicro(revoked.Int64).UTC(), int(reason.Int64)
			}
			all = append(all, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return all, nil
}

// Prune deletes up to a thousand entries that ended more than thirty days ago,
// and tells how many. What is deleted counts as revoked.
func (c *CA) Prune(ctx context.Context) (int64, error) {
	var n int64
	err := c.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		const q = `DELETE FROM ca_certificate WHERE serial IN (SELECT serial FROM ca_certificate
			WHERE not_after < $1 AND profile IN ('device', 'server') ORDER BY not_after LIMIT $2)`
		res, err := tx.ExecContext(ctx, q, c.clock().Add(-pruneAfter).UnixMicro(), pruneBatch)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune certificates: %w", err)
	}
	return n, nil
}
