package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// Client identifiers of a user.
const (
	maxClients = 100
	maxClient  = 128 // bytes of one
)

// OrgRules returns the rules that hold for every user of an organisation.
func (r *Registry) OrgRules(ctx context.Context, a Actor, org auth.OrgID) ([]Rule, error) {
	ctx, err := r.may(ctx, a, org, permission.RuleRead)
	if err != nil {
		return nil, err
	}
	var rules []Rule
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		rules, err = readOrgRules(ctx, tx, org)
		return err
	})
	return rules, err
}

// readOrgRules returns the rules of a plain organisation.
func readOrgRules(ctx context.Context, tx *store.Tx, org auth.OrgID) ([]Rule, error) {
	o, err := readOrg(ctx, tx, org)
	if err != nil {
		return nil, err
	}
	if err := o.hasUsers(); err != nil {
		return nil, err
	}
	var text string
	if err := tx.QueryRowContext(ctx, `SELECT rules FROM org WHERE id = $1`, org).Scan(&text); err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	var rules []Rule
	if text != "" {
		err = decodeRules(text, &rules)
	}
	return rules, err
}

// SetOrgRules replaces the rules that hold for every user of an organisation.
// They stand before the user's own, so that those decide where both match.
// Whoever is connected goes on with the new ones.
func (r *Registry) SetOrgRules(ctx context.Context, a Actor, org auth.OrgID, rules []Rule) error {
	ctx, err := r.may(ctx, a, org, permission.RuleWrite)
	if err != nil {
		return err
	}
	if _, err := parseRules(rules); err != nil {
		return err
	}
	text, err := json.Marshal(rules)
	if err != nil {
		return fmt.Errorf("encode rules: %w", err)
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		before, err := readOrgRules(ctx, tx, org)
		if err != nil {
			return effect{}, err
		}
		_, err = tx.ExecContext(ctx, `UPDATE org SET rules = $2 WHERE id = $1`, org, string(text))
		return effect{org: org, action: "org.rules", target: string(org), affected: []auth.Principal{{Org: org}},
			detail: map[string]any{"before": describe(before), "rules": describe(rules)}}, wrap("update rules", err)
	})
}

// checkClients checks the client identifiers of a user, which take the place of
// %c: one that would be more than a part of a level is of no use there.
func checkClients(clients []string) error {
	if len(clients) > maxClients {
		return errs.E(errs.Invalid, "client ids must be at most %d, are %d", maxClients, len(clients))
	}
	var bad mistakes
	for i, c := range clients {
		switch {
		case len(c) > maxClient || !profile.Harmless(c) || !utf8.ValidString(c) || checkText("", c, maxClient) != nil:
			bad.add(errs.E(errs.Invalid, "client id %d must have 1 to %d bytes and none of + # / %% $ and control characters", i+1, maxClient))
		case slices.Contains(clients[:i], c):
			bad.add(errs.E(errs.Invalid, "client id %d is there twice", i+1))
		}
	}
	return bad.err()
}

// replaceClients gives a user its client identifiers, instead of those it has.
func replaceClients(ctx context.Context, tx *store.Tx, org auth.OrgID, name string, clients []string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM mqtt_client WHERE org = $1 AND name = $2`, org, name); err != nil {
		return fmt.Errorf("delete client ids: %w", err)
	}
	for _, c := range clients {
		_, err := tx.ExecContext(ctx, `INSERT INTO mqtt_client (org, client, name) VALUES ($1, $2, $3)`, org, c, name)
		if store.IsUnique(err) {
			return errs.E(errs.Conflict, "client id %q belongs to another user", c)
		}
		if err != nil {
			return fmt.Errorf("insert client id: %w", err)
		}
	}
	return nil
}

// readClients returns the client identifiers of a user.
func readClients(ctx context.Context, tx *store.Tx, org auth.OrgID, name string) ([]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT client FROM mqtt_client WHERE org = $1 AND name = $2 ORDER BY client`, org, name)
	if err != nil {
		return nil, fmt.Errorf("list client ids: %w", err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var c string
		if err := rows.Scan(&c); err != nil {
			return nil, fmt.Errorf("read client id: %w", err)
		}
		all = append(all, c)
	}
	return all, wrap("list client ids", rows.Err())
}

// SetUserClients replaces the client identifiers that %c may stand for in the
// rules of a user. It may connect with any other too, and then gets nothing from
// rules with %c.
func (r *Registry) SetUserClients(ctx context.Context, a Actor, org auth.OrgID, name string, clients []string) error {
	ctx, err := r.may(ctx, a, org, permission.UserWrite)
	if err != nil {
		return err
	}
	if err := checkClients(clients); err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		u, err := readUser(ctx, tx, org, name)
		if err != nil {
			return effect{}, err
		}
		if u.Role != "" {
			return effect{}, errs.E(errs.Invalid, "user %q has a role, and no client ids", name)
		}
		e := effect{org: org, action: "user.clients", target: name, affected: []auth.Principal{u.Principal()},
			detail: map[string]any{"before": strings.Join(u.Clients, " "), "clients": strings.Join(clients, " ")}}
		return e, replaceClients(ctx, tx, org, name, clients)
	})
}
