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

	"github.com/keepmq/keepmq/internal/audit"
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
	k, err := r.readLogin(ctx, email, address)
	if err != nil {
		return secret.String{}, Actor{}, err
	}
	tries := r.triesOf(email, address, k.known)
	if d := r.tries.take(r.now(), tries...); d > 0 {
		return secret.String{}, Actor{}, tooMany(d)
	}
	token, a, err := r.logIn(ctx, k, l, address, userAgent)
	if errors.Is(err, errBadLogin) {
		return secret.String{}, Actor{}, r.refuseSignIn(ctx, address, err)
	}
	r.tries.back(r.now(), tries...)
	return token, a, err
}

// logIn checks what LogIn was given, and that only.
func (r *Registry) logIn(ctx context.Context, k knownLogin, l Login, address, userAgent string) (secret.String, Actor, error) {
	ok, outdated, err := password.Verify(ctx, k.password, l.Password)
	switch {
	case err != nil && k.password != "":
		return secret.String{}, Actor{}, errs.Wrap(errs.Unavailable, err, "the password cannot be checked now; try again")
	case err != nil || !ok || k.person.Disabled:
		return secret.String{}, Actor{}, errBadLogin
	case k.factors && l.Code.Reveal() == "":
		return secret.String{}, Actor{}, ErrSecondFactor
	}
	fresh := ""
	if outdated {
		if fresh, err = password.Hash(ctx, l.Password); err != nil {
			return secret.String{}, Actor{}, fault(err)
		}
	}
	return r.openSession(ctx, k, l, fresh, address, userAgent)
}

// triesOf returns what an attempt counts for.
func (r *Registry) triesOf(email, address string, known bool) []try {
	from := network(address)
	all := []try{{"from " + from, sourceEvery, sourceBurst}, {email + " from " + from, knownEvery, knownBurst}}
	if !known {
		all = append(all, try{"to " + email, triesEvery, triesBurst})
	}
	return all
}

func (r *Registry) readLogin(ctx context.Context, email, address string) (k knownLogin, err error) {
	err = r.view(store.ForAll(ctx), func(tx *store.Tx) error {
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

// noteDevice remembers from where, and with what, a signs in. What is new is on
// record; the first sign-in of all is no news.
func (r *Registry) noteDevice(ctx context.Context, tx *store.Tx, a Actor, userAgent string) (isNew bool, err error) {
	var before, same int
	const q = `SELECT COUNT(*) FROM person_known WHERE person = $1`
	if err := tx.QueryRowContext(ctx, q, a.Principal.ID).Scan(&before); err != nil {
		return false, fmt.Errorf("count known addresses: %w", err)
	}
	for _, h := range r.knownHashes(a.Address, userAgent) {
		known, err := isKnown(ctx, tx, a.Principal.ID, h)
		if err != nil {
			return false, err
		}
		if known {
			same++
		}
	}
	if err := r.noteKnown(ctx, tx, a.Principal.ID, a.Address, userAgent); err != nil {
		return false, err
	}
	if before == 0 || same == 2 {
		return false, nil
	}
	e := effect{action: "signin.new_device", target: a.Principal.ID, detail: map[string]any{"program": clip(userAgent)}}
	return true, wrap("append audit record", audit.Append(ctx, tx, e.event(a)))
}

// tellNewDevice tells p of a sign-in that noteDevice found new.
func (r *Registry) tellNewDevice(ctx context.Context, p Person, address, userAgent string) {
	r.log.InfoContext(ctx, "sign-in from a new network or program", "client", p.ID, "address", address)
	if r.notify != nil {
		r.notify(context.WithoutCancel(ctx), p, "New sign-in to KeepMQ", fmt.Sprintf(
			"Somebody signed in as you from %s with %s.\nIf it was not you, change your password and end the session.", clip(address), clip(userAgent)))
	}
}

func (r *Registry) knownHashes(address, userAgent string) [2][]byte {
	return [2][]byte{r.knownHash("network", network(address)), r.knownHash("program", userAgent)}
}

// maxKnown is how many networks and programs of a person are remembered.
const maxKnown = 100

// noteKnown remembers from where, and with what, a person signed in.
func (r *Registry) noteKnown(ctx context.Context, tx *store.Tx, person, address, userAgent string) error {
	for _, h := range r.knownHashes(address, userAgent) {
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
	isNew := false
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "signin", target: k.person.ID, detail: map[string]any{"purpose": l.Purpose, "by": "password"}}
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
		if isNew, err = r.noteDevice(ctx, tx, a, userAgent); err != nil {
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
		r.tellNewDevice(ctx, k.person, address, userAgent)
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
	var orgs []string
	err := r.view(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		if orgs, err = orgNames(ctx, tx, a.Principal.ID); err != nil {
			return err
		}
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
		present := try{"password of " + p.ID, triesEvery, triesBurst}
		if d := r.tries.take(r.now(), present); d > 0 {
			return tooMany(d)
		}
		ok, _, err := password.Verify(ctx, stored, old)
		if err != nil {
			return errs.Wrap(errs.Unavailable, err, "the password cannot be checked now; try again")
		}
		if !ok {
			return errs.E(errs.Denied, "the present password is wrong")
		}
		r.tries.back(r.now(), present)
	}
	if err := password.Strong(fresh, append(orgs, p.Name, p.Email)...); err != nil {
		return err
	}
	hash, err := password.Hash(ctx, fresh)
	if err != nil {
		return fault(err)
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: "password.set", target: p.ID}
		const q = `UPDATE person SET password = $2 WHERE id = $1 AND password = $3`
		res, err := tx.ExecContext(ctx, q, p.ID, hash, stored)
		if err := found(res, err, errs.E(errs.Conflict, "the password was changed meanwhile")); err != nil {
			return e, err
		}
		return e, r.endOthers(ctx, tx, a, &e)
	})
}

// orgNames returns what the organisations of a person are called.
func orgNames(ctx context.Context, tx *store.Tx, person string) ([]string, error) {
	const q = `SELECT o.id, o.name FROM member m JOIN org o ON o.id = m.org WHERE m.person = $1 ORDER BY o.id`
	rows, err := tx.QueryContext(ctx, q, person)
	if err != nil {
		return nil, fmt.Errorf("list organisations: %w", err)
	}
	var all []string
	err = each(rows, func() error {
		var id, name string
		err := rows.Scan(&id, &name)
		all = append(all, id, name)
		return wrap("read organisation", err)
	})
	return all, err
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
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
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
