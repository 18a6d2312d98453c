package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// How long what a person holds is good for.
const (
	CodeLife    = 24 * time.Hour      // a sign-in code, and it is good once
	ConsoleLife = 12 * time.Hour      // a session of the console
	AccessLife  = 30 * 24 * time.Hour // an access token of the command line
)

// What a sign-in code, and the session made from it, is for.
const (
	ForConsole = "console"
	ForCLI     = "cli"
)

// A Person signs in to the console and the API.
type Person struct {
	ID       string
	Name     string
	Email    string // with which they sign in; may be empty
	Admin    bool
	Disabled bool
	Created  time.Time
}

const personColumns = `id, name, email, admin, disabled, created_at`

func (p *Person) scan(row scanner) error {
	var created int64
	err := row.Scan(&p.ID, &p.Name, &p.Email, &p.Admin, &p.Disabled, &created)
	p.Created = fromMicros(created)
	return err
}

func noPerson(id string) error { return errs.E(errs.NotFound, "person %q not found", id) }

func readPerson(ctx context.Context, tx *store.Tx, id string) (Person, error) {
	const q = `SELECT ` + personColumns + ` FROM person WHERE id = $1`
	return one[Person](tx.QueryRowContext(ctx, q, id), noPerson(id))
}

// Person returns a person: an administrator may see anybody, others themselves.
func (r *Registry) Person(ctx context.Context, a Actor, id string) (Person, error) {
	if !a.Admin && (a.Principal.Kind != auth.Person || a.Principal.ID != id) {
		return Person{}, noPerson(id)
	}
	var p Person
	err := r.view(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		p, err = readPerson(ctx, tx, id)
		return err
	})
	return p, err
}

// NewSignInCode returns a code with which a signs in to the console once. For a
// part of KeepMQ itself, such as a command on the server, the code is the first
// administrator's.
func (r *Registry) NewSignInCode(ctx context.Context, a Actor) (secret.String, error) {
	return r.newCode(ctx, a, ForConsole)
}

// NewAccessCode is like NewSignInCode, for the command line.
func (r *Registry) NewAccessCode(ctx context.Context, a Actor) (secret.String, error) {
	return r.newCode(ctx, a, ForCLI)
}

func (r *Registry) newCode(ctx context.Context, a Actor, purpose string) (secret.String, error) {
	if err := a.mayAdminister(); err != nil {
		return secret.String{}, err
	}
	var code secret.String
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		person, err := codeOwner(ctx, tx, a)
		if err != nil {
			return effect{}, err
		}
		code, err = r.insertCode(ctx, tx, person.ID, purpose)
		return effect{action: "signin.code", target: person.ID, detail: map[string]any{"purpose": purpose}}, err
	})
	if err != nil {
		return secret.String{}, err
	}
	return code, nil
}

// codeOwner returns who a code that a asks for signs in.
func codeOwner(ctx context.Context, tx *store.Tx, a Actor) (Person, error) {
	switch a.Principal.Kind {
	case auth.Person:
		return readPerson(ctx, tx, a.Principal.ID)
	case auth.System:
		const q = `SELECT ` + personColumns + ` FROM person WHERE admin AND NOT disabled ORDER BY created_at, id LIMIT 1`
		return one[Person](tx.QueryRowContext(ctx, q),
			errs.E(errs.NotFound, "there is no administrator; start the server once to create the first"))
	default:
		return Person{}, errs.E(errs.Denied, "only a person signs in")
	}
}

// insertCode makes a code. Codes that ran out go at the same time.
func (r *Registry) insertCode(ctx context.Context, tx *store.Tx, person, purpose string) (secret.String, error) {
	now := r.now()
	if _, err := tx.ExecContext(ctx, `DELETE FROM sign_in_code WHERE expires_at < $1`, micros(now)); err != nil {
		return secret.String{}, fmt.Errorf("delete old sign-in codes: %w", err)
	}
	id, err := newUID()
	if err != nil {
		return secret.String{}, err
	}
	code := newToken()
	const q = `INSERT INTO sign_in_code (id, person, purpose, code_hash, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)`
	_, err = tx.ExecContext(ctx, q, id, person, purpose, findHash(r.ring, "code", code), micros(now), micros(now.Add(CodeLife)))
	return code, wrap("insert sign-in code", err)
}

// SignIn takes a one-time code for a session, and the code is no more. The
// session lasts ConsoleLife or AccessLife, as the code says. Every refusal looks
// the same, and both outcomes are on the audit record.
func (r *Registry) SignIn(ctx context.Context, code secret.String, address, userAgent string) (secret.String, Actor, error) {
	token := newToken()
	a := Actor{Address: address}
	var person Person
	isNew := false
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		var purpose string
		var err error
		person, purpose, err = r.takeCode(ctx, tx, code)
		if err != nil {
			return effect{}, err
		}
		a.Principal = auth.Principal{Kind: auth.Person, ID: person.ID}
		a.Admin = person.Admin
		if err := r.unlockedActor(ctx, a, ""); err != nil {
			return effect{}, err
		}
		if isNew, err = r.noteDevice(ctx, tx, a, userAgent); err != nil {
			return effect{}, err
		}
		if a.Session, err = r.insertSession(ctx, tx, person.ID, purpose, token, address, userAgent); err != nil {
			return effect{}, err
		}
		const q = `UPDATE installation SET first_sign_in_at = $1 WHERE first_sign_in_at IS NULL`
		_, err = tx.ExecContext(ctx, q, micros(r.now()))
		return effect{by: a.Principal, action: "signin", target: person.ID,
			detail: map[string]any{"purpose": purpose, "session": a.Session}}, wrap("note first sign-in", err)
	})
	if err != nil {
		return secret.String{}, Actor{}, r.refuseSignIn(ctx, address, err)
	}
	if isNew {
		r.tellNewDevice(ctx, person, address, userAgent)
	}
	return token, a, nil
}

// takeCode deletes a good code and returns whose it was.
func (r *Registry) takeCode(ctx context.Context, tx *store.Tx, code secret.String) (p Person, purpose string, err error) {
	const q = `DELETE FROM sign_in_code WHERE code_hash = $1 AND expires_at > $2 RETURNING person, purpose`
	var id string
	err = tx.QueryRowContext(ctx, q, findHash(r.ring, "code", code), micros(r.now())).Scan(&id, &purpose)
	if errors.Is(err, sql.ErrNoRows) {
		return p, "", errBadCode
	}
	if err != nil {
		return p, "", fmt.Errorf("take sign-in code: %w", err)
	}
	p, err = readPerson(ctx, tx, id)
	if err == nil && p.Disabled {
		err = errBadCode
	}
	return p, purpose, err
}

// errBadCode says that a code is unknown, used, too old or its person disabled.
var errBadCode = errs.E(errs.Unauthenticated, "the code is wrong, was used or is too old; ask for a new one")

// refuseSignIn puts a refused sign-in on the audit record. A flood of guesses
// must not fill it: what is over the budget is counted in the next record.
func (r *Registry) refuseSignIn(ctx context.Context, address string, refusal error) error {
	if !errors.Is(refusal, errBadCode) && !errors.Is(refusal, errBadInvitation) && !errors.Is(refusal, errBadLogin) {
		return refusal
	}
	ok, unrecorded := r.refused.take(r.now())
	r.log.InfoContext(ctx, "sign-in refused", "address", address)
	if !ok {
		return refusal
	}
	a := Actor{Principal: auth.Principal{Kind: auth.System, ID: "sign-in"}, Address: address}
	err := r.change(store.ForAll(ctx), a, func(*store.Tx) (effect, error) {
		return effect{action: "signin.refuse", target: "sign-in", detail: map[string]any{"unrecorded": unrecorded}}, nil
	})
	if err != nil {
		return err
	}
	return refusal
}
