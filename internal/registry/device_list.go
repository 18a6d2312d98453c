package registry

import (
	"context"
	"fmt"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/permission"
)

// A DeviceFilter chooses devices. The zero filter chooses all.
type DeviceFilter struct {
	Type     string // of this type only
	Prefix   string // whose id begins with this
	Gateway  string // attached to this gateway ("type:id")
	Disabled *bool  // disabled, or not disabled, only

	groups []string // in one of these resource groups; nil: in any or none
}

func (f DeviceFilter) check() error {
	var bad mistakes
	if f.Type != "" {
		bad.add(auth.CheckName("type", f.Type))
	}
	if f.Prefix != "" {
		bad.add(auth.CheckName("prefix", f.Prefix))
	}
	bad.add(checkGateway(f.Gateway))
	return bad.err()
}

// query returns the statement that reads limit devices of org behind the
// position (typ, id). Its conditions are equalities and one range of an index in
// whose order it reads, so that a page costs the same in a list of ten and of a
// million: with a prefix and no type that order is by id, else by type and id.
// What is compared with an empty string appended is a mere check of what the
// index found; written so, the planner does not look for another index for it.
func (f DeviceFilter) query(org auth.OrgID, typ, id string, limit int) (string, []any) {
	q := statement{args: []any{org}, where: []string{"org = $1"}}
	if f.Disabled != nil && f.Gateway == "" {
		q.and("disabled = %s", *f.Disabled)
	}
	order := "type, id"
	switch {
	case f.Gateway != "":
		t, i, _ := strings.Cut(f.Gateway, ":")
		q.and("gateway_type = %s AND gateway_id = %s AND gateway_id <> ''", t, i)
		q.and("(type, id) > (%s, %s)", typ, id)
		if f.Type != "" {
			q.and("type || '' = %s", f.Type)
		}
		if f.Prefix != "" {
			q.and("id || '' >= %s AND id || '' < %s", f.Prefix, f.Prefix+behind)
		}
		if f.Disabled != nil {
			q.and("disabled = %s", *f.Disabled)
		}
	case f.Type != "" && id >= f.Prefix:
		q.and("type = %s AND id > %s", f.Type, id)
	case f.Type != "":
		q.and("type = %s AND id >= %s", f.Type, f.Prefix)
	case f.Prefix != "" && id >= f.Prefix:
		q.and("(id, type) > (%s, %s)", id, typ)
		order = "id, type"
	case f.Prefix != "":
		q.and("id >= %s", f.Prefix)
		order = "id, type"
	default:
		q.and("(type, id) > (%s, %s)", typ, id)
	}
	if f.Prefix != "" && f.Gateway == "" {
		q.and("id < %s", f.Prefix+behind)
	}
	if f.groups != nil {
		// What the index found is looked up; a group has few devices.
		places := make([]string, len(f.groups))
		for i, g := range f.groups {
			places[i] = q.arg(g)
		}
		reached := `EXISTS (SELECT 1 FROM resource_group_device g WHERE g.org = device.org
			AND g.type = device.type AND g.device = device.id AND g.group_id IN (` + strings.Join(places, ", ") + `))`
		for _, g := range f.groups {
			if t, i, ok := gatewayOf(org, g); ok {
				t, i := q.arg(t), q.arg(i)
				reached += fmt.Sprintf(` OR type || '' = %s AND id || '' = %s OR gateway_type || '' = %s AND gateway_id || '' = %s`, t, i, t, i)
			}
		}
		q.where = append(q.where, "("+reached+")")
	}
	where := strings.Join(q.where, " AND ")
	return `SELECT ` + deviceColumns + ` FROM device WHERE ` + where + ` ORDER BY ` + order + ` LIMIT ` + q.arg(limit), q.args
}

// behind sorts behind everything that an id may contain.
const behind = "~"

// A statement collects conditions and their arguments.
type statement struct {
	where []string
	args  []any
}

// arg adds an argument and returns its place.
func (q *statement) arg(v any) string {
	q.args = append(q.args, v)
	return fmt.Sprintf("$%d", len(q.args))
}

// and adds a condition with a place for each of vs.
func (q *statement) and(condition string, vs ...any) {
	places := make([]any, len(vs))
	for i, v := range vs {
		places[i] = q.arg(v)
	}
	q.where = append(q.where, fmt.Sprintf(condition, places...))
}

// Devices lists the devices of an organisation that f chooses.
func (r *Registry) Devices(ctx context.Context, a Actor, org auth.OrgID, f DeviceFilter, p Page) ([]Device, string, error) {
	ctx, h, err := r.mayAs(ctx, a, org, permission.DeviceRead)
	if err != nil {
		return nil, "", err
	}
	if err := f.check(); err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("device", 2)
	if err != nil {
		return nil, "", err
	}
	if h.Limited {
		f.groups = h.Groups
		if len(f.groups) == 0 {
			return nil, "", nil
		}
	}
	q, args := f.query(org, key[0], key[1], size+1)
	all, err := list[Device](ctx, r, q, args...)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(d Device) string { return cursor("device", d.Type, d.ID) })
	return all, next, nil
}
