package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// External is what a sign-in provider asserts of somebody. The caller has checked
// that it does.
type External struct {
	Subject string
	Name    string
	Groups  []string
	Methods []string // amr and acr
}

// errNoExternal is the answer wherever somebody may not come in through a provider
// and has proved nothing.
var errNoExternal = errs.E(errs.NotFound, "there is no such sign-in")

// SignInNames returns the names of the providers through which people sign in to
// an organisation. For one that there is not, there are none.
func (r *Registry) SignInNames(ctx context.Context, org auth.OrgID) ([]string, error) {
	all, err := list[SignInProvider](forOrg(ctx, org), r, `SELECT `+providerColumns+` FROM sign_in_provider WHERE org = $1 AND NOT disabled ORDER BY name`, org)
	names := make([]string, 0, len(all))
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names, err
}

// SignInThrough returns a provider for somebody who wants to sign in through it,
// with the secret that we have there.
func (r *Registry) SignInThrough(ctx context.Context, org auth.OrgID, name string) (SignInProvider, secret.String, error) {
	var p SignInProvider
	err := r.view(forOrg(ctx, org), func(tx *store.Tx) error {
		o, err := readOrg(ctx, tx, org)
		if err == nil {
			p, err = readProvider(ctx, tx, org, name)
		}
		if err == nil && (o.Disabled || p.Disabled) || errs.CodeOf(err) == errs.NotFound && err != nil {
			err = errNoExternal
		}
		return err
	})
	if err != nil || !p.HasSecret() {
		return p, secret.String{}, err
	}
	key, err := r.ring.Open(p.purpose(), p.sealed)
	if err != nil {
		return p, secret.String{}, fault(err)
	}
	return p, secret.New(string(key)), nil
}

// SignInExternal signs in whom a provider asserts x of. Their membership is what
// their groups stand for now; without one it ends, and they are refused.
func (r *Registry) SignInExternal(ctx context.Context, through SignInProvider, x External, address, userAgent string) (secret.String, Actor, error) {
	if x.Subject == "" || len(x.Subject) > 255 || checkText("subject", x.Subject, 255) != nil {
		return secret.String{}, Actor{}, errs.E(errs.Invalid, "the provider does not say who you are (sub)")
	}
	token := newToken()
	var a Actor
	var refused error
	err := r.change(store.ForAll(ctx), Actor{Address: address}, func(tx *store.Tx) (e effect, err error) {
		p, err := readProvider(ctx, tx, through.Org, through.Name)
		if errs.CodeOf(err) == errs.NotFound && err != nil || err == nil && (p.uid != through.uid || !p.same(through)) {
			return e, errNoExternal // it was changed meanwhile
		}
		if err != nil {
			return e, err
		}
		e = effect{org: p.Org, action: "signin", detail: map[string]any{"purpose": ForConsole, "by": "provider " + p.Name, "subject": clip(x.Subject)}}
		person, err := r.externalPerson(ctx, tx, p, x)
		if err != nil {
			return e, err
		}
		e.target, e.by = person.ID, auth.Principal{Kind: auth.Person, ID: person.ID}
		a = Actor{Principal: e.by, Address: address, Provider: p.uid, Within: p.Org, Verified: slices.ContainsFunc(x.Methods, func(m string) bool { return slices.Contains(p.SecondFactor, m) })}
		if err := r.unlockedActor(ctx, a, p.Org); err != nil {
			return e, err
		}
		if refused, err = r.provide(ctx, tx, p, person, x, &e); err != nil {
			return e, err
		}
		if refused != nil {
			e.action, e.detail["refused"] = "signin.refused", errs.Message(refused)
			return e, nil // what the membership was brought in line with is kept
		}
		if a.Session, err = r.insertSession(ctx, tx, person.ID, ForConsole, token, address, userAgent); err != nil {
			return e, err
		}
		e.detail["session"], e.detail["second_factor"] = a.Session, a.Verified
		const q = `UPDATE person_session SET verified = $2, provider = $3, within = $4 WHERE id = $1`
		_, err = tx.ExecContext(ctx, q, a.Session, a.Verified, p.uid, p.Org)
		return e, wrap("note provider", err)
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return secret.String{}, Actor{}, err
	}
	return token, a, nil
}

// externalPerson returns who a subject is here. Whoever comes for the first time
// is made: nobody gets into an account that there is.
func (r *Registry) externalPerson(ctx context.Context, tx *store.Tx, p SignInProvider, x External) (Person, error) {
	var id string
	err := tx.QueryRowContext(ctx, `SELECT person FROM sign_in_subject WHERE provider = $1 AND subject = $2`, p.uid, x.Subject).Scan(&id)
	if err == nil {
		person, err := readPerson(ctx, tx, id)
		if err == nil && person.Disabled {
			err = errs.E(errs.Denied, "this person is shut out of the installation")
		}
		return person, err
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return Person{}, fmt.Errorf("look for subject: %w", err)
	}
	person := Person{Name: strings.TrimSpace(clip(x.Name)), Created: r.now()}
	if person.Name == "" {
		person.Name = clip(x.Subject)
	}
	if n := []rune(person.Name); len(n) > 100 {
		person.Name = string(n[:100])
	}
	if person.ID, err = newUID(); err != nil {
		return person, err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO person (id, name, admin, created_at) VALUES ($1, $2, FALSE, $3)`, person.ID, person.Name, micros(person.Created)); err != nil {
		return person, fmt.Errorf("insert person: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO sign_in_subject (org, provider, subject, person) VALUES ($1, $2, $3, $4)`, p.Org, p.uid, x.Subject, person.ID)
	return person, wrap("insert subject", err)
}

// provide brings a membership in line with what the groups of x stand for. A
// membership that came from elsewhere is left alone, and so is one that somebody
// disabled. refused says why there is none.
func (r *Registry) provide(ctx context.Context, tx *store.Tx, p SignInProvider, person Person, x External, e *effect) (refused, err error) {
	role := ""
	for _, g := range p.Roles {
		if slices.Contains(x.Groups, g.Group) {
			role = g.Role
			break
		}
	}
	var before, provider string
	var disabled bool
	err = tx.QueryRowContext(ctx, `SELECT role, provider, disabled FROM member WHERE org = $1 AND person = $2`, p.Org, person.ID).Scan(&before, &provider, &disabled)
	there := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("read member: %w", err)
	}
	until := r.now().Add(time.Duration(p.Days) * 24 * time.Hour)
	switch {
	case there && provider != p.uid:
		return errs.E(errs.Denied, "you are a member by an invitation; sign in as you did before"), nil
	case disabled:
		return errs.E(errs.Denied, "your membership is disabled"), nil
	case role == "" && there:
		_, err = tx.ExecContext(ctx, `UPDATE member SET expires_at = $3 WHERE org = $1 AND person = $2`, p.Org, person.ID, micros(r.now()))
	case role == "":
	case there:
		_, err = tx.ExecContext(ctx, `UPDATE member SET role = $3, expires_at = $4 WHERE org = $1 AND person = $2`, p.Org, person.ID, role, micros(until))
	default:
		const q = `INSERT INTO member (org, person, role, limited, disabled, expires_at, created_at, provider) VALUES ($1, $2, $3, FALSE, FALSE, $4, $5, $6)`
		_, err = tx.ExecContext(ctx, q, p.Org, person.ID, role, micros(until), micros(r.now()), p.uid)
	}
	if err != nil {
		return nil, fmt.Errorf("bring membership in line: %w", err)
	}
	if before != role {
		e.detail["role"], e.detail["role_before"] = role, before
	}
	// Others may stand on these rights; their end has moved in any case.
	if err := affectHolders(ctx, tx, p.Org, e); err != nil {
		return nil, err
	}
	if role == "" {
		return errs.E(errs.Denied, "none of your groups at the provider stands for a role in this organisation"), nil
	}
	return nil, nil
}

// comesFrom keeps what a provider gave to sessions that came from it, and those
// to its organisation.
func (a Actor) comesFrom(org auth.OrgID, m membership) membership {
	if a.Within != "" && a.Within != org || m.provider != "" && m.provider != a.Provider {
		return membership{}
	}
	return m
}
