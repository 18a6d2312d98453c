package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/password"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// A Login is what a person signs in with.
type Login struct {
	Email    string
	Password secret.String
	Code     secret.String // of a second factor; empty: none was given
	Purpose  string        // ForConsole or ForCLI
}

// ErrSecondFactor says that the password is right and a code is needed, too.
var ErrSecondFactor = errs.E(errs.Unauthenticated, "a code of your second factor is needed, too")

// errBadLogin is the answer to every sign-in with a password that is not good.
var errBadLogin = errs.E(errs.Unauthenticated, "the e-mail address, the password or the code is wrong")

// How often a password may be tried. Whoever signed in from an address before is
// counted apart there, so that others who try do not lock them out.
const (
	triesEvery  = 30 * time.Second // for one person, from addresses that are not known
	triesBurst  = 10
	knownEvery  = 10 * time.Second // for one person, from one network
	knownBurst  = 10
	sourceEvery = time.Second // from one network
	sourceBurst = 60
)

// normalEmail returns an e-mail address as it is stored and compared.
func normalEmail(s string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s || len(s) > 254 {
		return "", errs.E(errs.Invalid, "email must be an address like ann@example.com")
	}
	return s, nil
}

// network returns the part of an address that one visitor has: an IPv4 address, or
// an IPv6 network (/64).
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if ap, e := netip.ParseAddrPort(address); e == nil {
		a, err = ap.Addr(), nil
	}
	if err != nil {
		return address
	}
	if a = a.Unmap(); a.Is4() {
		return a.String()
	}
	p, _ := a.WithZone("").Prefix(64) // of an IPv6 address there is one
	return p.String()
}

// A knownLogin is what the store has of who signs in.
type knownLogin struct {
	person   Person
	password string
	known    bool // they signed in from this network before
	browser  bool // with this program
	factors  bool // they have a second factor
}

// LogIn signs a person in with a password and, if they have one, a second factor.
// Every refusal but ErrSecondFactor looks the same and costs the same, and both
// outcomes are on the audit record. Whoever tries too often waits.
func (r *Registry) LogIn(ctx context.Context, l Login, address, userAgent string) (secret.String, Actor, error) {
	email, err := normalEmail(l.Email)
	if err != nil {
		return secret.String{}, Actor{}, err
	}
	k, err := r.readLogin(ctx, email, address, userAgent)
	if err != nil {
		return secret.String{}, Actor{}, err
	}
	tries := r.triesOf(email, address, k.known)
	for _, t := range tries {
		if d := r.tries.wait(t.key, t.every, t.burst, r.now()); d > 0 {
			return secret.String{}, Actor{}, errs.E(errs.Exhausted, "too many attempts; try again in %v", d.Round(time.Second))
		}
	}
	failed := func(err error) (secret.String, Actor, error) {
		for _, t := range tries {
			r.tries.count(t.key, t.every, t.burst, r.now())
		}
		return secret.String{}, Actor{}, r.refuseSignIn(ctx, address, err)
	}
	ok, outdated, err := password.Verify(ctx, k.password, l.Password)
	switch {
	case err != nil && k.password != "":
		return secret.String{}, Actor{}, errs.Wrap(errs.Unavailable, err, "the password cannot be checked now; try again")
	case err != nil || !ok || k.person.Disabled:
		return failed(errBadLogin)
	case k.factors && l.Code.Reveal() == "":
		return secret.String{}, Actor{}, ErrSecondFactor
	}
	fresh := ""
	if outdated {
		if fresh, err = password.Hash(ctx, l.Password); err != nil {
			return secret.String{}, Actor{}, fault(err)
		}
	}
	token, a, err := r.openSession(ctx, k, l, fresh, address, userAgent)
	if errors.Is(err, errBadLogin) {
		return failed(err)
	}
	return token, a, err
}

type tries struct {
	key   string
	every time.Duration
	burst int
}

// triesOf returns what an attempt counts for.
func (r *Registry) triesOf(email, address string, known bool) []tries {
	from := network(address)
	all := []tries{{"from " + from, sourceEvery, sourceBurst}, {email + " from " + from, knownEvery, knownBurst}}
	if !known {
		all = append(all, tries{"to " + email, triesEvery, triesBurst})
	}
	return all
}

func (r *Registry) readLogin(ctx context.Context, email, address, userAgent string) (k knownLogin, err error) {
	err = r.view(ctx, func(tx *store.Tx) error {
		const q = `SELECT ` + personColumns + ` FROM person WHERE email = $1 AND email <> ''`
		p, err := one[Person](tx.QueryRowContext(ctx, q, email), errBadLogin)
		if errors.Is(err, errBadLogin) {
			return nil
		}
		if err != nil {
			return err
		}
		k.person = p
		if err := tx.QueryRowContext(ctx, `SELECT password FROM person WHERE id = $1`, p.ID).Scan(&k.password); err != nil {
			return fmt.Errorf("read password: %w", err)
		}
		if k.known, err = isKnown(ctx, tx, p.ID, r.knownHash("network", network(address))); err != nil {
			return err
		}
		if k.browser, err = isKnown(ctx, tx, p.ID, r.knownHash("program", userAgent)); err != nil {
			return err
		}
		k.factors, err = hasFactor(ctx, tx, p.ID)
		return err
	})
	return k, err
}

func (r *Registry) knownHash(what, value string) []byte {
	return r.ring.MAC("registry/known/1", []byte(what), []byte(value))
}

func isKnown(ctx context.Context, tx *store.Tx, person string, hash []byte) (bool, error) {
	var n int
	err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM person_known WHERE person = $1 AND hash = $2`, person, hash).Scan(&n)
	return n > 0, wrap("look for known address", err)
}

// maxKnown is how many networks and programs of a person are remembered.
const maxKnown = 100

// noteKnown remembers from where, and with what, a person signed in.
func (r *Registry) noteKnown(ctx context.Context, tx *store.Tx, person, address, userAgent string) error {
	for _, h := range [][]byte{r.knownHash("network", network(address)), r.knownHash("program", userAgent)} {
		const q = `INSERT INTO person_known (person, hash, seen_at) VALUES ($1, $2, $3)
			ON CONFLICT (person, hash) DO UPDATE SET seen_at = excluded.seen_at`
		if _, err := tx.ExecContext(ctx, q, person, h, micros(r.now())); err != nil {
			return fmt.Errorf("note address: %w", err)
		}
	}
	const prune = `DELETE FROM person_known WHERE person = $1 AND hash NOT IN
		(SELECT hash FROM person_known WHERE person = $1 ORDER BY seen_at DESC LIMIT $2)`
	_, err := tx.ExecContext(ctx, prune, person, maxKnown)
	return wrap("forget addresses", err)
}

// openSession checks the second factor and makes the session of somebody whose
// password is right. fresh is the new hash of the password, if it needs one.
func (r *Registry) openSession(ctx context.Context, k knownLogin, l Login, fresh, address, userAgent string) (secret.String, Actor, error) {
	token := newToken()
	a := Actor{Principal: auth.Principal{Kind: auth.Person, ID: k.person.ID}, Admin: k.person.Admin, Address: address}
	isNew := !k.known || !k.browser
	err := r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "signin", target: k.person.ID, detail: map[string]any{"purpose": l.Purpose, "by": "password", "new_device": isNew}}
		var stored string
		if err := tx.QueryRowContext(ctx, `SELECT password FROM person WHERE id = $1 AND NOT disabled`, k.person.ID).Scan(&stored); err != nil || stored != k.password {
			if err == nil || errors.Is(err, sql.ErrNoRows) {
				err = errBadLogin // it was changed meanwhile
			}
			return e, err
		}
		if err := r.unlockedActor(ctx, a, ""); err != nil {
			return e, err
		}
		factors, err := hasFactor(ctx, tx, k.person.ID)
		if err != nil {
			return e, err
		}
		a.Verified = false
		if factors {
			how, err := r.takeFactor(ctx, tx, k.person.ID, l.Code, errBadLogin)
			if err != nil {
				return e, err
			}
			e.detail["second_factor"], a.Verified = how, true
		}
		if fresh != "" {
			if _, err := tx.ExecContext(ctx, `UPDATE person SET password = $2 WHERE id = $1`, k.person.ID, fresh); err != nil {
				return e, fmt.Errorf("renew password hash: %w", err)
			}
		}
		if err := r.noteKnown(ctx, tx, k.person.ID, address, userAgent); err != nil {
			return e, err
		}
		if a.Session, err = r.insertSession(ctx, tx, k.person.ID, l.Purpose, token, address, userAgent); err != nil {
			return e, err
		}
		e.detail["session"] = a.Session
		_, err = tx.ExecContext(ctx, `UPDATE person_session SET verified = $2 WHERE id = $1`, a.Session, a.Verified)
		return e, wrap("note second factor", err)
	})
	if err != nil {
		return secret.String{}, Actor{}, err
	}
	if isNew {
		r.log.InfoContext(ctx, "sign-in from a new network or program", "client", k.person.ID, "address", address)
		if r.notify != nil {
			r.notify(context.WithoutCancel(ctx), k.person, "New sign-in to KeepMQ", fmt.Sprintf(
				"Somebody signed in as you from %s with %s.\nIf it was not you, change your password and end the session.", clip(address), clip(userAgent)))
		}
	}
	return token, a, nil
}

// SetPassword gives a, a person, a new password. Who has one already proves it
// with the old. Every other session of theirs ends.
func (r *Registry) SetPassword(ctx context.Context, a Actor, old, fresh secret.String) error {
	if a.Principal.Kind != auth.Person {
		return errs.E(errs.Denied, "only a person has a password")
	}
	var p Person
	var stored string
	err := r.view(ctx, func(tx *store.Tx) (err error) {
		if p, err = readPerson(ctx, tx, a.Principal.ID); err != nil {
			return err
		}
		return wrap("read password", tx.QueryRowContext(ctx, `SELECT password FROM person WHERE id = $1`, p.ID).Scan(&stored))
	})
	if err != nil {
		return err
	}
	if p.Email == "" {
		return errs.E(errs.Invalid, "set your e-mail address first: with it and the password you sign in")
	}
	if stored != "" {
		key := "password of " + p.ID
		if d := r.tries.wait(key, triesEvery, triesBurst, r.now()); d > 0 {
			return errs.E(errs.Exhausted, "too many attempts; try again in %v", d.Round(time.Second))
		}
		ok, _, err := password.Verify(ctx, stored, old)
		if err != nil {
			return errs.Wrap(errs.Unavailable, err, "the password cannot be checked now; try again")
		}
		if !ok {
			r.tries.count(key, triesEvery, triesBurst, r.now())
			return errs.E(errs.Denied, "the present password is wrong")
		}
	}
	if err := password.Strong(fresh, p.Name, p.Email); err != nil {
		return err
	}
	hash, err := password.Hash(ctx, fresh)
	if err != nil {
		return fault(err)
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "password.set", target: p.ID}
		const q = `UPDATE person SET password = $2 WHERE id = $1 AND password = $3`
		res, err := tx.ExecContext(ctx, q, p.ID, hash, stored)
		if err := found(res, err, errs.E(errs.Conflict, "the password was changed meanwhile")); err != nil {
			return e, err
		}
		return e, r.endOthers(ctx, tx, a, &e)
	})
}

// A PersonChange is what people change of themselves; nil stays as it is.
type PersonChange struct {
	Name  *string
	Email *string // "": none
}

// SetMe changes what a, a person, says of themselves.
func (r *Registry) SetMe(ctx context.Context, a Actor, c PersonChange) (Person, error) {
	if a.Principal.Kind != auth.Person {
		return Person{}, errs.E(errs.Denied, "only a person may do this")
	}
	var p Person
	err := r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		old, err := readPerson(ctx, tx, a.Principal.ID)
		if err != nil {
			return effect{}, err
		}
		p = old
		if c.Name != nil {
			if p.Name = strings.TrimSpace(*c.Name); p.Name == "" {
				return effect{}, errs.E(errs.Invalid, "name must not be empty")
			}
			if err := checkText("name", p.Name, 100); err != nil {
				return effect{}, err
			}
		}
		if c.Email != nil {
			if p.Email = *c.Email; p.Email != "" {
				if p.Email, err = normalEmail(p.Email); err != nil {
					return effect{}, err
				}
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE person SET name = $2, email = $3 WHERE id = $1`, p.ID, p.Name, p.Email)
		if store.IsUnique(err) {
			return effect{}, errs.E(errs.Invalid, "email cannot be this address; choose another")
		}
		return effect{action: "person.update", target: p.ID, detail: map[string]any{"name": p.Name, "email": p.Email,
			"before_name": old.Name, "before_email": old.Email}}, wrap("update person", err)
	})
	if err != nil {
		return Person{}, err
	}
	return p, nil
}
