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

// maxRoles is how many roles of its own an organisation may have.
const maxRoles = 20

// A Role is a named set of permissions: a built-in one, or an organisation's own.
type Role struct {
	Org         auth.OrgID
	Name        string
	Description string
	Set         permission.Set
	Builtin     bool
	Created     time.Time // of an organisation's own
}

const roleColumns = `org, name, description, permissions, created_at`

func (x *Role) scan(row scanner) error {
	var created int64
	var permissions string
	err := row.Scan(&x.Org, &x.Name, &x.Description, &permissions, &created)
	x.Set, x.Created = permission.Stored(permissions), fromMicros(created)
	return err
}

func noRole(name string) error { return errs.E(errs.NotFound, "role %q not found", clip(name)) }

func readRole(ctx context.Context, tx *store.Tx, org auth.OrgID, name string) (Role, error) {
	const q = `SELECT ` + roleColumns + ` FROM role WHERE org = $1 AND name = $2`
	return one[Role](tx.QueryRowContext(ctx, q, org, name), noRole(name))
}

// Roles lists the roles that can be given in an organisation: the built-in ones
// and its own.
func (r *Registry) Roles(ctx context.Context, a Actor, org auth.OrgID) ([]Role, error) {
	ctx, err := r.may(ctx, a, org, permission.RoleRead)
	if err != nil {
		return nil, err
	}
	var all []Role
	for _, b := range permission.Roles() {
		if b.Name != permission.Support && b.Name != permission.SupportData { // nobody gives these
			all = append(all, Role{Org: org, Name: b.Name, Description: b.Description, Set: b.Set, Builtin: true})
		}
	}
	const q = `SELECT ` + roleColumns + ` FROM role WHERE org = $1 ORDER BY name LIMIT $2`
	own, err := list[Role](ctx, r, q, org, maxRoles)
	return append(all, own...), err
}

func (x Role) check() error {
	var bad mistakes
	bad.add(auth.CheckName("role name", x.Name))
	bad.add(checkText("description", x.Description, 200))
	if _, taken := permission.Builtin(x.Name); taken || strings.HasPrefix(x.Name, "PD_") {
		bad.add(errs.E(errs.Invalid, "role %q is a built-in one; choose another name", clip(x.Name)))
	}
	if x.Set == 0 {
		bad.add(errs.E(errs.Invalid, "permissions must name at least one"))
	}
	return bad.err()
}

// within checks that whoever has h may give rights to somebody.
func within(h permission.Holder, rights permission.Rights) error {
	if h.System || h.Rights.Covers(rights) {
		return nil
	}
	if lacks := rights.Set &^ h.Rights.Set(); lacks != 0 {
		return errs.E(errs.Denied, "nobody can give more rights than they have; you lack: %s", lacks)
	}
	return errs.E(errs.Denied, "your rights are limited to resource groups; you can give rights in these only")
}

// PutRole makes a role of an organisation's own, or changes it. Whoever has it
// goes on with what it allows now.
func (r *Registry) PutRole(ctx context.Context, a Actor, x Role) (Role, error) {
	ctx, h, err := r.mayAs(ctx, a, x.Org, permission.RoleWrite)
	if err != nil {
		return Role{}, err
	}
	if err := x.check(); err != nil {
		return Role{}, err
	}
	if err := within(h, permission.Rights{Set: x.Set}); err != nil {
		return Role{}, err
	}
	x.Created = r.now()
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: x.Org, action: "role.create", target: x.Name, detail: map[string]any{"permissions": x.Set.String()}}
		old, err := readRole(ctx, tx, x.Org, x.Name)
		switch {
		case err == nil:
			// Who gives less takes away what was given: that must be theirs, too.
			if err := within(h, permission.Rights{Set: old.Set}); err != nil {
				return e, err
			}
			e.action, x.Created = "role.update", old.Created
			e.detail["before"] = old.Set.String()
		case errs.CodeOf(err) != errs.NotFound:
			return e, err
		default:
			if err := room(ctx, tx, x.Org, "role", maxRoles); err != nil {
				return e, err
			}
		}
		const q = `INSERT INTO role (org, name, description, permissions, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (org, name) DO UPDATE SET description = excluded.description, permissions = excluded.permissions`
		if _, err := tx.ExecContext(ctx, q, x.Org, x.Name, x.Description, x.Set.String(), micros(x.Created)); err != nil {
			return e, fmt.Errorf("write role: %w", err)
		}
		return e, affectHolders(ctx, tx, x.Org, &e)
	})
	if err != nil {
		return Role{}, err
	}
	return x, nil
}

// room checks that an organisation may have one more of the rows of a table.
func room(ctx context.Context, tx *store.Tx, org auth.OrgID, table string, most int) error {
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+table+` WHERE org = $1`, org).Scan(&n); err != nil {
		return fmt.Errorf("count %s: %w", table, err)
	}
	if n >= most {
		return errs.E(errs.Exhausted, "an organisation may have %d of these; delete one first", most)
	}
	return nil
}

// DeleteRole deletes a role of an organisation's own that nobody has.
func (r *Registry) DeleteRole(ctx context.Context, a Actor, org auth.OrgID, name string) error {
	ctx, err := r.may(ctx, a, org, permission.RoleWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "role.delete", target: name}
		const users = `SELECT COUNT(*) FROM (SELECT role FROM member WHERE org = $1 AND role = $2
			UNION ALL SELECT role FROM application WHERE org = $1 AND role = $2
			UNION ALL SELECT role FROM service_account WHERE org = $1 AND role = $2
			UNION ALL SELECT role FROM team WHERE org = $1 AND role = $2
			UNION ALL SELECT role FROM invitation WHERE org = $1 AND role = $2) AS users`
		var n int
		if err := tx.QueryRowContext(ctx, users, org, name).Scan(&n); err != nil {
			return e, fmt.Errorf("count who has a role: %w", err)
		}
		if n > 0 {
			return e, errs.E(errs.Conflict, "role %q is that of %d members, teams, service accounts, API keys or invitations; give them another first", clip(name), n)
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM role WHERE org = $1 AND name = $2`, org, name)
		return e, found(res, err, noRole(name))
	})
}

// given returns the rights that a role and resource groups give in org, or an
// error if there is no such role or group.
func given(ctx context.Context, tx *store.Tx, org auth.OrgID, role string, limited bool, groups []string) (permission.Rights, error) {
	rights := permission.Rights{Limited: limited, Groups: groups}
	if role == permission.Support || role == permission.SupportData {
		return rights, noRole(role)
	}
	if b, ok := permission.Builtin(role); ok {
		rights.Set = b.Set
	} else {
		x, err := readRole(ctx, tx, org, role)
		if err != nil {
			return rights, err
		}
		rights.Set = x.Set
	}
	if !limited && len(groups) > 0 {
		return rights, errs.E(errs.Invalid, "groups are for rights that are limited to them")
	}
	if len(groups) > maxGroupsOf {
		return rights, errs.E(errs.Invalid, "groups must be at most %d, are %d", maxGroupsOf, len(groups))
	}
	for _, g := range groups {
		if _, err := readGroup(ctx, tx, org, g); err != nil {
			return rights, err
		}
	}
	return rights, nil
}
