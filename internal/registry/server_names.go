package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const maxServerNames = 50 // of an organisation

func noServerName(name string) error { return errs.E(errs.NotFound, "name %q not found", clip(name)) }

// GiveServerName gives an organisation a host name of its own: its clients may ask
// for it, others may not, and the organisation may have a certificate for it. Only
// an administrator knows whose a name is.
func (r *Registry) GiveServerName(ctx context.Context, a Actor, org auth.OrgID, name string) error {
	if err := a.mayAdminister(); err != nil {
		return err
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if err := checkServerName(name); err != nil {
		return err
	}
	if r.ownName(name) {
		return errs.E(errs.Invalid, "name: %q is the installation's own, or that of an organisation by its id", name)
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "server-name.give", target: name, certificates: true, names: true}
		if _, err := readOrg(ctx, tx, org); err != nil {
			return e, err
		}
		if err := room(ctx, tx, org, "org_server_name", maxServerNames); err != nil {
			return e, err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO org_server_name (name, org, created_at) VALUES ($1, $2, $3)`, name, org, micros(r.now()))
		if store.IsUnique(err) {
			return e, errs.E(errs.Conflict, "name: %q is given already", name)
		}
		return e, wrap("insert name", err)
	})
}

// TakeServerName takes a host name from an organisation.
func (r *Registry) TakeServerName(ctx context.Context, a Actor, org auth.OrgID, name string) error {
	if err := a.mayAdminister(); err != nil {
		return err
	}
	return r.change(store.ForAll(ctx), a, func(tx *store.Tx) (effect, error) {
		res, err := tx.ExecContext(ctx, `DELETE FROM org_server_name WHERE org = $1 AND name = $2`, org, strings.ToLower(name))
		return effect{org: org, action: "server-name.take", target: name, certificates: true, names: true}, found(res, err, noServerName(name))
	})
}

// checkServerName checks a host name (RFC 1123 §2.1).
func checkServerName(s string) error {
	labels := strings.Split(s, ".")
	bad := len(s) > 253 || len(labels) < 2 || strings.Trim(labels[len(labels)-1], "0123456789") == ""
	for _, l := range labels {
		bad = bad || l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != ""
	}
	if bad {
		return errs.E(errs.Invalid, "name: %q is not a host name, as mqtt.example.org", clip(s))
	}
	return nil
}

// given remembers whose each given name is.
type givenNames map[string]auth.OrgID

// orgNamed returns the organisation that was given a name, if one was.
func (r *Registry) orgNamed(ctx context.Context, name string) (auth.OrgID, bool, error) {
	if name == "" {
		return "", false, nil
	}
	all, generation := r.given.get("")
	if all == nil {
		m := givenNames{}
		err := r.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
			rows, err := tx.QueryContext(ctx, `SELECT name, org FROM org_server_name`)
			if err != nil {
				return fmt.Errorf("list names: %w", err)
			}
			clear(m)
			return each(rows, func() error {
				var name string
				var org auth.OrgID
				err := rows.Scan(&name, &org)
				m[name] = org
				return wrap("read name", err)
			})
		})
		if err != nil {
			return "", false, err
		}
		all = &m
		r.given.put("", all, generation)
	}
	org, ok := (*all)[strings.ToLower(strings.TrimSuffix(name, "."))]
	return org, ok, nil
}

// readClaim is parseClaim, and checks that the name which the client asked for was
// not given to another organisation.
func (r *Registry) readClaim(ctx context.Context, c auth.Credentials) (claim, error) {
	cl, err := parseClaim(c)
	if err != nil {
		return cl, err
	}
	org, ok, err := r.orgNamed(ctx, c.ServerName)
	if err == nil && ok && org != cl.principal.Org {
		err = errServerName
	}
	if err != nil && !errors.Is(err, errServerName) {
		err = fault(err)
	}
	return cl, err
}
