package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// Limits of resource groups.
const (
	maxGroups       = 10_000 // of an organisation
	maxGroupDevices = 300    // in one group
	maxGroupsOf     = 10     // of one member, API key or device
)

// A Group is a resource group: devices that rights can be limited to.
type Group struct {
	Org         auth.OrgID
	ID          string
	Description string
	Created     time.Time
}

const groupColumns = `org, id, description, created_at`

func (g *Group) scan(row scanner) error {
	var created int64
	err := row.Scan(&g.Org, &g.ID, &g.Description, &created)
	g.Created = fromMicros(created)
	return err
}

func noGroup(id string) error { return errs.E(errs.NotFound, "resource group %q not found", clip(id)) }

func readGroup(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (Group, error) {
	if typ, dev, ok := gatewayOf(org, id); ok {
		return readGatewayGroup(ctx, tx, org, id, typ, dev)
	}
	const q = `SELECT ` + groupColumns + ` FROM resource_group WHERE org = $1 AND id = $2`
	return one[Group](tx.QueryRowContext(ctx, q, org, id), noGroup(id))
}

// readGroupsOf returns the resource groups of a member or an API key.
func readGroupsOf(ctx context.Context, tx *store.Tx, p auth.Principal) ([]string, error) {
	const q = `SELECT group_id FROM resource_group_holder WHERE org = $1 AND kind = $2 AND holder = $3 ORDER BY group_id`
	rows, err := tx.QueryContext(ctx, q, p.Org, int64(p.Kind), p.ID)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	var all []string
	return all, each(rows, func() error {
		var g string
		if err := rows.Scan(&g); err != nil {
			return fmt.Errorf("read group: %w", err)
		}
		all = append(all, g)
		return nil
	})
}

// replaceGroupsOf replaces the resource groups of a member or an API key.
func replaceGroupsOf(ctx context.Context, tx *store.Tx, p auth.Principal, groups []string) error {
	const clear = `DELETE FROM resource_group_holder WHERE org = $1 AND kind = $2 AND holder = $3`
	if _, err := tx.ExecContext(ctx, clear, p.Org, int64(p.Kind), p.ID); err != nil {
		return fmt.Errorf("delete groups: %w", err)
	}
	for _, g := range groups {
		if err := keepGatewayGroup(ctx, tx, p.Org, g); err != nil {
			return err
		}
		const q = `INSERT INTO resource_group_holder (org, kind, holder, group_id) VALUES ($1, $2, $3, $4)`
		if _, err := tx.ExecContext(ctx, q, p.Org, int64(p.Kind), p.ID, g); err != nil {
			return fmt.Errorf("insert group: %w", err)
		}
	}
	return nil
}

// tidy returns groups sorted, each once.
func tidy(groups []string) []string {
	all := slices.Clone(groups)
	slices.Sort(all)
	return slices.Compact(all)
}

// mayGroup is may for what is done with one resource group: one that a is not
// limited to is not there for it.
func (r *Registry) mayGroup(ctx context.Context, a Actor, org auth.OrgID, id string, p permission.Permission) (context.Context, error) {
	ctx, h, err := r.mayAs(ctx, a, org, p)
	if err == nil && h.Limited && !slices.Contains(h.Groups, id) {
		err = noGroup(id)
	}
	return ctx, err
}

// Groups lists the resource groups of an organisation by id.
func (r *Registry) Groups(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]Group, string, error) {
	ctx, h, err := r.mayAs(ctx, a, org, permission.GroupRead)
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("group", 1)
	if err != nil {
		return nil, "", err
	}
	const q = `SELECT ` + groupColumns + ` FROM resource_group WHERE org = $1 AND id > $2 ORDER BY id LIMIT $3`
	all, err := list[Group](ctx, r, q, org, key[0], size+1)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(g Group) string { return cursor("group", g.ID) })
	if h.Limited {
		all = slices.DeleteFunc(all, func(g Group) bool { return !slices.Contains(h.Groups, g.ID) })
	}
	return all, next, nil
}

// Group returns one resource group.
func (r *Registry) Group(ctx context.Context, a Actor, org auth.OrgID, id string) (Group, error) {
	ctx, err := r.mayGroup(ctx, a, org, id, permission.GroupRead)
	if err != nil {
		return Group{}, err
	}
	var g Group
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		g, err = readGroup(ctx, tx, org, id)
		return err
	})
	return g, err
}

// CreateGroup makes a resource group without devices.
func (r *Registry) CreateGroup(ctx context.Context, a Actor, g Group) (Group, error) {
	ctx, h, err := r.mayAs(ctx, a, g.Org, permission.GroupWrite)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return Group{}, err
	}
	var bad mistakes
	bad.add(auth.CheckName("group id", g.ID))
	bad.add(checkText("description", g.Description, 200))
	if err := bad.err(); err != nil {
		return Group{}, err
	}
	g.Created = r.now()
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: g.Org, action: "group.create", target: g.ID}
		if _, err := readOrg(ctx, tx, g.Org); err != nil {
			return e, err
		}
		if err := room(ctx, tx, g.Org, "resource_group", maxGroups); err != nil {
			return e, err
		}
		const q = `INSERT INTO resource_group (org, id, description, created_at) VALUES ($1, $2, $3, $4)`
		_, err := tx.ExecContext(ctx, q, g.Org, g.ID, g.Description, micros(g.Created))
		if store.IsUnique(err) {
			return e, errs.E(errs.Conflict, "resource group %q exists", g.ID)
		}
		return e, wrap("insert group", err)
	})
	if err != nil {
		return Group{}, err
	}
	return g, nil
}

// DeleteGroup deletes a resource group. Who was limited to it reaches its devices
// no more.
func (r *Registry) DeleteGroup(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	return r.changeGroup(ctx, a, org, id, "group.delete", func(tx *store.Tx, _ *effect) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM resource_group WHERE org = $1 AND id = $2`, org, id)
		return wrap("delete group", err)
	})
}

// changeGroup makes one change to one group, and to what those limited to it may do.
func (r *Registry) changeGroup(ctx context.Context, a Actor, org auth.OrgID, id, action string, do func(*store.Tx, *effect) error) error {
	ctx, err := r.mayGroup(ctx, a, org, id, permission.GroupWrite)
	if err != nil {
		return err
	}
	if _, _, ok := gatewayOf(org, id); ok {
		return errs.E(errs.Invalid, "resource group %q is that of a gateway: attach devices to the gateway, or detach them", clip(id))
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: action, target: id}
		if _, err := readGroup(ctx, tx, org, id); err != nil {
			return e, err
		}
		if err := affectHolders(ctx, tx, org, &e); err != nil {
			return e, err
		}
		return e, do(tx, &e)
	})
}

// A DeviceName names a device in its organisation.
type DeviceName struct{ Type, ID string }

func (d *DeviceName) scan(row scanner) error { return row.Scan(&d.Type, &d.ID) }

// GroupDevices lists the devices in a resource group.
func (r *Registry) GroupDevices(ctx context.Context, a Actor, org auth.OrgID, id string) ([]DeviceName, error) {
	ctx, err := r.mayGroup(ctx, a, org, id, permission.GroupRead)
	if err != nil {
		return nil, err
	}
	if _, err := r.Group(ctx, a, org, id); err != nil {
		return nil, err
	}
	q, args := groupDevices(org, id)
	return list[DeviceName](ctx, r, q, args...)
}

// ChangeGroupDevices puts devices into a resource group and takes others out: all
// of them, or none if one cannot be. Who changes it must reach the devices that
// come in.
func (r *Registry) ChangeGroupDevices(ctx context.Context, a Actor, org auth.OrgID, id string, in, out []DeviceName) error {
	if len(in)+len(out) > 2*maxGroupDevices {
		return errs.E(errs.Invalid, "add and remove must name at most %d devices together, name %d", 2*maxGroupDevices, len(in)+len(out))
	}
	for _, d := range in {
		if _, err := r.device(ctx, a, permission.GroupWrite, org, d.Type, d.ID); err != nil {
			return err
		}
	}
	return r.changeGroup(ctx, a, org, id, "group.devices", func(tx *store.Tx, e *effect) error {
		e.detail = map[string]any{"added": printed(in), "removed": printed(out)}
		for _, d := range out {
			const q = `DELETE FROM resource_group_device WHERE org = $1 AND group_id = $2 AND type = $3 AND device = $4`
			if _, err := tx.ExecContext(ctx, q, org, id, d.Type, d.ID); err != nil {
				return fmt.Errorf("delete device from group: %w", err)
			}
		}
		for _, d := range in {
			if err := addToGroup(ctx, tx, org, id, d); err != nil {
				return err
			}
		}
		var n int
		const count = `SELECT COUNT(*) FROM resource_group_device WHERE org = $1 AND group_id = $2`
		if err := tx.QueryRowContext(ctx, count, org, id).Scan(&n); err != nil {
			return fmt.Errorf("count devices of group: %w", err)
		}
		if n > maxGroupDevices {
			return errs.E(errs.Exhausted, "a resource group may have %d devices, and would have %d", maxGroupDevices, n)
		}
		return nil
	})
}

func addToGroup(ctx context.Context, tx *store.Tx, org auth.OrgID, id string, d DeviceName) error {
	if _, err := readDevice(ctx, tx, org, d.Type, d.ID); err != nil {
		return err
	}
	const q = `INSERT INTO resource_group_device (org, group_id, type, device) VALUES ($1, $2, $3, $4)
		ON CONFLICT (org, group_id, type, device) DO NOTHING`
	if _, err := tx.ExecContext(ctx, q, org, id, d.Type, d.ID); err != nil {
		return fmt.Errorf("insert device into group: %w", err)
	}
	n, err := groupsOfDevice(ctx, tx, org, d)
	if err != nil {
		return err
	}
	if n > maxGroupsOf {
		return errs.E(errs.Exhausted, "device %q of type %q is in %d resource groups already", d.ID, d.Type, maxGroupsOf)
	}
	return nil
}

func printed(all []DeviceName) string {
	names := make([]string, 0, len(all))
	for _, d := range all {
		names = append(names, d.Type+":"+d.ID)
	}
	return strings.Join(names, " ")
}

// affectHoldersOf is affectHolders if the device is in a resource group.
func affectHoldersOf(ctx context.Context, tx *store.Tx, org auth.OrgID, d DeviceName, e *effect) error {
	n, err := groupsOfDevice(ctx, tx, org, d)
	if n == 0 || err != nil {
		return err
	}
	return affectHolders(ctx, tx, org, e)
}

// groupsOfDevice returns in how many resource groups a device is.
func groupsOfDevice(ctx context.Context, tx *store.Tx, org auth.OrgID, d DeviceName) (n int, err error) {
	const q = `SELECT COUNT(*) FROM resource_group_device WHERE org = $1 AND type = $2 AND device = $3`
	err = tx.QueryRowContext(ctx, q, org, d.Type, d.ID).Scan(&n)
	return n, wrap("count groups of device", err)
}
