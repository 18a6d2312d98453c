package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/topic"
)

// A User is an MQTT user of an organisation with the plain or the home profile.
// It connects as "org/name" with its password and any client id.
type User struct {
	Org      auth.OrgID
	Name     string
	Disabled bool
	Created  time.Time
	Role     string // in a home: "actor", "provider" or "bridge"
	Rules    []Rule // after those of the organisation; the last rule that matches decides
	// Clients are the client identifiers that %c may stand for, of which each
	// belongs to one user at most; nil at creation: the user's name, but in a home.
	Clients []string
	// Imported says that the user has not connected yet since its password was
	// imported.
	Imported bool
}

// A Rule allows or denies a user something on the topics that Filter matches.
type Rule struct {
	Action string // "publish", "subscribe" or "receive"
	Filter string
	Deny   bool
}

const (
	maxRules  = 100
	maxFilter = 256 // bytes; so that all rules fit into one audit record
)

// everything is what a user may do unless told otherwise.
func everything() []Rule {
	return []Rule{{Action: "publish", Filter: "#"}, {Action: "subscribe", Filter: "#"}, {Action: "receive", Filter: "#"}}
}

// parse checks rule number n and returns it as the broker knows it.
func (r Rule) parse(n int) (auth.Rule, error) {
	f, err := topic.ParseFilter(r.Filter)
	if err != nil {
		return auth.Rule{}, errs.E(errs.Invalid, "rule %d: %s", n, errs.Message(err))
	}
	if len(r.Filter) > maxFilter {
		return auth.Rule{}, errs.E(errs.Invalid, "rule %d: filter must have at most %d bytes, has %d", n, maxFilter, len(r.Filter))
	}
	for _, action := range []auth.Action{auth.Publish, auth.Subscribe, auth.Receive} {
		if r.Action == action.String() {
			return auth.Rule{Action: action, Filter: f, Deny: r.Deny}, nil
		}
	}
	return auth.Rule{}, errs.E(errs.Invalid, `rule %d: action must be "publish", "subscribe" or "receive", is %q`, n, r.Action)
}

// describe writes rules for the audit record.
func describe(rules []Rule) []string {
	var all []string
	for _, r := range rules {
		what := "allow "
		if r.Deny {
			what = "deny "
		}
		all = append(all, what+r.Action+" "+r.Filter)
	}
	return all
}

// parseRules returns all rules, or every mistake in them.
func parseRules(rules []Rule) ([]auth.Rule, error) {
	var bad mistakes
	if len(rules) > maxRules {
		return nil, errs.E(errs.Invalid, "rules must be at most %d, are %d", maxRules, len(rules))
	}
	parsed := make([]auth.Rule, 0, len(rules))
	for i, rule := range rules {
		p, err := rule.parse(i + 1)
		bad.add(err)
		parsed = append(parsed, p)
	}
	return parsed, bad.err()
}

// Principal returns who the user is when it connects.
func (u User) Principal() auth.Principal {
	return auth.Principal{Org: u.Org, Kind: auth.User, ID: u.Name}
}

const userColumns = `org, name, disabled, role, rules, created_at, imported IS NOT NULL`

func (u *User) scan(row scanner) error {
	var created int64
	var rules string
	if err := row.Scan(&u.Org, &u.Name, &u.Disabled, &u.Role, &rules, &created, &u.Imported); err != nil {
		return err
	}
	u.Created = fromMicros(created)
	return decodeRules(rules, &u.Rules)
}

// decodeRules reads stored rules.
func decodeRules(s string, rules *[]Rule) error {
	return wrap("decode rules", json.Unmarshal([]byte(s), rules))
}

func noUser(name string) error { return errs.E(errs.NotFound, "user %q not found", name) }

// CreateUser creates a user and returns the password, which is never shown
// again. Without rules of its own, those of the organisation hold for it or, if
// there are none, it may do everything.
func (r *Registry) CreateUser(ctx context.Context, a Actor, u User) (User, secret.String, error) {
	return r.createUser(ctx, a, u, func() (fresh, error) { return r.newFresh(u.Principal()) })
}

// createUser creates a user with the token or the hash that makes returns.
func (r *Registry) createUser(ctx context.Context, a Actor, u User, makes func() (fresh, error)) (User, secret.String, error) {
	ctx, err := r.may(ctx, a, u.Org, permission.UserWrite)
	if err != nil {
		return User{}, secret.String{}, err
	}
	var bad mistakes
	bad.add(checkUserName(u.Name))
	_, err = parseRules(u.Rules)
	bad.add(err)
	bad.add(checkClients(u.Clients))
	if err := bad.err(); err != nil {
		return User{}, secret.String{}, err
	}
	u.Disabled, u.Created = false, r.now()
	f, err := makes()
	if err != nil {
		return User{}, secret.String{}, fault(err)
	}
	u.Imported = f.imported != nil
	var made User
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		made = u
		err := r.insertUser(ctx, tx, &made, f)
		return effect{org: u.Org, action: "user.create", target: u.Name, affected: []auth.Principal{u.Principal()},
			detail: map[string]any{"rules": describe(made.Rules), "clients": strings.Join(made.Clients, " "), "role": made.Role, "imported": made.Imported}}, err
	})
	if err != nil {
		return User{}, secret.String{}, err
	}
	return made, f.token, nil
}

// hasUsers checks that o has users at all.
func (o Org) hasUsers() error {
	if o.Profile != ProfilePlain {
		return errs.E(errs.Invalid, "organisation %q has profile %q; plain users need one with profile %q",
			string(o.ID), o.Profile, ProfilePlain)
	}
	return nil
}

func (r *Registry) insertUser(ctx context.Context, tx *store.Tx, u *User, f fresh) error {
	if err := u.settle(ctx, tx); err != nil {
		return err
	}
	rules, err := json.Marshal(u.Rules)
	if err != nil {
		return fmt.Errorf("encode rules: %w", err)
	}
	uid, err := newUID()
	if err != nil {
		return err
	}
	const q = `INSERT INTO mqtt_user (org, name, uid, token_hash, token_version, rules, created_at, token_at, scram, role, imported)
		VALUES ($1, $2, $3, $4, 1, $5, $6, $6, $7, $8, $9)`
	_, err = tx.ExecContext(ctx, q, u.Org, u.Name, uid, hashToken(r.ring, u.Principal(), f.token), string(rules), micros(u.Created), orNull(f.scram), u.Role, orNull(f.imported))
	if store.IsUnique(err) {
		return errs.E(errs.Conflict, "user %q exists", u.Name)
	}
	if err != nil {
		return fmt.Errorf("insert user: %w", err)
	}
	return replaceClients(ctx, tx, u.Org, u.Name, u.Clients)
}

// Users lists the users of an organisation by name, without their client
// identifiers.
func (r *Registry) Users(ctx context.Context, a Actor, org auth.OrgID, p Page) ([]User, string, error) {
	ctx, err := r.may(ctx, a, org, permission.UserRead)
	if err != nil {
		return nil, "", err
	}
	size, err := p.size()
	if err != nil {
		return nil, "", err
	}
	key, err := p.after("user", 1)
	if err != nil {
		return nil, "", err
	}
	const q = `SELECT ` + userColumns + ` FROM mqtt_user WHERE org = $1 AND name > $2 ORDER BY name LIMIT $3`
	all, err := list[User](ctx, r, q, org, key[0], size+1)
	if err != nil {
		return nil, "", err
	}
	all, next := cut(all, size, func(u User) string { return cursor("user", u.Name) })
	return all, next, nil
}

// User returns one user.
func (r *Registry) User(ctx context.Context, a Actor, org auth.OrgID, name string) (User, error) {
	ctx, err := r.may(ctx, a, org, permission.UserRead)
	if err != nil {
		return User{}, err
	}
	var u User
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		u, err = readUser(ctx, tx, org, name)
		return err
	})
	return u, err
}

func readUser(ctx context.Context, tx *store.Tx, org auth.OrgID, name string) (User, error) {
	if _, err := readOrg(ctx, tx, org); err != nil {
		return User{}, err
	}
	const q = `SELECT ` + userColumns + ` FROM mqtt_user WHERE org = $1 AND name = $2`
	u, err := one[User](tx.QueryRowContext(ctx, q, org, name), noUser(name))
	if err == nil {
		u.Clients, err = readClients(ctx, tx, org, name)
	}
	return u, err
}

// changeUser makes one change to one user: query with args behind org and name.
func (r *Registry) changeUser(ctx context.Context, a Actor, org auth.OrgID, name, action, query string, args ...any) error {
	ctx, err := r.may(ctx, a, org, permission.UserWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: action, target: name,
			affected: []auth.Principal{{Org: org, Kind: auth.User, ID: name}}}
		if _, err := readOrg(ctx, tx, org); err != nil {
			return e, err
		}
		res, err := tx.ExecContext(ctx, query, append([]any{org, name}, args...)...)
		return e, found(res, err, noUser(name))
	})
}

// SetUserRules replaces all rules of a user. Connections of the user go on with
// the new ones, without the subscriptions that they do not allow.
func (r *Registry) SetUserRules(ctx context.Context, a Actor, org auth.OrgID, name string, rules []Rule) error {
	ctx, err := r.may(ctx, a, org, permission.UserWrite)
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
		u, err := readUser(ctx, tx, org, name)
		if err != nil {
			return effect{}, err
		}
		if u.Role != "" {
			return effect{}, errs.E(errs.Invalid, "user %q has a role, and no rules", name)
		}
		e := effect{org: org, action: "user.rules", target: name, affected: []auth.Principal{u.Principal()},
			detail: map[string]any{"before": describe(u.Rules), "rules": describe(rules)}}
		_, err = tx.ExecContext(ctx, `UPDATE mqtt_user SET rules = $3 WHERE org = $1 AND name = $2`, org, name, string(text))
		return e, wrap("update rules", err)
	})
}

// SetUserDisabled locks a user out or lets it in again.
func (r *Registry) SetUserDisabled(ctx context.Context, a Actor, org auth.OrgID, name string, disabled bool) error {
	const q = `UPDATE mqtt_user SET disabled = $3 WHERE org = $1 AND name = $2`
	return r.changeUser(ctx, a, org, name, able("user", disabled), q, disabled)
}

// DeleteUser deletes a user.
func (r *Registry) DeleteUser(ctx context.Context, a Actor, org auth.OrgID, name string) error {
	ctx, err := r.may(ctx, a, org, permission.UserWrite)
	if err != nil {
		return err
	}
	u := auth.Principal{Org: org, Kind: auth.User, ID: name}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "user.delete", target: name, affected: []auth.Principal{u}}
		if _, err := readOrg(ctx, tx, org); err != nil {
			return e, err
		}
		if err := dropUses(ctx, tx, u); err != nil {
			return e, err
		}
		res, err := tx.ExecContext(ctx, `DELETE FROM mqtt_user WHERE org = $1 AND name = $2`, org, name)
		return e, found(res, err, noUser(name))
	})
}
