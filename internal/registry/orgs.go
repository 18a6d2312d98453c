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
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// The profiles: which topics the clients of an organisation use.
const (
	ProfileIoT2  = profile.IoT2  // devices, gateways and applications
	ProfilePlain = profile.Plain // plain MQTT users with rules
)

// An Org is an organisation.
type Org struct {
	ID       auth.OrgID // generated when empty
	Name     string     // for people; the id when empty
	Profile  string     // ProfileIoT2 when empty; never changes
	Disabled bool       // nobody of it may connect
	Home     HomeOptions
	Created  time.Time

	SecondFactor bool // its members need one
}

const orgColumns = `id, name, profile, disabled, created_at, home_anonymous, home_prefix, home_v0, second_factor`

func (o *Org) scan(row scanner) error {
	var created int64
	err := row.Scan(&o.ID, &o.Name, &o.Profile, &o.Disabled, &created, &o.Home.Anonymous, &o.Home.Prefix, &o.Home.V0, &o.SecondFactor)
	o.Created = fromMicros(created)
	return err
}

func (o Org) check() error {
	var bad mistakes
	if o.ID != "" {
		_, err := auth.ParseOrgID(string(o.ID))
		bad.add(err)
	}
	bad.add(checkText("name", o.Name, 100))
	switch o.Profile {
	case "", ProfileIoT2, ProfilePlain, ProfileHome:
	default:
		bad.add(errs.E(errs.Invalid, "profile must be %q, %q or %q, is %q", ProfileIoT2, ProfilePlain, ProfileHome, o.Profile))
	}
	bad.add(o.checkHome())
	return bad.err()
}

// CreateOrg creates an organisation and the key that its messages are sealed
// with. The person who does so owns it.
func (r *Registry) CreateOrg(ctx context.Context, a Actor, o Org) (Org, error) {
	if err := a.mayAdminister(); err != nil {
		return Org{}, err
	}
	if err := o.check(); err != nil {
		return Org{}, err
	}
	o = r.completeOrg(o)
	err := r.change(forOrg(ctx, o.ID), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: o.ID, action: "org.create", target: string(o.ID), detail: o.detail()}
		if err := r.insertOrg(ctx, tx, o); err != nil || a.Principal.Kind != auth.Person {
			return e, err
		}
		return e, insertMember(ctx, tx, Member{Org: o.ID, Person: a.Principal.ID, Role: permission.Owner, Created: o.Created})
	})
	if err != nil {
		return Org{}, err
	}
	return o, nil
}

// detail describes a new organisation for the audit record.
func (o Org) detail() map[string]any {
	d := map[string]any{"name": o.Name, "profile": o.Profile}
	if o.Profile == ProfileHome {
		d["anonymous"], d["prefix"], d["v0"] = o.Home.Anonymous, o.Home.Prefix, o.Home.V0
	}
	return d
}

// completeOrg fills in what the caller left out.
func (r *Registry) completeOrg(o Org) Org {
	if o.ID == "" {
		o.ID = auth.OrgID(random(lowLetters, 6))
	}
	if o.Name == "" {
		o.Name = string(o.ID)
	}
	if o.Profile == "" {
		o.Profile = ProfileIoT2
	}
	o.Disabled, o.Created = false, r.now()
	return o
}

func (r *Registry) insertOrg(ctx context.Context, tx *store.Tx, o Org) error {
	var one int
	err := tx.QueryRowContext(ctx, `SELECT 1 FROM retired_org WHERE id = $1`, o.ID).Scan(&one)
	if err == nil {
		return errs.E(errs.Conflict, "organisation id %q belonged to a deleted organisation; choose another", string(o.ID))
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("look for retired organisation: %w", err)
	}
	const q = `INSERT INTO org (id, name, profile, disabled, created_at, home_anonymous, home_prefix, home_v0)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	if _, err := tx.ExecContext(ctx, q, o.ID, o.Name, o.Profile, o.Disabled, micros(o.Created),
		o.Home.Anonymous, o.Home.Prefix, o.Home.V0); err != nil {
		if store.IsUnique(err) {
			return errs.E(errs.Conflict, "organisation %q exists; choose another id", string(o.ID))
		}
		return fmt.Errorf("insert organisation: %w", err)
	}
	if err := r.ring.Create(ctx, tx, o.ID); err != nil {
		return fmt.Errorf("create data key: %w", err)
	}
	return nil
}

// Orgs lists the organisations by id: an administrator sees all, an API key its
// own, and anybody else those of which they are a member.
func (r *Registry) Orgs(ctx context.Context, a Actor, p Page) ([]Org, string, error) {
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("org", 1)
	if err != nil {
		return nil, "", err
	}
	var all []Org
	switch {
	case a.Admin:
		const q = `SELECT ` + orgColumns + ` FROM org WHERE id > $1 ORDER BY id LIMIT $2`
		all, err = list[Org](store.ForAll(ctx), r, q, key[0], size+1)
	case a.Principal.Kind == auth.Person:
		const q = `SELECT ` + orgColumns + ` FROM org WHERE id > $1
			AND EXISTS (SELECT 1 FROM member m WHERE m.org = org.id AND m.person = $3 AND NOT m.disabled AND (m.expires_at = 0 OR m.expires_at > $4))
			ORDER BY id LIMIT $2`
		all, err = list[Org](store.ForAll(ctx), r, q, key[0], size+1, a.Principal.ID, micros(r.now()))
	default:
		o, err := r.Org(ctx, a, a.Principal.Org)
		if err != nil || string(o.ID) <= key[0] {
			return nil, "", err
		}
		return []Org{o}, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(o Org) string { return cursor("org", string(o.ID)) })
	return all, next, nil
}

// Org returns one organisation.
func (r *Registry) Org(ctx context.Context, a Actor, id auth.OrgID) (Org, error) {
	ctx, err := r.may(ctx, a, id, permission.OrgRead)
	if err != nil {
		return Org{}, err
	}
	var o Org
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		o, err = readOrg(ctx, tx, id)
		return err
	})
	return o, err
}

func readOrg(ctx context.Context, tx *store.Tx, id auth.OrgID) (Org, error) {
	const q = `SELECT ` + orgColumns + ` FROM org WHERE id = $1`
	return one[Org](tx.QueryRowContext(ctx, q, id), noOrg(id))
}

// UpdateOrg changes the name of an organisation. Its profile decides what every
// topic of it means and cannot be changed.
func (r *Registry) UpdateOrg(ctx context.Context, a Actor, o Org) (Org, error) {
	ctx, err := r.may(ctx, a, o.ID, permission.OrgWrite)
	if err != nil {
		return Org{}, err
	}
	if err := o.check(); err != nil {
		return Org{}, err
	}
	var updated Org
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		old, err := readOrg(ctx, tx, o.ID)
		if err != nil {
			return effect{}, err
		}
		if o.Profile != "" && o.Profile != old.Profile {
			return effect{}, errs.E(errs.Invalid, "profile cannot be changed; create another organisation with profile %q", o.Profile)
		}
		updated = old
		if o.Name != "" {
			updated.Name = o.Name
		}
		_, err = tx.ExecContext(ctx, `UPDATE org SET name = $2 WHERE id = $1`, o.ID, updated.Name)
		return effect{org: o.ID, action: "org.update", target: string(o.ID),
			detail: map[string]any{"name": updated.Name, "before": old.Name}}, wrap("update organisation", err)
	})
	if err != nil {
		return Org{}, err
	}
	return updated, nil
}

// SetOrgDisabled locks an organisation out or lets it in again. Everyone of a
// disabled organisation is refused and disconnected.
func (r *Registry) SetOrgDisabled(ctx context.Context, a Actor, id auth.OrgID, disabled bool) error {
	if err := a.mayAdminister(); err != nil {
		return err
	}
	return r.change(forOrg(ctx, id), a, func(tx *store.Tx) (effect, error) {
		res, err := tx.ExecContext(ctx, `UPDATE org SET disabled = $2 WHERE id = $1`, id, disabled)
		return effect{org: id, action: able("org", disabled), target: string(id), certificates: true,
			affected: []auth.Principal{{Org: id}}}, found(res, err, noOrg(id))
	})
}

// DeleteOrg deletes an organisation with everything in it and shreds its data
// key: what was sealed with it can never be read again, in no backup either. Its
// id is never given to another.
func (r *Registry) DeleteOrg(ctx context.Context, a Actor, id auth.OrgID) error {
	if err := a.mayAdminister(); err != nil {
		return err
	}
	return r.change(forOrg(ctx, id), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: id, action: "org.delete", target: string(id), gates: true, locks: true, names: true, certificates: true, affected: []auth.Principal{{Org: id}}}
		// The devices go first: their types must not go before them.
		if _, err := tx.ExecContext(ctx, `DELETE FROM device WHERE org = $1`, id); err != nil {
			return e, fmt.Errorf("delete devices: %w", err)
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM org WHERE id = $1`, id)
		if err := found(res, err, noOrg(id)); err != nil {
			return e, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM lockout WHERE org = $1`, id); err != nil {
			return e, fmt.Errorf("delete locks: %w", err)
		}
		const q = `INSERT INTO retired_org (id, deleted_at) VALUES ($1, $2)`
		if _, err := tx.ExecContext(ctx, q, id, micros(r.now())); err != nil {
			return e, fmt.Errorf("retire organisation id: %w", err)
		}
		return e, wrap("shred data key", r.ring.Delete(ctx, tx, id))
	})
}
