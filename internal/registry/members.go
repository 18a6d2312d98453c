package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// A Member is a person in an organisation.
type Member struct {
	Org      auth.OrgID
	Person   string
	Name     string // the person's
	Role     string
	Limited  bool     // to the devices in Groups
	Groups   []string // resource groups; not in a list
	Teams    []string // of which it is; not in a list
	Disabled bool
	Expires  time.Time // zero: never
	Created  time.Time

	email    string // to which the invitation went
	provider string // the uid of the sign-in provider that it comes from; empty: it came by an invitation
}

// principal returns who the member is when it connects to the organisation.
func (m Member) principal() auth.Principal {
	return auth.Principal{Org: m.Org, Kind: auth.Person, ID: m.Person}
}

const memberColumns = `m.org, m.person, p.name, m.role, m.limited, m.disabled, m.expires_at, m.created_at, m.provider`

func (m *Member) scan(row scanner) error {
	var expires, created int64
	err := row.Scan(&m.Org, &m.Person, &m.Name, &m.Role, &m.Limited, &m.Disabled, &expires, &created, &m.provider)
	if expires != 0 {
		m.Expires = fromMicros(expires)
	}
	m.Created = fromMicros(created)
	return err
}

// expiry returns how a time is stored whose zero is never.
func expiry(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return micros(t)
}

func noMember(person string) error { return errs.E(errs.NotFound, "member %q not found", clip(person)) }

func readMember(ctx context.Context, tx *store.Tx, org auth.OrgID, person string) (Member, error) {
	const q = `SELECT ` + memberColumns + ` FROM member m JOIN person p ON p.id = m.person WHERE m.org = $1 AND m.person = $2`
	m, err := one[Member](tx.QueryRowContext(ctx, q, org, person), noMember(person))
	if err == nil && m.Limited {
		m.Groups, err = readGroupsOf(ctx, tx, m.principal())
	}
	if err == nil {
		m.Teams, err = teamsOf(ctx, tx, org, person)
	}
	return m, err
}

func insertMember(ctx context.Context, tx *store.Tx, m Member) error {
	const q = `INSERT INTO member (org, person, role, limited, disabled, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	_, err := tx.ExecContext(ctx, q, m.Org, m.Person, m.Role, m.Limited, m.Disabled, expiry(m.Expires), micros(m.Created))
	if store.IsUnique(err) {
		return errs.E(errs.Conflict, "this person is a member already")
	}
	if err != nil {
		return fmt.Errorf("insert member: %w", err)
	}
	for _, t := range m.Teams {
		if err := addToTeam(ctx, tx, m.Org, t, m.Person); err != nil {
			return err
		}
	}
	return replaceGroupsOf(ctx, tx, m.principal(), m.Groups)
}

// Members lists the members of an organisation.
func (r *Registry) Members(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]Member, string, error) {
	ctx, err := r.may(ctx, a, org, permission.MemberRead)
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("member", 1)
	if err != nil {
		return nil, "", err
	}
	const q = `SELECT ` + memberColumns + ` FROM member m JOIN person p ON p.id = m.person
		WHERE m.org = $1 AND m.person > $2 ORDER BY m.person LIMIT $3`
	all, err := list[Member](ctx, r, q, org, key[0], size+1)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(m Member) string { return cursor("member", m.Person) })
	return all, next, nil
}

// Member returns one member. Everybody may see themselves.
func (r *Registry) Member(ctx context.Context, a Actor, org auth.OrgID, person string) (Member, error) {
	ctx, err := r.mayMember(ctx, a, org, person, permission.MemberRead)
	if err != nil {
		return Member{}, err
	}
	var m Member
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		m, err = readMember(ctx, tx, org, person)
		return err
	})
	return m, err
}

// mayMember is may, which a member does not need for what concerns nobody else.
func (r *Registry) mayMember(ctx context.Context, a Actor, org auth.OrgID, person string, p permission.Permission) (context.Context, error) {
	if a.Principal.Kind == auth.Person && a.Principal.ID == person {
		h, err := r.holder(ctx, a, org)
		if err == nil && !h.Member {
			err = noOrg(org)
		}
		return forOrg(ctx, org), err
	}
	return r.may(ctx, a, org, p)
}

// Memberships lists the organisations of which a is a member, with the role.
func (r *Registry) Memberships(ctx context.Context, a Actor) ([]Member, error) {
	if a.Principal.Kind != auth.Person {
		return nil, nil
	}
	const q = `SELECT ` + memberColumns + ` FROM member m JOIN person p ON p.id = m.person WHERE m.person = $1 ORDER BY m.org LIMIT $2`
	return list[Member](store.ForAll(ctx), r, q, a.Principal.ID, maxLimit)
}

// A MemberChange is what to change of a member; nil stays as it is.
type MemberChange struct {
	Role     *string
	Limited  *bool
	Groups   *[]string
	Disabled *bool
	Expires  *time.Time // zero: never
}

// apply makes the change to m.
func (c MemberChange) apply(m *Member) {
	if c.Role != nil {
		m.Role = *c.Role
	}
	if c.Limited != nil {
		m.Limited = *c.Limited
	}
	if c.Groups != nil {
		m.Groups = tidy(*c.Groups)
	}
	if !m.Limited && c.Groups == nil {
		m.Groups = nil
	}
	if c.Disabled != nil {
		m.Disabled = *c.Disabled
	}
	if c.Expires != nil {
		m.Expires = *c.Expires
	}
}

// detail describes a member for the audit record.
func (m Member) detail() map[string]any {
	d := map[string]any{"role": m.Role, "limited": m.Limited, "groups": strings.Join(m.Groups, " "), "disabled": m.Disabled, "teams": strings.Join(m.Teams, " ")}
	if !m.Expires.IsZero() {
		d["expires"] = m.Expires.UTC().Format(time.RFC3339)
	}
	return d
}

// SetMember changes what a member may do. It goes on with that, and so do the API
// keys behind which it stands. Nobody gives or takes rights that they do not have.
func (r *Registry) SetMember(ctx context.Context, a Actor, org auth.OrgID, person string, c MemberChange) (Member, error) {
	ctx, h, err := r.mayAs(ctx, a, org, permission.MemberWrite)
	if err != nil {
		return Member{}, err
	}
	var changed Member
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "member.update", target: person}
		old, err := readMember(ctx, tx, org, person)
		if err != nil {
			return e, err
		}
		if err := mayTake(ctx, tx, h, old); err != nil {
			return e, err
		}
		changed = old
		c.apply(&changed)
		rights, err := given(ctx, tx, org, changed.Role, changed.Limited, changed.Groups)
		if err != nil {
			return e, err
		}
		if err := within(h, rights); err != nil {
			return e, err
		}
		e.detail = changed.detail()
		e.detail["before"] = old.detail()
		const q = `UPDATE member SET role = $3, limited = $4, disabled = $5, expires_at = $6 WHERE org = $1 AND person = $2`
		if _, err := tx.ExecContext(ctx, q, org, person, changed.Role, changed.Limited, changed.Disabled, expiry(changed.Expires)); err != nil {
			return e, fmt.Errorf("update member: %w", err)
		}
		if err := replaceGroupsOf(ctx, tx, changed.principal(), changed.Groups); err != nil {
			return e, err
		}
		if err := ownerLeft(ctx, tx, org); err != nil {
			return e, err
		}
		return e, affectHolders(ctx, tx, org, &e)
	})
	if err != nil {
		return Member{}, err
	}
	return changed, nil
}

// mayTake checks that whoever has h may take rights from m: all that m has, from
// teams, too.
func mayTake(ctx context.Context, tx *store.Tx, h permission.Holder, m Member) error {
	parts, err := memberParts(ctx, tx, m)
	if err != nil {
		return err
	}
	for _, x := range parts {
		if err := within(h, x.Rights); err != nil {
			return err
		}
	}
	return nil
}

// ownerLeft checks that somebody is left who can do everything in org, for good.
func ownerLeft(ctx context.Context, tx *store.Tx, org auth.OrgID) error {
	const q = `SELECT COUNT(*) FROM member m JOIN person p ON p.id = m.person
		WHERE m.org = $1 AND m.role IN ('owner', 'PD_ADMIN_USER') AND NOT m.limited AND NOT m.disabled AND m.expires_at = 0 AND NOT p.disabled`
	var n int
	if err := tx.QueryRowContext(ctx, q, org).Scan(&n); err != nil {
		return fmt.Errorf("count owners: %w", err)
	}
	if n == 0 {
		return errs.E(errs.Conflict, "organisation %q would have no owner then; make somebody else one first", string(org))
	}
	return nil
}

// RemoveMember removes a person from an organisation, behind whom no API key
// stands. Everybody may leave.
func (r *Registry) RemoveMember(ctx context.Context, a Actor, org auth.OrgID, person string) error {
	ctx, err := r.mayMember(ctx, a, org, person, permission.MemberWrite)
	if err != nil {
		return err
	}
	h, err := r.holder(ctx, a, org)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "member.remove", target: person}
		m, err := readMember(ctx, tx, org, person)
		if err != nil {
			return e, err
		}
		if a.Principal.ID != person || a.Principal.Kind != auth.Person {
			if err := mayTake(ctx, tx, h, m); err != nil {
				return e, err
			}
		}
		if err := behindNone(ctx, tx, m.principal()); err != nil {
			return e, err
		}
		if err := affectHolders(ctx, tx, org, &e); err != nil {
			return e, err
		}
		if err := replaceGroupsOf(ctx, tx, m.principal(), nil); err != nil {
			return e, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM member WHERE org = $1 AND person = $2`, org, person); err != nil {
			return e, fmt.Errorf("delete member: %w", err)
		}
		return e, ownerLeft(ctx, tx, org)
	})
}
