package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/sasl"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/password"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

const importedPurpose = "registry/imported/1\x00"

// ImportUser creates a user who keeps the password of which hash was made
// elsewhere: with bcrypt, PBKDF2 and SHA-512 (as mosquitto_passwd does) or
// argon2id. At the first connect with it the hash is replaced by one of ours.
// SCRAM works from then on, because its keys are made of the password itself.
func (r *Registry) ImportUser(ctx context.Context, a Actor, u User, hash secret.String) (User, error) {
	made, _, err := r.createUser(ctx, a, u, func() (fresh, error) {
		if err := password.Check(hash.Reveal()); err != nil {
			return fresh{}, errs.Wrap(errs.Invalid, err, "password_hash must be made with bcrypt (at most cost 14), "+
				"PBKDF2 and SHA-512 (at most 2000000 iterations) or argon2id (at most 256 MiB, 16 passes)")
		}
		sealed, err := r.ring.Seal(importedPurpose+u.Principal().String(), []byte(hash.Reveal()))
		// The token is told to nobody, and so lets nobody in.
		return fresh{token: newToken(), imported: sealed}, err
	})
	return made, err
}

// verifyUser lets in a user, and makes a hash of ours from a good password of
// which there is only an imported one.
func (r *Registry) verifyUser(ctx context.Context, cl claim) (*auth.Grant, error) {
	g, err := r.verifyToken(ctx, cl)
	if !cl.hasToken || !errors.Is(err, errWrong) && !errors.Is(err, errNobody) {
		return g, err
	}
	if err := r.takeImported(ctx, cl); err != nil {
		return nil, err
	}
	return r.verifyToken(ctx, cl) // of a hash that this connection has replaced, or another one meanwhile
}

// takeImported replaces the imported hash of the user that cl names if its
// password is right.
func (r *Registry) takeImported(ctx context.Context, cl claim) error {
	p := cl.principal
	owner, sealed, err := r.imported(ctx, p)
	if err != nil || sealed == nil {
		return err
	}
	stored, err := r.ring.Open(importedPurpose+owner.String(), sealed)
	if err != nil {
		return fmt.Errorf("open imported hash: %w", err)
	}
	good, err := r.checkImported(ctx, string(stored), cl.token)
	if err != nil || !good || owner != p {
		return err
	}
	var keys []byte // none: SCRAM cannot express such a password
	k, err := sasl.NewKeys(cl.token.Reveal(), r.saltOf(p))
	if err == nil {
		keys, err = r.sealKeys(p, k)
	}
	if err != nil && !errors.Is(err, sasl.ErrPrepare) {
		return err
	}
	return r.replaceImported(ctx, cl, keys)
}

// replaceImported puts a hash of cl's password in the place of the imported one.
func (r *Registry) replaceImported(ctx context.Context, cl claim, keys []byte) error {
	p := cl.principal
	errGone := errors.New("somebody else has replaced it")
	a := Actor{Principal: p, Address: addressText(cl.address)}
	err := r.change(forOrg(ctx, cl.principal.Org), a, func(tx *store.Tx) (effect, error) {
		const q = `UPDATE mqtt_user SET token_hash = $3, scram = $4, imported = NULL
			WHERE org = $1 AND name = $2 AND imported IS NOT NULL AND NOT disabled`
		res, err := tx.ExecContext(ctx, q, p.Org, p.ID, hashToken(r.ring, p, cl.token), orNull(keys))
		return effect{org: p.Org, action: "user.upgrade", target: p.ID, affected: []auth.Principal{p}}, found(res, err, errGone)
	})
	if errors.Is(err, errGone) {
		return nil // a second connection at the same time, or a new password: the hash of ours tells
	}
	return err
}

// imported returns the imported hash of p, sealed, and whose it is. If p has none,
// it is another one's of the organisation, so that an answer takes as long for a
// name that has one as for one that has not; nil: nobody there has.
func (r *Registry) imported(ctx context.Context, p auth.Principal) (owner auth.Principal, sealed []byte, err error) {
	const own = `SELECT name, imported FROM mqtt_user WHERE org = $1 AND name = $2 AND imported IS NOT NULL AND NOT disabled`
	const another = `SELECT name, imported FROM mqtt_user WHERE org = $1 AND imported IS NOT NULL ORDER BY name LIMIT 1`
	owner = auth.Principal{Org: p.Org, Kind: auth.User}
	err = r.db.View(forOrg(ctx, p.Org), func(tx *store.Tx) error {
		err := tx.QueryRowContext(ctx, own, p.Org, p.ID).Scan(&owner.ID, &sealed)
		if errors.Is(err, sql.ErrNoRows) {
			err = tx.QueryRowContext(ctx, another, p.Org).Scan(&owner.ID, &sealed)
		}
		if errors.Is(err, sql.ErrNoRows) {
			sealed, err = nil, nil
		}
		return wrap("read imported hash", err)
	})
	return owner, sealed, err
}

// checkImported checks one password at a time: who guesses takes one processor at
// most, and waits.
func (r *Registry) checkImported(ctx context.Context, stored string, token secret.String) (bool, error) {
	select {
	case r.importing <- struct{}{}:
		defer func() { <-r.importing }()
	case <-ctx.Done():
		return false, fmt.Errorf("wait to check an imported hash: %w", ctx.Err())
	}
	good, _, err := password.Verify(ctx, stored, token)
	return good, wrap("check imported hash", err)
}

// orNull returns b, or NULL where it is empty.
func orNull(b []byte) any {
	if len(b) == 0 {
		return nil
	}
	return b
}
