package registry

import (
	"context"
	"fmt"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// maxRegistered is up to how many attached devices a gateway may register more.
const maxRegistered = 300

// SetDeviceRegisters lets a gateway register the devices that it speaks for, or
// no more.
func (r *Registry) SetDeviceRegisters(ctx context.Context, a Actor, org auth.OrgID, typ, id string, registers bool) error {
	return r.changeDevice(ctx, a, permission.DeviceWrite, org, typ, id, "device.registers", func(tx *store.Tx, d Device, e *effect) error {
		if registers {
			if err := mayRegister(d); err != nil {
				return err
			}
		}
		e.detail = map[string]any{"before": d.Registers, "registers": registers}
		const q = `UPDATE device SET registers = $4 WHERE org = $1 AND type = $2 AND id = $3`
		_, err := tx.ExecContext(ctx, q, org, typ, id, registers)
		return wrap("update device", err)
	})
}

func mayRegister(d Device) error {
	if d.Class != ClassGateway {
		return errs.E(errs.Invalid, "only a gateway can register devices; %q of type %q is none", d.ID, d.Type)
	}
	return nil
}

// Register makes the device known that stands in a topic of the organisation, for
// a gateway that may do so: of a device type that is there and not of gateways, a
// device that is not, and that is attached to the gateway from then on. Its token
// is nobody's: it gets one when it is given a new one. With nil the gateway has
// another grant.
func (r *Registry) Register(ctx context.Context, ref auth.Ref, inTopic string) error {
	typ, id, ok := profile.DeviceIn(inTopic)
	if !ok {
		return errs.E(errs.Denied, "no device stands in this topic")
	}
	// As it is now, not as it was when it connected.
	if _, err := r.renew(ctx, ref); err != nil {
		return r.refuse(ctx, ref.Principal, err)
	}
	d := Device{Org: ref.Principal.Org, Type: typ, ID: id, Gateway: ref.Principal.ID}
	device := auth.Principal{Org: d.Org, Kind: auth.Device, ID: typ + ":" + id}
	if err := fault(r.unlocked(ctx, lockedPrincipal(device))); err != nil {
		if errs.CodeOf(err) == errs.Denied {
			err = errs.Wrap(errs.Denied, err, "this device cannot be registered")
		}
		return err
	}
	f, err := r.newFresh(device)
	if err != nil {
		return fault(err)
	}
	err = r.change(forOrg(ctx, d.Org), Actor{Principal: ref.Principal}, func(tx *store.Tx) (effect, error) {
		if err := readRegistrar(ctx, tx, ref.Principal); err != nil {
			return effect{}, err
		}
		made, err := r.insertDevice(ctx, tx, d, f)
		e := effect{org: d.Org, action: "device.register", target: typ + ":" + id, affected: made.affected(),
			detail: map[string]any{"class": made.Class, "gateway": made.Gateway}}
		if err == nil {
			err = affectGatewayGroup(ctx, tx, d.Org, made.Gateway, &e)
		}
		return e, err
	})
	switch errs.CodeOf(err) {
	case errs.Conflict, errs.NotFound, errs.Invalid:
		// What is there already, and what types there are, is not for the gateway to find out.
		return errs.Wrap(errs.Denied, err, "this device cannot be registered")
	}
	return err
}

// readRegistrar checks that gateway p may register one more device.
func readRegistrar(ctx context.Context, tx *store.Tx, p auth.Principal) error {
	typ, id := p.TypeAndID()
	g, err := readDevice(ctx, tx, p.Org, typ, id)
	if err != nil {
		return err
	}
	if p.Kind != auth.Gateway || g.Class != ClassGateway || g.Disabled || !g.Registers {
		return errs.E(errs.Denied, "this gateway may not register devices")
	}
	var n int
	const q = `SELECT COUNT(*) FROM device WHERE org = $1 AND gateway_type = $2 AND gateway_id = $3 AND gateway_id <> ''`
	if err := tx.QueryRowContext(ctx, q, p.Org, typ, id).Scan(&n); err != nil {
		return fmt.Errorf("count attached devices: %w", err)
	}
	if n >= maxRegistered {
		return errs.E(errs.Exhausted, "a gateway with %d devices cannot register more", n)
	}
	return nil
}
