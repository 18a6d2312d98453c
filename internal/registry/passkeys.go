package registry

import (
	"context"
	"fmt"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// The kinds of second factors.
const (
	FactorTOTP    = "totp"    // an authenticator (TOTP, RFC 6238)
	FactorPasskey = "passkey" // a passkey (WebAuthn), which also signs in by itself
)

const maxPasskeys = 20 // of one person

// A Passkey is what has to be known of one to check it.
type Passkey struct {
	ID         string
	Person     string
	Credential []byte
	Record     string
}

func (k *Passkey) scan(row scanner) error {
	return row.Scan(&k.ID, &k.Person, &k.Credential, &k.Record)
}

var errNoPasskey = errs.E(errs.NotFound, "this passkey is not known here")

// Passkeys returns the passkeys of a.
func (r *Registry) Passkeys(ctx context.Context, a Actor) ([]Passkey, error) {
	if err := onlyPerson(a); err != nil {
		return nil, err
	}
	const q = `SELECT id, person, credential, record FROM person_passkey WHERE person = $1 ORDER BY id`
	return list[Passkey](store.ForAll(ctx), r, q, a.Principal.ID)
}

// MayAddPasskey checks that the session of a may add a passkey.
func (r *Registry) MayAddPasskey(ctx context.Context, a Actor) error {
	if err := onlyPerson(a); err != nil {
		return err
	}
	return r.view(store.ForAll(ctx), func(tx *store.Tx) error { return mayChangeFactors(ctx, tx, a) })
}

// AddPasskey gives a, a person, a passkey that was made, and verifies the session:
// it was made sure of the person just now. With a first second factor come recovery
// codes, which are never shown again.
func (r *Registry) AddPasskey(ctx context.Context, a Actor, name string, credential []byte, record string) ([]secret.String, error) {
	if err := onlyPerson(a); err != nil {
		return nil, err
	}
	if name == "" {
		name = "passkey"
	}
	if err := checkText("name", name, 50); err != nil {
		return nil, err
	}
	if len(credential) == 0 || len(credential) > 1023 || len(record) > 16<<10 {
		return nil, errs.E(errs.Invalid, "the passkey is too large")
	}
	id, err := newUID()
	if err != nil {
		return nil, err
	}
	var fresh []secret.String
	err = r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		fresh = nil
		e := effect{action: "factor.create", target: a.Principal.ID, detail: map[string]any{"factor": id, "kind": FactorPasskey}}
		if err := mayChangeFactors(ctx, tx, a); err != nil {
			return e, err
		}
		had, err := hasFactor(ctx, tx, a.Principal.ID)
		if err != nil {
			return e, err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM person_passkey WHERE person = $1`, a.Principal.ID).Scan(&n); err != nil {
			return e, fmt.Errorf("count passkeys: %w", err)
		}
		if n >= maxPasskeys {
			return e, errs.E(errs.Exhausted, "you have %d passkeys; remove one first", n)
		}
		const q = `INSERT INTO person_passkey (person, id, name, credential, record, created_at, used_at) VALUES ($1, $2, $3, $4, $5, $6, 0)`
		_, err = tx.ExecContext(ctx, q, a.Principal.ID, id, name, credential, record, micros(r.now()))
		if store.IsUnique(err) {
			return e, errs.E(errs.Conflict, "this passkey is there already")
		}
		if err != nil {
			return e, fmt.Errorf("insert passkey: %w", err)
		}
		if err := r.verifySession(ctx, tx, a, &e); err != nil || had {
			return e, err
		}
		fresh, err = r.newRecoveries(ctx, tx, a.Principal.ID)
		return e, err
	})
	return fresh, err
}

// FindPasskey returns a passkey by its credential id, for somebody who signs in
// with it.
func (r *Registry) FindPasskey(ctx context.Context, credential []byte) (Passkey, error) {
	var k Passkey
	err := r.view(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		const q = `SELECT id, person, credential, record FROM person_passkey WHERE credential = $1`
		k, err = one[Passkey](tx.QueryRowContext(ctx, q, credential), errNoPasskey)
		return err
	})
	return k, err
}

// SignInPasskey signs in whose passkey k has answered, as the caller has checked
// against k, and keeps its new record. One that may be there twice (cloned) signs
// in nobody, and says so on the record.
func (r *Registry) SignInPasskey(ctx context.Context, k Passkey, record string, cloned bool, address, userAgent string) (secret.String, Actor, error) {
	token := newToken()
	var a Actor
	var person Person
	isNew := false
	err := r.change(store.ForAll(ctx), Actor{Principal: auth.Principal{Kind: auth.Person, ID: k.Person}, Address: address}, func(tx *store.Tx) (effect, error) {
		e := effect{action: "signin", target: k.Person, detail: map[string]any{"purpose": ForConsole, "by": FactorPasskey, "factor": k.ID}}
		var err error
		if person, err = readPerson(ctx, tx, k.Person); err != nil || person.Disabled {
			if err == nil || errs.CodeOf(err) == errs.NotFound {
				err = errNoPasskey
			}
			return e, err
		}
		a = Actor{Principal: auth.Principal{Kind: auth.Person, ID: k.Person}, Admin: person.Admin, Address: address, Verified: true}
		if err := r.unlockedActor(ctx, a, ""); err != nil {
			return e, err
		}
		if cloned {
			e.action, e.detail["refused"] = "signin.refused", "the passkey counted less than before: it may be there twice"
			return e, nil
		}
		// Of two answers at once one wins.
		const use = `UPDATE person_passkey SET record = $3, used_at = $4 WHERE person = $1 AND id = $2 AND record = $5`
		res, err := tx.ExecContext(ctx, use, k.Person, k.ID, record, micros(r.now()), k.Record)
		if err := found(res, err, errNoPasskey); err != nil {
			return e, err
		}
		if isNew, err = r.noteDevice(ctx, tx, a, userAgent); err != nil {
			return e, err
		}
		if a.Session, err = r.insertSession(ctx, tx, k.Person, ForConsole, token, address, userAgent); err != nil {
			return e, err
		}
		e.detail["session"] = a.Session
		_, err = tx.ExecContext(ctx, `UPDATE person_session SET verified = TRUE WHERE id = $1`, a.Session)
		return e, wrap("note second factor", err)
	})
	if err == nil && cloned {
		err = errs.E(errs.Denied, "this passkey may be there twice and is not accepted; sign in another way, and remove it")
	}
	if err != nil {
		return secret.String{}, Actor{}, err
	}
	if isNew {
		r.tellNewDevice(ctx, person, address, userAgent)
	}
	return token, a, nil
}
