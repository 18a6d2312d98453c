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
	"github.com/keepmq/keepmq/internal/store"
)

// The classes of device types.
const (
	ClassDevice  = "Device"
	ClassGateway = "Gateway"
)

// A DeviceType says what its devices have in common.
type DeviceType struct {
	Org         auth.OrgID
	ID          string
	Class       string // ClassDevice when empty; never changes
	Description string
	Created     time.Time
}

const typeColumns = `org, id, class, description, created_at`

func (t *DeviceType) scan(row scanner) error {
	var created int64
	err := row.Scan(&t.Org, &t.ID, &t.Class, &t.Description, &created)
	t.Created = fromMicros(created)
	return err
}

func (t DeviceType) check() error {
	var bad mistakes
	bad.add(auth.CheckName("device type", t.ID))
	if t.Class != "" && t.Class != ClassDevice && t.Class != ClassGateway {
		bad.add(errs.E(errs.Invalid, "class must be %q or %q, is %q", ClassDevice, ClassGateway, t.Class))
	}
	bad.add(checkText("description", t.Description, 500))
	return bad.err()
}

func noType(id string) error {
	return errs.E(errs.NotFound, "device type %q not found; create it first", id)
}

// CreateDeviceType creates a device type.
func (r *Registry) CreateDeviceType(ctx context.Context, a Actor, t DeviceType) (DeviceType, error) {
	ctx, err := r.may(ctx, a, t.Org, permission.TypeWrite)
	if err != nil {
		return DeviceType{}, err
	}
	if err := t.check(); err != nil {
		return DeviceType{}, err
	}
	if t.Class == "" {
		t.Class = ClassDevice
	}
	t.Created = r.now()
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		return effect{org: t.Org, action: "type.create", target: t.ID,
			detail: map[string]any{"class": t.Class}}, insertType(ctx, tx, t)
	})
	if err != nil {
		return DeviceType{}, err
	}
	return t, nil
}

func insertType(ctx context.Context, tx *store.Tx, t DeviceType) error {
	if _, err := readOrg(ctx, tx, t.Org); err != nil {
		return err
	}
	const q = `INSERT INTO device_type (org, id, class, description, created_at) VALUES ($1, $2, $3, $4, $5)`
	_, err := tx.ExecContext(ctx, q, t.Org, t.ID, t.Class, t.Description, micros(t.Created))
	if store.IsUnique(err) {
		return errs.E(errs.Conflict, "device type %q exists", t.ID)
	}
	return wrap("insert device type", err)
}

// DeviceTypes lists the device types of an organisation by id.
func (r *Registry) DeviceTypes(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]DeviceType, string, error) {
	ctx, err := r.may(ctx, a, org, permission.TypeRead)
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("type", 1)
	if err != nil {
		return nil, "", err
	}
	const q = `SELECT ` + typeColumns + ` FROM device_type WHERE org = $1 AND id > $2 ORDER BY id LIMIT $3`
	all, err := list[DeviceType](ctx, r, q, org, key[0], size+1)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(t DeviceType) string { return cursor("type", t.ID) })
	return all, next, nil
}

// DeviceType returns one device type.
func (r *Registry) DeviceType(ctx context.Context, a Actor, org auth.OrgID, id string) (DeviceType, error) {
	ctx, err := r.may(ctx, a, org, permission.TypeRead)
	if err != nil {
		return DeviceType{}, err
	}
	var t DeviceType
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		t, err = readType(ctx, tx, org, id)
		return err
	})
	return t, err
}

func readType(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (DeviceType, error) {
	const q = `SELECT ` + typeColumns + ` FROM device_type WHERE org = $1 AND id = $2`
	return one[DeviceType](tx.QueryRowContext(ctx, q, org, id), noType(id))
}

// DeleteDeviceType deletes a device type that has no devices.
func (r *Registry) DeleteDeviceType(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	ctx, err := r.may(ctx, a, org, permission.TypeWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "type.delete", target: id, limits: &limitKey{org, id}, gates: true}
		if _, err := readOrg(ctx, tx, org); err != nil {
			return e, err
		}
		var device string
		err := tx.QueryRowContext(ctx, `SELECT id FROM device WHERE org = $1 AND type = $2 LIMIT 1`, org, id).Scan(&device)
		if err == nil {
			return e, errs.E(errs.Conflict, "device type %q has devices, for example %q; delete them first", id, device)
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return e, fmt.Errorf("look for devices: %w", err)
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM device_type WHERE org = $1 AND id = $2`, org, id)
		return e, found(res, err, errs.E(errs.NotFound, "device type %q not found", id))
	})
}
