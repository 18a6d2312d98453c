package registry

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// The connection security policies: what a device or gateway must present.
const (
	PolicyEither      = "either"      // a token or a certificate
	PolicyToken       = "token"       // a token; a certificate may come with it
	PolicyCertificate = "certificate" // a certificate; a token may come with it
	PolicyBoth        = "both"        // a token and a certificate
)

// Policies are the connection security policies of an organisation.
type Policies struct {
	Default string
	Types   map[string]string // of device types that have another
}

// checkPolicy checks the name of a policy. field names it in the error.
func checkPolicy(field, s string) error {
	switch s {
	case PolicyEither, PolicyToken, PolicyCertificate, PolicyBoth:
		return nil
	case "tls-optional", "optional", "none":
		return errs.E(errs.Invalid, "%s: %q is not to be had: KeepMQ speaks TLS and nothing else, and lets nobody in without a proof", field, s)
	}
	return errs.E(errs.Invalid, "%s must be %q, %q, %q or %q, is %q", field, PolicyEither, PolicyToken, PolicyCertificate, PolicyBoth, clip(s))
}

// suffices checks that a device or gateway has presented what its policy asks for.
func (g *gate) suffices(ref auth.Ref) error {
	if k := ref.Principal.Kind; k != auth.Device && k != auth.Gateway {
		return nil
	}
	typ, _ := ref.Principal.TypeAndID()
	policy := g.policy
	if p, ok := g.policies[typ]; ok {
		policy = p
	}
	var token, certificate bool
	for proof := range strings.SplitSeq(ref.Credential, ",") {
		kind, _, _ := strings.Cut(proof, ":")
		certificate = certificate || kind == "cert"
		token = token || kind == "token" || kind == "issuer"
	}
	needsToken := policy == PolicyToken || policy == PolicyBoth
	needsCertificate := policy == PolicyCertificate || policy == PolicyBoth
	switch {
	case needsToken && !token:
		return errs.E(errs.Denied, "the connection policy %q of this device type asks for a token", policy)
	case needsCertificate && !certificate:
		return errs.E(errs.Denied, "the connection policy %q of this device type asks for a certificate", policy)
	}
	return nil
}

// readPolicies reads the policies of an organisation into g.
func (g *gate) readPolicies(ctx context.Context, tx *store.Tx, org auth.OrgID) error {
	if err := tx.QueryRowContext(ctx, `SELECT connection_policy FROM org WHERE id = $1`, org).Scan(&g.policy); err != nil {
		return fmt.Errorf("read policy: %w", err)
	}
	rows, err := tx.QueryContext(ctx, `SELECT id, connection_policy FROM device_type WHERE org = $1 AND connection_policy <> ''`, org)
	if err != nil {
		return fmt.Errorf("list policies: %w", err)
	}
	return each(rows, func() error {
		var typ, policy string
		if err := rows.Scan(&typ, &policy); err != nil {
			return fmt.Errorf("read policy: %w", err)
		}
		g.policies[typ] = policy
		return nil
	})
}

func readPolicies(ctx context.Context, tx *store.Tx, org auth.OrgID) (Policies, error) {
	g := gate{policies: map[string]string{}}
	if _, err := readOrg(ctx, tx, org); err != nil {
		return Policies{}, err
	}
	err := g.readPolicies(ctx, tx, org)
	return Policies{Default: g.policy, Types: g.policies}, err
}

// Policies returns the connection security policies of an organisation.
func (r *Registry) Policies(ctx context.Context, a Actor, org auth.OrgID) (Policies, error) {
	ctx, err := r.may(ctx, a, org, permission.NetworkRead)
	if err != nil {
		return Policies{}, err
	}
	var p Policies
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		p, err = readPolicies(ctx, tx, org)
		return err
	})
	return p, err
}

// check checks a change of policies: an empty default stays, and a type with an
// empty policy has that of the organisation from then on.
func (p Policies) check() error {
	var bad mistakes
	if p.Default != "" {
		bad.add(checkPolicy("default", p.Default))
	}
	for _, typ := range slices.Sorted(maps.Keys(p.Types)) {
		if p.Types[typ] != "" {
			bad.add(checkPolicy("types: "+clip(typ), p.Types[typ]))
		}
	}
	if len(p.Types) > maxLimit {
		return errs.E(errs.Invalid, "types must be at most %d, are %d", maxLimit, len(p.Types))
	}
	return bad.err()
}

// SetPolicies changes the connection security policies of an organisation. Who is
// connected without what they ask for is disconnected.
func (r *Registry) SetPolicies(ctx context.Context, a Actor, org auth.OrgID, p Policies) (Policies, error) {
	ctx, err := r.may(ctx, a, org, permission.NetworkWrite)
	if err != nil {
		return Policies{}, err
	}
	if err := p.check(); err != nil {
		return Policies{}, err
	}
	var now Policies
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "policy.update", target: string(org), gates: true, renew: []auth.Principal{{Org: org}}}
		old, err := readPolicies(ctx, tx, org)
		if err != nil {
			return e, err
		}
		if p.Default != "" {
			if _, err := tx.ExecContext(ctx, `UPDATE org SET connection_policy = $2 WHERE id = $1`, org, p.Default); err != nil {
				return e, fmt.Errorf("update policy: %w", err)
			}
		}
		for _, typ := range slices.Sorted(maps.Keys(p.Types)) {
			res, err := tx.ExecContext(ctx, `UPDATE device_type SET connection_policy = $3 WHERE org = $1 AND id = $2`, org, typ, p.Types[typ])
			if err := found(res, err, noType(clip(typ))); err != nil {
				return e, err
			}
		}
		if now, err = readPolicies(ctx, tx, org); err != nil {
			return e, err
		}
		e.detail = map[string]any{"policies": now.text(), "before": old.text()}
		return e, nil
	})
	return now, err
}

// text writes policies for the audit record.
func (p Policies) text() string {
	all := []string{"default " + p.Default}
	for _, typ := range slices.Sorted(maps.Keys(p.Types)) {
		all = append(all, typ+" "+p.Types[typ])
	}
	return strings.Join(all, ", ")
}

// A Compliance says how many devices of a type have what its policy asks for. All
// devices have a token, so that it is certificates that may lack.
type Compliance struct {
	Type    string
	Policy  string
	Devices int64
	Without int64 // of them: without a certificate that is good now, though the policy asks for one
}

// Compliance returns, for each device type, how its devices comply with policies
// changed as p says, which is not done: a look before the change. The zero p is no
// change.
func (r *Registry) Compliance(ctx context.Context, a Actor, org auth.OrgID, p Policies) ([]Compliance, error) {
	ctx, h, err := r.mayAs(ctx, a, org, permission.NetworkRead)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	var all []Compliance
	err = r.view(ctx, func(tx *store.Tx) error {
		now, err := readPolicies(ctx, tx, org)
		if err != nil {
			return err
		}
		const q = `SELECT t.id, (SELECT COUNT(*) FROM device d WHERE d.org = t.org AND d.type = t.id),
			(SELECT COUNT(DISTINCT c.device) FROM device_certificate c WHERE c.org = t.org AND c.type = t.id AND c.not_after > $2)
			FROM device_type t WHERE t.org = $1 ORDER BY t.id`
		rows, err := tx.QueryContext(ctx, q, org, micros(r.now()))
		if err != nil {
			return fmt.Errorf("count devices: %w", err)
		}
		all = nil
		return each(rows, func() error {
			var c Compliance
			var with int64
			if err := rows.Scan(&c.Type, &c.Devices, &with); err != nil {
				return fmt.Errorf("read count: %w", err)
			}
			if c.Policy = now.after(p, c.Type); asksForCertificate(c.Policy) {
				c.Without = c.Devices - with
			}
			all = append(all, c)
			return nil
		})
	})
	return all, err
}

// after returns the policy of a type if p were changed as change says.
func (p Policies) after(change Policies, typ string) string {
	of, changed := change.Types[typ]
	if !changed {
		of = p.Types[typ]
	}
	for _, s := range []string{of, change.Default, p.Default} {
		if s != "" {
			return s
		}
	}
	return PolicyEither
}

func asksForCertificate(policy string) bool {
	return policy == PolicyCertificate || policy == PolicyBoth
}

// NonCompliant lists the devices that have no certificate that is good now, though
// their policy asks for one.
func (r *Registry) NonCompliant(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]DeviceName, string, error) {
	ctx, h, err := r.mayAs(ctx, a, org, permission.NetworkRead)
	if err == nil {
		err = unlimited(h)
	}
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("noncompliant", 2)
	if err != nil {
		return nil, "", err
	}
	const q = `SELECT d.type, d.id FROM device d WHERE d.org = $1 AND (d.type, d.id) > ($2, $3)
		AND EXISTS (SELECT 1 FROM device_type t JOIN org o ON o.id = t.org WHERE t.org = d.org AND t.id = d.type
			AND (t.connection_policy IN ('certificate', 'both') OR t.connection_policy = '' AND o.connection_policy IN ('certificate', 'both')))
		AND NOT EXISTS (SELECT 1 FROM device_certificate c WHERE c.org = d.org AND c.type = d.type AND c.device = d.id AND c.not_after > $4)
		ORDER BY d.type, d.id LIMIT $5`
	all, err := list[DeviceName](ctx, r, q, org, key[0], key[1], micros(r.now()), size+1)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(d DeviceName) string { return cursor("noncompliant", d.Type, d.ID) })
	return all, next, nil
}
