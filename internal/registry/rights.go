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

// maxMakers is how many API keys may stand behind one another, each made with
// the one before.
const maxMakers = 4

// may checks that a may do p in org. To whoever has no place in it an
// organisation is simply not there. The context it returns is for what is done
// then.
func (r *Registry) may(ctx context.Context, a Actor, org auth.OrgID, p permission.Permission) (context.Context, error) {
	ctx, _, err := r.mayAs(ctx, a, org, p)
	return ctx, err
}

// mayAs is may, and returns as what a may do it.
func (r *Registry) mayAs(ctx context.Context, a Actor, org auth.OrgID, p permission.Permission) (context.Context, permission.Holder, error) {
	h, err := r.holder(ctx, a, org)
	if err != nil {
		return ctx, h, err
	}
	ctx = forOrg(ctx, org) // from here on nothing else is to be seen
	switch permission.Decide(h, p) {
	case permission.Allowed:
		h.Limited, h.Groups = h.Reach(p)
		return ctx, h, r.unlockedActor(ctx, a, org)
	case permission.Denied:
		if h.Unverified {
			return ctx, h, errUnverified
		}
		return ctx, h, errs.E(errs.Denied, "this takes the permission %q in organisation %q", p, string(org))
	}
	r.NoteRefusal(NotedRefusal{Org: a.Principal.Org, Class: RefusedOrg, Who: a.Principal.String(), Address: a.Address})
	return ctx, h, noOrg(org)
}

// mayDevice is may for what is done with one device. A device outside the
// resource groups that a is limited to is not there for it.
func (r *Registry) mayDevice(ctx context.Context, a Actor, org auth.OrgID, typ, id string, p permission.Permission) (context.Context, error) {
	ctx, h, err := r.mayAs(ctx, a, org, p)
	if err != nil || !h.Limited {
		return ctx, err
	}
	return ctx, r.view(ctx, func(tx *store.Tx) error {
		for _, g := range h.Groups {
			if is, err := inGroup(ctx, tx, org, g, typ, id); is || err != nil {
				return err
			}
		}
		return noDevice(typ, id)
	})
}

// unlimited refuses a holder whose rights are for some devices only, where there
// is no telling whose devices are concerned.
func unlimited(h permission.Holder) error {
	if h.Limited {
		return errs.E(errs.Denied, "rights that are limited to resource groups do not reach this")
	}
	return nil
}

// MayReceive checks that a may receive what all devices or users of org send.
func (r *Registry) MayReceive(ctx context.Context, a Actor, org auth.OrgID) error {
	for _, p := range []permission.Permission{permission.EventReceive, permission.CommandReceive} {
		_, h, err := r.mayAs(ctx, a, org, p)
		if err == nil {
			err = unlimited(h)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holder returns what a holds in org, as it is now.
func (r *Registry) holder(ctx context.Context, a Actor, org auth.OrgID) (permission.Holder, error) {
	h := permission.Holder{Administrator: a.Admin}
	switch a.Principal.Kind {
	case auth.System:
		return permission.Holder{System: true}, nil
	case auth.Application:
		if org == "" || a.Principal.Org != org {
			return permission.Holder{}, nil
		}
		app, err := r.account(ctx, a.Principal, func(*account) bool { return true })
		switch {
		case errors.Is(err, errNobody):
			return permission.Holder{}, nil
		case err != nil:
			return h, fault(err)
		}
		h.Member, h.Administrator, h.Rights = !app.disabled, false, rightsIn(app.parts)
		return h, nil
	case auth.Person:
	default:
		return permission.Holder{}, nil
	}
	err := r.view(forOrg(ctx, org), func(tx *store.Tx) (err error) {
		if _, err := readOrg(ctx, tx, org); err != nil {
			return err
		}
		var m membership
		m, err = r.membership(ctx, tx, org, a.Principal.ID)
		m = a.comesFrom(org, m)
		h.Member, h.Rights = m.holds, rightsIn(m.parts)
		h.Unverified = m.factor && !a.Verified
		return err
	})
	return h, err
}

// A membership is what somebody holds in an organisation, and until when.
type membership struct {
	holds  bool
	parts  []profile.Part   // without the devices
	until  time.Time        // zero: for good
	factor bool             // the organisation asks for a second factor
	makers []auth.Principal // who stands behind an API key
	// provider is the sign-in provider that it comes from: it holds in sessions that
	// came from it, and for API keys made in them.
	provider string
}

// membership returns what a person holds in org now.
func (r *Registry) membership(ctx context.Context, tx *store.Tx, org auth.OrgID, person string) (membership, error) {
	m, err := readMember(ctx, tx, org, person)
	switch {
	case errs.CodeOf(err) == errs.NotFound && err != nil:
		return r.supported(ctx, tx, org, person)
	case err != nil:
		return membership{}, err
	case m.Disabled, !m.Expires.IsZero() && !r.now().Before(m.Expires):
		return membership{}, nil
	}
	p, err := readPerson(ctx, tx, person)
	if err != nil || p.Disabled {
		return membership{}, err
	}
	held := membership{holds: true, provider: m.provider, until: m.Expires}
	if held.parts, err = memberParts(ctx, tx, m); err != nil {
		return membership{}, err
	}
	err = tx.QueryRowContext(ctx, `SELECT second_factor FROM org WHERE id = $1`, org).Scan(&held.factor)
	return held, wrap("read organisation", err)
}

// roleSet returns what a role of org allows. One that there is not, or not any
// more, allows nothing.
func roleSet(ctx context.Context, tx *store.Tx, org auth.OrgID, name string) (permission.Set, error) {
	if b, ok := permission.Builtin(name); ok {
		return b.Set, nil
	}
	role, err := readRole(ctx, tx, org, name)
	if err != nil && errs.CodeOf(err) == errs.NotFound {
		return 0, nil
	}
	return role.Set, err
}

// own returns what an API key was given, whoever made it.
func (p Application) own(ctx context.Context, tx *store.Tx) (permission.Rights, error) {
	rights := permission.Rights{Limited: p.Limited, Groups: p.Groups}
	var err error
	if rights.Set, err = roleSet(ctx, tx, p.Org, p.Role); err != nil {
		return permission.Rights{}, err
	}
	if len(p.Permissions) > 0 {
		scope, err := permission.Parse(p.Permissions)
		if err != nil {
			return permission.Rights{}, err
		}
		rights.Set &= scope
	}
	return rights, nil
}

// keyHolds returns what an API key may do now: what it was given, within the
// present rights of whoever made it. makers is how many may stand behind it.
func (r *Registry) keyHolds(ctx context.Context, tx *store.Tx, p Application, makers int) (membership, error) {
	rights, err := p.own(ctx, tx)
	if err != nil {
		return membership{}, err
	}
	var above membership
	switch p.Maker.Kind {
	case auth.System:
		return membership{holds: true, parts: []profile.Part{{Rights: rights}}}, nil
	case auth.Person:
		above, err = r.membership(ctx, tx, p.Org, p.Maker.ID)
	case auth.Service:
		above, err = serviceHolds(ctx, tx, p.Org, p.Maker.ID)
	case auth.Application:
		var maker Application
		maker, err = readApplication(ctx, tx, p.Org, p.Maker.ID)
		switch {
		case err != nil && errs.CodeOf(err) == errs.NotFound, maker.Disabled, makers == 0:
			return membership{}, nil
		case err == nil:
			above, err = r.keyHolds(ctx, tx, maker, makers-1)
		}
	}
	if err != nil || !above.holds {
		return membership{}, err
	}
	above.makers = append(above.makers, p.Maker)
	above.parts = partsWithin(above.parts, rights)
	return above, nil
}

// rightsIn returns the rights in parts.
func rightsIn(parts []profile.Part) permission.Held {
	var all permission.Held
	for _, x := range parts {
		all = append(all, x.Rights)
	}
	return all
}

// partsWithin returns what of parts an API key with rights of its own has.
func partsWithin(parts []profile.Part, rights permission.Rights) []profile.Part {
	var all []profile.Part
	for _, x := range parts {
		if m := permission.Meet(rights, x.Rights); m.Set != 0 {
			from := ""
			if x.From != "" {
				from = "its role, as far as " + x.From + " of who made it goes"
			}
			all = append(all, profile.Part{Rights: m, From: from})
		}
	}
	return all
}

// reachDevices fills in the devices that each of parts reaches.
func reachDevices(ctx context.Context, tx *store.Tx, org auth.OrgID, parts []profile.Part) (err error) {
	for i := range parts {
		if parts[i].Devices, err = devicesOf(ctx, tx, org, parts[i].Rights); err != nil {
			return err
		}
	}
	return nil
}

// devicesOf returns the devices ("type:id") that rights limited to groups reach.
func devicesOf(ctx context.Context, tx *store.Tx, org auth.OrgID, rights permission.Rights) ([]string, error) {
	var all []string
	if !rights.Limited {
		return nil, nil
	}
	seen := map[string]bool{}
	for _, g := range rights.Groups {
		q, args := groupDevices(org, g)
		rows, err := tx.QueryContext(ctx, q, args...)
		if err != nil {
			return nil, fmt.Errorf("list devices of group: %w", err)
		}
		err = each(rows, func() error {
			var typ, id string
			if err := rows.Scan(&typ, &id); err != nil {
				return fmt.Errorf("read device of group: %w", err)
			}
			if d := typ + ":" + id; !seen[d] {
				seen[d] = true
				all = append(all, d)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// each calls do for every row, and closes rows.
func each(rows *sql.Rows, do func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := do(); err != nil {
			return err
		}
	}
	return wrap("list", rows.Err())
}

// affectHolders adds everybody to e whose rights follow from roles, members,
// groups or makers: the API keys and the people of org, not its devices and users.
func affectHolders(ctx context.Context, tx *store.Tx, org auth.OrgID, e *effect) error {
	const q = `SELECT 3, key FROM application WHERE org = $1 UNION ALL SELECT 5, person FROM member WHERE org = $1`
	rows, err := tx.QueryContext(ctx, q, org)
	if err != nil {
		return fmt.Errorf("list holders: %w", err)
	}
	return each(rows, func() error {
		var kind int64
		var id string
		if err := rows.Scan(&kind, &id); err != nil {
			return fmt.Errorf("read holder: %w", err)
		}
		e.affected = append(e.affected, auth.Principal{Org: org, Kind: auth.Kind(kind), ID: id})
		return nil
	})
}

// MayAlert checks that a may do p, which is about alerts, in org. They are of all
// devices.
func (r *Registry) MayAlert(ctx context.Context, a Actor, org auth.OrgID, p permission.Permission) error {
	ctx, h, err := r.mayAs(ctx, a, org, p)
	if err != nil {
		return err
	}
	if err := unlimited(h); err != nil || !h.System {
		return err
	}
	return r.view(ctx, func(tx *store.Tx) error {
		_, err := readOrg(ctx, tx, org)
		return err
	})
}
