package registry

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// A Device is a device or a gateway. It may connect with its token or with a
// certificate it enrolled for.
type Device struct {
	Org          auth.OrgID
	Type         string
	ID           string
	Class        string // that of its type
	Gateway      string // "type:id" of the gateway it is attached to, or ""
	Registers    bool   // a gateway that registers devices by speaking for them
	Disabled     bool
	Created      time.Time
	TokenVersion int // counts the tokens it was given
}

// Principal returns who d is when it connects.
func (d Device) Principal() auth.Principal {
	return auth.Principal{Org: d.Org, Kind: kindOf(d.Class), ID: d.Type + ":" + d.ID}
}

func kindOf(class string) auth.Kind {
	if class == ClassGateway {
		return auth.Gateway
	}
	return auth.Device
}

// gateway returns the principal of the gateway d is attached to, if any.
func (d Device) gateway() (auth.Principal, bool) {
	return auth.Principal{Org: d.Org, Kind: auth.Gateway, ID: d.Gateway}, d.Gateway != ""
}

// affected returns whose grants a change of d touches: its gateway acts for it.
func (d Device) affected() []auth.Principal {
	all := []auth.Principal{d.Principal()}
	if g, ok := d.gateway(); ok {
		all = append(all, g)
	}
	return all
}

const deviceColumns = `org, type, id, class, gateway_type, gateway_id, registers, disabled, token_version, created_at`

func (d *Device) scan(row scanner) error {
	var created int64
	var gatewayType, gatewayID string
	err := row.Scan(&d.Org, &d.Type, &d.ID, &d.Class, &gatewayType, &gatewayID, &d.Registers, &d.Disabled, &d.TokenVersion, &created)
	if gatewayID != "" {
		d.Gateway = gatewayType + ":" + gatewayID
	}
	d.Created = fromMicros(created)
	return err
}

func checkDevice(d Device) error {
	var bad mistakes
	bad.add(auth.CheckName("device type", d.Type))
	bad.add(auth.CheckName("device id", d.ID))
	bad.add(checkGateway(d.Gateway))
	return bad.err()
}

func checkGateway(gateway string) error {
	if gateway == "" {
		return nil
	}
	typ, id, ok := strings.Cut(gateway, ":")
	if !ok || auth.CheckName("type", typ) != nil || auth.CheckName("id", id) != nil {
		return errs.E(errs.Invalid, `gateway must be "type:id" of a gateway, or empty`)
	}
	return nil
}

func noDevice(typ, id string) error {
	return errs.E(errs.NotFound, "device %q of type %q not found", id, typ)
}

// CreateDevice creates a device and returns its token, which is never shown
// again.
func (r *Registry) CreateDevice(ctx context.Context, a Actor, d Device) (Device, secret.String, error) {
	ctx, h, err := r.mayAs(ctx, a, d.Org, permission.DeviceWrite)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return Device{}, secret.String{}, err
	}
	if err := checkDevice(d); err != nil {
		return Device{}, secret.String{}, err
	}
	f, err := r.newFresh(d.Principal())
	if err != nil {
		return Device{}, secret.String{}, err
	}
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		var err error
		d, err = r.insertDevice(ctx, tx, d, f)
		e := effect{org: d.Org, action: "device.create", target: d.Type + ":" + d.ID,
			detail: map[string]any{"class": d.Class, "gateway": d.Gateway, "registers": d.Registers}, affected: d.affected()}
		if err == nil {
			err = affectGatewayGroup(ctx, tx, d.Org, d.Gateway, &e)
		}
		return e, err
	})
	if err != nil {
		return Device{}, secret.String{}, err
	}
	return d, f.token, nil
}

func (r *Registry) insertDevice(ctx context.Context, tx *store.Tx, d Device, f fresh) (Device, error) {
	if _, err := readOrg(ctx, tx, d.Org); err != nil {
		return d, err
	}
	t, err := readType(ctx, tx, d.Org, d.Type)
	if err != nil {
		return d, err
	}
	d.Class, d.Disabled, d.Created, d.TokenVersion = t.Class, false, r.now(), 1
	if err := gatewayFits(ctx, tx, d, d.Gateway); err != nil {
		return d, err
	}
	if d.Registers {
		if err := mayRegister(d); err != nil {
			return d, err
		}
	}
	uid, err := newUID()
	if err != nil {
		return d, err
	}
	gatewayType, gatewayID, _ := strings.Cut(d.Gateway, ":")
	const q = `INSERT INTO device (org, type, id, uid, class, gateway_type, gateway_id, token_hash, token_version, created_at, token_at, scram, registers)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12)`
	_, err = tx.ExecContext(ctx, q, d.Org, d.Type, d.ID, uid, d.Class, gatewayType, gatewayID,
		hashToken(r.ring, d.Principal(), f.token), d.TokenVersion, micros(d.Created), f.scram, d.Registers)
	if store.IsUnique(err) {
		return d, errs.E(errs.Conflict, "device %q of type %q exists", d.ID, d.Type)
	}
	return d, wrap("insert device", err)
}

// gatewayFits checks that d may be attached to gateway ("type:id", or "").
func gatewayFits(ctx context.Context, tx *store.Tx, d Device, gateway string) error {
	if gateway == "" {
		return nil
	}
	if d.Class == ClassGateway {
		return errs.E(errs.Invalid, "gateway: %q is a gateway itself and cannot be attached to one", d.ID)
	}
	typ, id, _ := strings.Cut(gateway, ":")
	g, err := readDevice(ctx, tx, d.Org, typ, id)
	if errs.CodeOf(err) == errs.NotFound || err == nil && g.Class != ClassGateway {
		return errs.E(errs.Invalid, "gateway: there is no gateway %q; create it first", gateway)
	}
	return err
}

func newUID() (string, error) {
	id, err := uuid.NewV7()
	return id.String(), wrap("make id", err)
}

// Device returns one device.
func (r *Registry) Device(ctx context.Context, a Actor, org auth.OrgID, typ, id string) (Device, error) {
	return r.device(ctx, a, permission.DeviceRead, org, typ, id)
}

// device returns one device to who may do p with it.
func (r *Registry) device(ctx context.Context, a Actor, p permission.Permission, org auth.OrgID, typ, id string) (Device, error) {
	ctx, err := r.mayDevice(ctx, a, org, typ, id, p)
	if err != nil {
		return Device{}, err
	}
	var d Device
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		if _, err := readOrg(ctx, tx, org); err != nil {
			return err
		}
		d, err = readDevice(ctx, tx, org, typ, id)
		return err
	})
	return d, err
}

func readDevice(ctx context.Context, tx *store.Tx, org auth.OrgID, typ, id string) (Device, error) {
	const q = `SELECT ` + deviceColumns + ` FROM device WHERE org = $1 AND type = $2 AND id = $3`
	return one[Device](tx.QueryRowContext(ctx, q, org, typ, id), noDevice(typ, id))
}

// changeDevice makes one change to one device, which do is given as it was, for
// who may do p with it.
func (r *Registry) changeDevice(ctx context.Context, a Actor, p permission.Permission, org auth.OrgID, typ, id, action string,
	do func(*store.Tx, Device, *effect) error) error {
	ctx, err := r.mayDevice(ctx, a, org, typ, id, p)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		if _, err := readOrg(ctx, tx, org); err != nil {
			return effect{}, err
		}
		d, err := readDevice(ctx, tx, org, typ, id)
		if err != nil {
			return effect{}, err
		}
		e := effect{org: org, action: action, target: typ + ":" + id, affected: d.affected()}
		err = do(tx, d, &e)
		return e, err
	})
}

// SetDeviceDisabled locks a device out or lets it in again. It keeps its token
// and its certificates, which are refused as long as it is disabled.
func (r *Registry) SetDeviceDisabled(ctx context.Context, a Actor, org auth.OrgID, typ, id string, disabled bool) error {
	return r.changeDevice(ctx, a, permission.DeviceWrite, org, typ, id, able("device", disabled), func(tx *store.Tx, _ Device, _ *effect) error {
		const q = `UPDATE device SET disabled = $4 WHERE org = $1 AND type = $2 AND id = $3`
		_, err := tx.ExecContext(ctx, q, org, typ, id, disabled)
		return wrap("update device", err)
	})
}

// SetDeviceGateway attaches a device to a gateway ("type:id"), which then may
// act for it, or detaches it ("").
func (r *Registry) SetDeviceGateway(ctx context.Context, a Actor, org auth.OrgID, typ, id, gateway string) error {
	action := "device.attach"
	if gateway == "" {
		action = "device.detach"
	}
	return r.changeDevice(ctx, a, permission.DeviceWrite, org, typ, id, action, func(tx *store.Tx, d Device, e *effect) error {
		if err := checkGateway(gateway); err != nil {
			return err
		}
		if err := gatewayFits(ctx, tx, d, gateway); err != nil {
			return err
		}
		e.detail = map[string]any{"gateway": gateway, "before": d.Gateway}
		for _, g := range []string{d.Gateway, gateway} {
			if err := affectGatewayGroup(ctx, tx, org, g, e); err != nil {
				return err
			}
		}
		d.Gateway = gateway
		if g, ok := d.gateway(); ok {
			e.affected = append(e.affected, g)
		}
		gatewayType, gatewayID, _ := strings.Cut(gateway, ":")
		const q = `UPDATE device SET gateway_type = $4, gateway_id = $5 WHERE org = $1 AND type = $2 AND id = $3`
		_, err := tx.ExecContext(ctx, q, org, typ, id, gatewayType, gatewayID)
		return wrap("update device", err)
	})
}

// DeleteDevice deletes a device with its token and certificates. Devices that
// were attached to it are attached to nothing then.
func (r *Registry) DeleteDevice(ctx context.Context, a Actor, org auth.OrgID, typ, id string) error {
	all := func(Certificate) bool { return true }
	if err := r.revokeLive(ctx, a, permission.DeviceWrite, org, typ, id, reasonCessation, all, nil); err != nil {
		return err
	}
	return r.changeDevice(ctx, a, permission.DeviceWrite, org, typ, id, "device.delete", func(tx *store.Tx, d Device, e *effect) error {
		// A later device of that name is in none of its groups.
		if err := affectHoldersOf(ctx, tx, org, DeviceName{typ, id}, e); err != nil {
			return err
		}
		if err := affectGatewayGroup(ctx, tx, org, d.Gateway, e); err != nil {
			return err
		}
		const detach = `UPDATE device SET gateway_type = '', gateway_id = ''
			WHERE org = $1 AND gateway_type = $2 AND gateway_id = $3 AND gateway_id <> ''`
		if d.Class == ClassGateway {
			if _, err := tx.ExecContext(ctx, detach, org, typ, id); err != nil {
				return fmt.Errorf("detach devices: %w", err)
			}
			own := typ + ":" + id
			if err := affectGatewayGroup(ctx, tx, org, own, e); err != nil {
				return err
			}
			const group = `DELETE FROM resource_group WHERE org = $1 AND id = $2`
			if _, err := tx.ExecContext(ctx, group, org, gatewayGroup(org, own)); err != nil {
				return fmt.Errorf("delete group of gateway: %w", err)
			}
		}
		if err := dropUses(ctx, tx, d.Principal()); err != nil {
			return err
		}
		const q = `DELETE FROM device WHERE org = $1 AND type = $2 AND id = $3`
		_, err := tx.ExecContext(ctx, q, org, typ, id)
		return wrap("delete device", err)
	})
}
