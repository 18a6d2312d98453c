package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// What the ranges and countries of a Network are for.
const (
	NetworkOff   = "off"   // nothing: clients may connect from everywhere
	NetworkAllow = "allow" // clients may connect from there only
	NetworkDeny  = "deny"  // clients may not connect from there
)

const (
	maxRanges    = 1000
	maxCountries = 300
)

// A Network says from where clients may connect to an organisation's messaging.
// The console and the API are not concerned, so that a mistake can be mended.
type Network struct {
	Mode      string   `json:"mode"`
	Ranges    []string `json:"ranges,omitempty"`    // addresses, or ranges of them (CIDR)
	Countries []string `json:"countries,omitempty"` // ISO 3166-1 alpha-2
}

// errNetwork refuses where a client comes from.
var errNetwork = errs.E(errs.Denied, "the organisation's network rules do not allow connections from this address")

// check checks n, and writes its ranges in the one way.
func (n *Network) check() error {
	var bad mistakes
	if n.Mode != NetworkOff && n.Mode != NetworkAllow && n.Mode != NetworkDeny {
		bad.add(errs.E(errs.Invalid, "mode must be %q, %q or %q, is %q", NetworkOff, NetworkAllow, NetworkDeny, clip(n.Mode)))
	}
	if len(n.Ranges) > maxRanges {
		return errs.E(errs.Invalid, "ranges must be at most %d, are %d", maxRanges, len(n.Ranges))
	}
	if len(n.Countries) > maxCountries {
		return errs.E(errs.Invalid, "countries must be at most %d, are %d", maxCountries, len(n.Countries))
	}
	for i, s := range n.Ranges {
		p, err := parsePrefix(s)
		if err != nil {
			bad.add(errs.E(errs.Invalid, "ranges: %q must be an IP address or a range of them, as 192.0.2.0/24 or 2001:db8::/32", clip(s)))
			continue
		}
		n.Ranges[i] = p.String()
	}
	for _, s := range n.Countries {
		if len(s) != 2 || s[0] < 'A' || s[0] > 'Z' || s[1] < 'A' || s[1] > 'Z' {
			bad.add(errs.E(errs.Invalid, "countries: %q must be two capital letters, as in ISO 3166-1", clip(s)))
		}
	}
	if n.Mode == NetworkAllow && len(n.Ranges)+len(n.Countries) == 0 {
		bad.add(errs.E(errs.Invalid, "ranges or countries must name at least one from where clients may connect"))
	}
	return bad.err()
}

// text writes n for the audit record: a long list not to its end.
func (n Network) text() string {
	all := slices.Concat(n.Ranges, n.Countries)
	const most = 50
	if len(all) > most {
		all = append(all[:most:most], fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(append([]string{n.Mode}, all...), " ")
}

// Network returns from where clients may connect to an organisation.
func (r *Registry) Network(ctx context.Context, a Actor, org auth.OrgID) (Network, error) {
	ctx, err := r.may(ctx, a, org, permission.NetworkRead)
	if err != nil {
		return Network{}, err
	}
	var n Network
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		n, err = readNetwork(ctx, tx, org)
		return err
	})
	return n, err
}

func readNetwork(ctx context.Context, tx *store.Tx, org auth.OrgID) (Network, error) {
	n := Network{Mode: NetworkOff}
	if _, err := readOrg(ctx, tx, org); err != nil {
		return n, err
	}
	var text string
	if err := tx.QueryRowContext(ctx, `SELECT network FROM org WHERE id = $1`, org).Scan(&text); err != nil {
		return n, fmt.Errorf("read network: %w", err)
	}
	if text == "" {
		return n, nil
	}
	return n, wrap("decode network", json.Unmarshal([]byte(text), &n))
}

// SetNetwork replaces from where clients may connect to an organisation. Who is
// connected from elsewhere is disconnected.
func (r *Registry) SetNetwork(ctx context.Context, a Actor, org auth.OrgID, n Network) (Network, error) {
	ctx, err := r.may(ctx, a, org, permission.NetworkWrite)
	if err != nil {
		return Network{}, err
	}
	n.Ranges, n.Countries = tidy(n.Ranges), tidy(n.Countries)
	if err := n.check(); err != nil {
		return Network{}, err
	}
	if len(n.Countries) > 0 && r.country == nil {
		return Network{}, errs.E(errs.Invalid, "countries: the operator of this server has given it no database of countries (country_database)")
	}
	text, err := json.Marshal(n)
	if err != nil {
		return Network{}, fmt.Errorf("encode network: %w", err)
	}
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		old, err := readNetwork(ctx, tx, org)
		if err != nil {
			return effect{}, err
		}
		_, err = tx.ExecContext(ctx, `UPDATE org SET network = $2 WHERE id = $1`, org, string(text))
		return effect{org: org, action: "network.update", target: string(org), gates: true, renew: []auth.Principal{{Org: org}},
			detail: map[string]any{"network": n.text(), "before": old.text()}}, wrap("update network", err)
	})
	if err != nil {
		return Network{}, err
	}
	return n, nil
}

// A gate is what an organisation asks of every connection beside who it is.
type gate struct {
	mode      string
	ranges    []netip.Prefix
	countries []string
	policy    string            // for devices and gateways
	policies  map[string]string // for those of a type, where it is another
}

// gateOf returns the gate of an organisation, as remembered or else as the store
// has it.
func (r *Registry) gateOf(ctx context.Context, org auth.OrgID) (*gate, error) {
	g, generation := r.gates.get(org)
	if g != nil {
		return g, nil
	}
	g = &gate{policies: map[string]string{}}
	err := r.db.View(forOrg(ctx, org), func(tx *store.Tx) error {
		n, err := readNetwork(ctx, tx, org)
		if err != nil {
			return nobody(err)
		}
		g.mode, g.countries, g.ranges = n.Mode, n.Countries, nil
		for _, s := range n.Ranges {
			p, err := netip.ParsePrefix(s)
			if err != nil {
				return fmt.Errorf("read network: %w", err)
			}
			g.ranges = append(g.ranges, p)
		}
		return g.readPolicies(ctx, tx, org)
	})
	if err != nil {
		return nil, err
	}
	r.gates.put(org, g, generation)
	return g, nil
}

// passes checks that a connection passes the gate of its organisation.
func (r *Registry) passes(ctx context.Context, ref auth.Ref) error {
	g, err := r.gateOf(ctx, ref.Principal.Org)
	if err != nil {
		return err
	}
	if err := g.allowsFrom(ref.Address, r.country); err != nil {
		return err
	}
	return g.suffices(ref)
}

// allowsFrom checks where a connection comes from. Where that is not known, or its
// country is not where it matters, the answer is no.
func (g *gate) allowsFrom(from netip.Addr, country func(netip.Addr) (string, error)) error {
	if g.mode == NetworkOff || g.mode == "" {
		return nil
	}
	if !from.IsValid() {
		return errNetwork
	}
	listed := slices.ContainsFunc(g.ranges, func(p netip.Prefix) bool { return p.Contains(from.WithZone("")) })
	if !listed && len(g.countries) > 0 {
		if country == nil {
			return errNoCountries
		}
		c, err := country(from)
		if err != nil {
			return fmt.Errorf("look up country: %w", err)
		}
		// An address of no country is in none of those from where clients may connect;
		// and it may be in any of those from where they may not.
		listed = slices.Contains(g.countries, c) || c == "" && g.mode == NetworkDeny && !private(from)
	}
	if listed != (g.mode == NetworkAllow) {
		return errNetwork
	}
	return nil
}

// private reports whether an address is in no country by its nature.
func private(a netip.Addr) bool { return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() }

// errNoCountries says that a rule cannot be checked.
var errNoCountries = errors.New("network rules name countries, and there is no database of countries")
