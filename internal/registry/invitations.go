package registry

import (
	"context"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// How long an invitation is good for.
const (
	DefaultInvitation = 7 * 24 * time.Hour
	MinInvitation     = time.Hour
	MaxInvitation     = 30 * 24 * time.Hour
	maxInvitations    = 1000 // of one organisation, at a time
)

// An Invitation lets whoever has its code become a member.
type Invitation struct {
	Org     auth.OrgID
	ID      string
	Email   string // of who is meant
	Role    string // permission.Reader when empty
	Limited bool
	Groups  []string
	Teams   []string // that they will be of
	Maker   string   // the person who invited; empty: an API key or KeepMQ itself
	Created time.Time
	Expires time.Time
}

const invitationColumns = `org, id, email, role, limited, group_ids, teams, maker, created_at, expires_at`

func (i *Invitation) scan(row scanner) error {
	var created, expires int64
	var groups, teams string
	err := row.Scan(&i.Org, &i.ID, &i.Email, &i.Role, &i.Limited, &groups, &teams, &i.Maker, &created, &expires)
	i.Groups, i.Teams, i.Created, i.Expires = strings.Fields(groups), strings.Fields(teams), fromMicros(created), fromMicros(expires)
	return err
}

func (i Invitation) check(life time.Duration) error {
	var bad mistakes
	if a, err := mail.ParseAddress(i.Email); err != nil || a.Address != i.Email || len(i.Email) > 254 {
		bad.add(errs.E(errs.Invalid, "email must be an address like ann@example.com"))
	}
	if life < MinInvitation || life > MaxInvitation {
		bad.add(errs.E(errs.Invalid, "ttl must be between %v and %v, is %v", MinInvitation, MaxInvitation, life))
	}
	return bad.err()
}

// Invite makes an invitation and returns its code, which is never shown again.
// life 0 is DefaultInvitation. Nobody invites somebody to more rights than their
// own.
func (r *Registry) Invite(ctx context.Context, a Actor, i Invitation, life time.Duration) (Invitation, secret.String, error) {
	ctx, h, err := r.mayAs(ctx, a, i.Org, permission.MemberWrite)
	if err != nil {
		return Invitation{}, secret.String{}, err
	}
	if life == 0 {
		life = DefaultInvitation
	}
	if i.Role == "" {
		i.Role = permission.Reader
	}
	i.Groups, i.Teams = tidy(i.Groups), tidy(i.Teams)
	if err := i.check(life); err != nil {
		return Invitation{}, secret.String{}, err
	}
	if i.ID, err = newUID(); err != nil {
		return Invitation{}, secret.String{}, err
	}
	if a.Principal.Kind == auth.Person {
		i.Maker = a.Principal.ID
	}
	i.Created = r.now()
	i.Expires = i.Created.Add(life)
	code := newToken()
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: i.Org, action: "invitation.create", target: i.ID, detail: map[string]any{"email": i.Email, "role": i.Role,
			"limited": i.Limited, "groups": strings.Join(i.Groups, " "), "teams": strings.Join(i.Teams, " "), "expires": i.Expires.Format(time.RFC3339)}}
		rights, err := i.gives(ctx, tx)
		if err != nil {
			return e, err
		}
		for _, x := range rights {
			if err := within(h, x); err != nil {
				return e, err
			}
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM invitation WHERE org = $1 AND expires_at < $2`, i.Org, micros(r.now())); err != nil {
			return e, fmt.Errorf("delete old invitations: %w", err)
		}
		if err := room(ctx, tx, i.Org, "invitation", maxInvitations); err != nil {
			return e, err
		}
		const q = `INSERT INTO invitation (org, id, email, role, limited, group_ids, maker, code_hash, created_at, expires_at, teams)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
		_, err = tx.ExecContext(ctx, q, i.Org, i.ID, i.Email, i.Role, i.Limited, strings.Join(i.Groups, " "), i.Maker,
			findHash(r.ring, "invitation", code), micros(i.Created), micros(i.Expires), strings.Join(i.Teams, " "))
		return e, wrap("insert invitation", err)
	})
	if err != nil {
		return Invitation{}, secret.String{}, err
	}
	return i, code, nil
}

// gives returns the rights that whoever accepts i gets.
func (i Invitation) gives(ctx context.Context, tx *store.Tx) (permission.Held, error) {
	rights, err := given(ctx, tx, i.Org, i.Role, i.Limited, i.Groups)
	if err != nil {
		return nil, err
	}
	if len(i.Teams) > maxTeamsOf {
		return nil, errs.E(errs.Invalid, "teams must be at most %d, are %d", maxTeamsOf, len(i.Teams))
	}
	all := permission.Held{rights}
	for _, id := range i.Teams {
		t, err := readTeam(ctx, tx, i.Org, id)
		if err != nil {
			return nil, err
		}
		x, err := t.rights(ctx, tx)
		if err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	return all, nil
}

// Invitations lists the open invitations of an organisation.
func (r *Registry) Invitations(ctx context.Context, a Actor, org auth.OrgID) ([]Invitation, error) {
	ctx, err := r.may(ctx, a, org, permission.MemberRead)
	if err != nil {
		return nil, err
	}
	const q = `SELECT ` + invitationColumns + ` FROM invitation WHERE org = $1 AND expires_at > $2 ORDER BY id LIMIT $3`
	return list[Invitation](ctx, r, q, org, micros(r.now()), maxInvitations)
}

// Uninvite withdraws an invitation.
func (r *Registry) Uninvite(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	ctx, err := r.may(ctx, a, org, permission.MemberWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		res, err := tx.ExecContext(ctx, `DELETE FROM invitation WHERE org = $1 AND id = $2`, org, id)
		return effect{org: org, action: "invitation.delete", target: id}, found(res, err, errs.E(errs.NotFound, "invitation %q not found", clip(id)))
	})
}

// errBadInvitation says that a code is unknown, used, withdrawn or too old.
var errBadInvitation = errs.E(errs.Unauthenticated, "the invitation is unknown, was used or withdrawn, or is too old; ask for a new one")

// Accept makes a, a person who is signed in, a member of the organisation that
// the invitation is for. The code is no more then.
func (r *Registry) Accept(ctx context.Context, a Actor, code secret.String) (Member, error) {
	if a.Principal.Kind != auth.Person {
		return Member{}, errs.E(errs.Denied, "only a person accepts an invitation")
	}
	var m Member
	err := r.change(store.ForAll(ctx), a, func(tx *store.Tx) (e effect, err error) {
		m, e, err = r.join(ctx, tx, a.Principal.ID, code)
		return e, err
	})
	if err != nil {
		return Member{}, r.refuseSignIn(ctx, a.Address, err)
	}
	return m, nil
}

// Enter is Accept for somebody who is not known yet: it makes a person called
// name, and signs them in. The session is for ForConsole or ForCLI.
func (r *Registry) Enter(ctx context.Context, code secret.String, name, purpose, address, userAgent string) (secret.String, Actor, error) {
	if name = strings.TrimSpace(name); name == "" {
		return secret.String{}, Actor{}, errs.E(errs.Invalid, "name must not be empty")
	}
	if err := checkText("name", name, 100); err != nil {
		return secret.String{}, Actor{}, err
	}
	id, err := newUID()
	if err != nil {
		return secret.String{}, Actor{}, err
	}
	token := newToken()
	a := Actor{Principal: auth.Principal{Kind: auth.Person, ID: id}, Address: address}
	err = r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		const q = `INSERT INTO person (id, name, admin, created_at) VALUES ($1, $2, FALSE, $3)`
		if _, err := tx.ExecContext(ctx, q, id, name, micros(r.now())); err != nil {
			return effect{}, fmt.Errorf("insert person: %w", err)
		}
		m, e, err := r.join(ctx, tx, id, code)
		if err != nil {
			return e, err
		}
		// The code went to this address. Who has it already joins by signing in.
		_, err = tx.ExecContext(ctx, `UPDATE person SET email = $2 WHERE id = $1
			AND NOT EXISTS (SELECT 1 FROM person WHERE email = $2)`, id, m.email)
		if err != nil {
			return e, fmt.Errorf("set e-mail address: %w", err)
		}
		e.detail["name"] = name
		if _, err := r.noteDevice(ctx, tx, a, userAgent); err != nil {
			return e, err
		}
		a.Session, err = r.insertSession(ctx, tx, id, purpose, token, address, userAgent)
		return e, err
	})
	if err != nil {
		return secret.String{}, Actor{}, r.refuseSignIn(ctx, address, err)
	}
	return token, a, nil
}

// join takes an invitation and makes person a member, with no more rights than
// whoever invited has now.
func (r *Registry) join(ctx context.Context, tx *store.Tx, person string, code secret.String) (Member, effect, error) {
	const q = `DELETE FROM invitation WHERE code_hash = $1 AND expires_at > $2 RETURNING ` + invitationColumns
	i, err := one[Invitation](tx.QueryRowContext(ctx, q, findHash(r.ring, "invitation", code), micros(r.now())), errBadInvitation)
	if err != nil {
		return Member{}, effect{}, err
	}
	gives, err := i.gives(ctx, tx)
	if err == nil && i.Maker != "" {
		var above membership
		above, err = r.membership(ctx, tx, i.Org, i.Maker)
		for _, x := range gives {
			if err == nil && !rightsIn(above.parts).Covers(x) {
				err = errBadInvitation
			}
		}
	}
	if err != nil {
		if errs.CodeOf(err) == errs.NotFound { // the role or a group is gone
			err = errBadInvitation
		}
		return Member{}, effect{}, err
	}
	m := Member{email: strings.ToLower(i.Email), Org: i.Org, Person: person, Role: i.Role, Limited: i.Limited, Groups: i.Groups, Teams: i.Teams, Created: r.now()}
	e := effect{org: i.Org, action: "member.join", target: person, detail: m.detail()}
	e.detail["invitation"] = i.ID
	e.affected = []auth.Principal{m.principal()}
	return m, e, insertMember(ctx, tx, m)
}

// SetPersonDisabled shuts a person out of the whole installation, with every
// session and all API keys behind which they stand, or lets them in again.
func (r *Registry) SetPersonDisabled(ctx context.Context, a Actor, person string, disabled bool) error {
	if err := a.mayAdminister(); err != nil {
		return err
	}
	if a.Principal.Kind == auth.Person && a.Principal.ID == person {
		return errs.E(errs.Invalid, "nobody can disable themselves")
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{action: able("person", disabled), target: person}
		res, err := tx.ExecContext(ctx, `UPDATE person SET disabled = $2 WHERE id = $1`, person, disabled)
		if err := found(res, err, noPerson(person)); err != nil {
			return e, err
		}
		if disabled {
			if _, err := tx.ExecContext(ctx, `DELETE FROM person_session WHERE person = $1`, person); err != nil {
				return e, fmt.Errorf("end sessions: %w", err)
			}
		}
		return e, affectOrgsOf(ctx, tx, person, &e)
	})
}

// affectOrgsOf is affectHolders for every organisation of a person.
func affectOrgsOf(ctx context.Context, tx *store.Tx, person string, e *effect) error {
	rows, err := tx.QueryContext(ctx, `SELECT org FROM member WHERE person = $1 ORDER BY org`, person)
	if err != nil {
		return fmt.Errorf("list organisations: %w", err)
	}
	var orgs []auth.OrgID
	err = each(rows, func() error {
		var org auth.OrgID
		if err := rows.Scan(&org); err != nil {
			return fmt.Errorf("read organisation: %w", err)
		}
		orgs = append(orgs, org)
		return nil
	})
	if err != nil {
		return err
	}
	for _, org := range orgs {
		if err := affectHolders(ctx, tx, org, e); err != nil {
			return err
		}
	}
	return nil
}
