package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// How long an enrolment token may be good for.
const (
	DefaultEnrolment = time.Hour
	MinEnrolment     = time.Minute
	MaxEnrolment     = 7 * 24 * time.Hour
)

// CreateEnrolment returns a token with which one device gets its certificate
// once. ttl is between MinEnrolment and MaxEnrolment; 0 is DefaultEnrolment.
func (r *Registry) CreateEnrolment(ctx context.Context, a Actor, org auth.OrgID, typ, id string, ttl time.Duration) (secret.String, error) {
	if ttl == 0 {
		ttl = DefaultEnrolment
	}
	token := newToken()
	err := r.changeDevice(ctx, a, permission.DeviceCredential, org, typ, id, "enrolment.create", func(tx *store.Tx, _ Device, e *effect) error {
		if ttl < MinEnrolment || ttl > MaxEnrolment {
			return errs.E(errs.Invalid, "ttl must be between %v and %v, is %v", MinEnrolment, MaxEnrolment, ttl)
		}
		uid, err := newUID()
		if err != nil {
			return err
		}
		e.affected = nil // nobody's grants change
		now := r.now()
		e.detail = map[string]any{"enrolment": uid, "expires": now.Add(ttl).Format(time.RFC3339)}
		// Tokens that ran out stay for a day, so that their owner learns why.
		const prune = `DELETE FROM enrolment WHERE expires_at < $1`
		if _, err := tx.ExecContext(ctx, prune, micros(now.Add(-24*time.Hour))); err != nil {
			return fmt.Errorf("delete old enrolments: %w", err)
		}
		const q = `INSERT INTO enrolment (id, org, type, device, token_hash, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)`
		_, err = tx.ExecContext(ctx, q, uid, org, typ, id, findHash(r.ring, "enrolment", token), micros(now), micros(now.Add(ttl)))
		return wrap("insert enrolment", err)
	})
	if err != nil {
		return secret.String{}, err
	}
	return token, nil
}

// Enrol exchanges an enrolment token and a certificate request for a
// certificate, leaf first. The first key that comes with the token is the only
// one it is good for; a device whose answer got lost may ask again with the same
// key as long as the token lives.
func (r *Registry) Enrol(ctx context.Context, token secret.String, csrDER []byte, address string) ([]*x509.Certificate, error) {
	csr, err := ca.ParseRequest(csrDER)
	if err != nil {
		return nil, err
	}
	var d Device
	err = r.change(store.ForAll(ctx), Actor{Address: address}, func(tx *store.Tx) (effect, error) {
		e := effect{action: "enrolment.use"}
		var err error
		d, err = r.bindEnrolment(ctx, tx, token, csr, &e)
		e.by, e.org, e.target = d.Principal(), d.Org, d.Type+":"+d.ID
		return e, err
	})
	switch errs.CodeOf(err) {
	case errs.Unauthenticated, errs.Denied, errs.Conflict, errs.NotFound:
		r.NoteRefusal(NotedRefusal{Class: RefusedEnrolment, Address: address})
	}
	if err != nil {
		return nil, err
	}
	return r.certify(ctx, Actor{Principal: d.Principal(), Address: address}, csr)
}

// bindEnrolment gives the token to the key of csr, unless it is another's.
// After it, no other key ever gets a certificate for this token.
func (r *Registry) bindEnrolment(ctx context.Context, tx *store.Tx, token secret.String, csr *x509.CertificateRequest, e *effect) (Device, error) {
	const q = `SELECT id, org, type, device, expires_at, key_hash FROM enrolment WHERE token_hash = $1`
	var uid, typ, id string
	var org auth.OrgID
	var expires int64
	var bound []byte
	err := tx.QueryRowContext(ctx, q, findHash(r.ring, "enrolment", token)).Scan(&uid, &org, &typ, &id, &expires, &bound)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Device{}, errs.E(errs.Unauthenticated, "this enrolment token is not known; ask for a new one")
	case err != nil:
		return Device{}, fmt.Errorf("read enrolment: %w", err)
	case micros(r.now()) >= expires:
		return Device{}, errs.E(errs.Unauthenticated, "this enrolment token has expired; ask for a new one")
	}
	key := sha256.Sum256(csr.RawSubjectPublicKeyInfo)
	if bound != nil && !bytes.Equal(bound, key[:]) {
		return Device{}, errs.E(errs.Conflict, "this enrolment token was already used with another key; ask for a new one")
	}
	d, err := enabledDevice(ctx, tx, auth.Principal{Org: org, Kind: auth.Device, ID: typ + ":" + id})
	if err != nil {
		return Device{}, err
	}
	e.detail = map[string]any{"enrolment": uid, "again": bound != nil}
	_, err = tx.ExecContext(ctx, `UPDATE enrolment SET key_hash = $2 WHERE id = $1`, uid, key[:])
	return d, wrap("bind enrolment", err)
}

// enabledDevice returns the device or gateway p, unless it or its organisation
// is disabled.
func enabledDevice(ctx context.Context, tx *store.Tx, p auth.Principal) (Device, error) {
	o, err := readOrg(ctx, tx, p.Org)
	if err != nil {
		return Device{}, err
	}
	typ, id := p.TypeAndID()
	d, err := readDevice(ctx, tx, p.Org, typ, id)
	if err != nil {
		return Device{}, err
	}
	if o.Disabled || d.Disabled {
		return Device{}, errs.E(errs.Denied, "device %q is disabled", id)
	}
	return d, nil
}
