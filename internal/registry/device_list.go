package registry

import (
	"context"
	"fmt"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
)

// A DeviceFilter chooses devices. The zero filter chooses all.
type DeviceFilter struct {
	Type     string // of this type only
	Prefix   string // whose id begins with this
	Gateway  string // attached to this gateway ("type:id")
	Disabled *bool  // disabled, or not disabled, only
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
// position (typ, id). Every condition is a range or an equality of an index, so
// that a page costs the same in a list of ten and of a million: with a prefix
// and no type the order is by id, else by type and id.
func (f DeviceFilter) query(org auth.OrgID, typ, id string, limit int) (string, []any) {
	args := []any{org}
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	where, order := []string{"org = $1"}, "type, id"
	if f.Disabled != nil {
		where = append(where, "disabled = "+arg(*f.Disabled))
	}
	if f.Gateway != "" {
		t, i, _ := strings.Cut(f.Gateway, ":")
		where = append(where, "gateway_type = "+arg(t), "gateway_id = "+arg(i), "gateway_id <> ''")
	}
	if f.Prefix != "" {
		// Ids are ASCII without "~", which sorts behind all they may contain.
		where = append(where, "id >= "+arg(f.Prefix), "id < "+arg(f.Prefix+"~"))
	}
	switch {
	case f.Type != "":
		where = append(where, "type = "+arg(f.Type), "id > "+arg(id))
		order = "id"
	case f.Prefix != "":
		where = append(where, "(id, type) > ("+arg(id)+", "+arg(typ)+")")
		order = "id, type"
	default:
		where = append(where, "(type, id) > ("+arg(typ)+", "+arg(id)+")")
	}
	return `SELECT ` + deviceColumns + ` FROM device WHERE ` + strings.Join(where, " AND ") +
		` ORDER BY ` + order + ` LIMIT ` + arg(limit), args
}

// Devices lists the devices of an organisation that f chooses.
func (r *Registry) Devices(ctx context.Context, a Actor, org auth.OrgID, f DeviceFilter, p Page) ([]Device, string, error) {
	if err := r.readable(ctx, a, org); err != nil {
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
	q, args := f.query(org, key[0], key[1], size+1)
	all, err := list[Device](ctx, r, q, args...)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(d Device) string { return cursor("device", d.Type, d.ID) })
	return all, next, nil
}
