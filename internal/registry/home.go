package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// ProfileHome is for users with a role and the topics of Hemtjänst.
const ProfileHome = profile.Home

// HomeOptions are what an organisation with the home profile chooses.
type HomeOptions = profile.HomeOptions

// A HomeChange is a change of what a home chooses; nil leaves it as it is. Its
// prefix is part of every topic and never changes.
type HomeChange struct{ Anonymous, V0 *bool }

// errNotAnonymous is why somebody without a name is not let in.
var errNotAnonymous = errors.New("nobody is let in without a name")

// checkHome checks the options that o begins with.
func (o Org) checkHome() error {
	switch {
	case o.Profile != ProfileHome && o.Home != HomeOptions{}:
		return errs.E(errs.Invalid, "anonymous, prefix and v0 are for organisations with profile %q", ProfileHome)
	case o.Home.Prefix && o.Home.Anonymous:
		return errs.E(errs.Invalid, "an organisation whose topics have its prefix cannot let in anonymous clients")
	}
	return nil
}

// SetHome changes what a home chooses. Whoever is connected goes on as the new
// choice has it, or is disconnected.
func (r *Registry) SetHome(ctx context.Context, a Actor, id auth.OrgID, c HomeChange) (Org, error) {
	ctx, err := r.may(ctx, a, id, permission.OrgWrite)
	if err != nil {
		return Org{}, err
	}
	var changed Org
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		old, err := readOrg(ctx, tx, id)
		if err != nil {
			return effect{}, err
		}
		if old.Profile != ProfileHome {
			return effect{}, errs.E(errs.Invalid, "organisation %q has profile %q, not %q", string(id), old.Profile, ProfileHome)
		}
		changed = old
		if c.Anonymous != nil {
			changed.Home.Anonymous = *c.Anonymous
		}
		if c.V0 != nil {
			changed.Home.V0 = *c.V0
		}
		if err := changed.checkHome(); err != nil {
			return effect{}, err
		}
		_, err = tx.ExecContext(ctx, `UPDATE org SET home_anonymous = $2, home_v0 = $3 WHERE id = $1`,
			id, changed.Home.Anonymous, changed.Home.V0)
		return effect{org: id, action: "org.home", target: string(id), affected: []auth.Principal{{Org: id}},
			detail: map[string]any{"anonymous": changed.Home.Anonymous, "v0": changed.Home.V0,
				"before": map[string]any{"anonymous": old.Home.Anonymous, "v0": old.Home.V0}}}, wrap("update home", err)
	})
	if err != nil {
		return Org{}, err
	}
	return changed, nil
}

// SetUserRole gives a user of a home another role. Its connections go on with
// the rights of that.
func (r *Registry) SetUserRole(ctx context.Context, a Actor, org auth.OrgID, name, role string) error {
	ctx, err := r.may(ctx, a, org, permission.UserWrite)
	if err != nil {
		return err
	}
	if err := profile.CheckRole(role); err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		u, err := readUser(ctx, tx, org, name)
		if err != nil {
			return effect{}, err
		}
		if u.Role == "" {
			return effect{}, errs.E(errs.Invalid, "user %q is not of an organisation with profile %q: it has rules, and no role", name, ProfileHome)
		}
		_, err = tx.ExecContext(ctx, `UPDATE mqtt_user SET role = $3 WHERE org = $1 AND name = $2`, org, name, role)
		return effect{org: org, action: "user.role", target: name, affected: []auth.Principal{u.Principal()},
			detail: map[string]any{"before": u.Role, "role": role}}, wrap("update role", err)
	})
}

// settle checks a new user against the profile of its organisation, and
// completes it.
func (u *User) settle(ctx context.Context, tx *store.Tx) error {
	o, err := readOrg(ctx, tx, u.Org)
	if err != nil {
		return err
	}
	if o.Profile == ProfileHome {
		if len(u.Rules)+len(u.Clients) > 0 {
			return errs.E(errs.Invalid, "a user of an organisation with profile %q has a role, and neither rules nor client ids", ProfileHome)
		}
		var bad mistakes
		bad.add(profile.CheckRole(u.Role))
		bad.add(profile.CheckHomeName(u.Name))
		return bad.err()
	}
	if u.Role != "" {
		return errs.E(errs.Invalid, "roles are for users of organisations with profile %q", ProfileHome)
	}
	patterns, err := readOrgRules(ctx, tx, u.Org)
	if err != nil {
		return err
	}
	if len(u.Rules)+len(patterns) == 0 {
		u.Rules = everything()
	}
	if u.Clients == nil {
		u.Clients = []string{u.Name}
	}
	return nil
}

// anonymous returns the grant of a client without a name. Where its
// organisation does not let in such clients, it is refused like anybody.
func (r *Registry) anonymous(ctx context.Context, ref auth.Ref) (*auth.Grant, error) {
	p := ref.Principal
	a := &account{principal: p}
	err := r.db.View(forOrg(ctx, p.Org), func(tx *store.Tx) error {
		o, err := readOrg(ctx, tx, p.Org)
		if err != nil {
			return nobody(err)
		}
		a.profile, a.disabled, a.home = o.Profile, o.Disabled, o.Home
		return nil
	})
	if err != nil {
		return nil, err
	}
	if a.profile != ProfileHome || !a.home.Anonymous {
		return nil, errNotAnonymous
	}
	return r.grant(ctx, a, auth.Ref{Principal: p, Client: ref.Client, Credential: "anonymous", Address: ref.Address})
}

// Homes returns the organisations with the home profile.
func (r *Registry) Homes(ctx context.Context) ([]auth.OrgID, error) {
	var all []auth.OrgID
	err := r.view(store.ForAll(ctx), func(tx *store.Tx) error {
		all = nil
		rows, err := tx.QueryContext(ctx, `SELECT id FROM org WHERE profile = $1 ORDER BY id`, ProfileHome)
		if err != nil {
			return fmt.Errorf("list homes: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var id auth.OrgID
			if err := rows.Scan(&id); err != nil {
				return fmt.Errorf("read home: %w", err)
			}
			all = append(all, id)
		}
		return wrap("list homes", rows.Err())
	})
	return all, err
}
