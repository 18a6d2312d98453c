package registry

import (
	"context"
	"fmt"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

// gatewayGroups begins the names of the resource groups that gateways have: the
// gateway itself and the devices attached to it, whichever these are. Nobody can
// make a group of such a name. The rest is "org:type:id" of the gateway.
const gatewayGroups = "gw_def_res_grp:"

// gatewayGroup returns the name of the resource group of gateway "type:id".
func gatewayGroup(org auth.OrgID, gateway string) string {
	return gatewayGroups + string(org) + ":" + gateway
}

// gatewayOf returns the gateway whose resource group this is.
func gatewayOf(org auth.OrgID, group string) (typ, id string, ok bool) {
	rest, ok := strings.CutPrefix(group, gatewayGroups+string(org)+":")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}

// readGatewayGroup returns the resource group of a gateway that there is.
func readGatewayGroup(ctx context.Context, tx *store.Tx, org auth.OrgID, group, typ, id string) (Group, error) {
	d, err := readDevice(ctx, tx, org, typ, id)
	if errs.CodeOf(err) == errs.NotFound && err != nil || err == nil && d.Class != ClassGateway {
		return Group{}, noGroup(group)
	}
	return Group{Org: org, ID: group, Description: fmt.Sprintf("gateway %q of type %q, and the devices attached to it", id, typ), Created: d.Created}, err
}

// inGroup reports whether a device is in a resource group.
func inGroup(ctx context.Context, tx *store.Tx, org auth.OrgID, group, typ, id string) (bool, error) {
	q, args := `SELECT COUNT(*) FROM resource_group_device WHERE org = $1 AND type = $2 AND device = $3 AND group_id = $4`, []any{org, typ, id, group}
	if gt, gid, ok := gatewayOf(org, group); ok {
		if gt == typ && gid == id {
			return true, nil
		}
		q = `SELECT COUNT(*) FROM device WHERE org = $1 AND type = $2 AND id = $3 AND gateway_type = $4 AND gateway_id = $5 AND gateway_id <> ''`
		args = []any{org, typ, id, gt, gid}
	}
	var n int
	err := tx.QueryRowContext(ctx, q, args...).Scan(&n)
	return n > 0, wrap("look into resource group", err)
}

// groupDevices returns the statement that lists the devices of a resource group.
func groupDevices(org auth.OrgID, group string) (string, []any) {
	if gt, gid, ok := gatewayOf(org, group); ok {
		return `SELECT type, id FROM device WHERE org = $1 AND (type = $2 AND id = $3 OR gateway_type = $2 AND gateway_id = $3 AND gateway_id <> '')
			ORDER BY type, id`, []any{org, gt, gid}
	}
	return `SELECT type, device FROM resource_group_device WHERE org = $1 AND group_id = $2 ORDER BY type, device`, []any{org, group}
}

// keepGatewayGroup has a row for the resource group of a gateway, which somebody
// is given.
func keepGatewayGroup(ctx context.Context, tx *store.Tx, org auth.OrgID, group string) error {
	typ, id, ok := gatewayOf(org, group)
	if !ok {
		return nil
	}
	g, err := readGatewayGroup(ctx, tx, org, group, typ, id)
	if err != nil {
		return err
	}
	const q = `INSERT INTO resource_group (org, id, description, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (org, id) DO NOTHING`
	_, err = tx.ExecContext(ctx, q, org, group, g.Description, micros(g.Created))
	return wrap("insert group", err)
}

// affectGatewayGroup is affectHolders if somebody is limited to the resource group
// of a gateway ("type:id"; empty: none), whose devices change.
func affectGatewayGroup(ctx context.Context, tx *store.Tx, org auth.OrgID, gateway string, e *effect) error {
	if gateway == "" {
		return nil
	}
	var n int
	const q = `SELECT COUNT(*) FROM resource_group_holder WHERE org = $1 AND group_id = $2`
	if err := tx.QueryRowContext(ctx, q, org, gatewayGroup(org, gateway)).Scan(&n); err != nil {
		return fmt.Errorf("count who has a group: %w", err)
	}
	if n == 0 {
		return nil
	}
	return affectHolders(ctx, tx, org, e)
}
