package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// MaxOverlap is for how long the token before may stay good.
const MaxOverlap = 30 * 24 * time.Hour

// A Rotation says how a token is replaced. The zero Rotation ends the old one at
// once.
type Rotation struct {
	Overlap time.Duration // for how long the old token stays good; 0: not at all
	// Expires is when the new token ends. Zero: it lives for as long as the old one
	// was to live, which is for good where that had no end.
	Expires time.Time
	Forever bool // the new token has no end, whatever the old one had
}

func (x Rotation) check(now time.Time) error {
	var bad mistakes
	if x.Overlap < 0 || x.Overlap > MaxOverlap {
		bad.add(errs.E(errs.Invalid, "overlap must be between 0 and %v, is %v", MaxOverlap, x.Overlap))
	}
	if !x.Expires.IsZero() && x.Forever {
		bad.add(errs.E(errs.Invalid, "expires and forever exclude each other"))
	}
	bad.add(checkEnd(x.Expires, now))
	return bad.err()
}

// checkEnd checks when a token is to end; zero: never.
func checkEnd(end, now time.Time) error {
	if !end.IsZero() && !end.After(now) {
		return errs.E(errs.Invalid, "expires must be in the future; to end a token now, rotate it or disable its holder")
	}
	return nil
}

// A heldToken is one of the two tokens that somebody may have, as it is stored.
type heldToken struct {
	hash    []byte
	scram   []byte // the keys for SCRAM, sealed; empty: none
	version int
	until   time.Time // zero: for good
}

// An accepted is what a client was let in with.
type accepted struct {
	credential string    // how to call it in a Ref
	version    int       // of a token of ours; 0: it is none
	expires    time.Time // zero: never
}

// accepts says that t is what a client presented.
func (t heldToken) accepts() accepted {
	return accepted{credential: fmt.Sprintf("token:%d", t.version), version: t.version, expires: t.until}
}

// tokens returns the two tokens that a may present. The second is empty unless a's
// token was replaced by and by.
func (a *account) tokens() [2]heldToken { return [2]heldToken{a.token, a.before} }

// byToken returns which of a's tokens token is. Both are compared, always.
func (r *Registry) byToken(a *account, token secret.String) (got accepted, ok bool) {
	for _, t := range a.tokens() {
		if checkToken(r.ring, a.principal, t.hash, token) {
			got, ok = t.accepts(), true
		}
	}
	return got, ok
}

// named returns the token of a that a Ref calls credential, if a still has it.
func (a *account) named(credential string) (accepted, bool) {
	for _, t := range a.tokens() {
		if x := t.accepts(); len(t.hash) > 0 && x.credential == credential {
			return x, true
		}
	}
	return accepted{}, false
}

// tokenRow says where the token of somebody is stored. args are $1 to $3 of where.
func tokenRow(p auth.Principal) (table, where string, args []any) {
	switch p.Kind {
	case auth.Application:
		return "application", "org = $1 AND key = $2 AND $3 = ''", []any{p.Org, p.ID, ""}
	case auth.User:
		return "mqtt_user", "org = $1 AND name = $2 AND $3 = ''", []any{p.Org, p.ID, ""}
	}
	typ, id := p.TypeAndID()
	return "device", "org = $1 AND type = $2 AND id = $3", []any{p.Org, typ, id}
}

// storedToken is when the tokens of somebody were made, and end.
type storedToken struct {
	version               int
	made, until, oldUntil time.Time
	before, imported      bool
}

func readStoredToken(ctx context.Context, tx *store.Tx, p auth.Principal) (t storedToken, err error) {
	table, where, args := tokenRow(p)
	imported := "FALSE"
	if p.Kind == auth.User {
		imported = "imported IS NOT NULL"
	}
	var made, until, old int64
	q := `SELECT token_version, token_at, token_until, old_hash IS NOT NULL, old_until, ` + imported + ` FROM ` + table + ` WHERE ` + where
	err = tx.QueryRowContext(ctx, q, args...).Scan(&t.version, &made, &until, &t.before, &old, &t.imported)
	t.made, t.until, t.oldUntil = fromMicros(made), orZero(until), orZero(old)
	return t, wrap("read token", err)
}

// orZero is fromMicros for a time whose zero is never.
func orZero(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return fromMicros(us)
}

// changeToken makes one change to the token of a device, an API key or an MQTT
// user, which takes what it takes to give it another. ends: the change only ends a
// token.
func (r *Registry) changeToken(ctx context.Context, a Actor, p auth.Principal, verb string, ends bool,
	do func(tx *store.Tx, owner auth.Principal, e *effect) error) error {
	switch p.Kind {
	case auth.Device, auth.Gateway:
		typ, id := p.TypeAndID()
		return r.changeDevice(ctx, a, permission.DeviceCredential, p.Org, typ, id, "device."+verb, func(tx *store.Tx, d Device, e *effect) error {
			return do(tx, d.Principal(), e)
		})
	case auth.Application:
		return r.changeApplication(ctx, a, p.Org, p.ID, "application."+verb, ends,
			func(tx *store.Tx, _ Application, _ permission.Holder, e *effect) error {
				e.affected = []auth.Principal{p} // what others may do stays
				return do(tx, p, e)
			})
	case auth.User:
		ctx, err := r.may(ctx, a, p.Org, permission.UserWrite)
		if err != nil {
			return err
		}
		return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
			e := effect{org: p.Org, action: "user." + verb, target: p.ID, affected: []auth.Principal{p}}
			if _, err := readUser(ctx, tx, p.Org, p.ID); err != nil {
				return e, err
			}
			return e, do(tx, p, &e)
		})
	}
	return errs.E(errs.Invalid, "only a device, a gateway, an API key or an MQTT user has a token")
}

// RotateToken gives a device, an API key or an MQTT user another token. The old
// one is refused from now on, or when the overlap is over, and a connection made
// with it ends then.
func (r *Registry) RotateToken(ctx context.Context, a Actor, p auth.Principal, x Rotation) (secret.String, error) {
	f, err := r.newFresh(p)
	if err != nil {
		return secret.String{}, err
	}
	err = r.changeToken(ctx, a, p, "rotate", false, func(tx *store.Tx, owner auth.Principal, e *effect) error {
		if err := x.check(r.now()); err != nil {
			return err
		}
		return r.replaceToken(ctx, tx, owner, x, f, e)
	})
	if err != nil {
		return secret.String{}, err
	}
	return f.token, nil
}

func (r *Registry) replaceToken(ctx context.Context, tx *store.Tx, owner auth.Principal, x Rotation, f fresh, e *effect) error {
	was, err := readStoredToken(ctx, tx, owner)
	if err != nil {
		return err
	}
	now := r.now()
	until := x.Expires
	if until.IsZero() && !x.Forever && !was.until.IsZero() {
		until = now.Add(was.until.Sub(was.made))
	}
	e.detail = map[string]any{"version": was.version + 1}
	if !until.IsZero() {
		e.detail["expires"] = until.UTC().Format(time.RFC3339)
	}
	table, where, args := tokenRow(owner)
	old, oldUntil := "old_hash = NULL, old_scram = NULL", time.Time{}
	if x.Overlap > 0 {
		if was.before && now.Before(was.oldUntil) {
			return errs.E(errs.Conflict, "overlap: the token before this one is good until %s, and there are two at most; retire it first, or rotate without an overlap",
				was.oldUntil.Format(time.RFC3339))
		}
		if was.imported {
			return errs.E(errs.Conflict, "overlap: the password was imported and has not been used here yet, so that it cannot be kept beside another one; rotate without an overlap")
		}
		old, oldUntil = "old_hash = token_hash, old_scram = scram", now.Add(x.Overlap)
		if !was.until.IsZero() && was.until.Before(oldUntil) {
			oldUntil = was.until
		}
		e.detail["overlap"] = oldUntil.Format(time.RFC3339)
	}
	q := `DELETE FROM credential_use WHERE org = $1 AND uid = (SELECT uid FROM ` + table + ` WHERE ` + where + `) AND version > 0 AND version < $4`
	if _, err := tx.ExecContext(ctx, q, append(args, was.version)...); err != nil {
		return fmt.Errorf("delete old uses: %w", err)
	}
	if table == "mqtt_user" {
		old += ", imported = NULL"
	}
	q = `UPDATE ` + table + ` SET ` + old + `, old_until = $4, token_hash = $5, scram = $6, token_version = token_version + 1, token_at = $7, token_until = $8 WHERE ` + where
	_, err = tx.ExecContext(ctx, q, append(args, expiry(oldUntil), hashToken(r.ring, owner, f.token), f.scram, micros(now), expiry(until))...)
	return wrap("update token", err)
}

// errOneToken says that there is nothing to retire.
var errOneToken = errs.E(errs.Conflict, "there is no token from before any more")

// RetireToken ends the token from before a rotation, and connections made with it,
// before the overlap is over.
func (r *Registry) RetireToken(ctx context.Context, a Actor, p auth.Principal) error {
	return r.changeToken(ctx, a, p, "retire", true, func(tx *store.Tx, owner auth.Principal, e *effect) error {
		was, err := readStoredToken(ctx, tx, owner)
		if err != nil {
			return err
		}
		if !was.before {
			return errOneToken
		}
		e.detail = map[string]any{"version": was.version - 1}
		table, where, args := tokenRow(owner)
		_, err = tx.ExecContext(ctx, `UPDATE `+table+` SET old_hash = NULL, old_scram = NULL, old_until = 0 WHERE `+where, args...)
		return wrap("update token", err)
	})
}

// SetTokenExpiry says when the present token of a device, an API key or an MQTT
// user ends, and connections made with it; zero: never.
func (r *Registry) SetTokenExpiry(ctx context.Context, a Actor, p auth.Principal, end time.Time) error {
	return r.changeToken(ctx, a, p, "expiry", false, func(tx *store.Tx, owner auth.Principal, e *effect) error {
		if err := checkEnd(end, r.now()); err != nil {
			return err
		}
		was, err := readStoredToken(ctx, tx, owner)
		if err != nil {
			return err
		}
		e.detail = map[string]any{"expires": ending(end), "before": ending(was.until)}
		table, where, args := tokenRow(owner)
		_, err = tx.ExecContext(ctx, `UPDATE `+table+` SET token_until = $4 WHERE `+where, append(args, expiry(end))...)
		return wrap("update token", err)
	})
}

// ending writes when something ends.
func ending(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

// dropUses forgets when the tokens of somebody who is deleted were used.
func dropUses(ctx context.Context, tx *store.Tx, p auth.Principal) error {
	table, where, args := tokenRow(p)
	var uid string
	err := tx.QueryRowContext(ctx, `SELECT uid FROM `+table+` WHERE `+where, args...).Scan(&uid)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = tx.ExecContext(ctx, `DELETE FROM credential_use WHERE org = $1 AND uid = $2`, p.Org, uid)
	}
	return wrap("delete uses of token", err)
}
