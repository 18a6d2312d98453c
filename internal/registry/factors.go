package registry

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	totpPeriod  = 30 // seconds; what every authenticator expects
	totpSkew    = 1  // steps before and after now whose codes are good
	totpPurpose = "registry/totp/1"
	maxTOTP     = 5  // authenticators of one person
	recoveries  = 10 // recovery codes
	codeLetters = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
)

// A Factor is a second factor.
type Factor struct {
	ID        string
	Kind      string // FactorTOTP or FactorPasskey
	Name      string
	Confirmed bool // a code of it was seen, and so it counts
	Created   time.Time
	Used      time.Time // of a passkey: last; zero: never
}

func (f *Factor) scan(row scanner) error {
	var created, used int64
	err := row.Scan(&f.ID, &f.Kind, &f.Name, &f.Confirmed, &created, &used)
	f.Created = fromMicros(created)
	if used != 0 {
		f.Used = fromMicros(used)
	}
	return err
}

// hasFactor reports whether a person has a second factor that counts.
func hasFactor(ctx context.Context, tx *store.Tx, person string) (bool, error) {
	var n int
	const q = `SELECT (SELECT COUNT(*) FROM person_totp WHERE person = $1 AND confirmed) + (SELECT COUNT(*) FROM person_passkey WHERE person = $1)`
	err := tx.QueryRowContext(ctx, q, person).Scan(&n)
	return n > 0, wrap("look for second factor", err)
}

func onlyPerson(a Actor) error {
	if a.Principal.Kind != auth.Person {
		return errs.E(errs.Denied, "only a person has second factors")
	}
	return nil
}

// Factors lists the second factors of a, and how many recovery codes are left.
func (r *Registry) Factors(ctx context.Context, a Actor) (all []Factor, left int, err error) {
	if err := onlyPerson(a); err != nil {
		return nil, 0, err
	}
	const q = `SELECT id, 'totp', name, confirmed, created_at, 0 FROM person_totp WHERE person = $1
		UNION ALL SELECT id, 'passkey', name, TRUE, created_at, used_at FROM person_passkey WHERE person = $1 ORDER BY 5, 1`
	if all, err = list[Factor](store.ForAll(ctx), r, q, a.Principal.ID); err != nil {
		return nil, 0, err
	}
	err = r.view(store.ForAll(ctx), func(tx *store.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM person_recovery WHERE person = $1`, a.Principal.ID).Scan(&left)
		return wrap("count recovery codes", err)
	})
	return all, left, err
}

// mayChangeFactors checks that a session may add or take away second factors: who
// has one must have proved it, else a stolen session could.
func mayChangeFactors(ctx context.Context, tx *store.Tx, a Actor) error {
	has, err := hasFactor(ctx, tx, a.Principal.ID)
	if err == nil && has && !a.Verified {
		err = errs.E(errs.Denied, "prove a second factor that you have first, in this session")
	}
	return err
}

// AddFactor makes an authenticator, which counts as soon as it is confirmed. It
// returns the URL (otpauth) with its secret, which is never shown again.
func (r *Registry) AddFactor(ctx context.Context, a Actor, name string) (Factor, secret.String, error) {
	if err := onlyPerson(a); err != nil {
		return Factor{}, secret.String{}, err
	}
	if name == "" {
		name = "authenticator"
	}
	if err := checkText("name", name, 50); err != nil {
		return Factor{}, secret.String{}, err
	}
	raw := make([]byte, 20) // as long as SHA-1's output (RFC 4226 §4)
	_, _ = rand.Read(raw)   // it never fails; the program ends if the system has no randomness
	f := Factor{Name: name, Created: r.now()}
	var err error
	if f.ID, err = newUID(); err != nil {
		return Factor{}, secret.String{}, err
	}
	sealed, err := r.ring.Seal(totpPurpose+a.Principal.ID+f.ID, raw)
	if err != nil {
		return Factor{}, secret.String{}, fault(err)
	}
	var account string
	err = r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "factor.create", target: a.Principal.ID, detail: map[string]any{"factor": f.ID, "kind": "totp"}}
		p, err := readPerson(ctx, tx, a.Principal.ID)
		if err != nil {
			return e, err
		}
		if account = p.Email; account == "" {
			account = p.Name
		}
		if err := mayChangeFactors(ctx, tx, a); err != nil {
			return e, err
		}
		// What was never confirmed goes.
		if _, err := tx.ExecContext(ctx, `DELETE FROM person_totp WHERE person = $1 AND NOT confirmed`, a.Principal.ID); err != nil {
			return e, fmt.Errorf("delete unconfirmed factors: %w", err)
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM person_totp WHERE person = $1`, a.Principal.ID).Scan(&n); err != nil {
			return e, fmt.Errorf("count factors: %w", err)
		}
		if n >= maxTOTP {
			return e, errs.E(errs.Exhausted, "you have %d authenticators; delete one first", n)
		}
		const q = `INSERT INTO person_totp (person, id, name, secret, created_at) VALUES ($1, $2, $3, $4, $5)`
		_, err = tx.ExecContext(ctx, q, a.Principal.ID, f.ID, f.Name, sealed, micros(f.Created))
		return e, wrap("insert factor", err)
	})
	if err != nil {
		return Factor{}, secret.String{}, err
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: "KeepMQ", AccountName: account, Secret: raw, Period: totpPeriod})
	if err != nil {
		return Factor{}, secret.String{}, fmt.Errorf("make otpauth URL: %w", err)
	}
	return f, secret.New(key.URL()), nil
}

// errBadFactor says that a code of a second factor is not good.
var errBadFactor = errs.E(errs.Denied, "the code is wrong, or was used already; wait for the next one")

// ConfirmFactor has an authenticator count, because a shows a code of it, and
// verifies the session. With the first one come the recovery codes, which are
// never shown again.
func (r *Registry) ConfirmFactor(ctx context.Context, a Actor, id string, code secret.String) ([]secret.String, error) {
	if err := r.mayTryFactor(a); err != nil {
		return nil, err
	}
	var fresh []secret.String
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		fresh = nil
		e := effect{action: "factor.confirm", target: a.Principal.ID, detail: map[string]any{"factor": id}}
		first, err := hasFactor(ctx, tx, a.Principal.ID)
		if err != nil {
			return e, err
		}
		if err := mayChangeFactors(ctx, tx, a); err != nil {
			return e, err
		}
		if err := r.takeTOTP(ctx, tx, a.Principal.ID, id, false, code); err != nil {
			return e, err
		}
		if err := r.verifySession(ctx, tx, a, &e); err != nil || first {
			return e, err
		}
		fresh, err = r.newRecoveries(ctx, tx, a.Principal.ID)
		return e, err
	})
	return fresh, r.triedFactor(a, err)
}

// VerifySession notes that a session was proved with a second factor.
func (r *Registry) VerifySession(ctx context.Context, a Actor, code secret.String) error {
	if err := r.mayTryFactor(a); err != nil {
		return err
	}
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "session.verify", target: a.Principal.ID, detail: map[string]any{"session": a.Session}}
		how, err := r.takeFactor(ctx, tx, a.Principal.ID, code, errBadFactor)
		if err != nil {
			return e, err
		}
		e.detail["second_factor"] = how
		return e, r.verifySession(ctx, tx, a, &e)
	})
	return r.triedFactor(a, err)
}

// mayTryFactor and triedFactor bound how often codes are guessed.
func (r *Registry) mayTryFactor(a Actor) error {
	if err := onlyPerson(a); err != nil {
		return err
	}
	if d := r.tries.take(r.now(), factorTry(a)); d > 0 {
		return tooMany(d)
	}
	return nil
}

func (r *Registry) triedFactor(a Actor, err error) error {
	if err == nil || errs.CodeOf(err) != errs.Denied {
		r.tries.back(r.now(), factorTry(a))
	}
	return err
}

func factorTry(a Actor) try { return try{"factor of " + a.Principal.ID, triesEvery, triesBurst} }

// verifySession notes it, and has the person's connections asked for again.
func (r *Registry) verifySession(ctx context.Context, tx *store.Tx, a Actor, e *effect) error {
	if _, err := tx.ExecContext(ctx, `UPDATE person_session SET verified = TRUE WHERE id = $1 AND person = $2`, a.Session, a.Principal.ID); err != nil {
		return fmt.Errorf("verify session: %w", err)
	}
	return affectPerson(ctx, tx, a.Principal.ID, e)
}

// takeFactor uses up a code of any of a person's second factors, or a recovery
// code, and returns which. bad is the answer to one that is not good.
func (r *Registry) takeFactor(ctx context.Context, tx *store.Tx, person string, code secret.String, bad error) (string, error) {
	s := plainCode(code)
	if len(s) == recoveryLength {
		res, err := tx.ExecContext(ctx, `DELETE FROM person_recovery WHERE person = $1 AND code_hash = $2`, person, r.recoveryHash(person, s))
		return "recovery", found(res, err, bad)
	}
	const q = `SELECT id FROM person_totp WHERE person = $1 AND confirmed ORDER BY id`
	rows, err := tx.QueryContext(ctx, q, person)
	if err != nil {
		return "", fmt.Errorf("list factors: %w", err)
	}
	var ids []string
	err = each(rows, func() error {
		var id string
		err := rows.Scan(&id)
		ids = append(ids, id)
		return wrap("read factor", err)
	})
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		err := r.takeTOTP(ctx, tx, person, id, true, code)
		if err == nil {
			return "totp", nil
		}
		if errs.CodeOf(err) != errs.Denied {
			return "", err
		}
	}
	return "", bad
}

// takeTOTP uses up a code of an authenticator: each is good once, and none that is
// older than one that was taken.
func (r *Registry) takeTOTP(ctx context.Context, tx *store.Tx, person, id string, confirmed bool, code secret.String) error {
	var sealed []byte
	var last int64
	const q = `SELECT secret, step FROM person_totp WHERE person = $1 AND id = $2 AND confirmed = $3`
	row := tx.QueryRowContext(ctx, q, person, id, confirmed)
	if err := noRow(row.Scan(&sealed, &last), errs.E(errs.NotFound, "second factor %q not found", clip(id))); err != nil {
		return err
	}
	raw, err := r.ring.Open(totpPurpose+person+id, sealed)
	if err != nil {
		return fmt.Errorf("open factor: %w", err)
	}
	key := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw)
	now := r.now().Unix() / totpPeriod
	for step := now - totpSkew; step <= now+totpSkew; step++ {
		if step <= last {
			continue
		}
		ok, err := totp.ValidateCustom(plainCode(code), key, time.Unix(step*totpPeriod, 0),
			totp.ValidateOpts{Period: totpPeriod, Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		if err != nil || !ok {
			continue
		}
		const use = `UPDATE person_totp SET step = $3, confirmed = TRUE WHERE person = $1 AND id = $2 AND step = $4`
		res, err := tx.ExecContext(ctx, use, person, id, step, last)
		return found(res, err, errBadFactor)
	}
	return errBadFactor
}

// plainCode returns a code without what people put between its parts.
func plainCode(code secret.String) string {
	return strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(strings.TrimSpace(code.Reveal())))
}

// DeleteFactor deletes an authenticator or a passkey. With the last go the recovery
// codes.
func (r *Registry) DeleteFactor(ctx context.Context, a Actor, id string) error {
	if err := onlyPerson(a); err != nil {
		return err
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "factor.delete", target: a.Principal.ID, detail: map[string]any{"factor": id}}
		if err := mayChangeFactors(ctx, tx, a); err != nil {
			return e, err
		}
		none := errs.E(errs.NotFound, "second factor %q not found", clip(id))
		res, err := tx.ExecContext(ctx, `DELETE FROM person_totp WHERE person = $1 AND id = $2`, a.Principal.ID, id)
		if err = found(res, err, none); errs.CodeOf(err) == errs.NotFound && err != nil {
			res, err = tx.ExecContext(ctx, `DELETE FROM person_passkey WHERE person = $1 AND id = $2`, a.Principal.ID, id)
			err = found(res, err, none)
		}
		if err != nil {
			return e, err
		}
		left, err := hasFactor(ctx, tx, a.Principal.ID)
		if err != nil || left {
			return e, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM person_recovery WHERE person = $1`, a.Principal.ID); err != nil {
			return e, fmt.Errorf("delete recovery codes: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `UPDATE person_session SET verified = FALSE WHERE person = $1`, a.Principal.ID); err != nil {
			return e, fmt.Errorf("sessions without a factor: %w", err)
		}
		return e, affectPerson(ctx, tx, a.Principal.ID, &e)
	})
}

// recoveryLength is how many letters a recovery code has: 80 bits.
const recoveryLength = 16

func (r *Registry) recoveryHash(person, code string) []byte {
	return findHash(r.ring, "recovery of "+person, secret.New(code))
}

// RenewRecoveries replaces a's recovery codes by new ones, which are never shown
// again.
func (r *Registry) RenewRecoveries(ctx context.Context, a Actor) ([]secret.String, error) {
	if err := onlyPerson(a); err != nil {
		return nil, err
	}
	var fresh []secret.String
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "recovery.create", target: a.Principal.ID}
		has, err := hasFactor(ctx, tx, a.Principal.ID)
		if err == nil && !has {
			err = errs.E(errs.Invalid, "recovery codes come with a second factor; add one first")
		}
		if err == nil {
			err = mayChangeFactors(ctx, tx, a)
		}
		if err != nil {
			return e, err
		}
		fresh, err = r.newRecoveries(ctx, tx, a.Principal.ID)
		return e, err
	})
	if err != nil {
		return nil, err
	}
	return fresh, nil
}

func (r *Registry) newRecoveries(ctx context.Context, tx *store.Tx, person string) ([]secret.String, error) {
	if _, err := tx.ExecContext(ctx, `DELETE FROM person_recovery WHERE person = $1`, person); err != nil {
		return nil, fmt.Errorf("delete recovery codes: %w", err)
	}
	var all []secret.String
	for range recoveries {
		s := random(codeLetters, recoveryLength)
		if _, err := tx.ExecContext(ctx, `INSERT INTO person_recovery (person, code_hash) VALUES ($1, $2)`, person, r.recoveryHash(person, s)); err != nil {
			return nil, fmt.Errorf("insert recovery code: %w", err)
		}
		all = append(all, secret.New(s[:4]+"-"+s[4:8]+"-"+s[8:12]+"-"+s[12:]))
	}
	return all, nil
}

// SetSecondFactor has members of an organisation need a second factor, or no more.
// Who has not proved one in their session sees nothing of it but that. Who asks for
// it must have proved one: else they would be the first who is shut out.
func (r *Registry) SetSecondFactor(ctx context.Context, a Actor, org auth.OrgID, needed bool) error {
	ctx, err := r.may(ctx, a, org, permission.MemberWrite)
	if err != nil {
		return err
	}
	if needed && a.Principal.Kind == auth.Person && !a.Verified {
		return errs.E(errs.Denied, "add a second factor yourself first, and prove it in this session")
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "org.second_factor", target: string(org), detail: map[string]any{"needed": needed}}
		if _, err := tx.ExecContext(ctx, `UPDATE org SET second_factor = $2 WHERE id = $1`, org, needed); err != nil {
			return e, fmt.Errorf("update organisation: %w", err)
		}
		return e, affectHolders(ctx, tx, org, &e)
	})
}

// errUnverified shuts out who has not proved a second factor where one is needed.
var errUnverified = errs.E(errs.Denied, "this organisation asks for a second factor: add one to your account, or prove it in this session")
