package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// An account is what has to be known to let somebody in: one row of devices,
// applications or users with the state of its organisation. It is immutable.
type account struct {
	principal auth.Principal
	profile   string
	uid       string
	disabled  bool // it or its organisation
	token     heldToken
	before    heldToken        // the token before, while it is still good
	attached  []string         // of a gateway: "type:id" of each enabled device attached to it
	registers bool             // of a gateway: it may register devices
	patterns  []auth.Rule      // of every user of the organisation
	rules     []auth.Rule      // of a user
	clients   []string         // of a user: its client identifiers
	role      string           // of a user of a home
	home      HomeOptions      // of its organisation
	parts     []profile.Part   // the rights of an API key or a person
	makers    []auth.Principal // who stands behind an API key
	until     time.Time        // when that ends; zero: never
}

// errNobody says that there is no such account.
var errNobody = errors.New("nobody has this name")

// errWrong says that an account is not accepted with what was presented.
var errWrong = errors.New("wrong token")

// account returns the account of p if accept accepts it: as remembered, else as
// the store has it. A refusal always asks the store and calls accept twice,
// with an empty account where there is none, so that its cost does not tell
// whether the name exists.
func (r *Registry) account(ctx context.Context, p auth.Principal, accept func(*account) bool) (*account, error) {
	a, generation := r.known.get(p)
	if a != nil && !a.until.IsZero() && !r.clock().Before(a.until) {
		a = nil // what was remembered is over
	}
	if a == nil {
		accept(&account{principal: p})
	} else if accept(a) {
		return a, nil
	}
	err := r.db.View(forOrg(ctx, p.Org), func(tx *store.Tx) (err error) {
		if a, err = readAccount(ctx, tx, p); err != nil {
			accept(&account{principal: p})
			return err
		}
		if !accept(a) {
			return errWrong
		}
		switch p.Kind {
		case auth.Gateway:
			a.attached, err = readAttached(ctx, tx, p)
		case auth.User:
			a.clients, err = readClients(ctx, tx, p.Org, p.ID)
		case auth.Application:
			err = r.readHolder(ctx, tx, a)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	r.known.put(a, generation)
	return a, nil
}

// readHolder completes the account of an API key by what it may do.
func (r *Registry) readHolder(ctx context.Context, tx *store.Tx, a *account) error {
	p, err := readApplication(ctx, tx, a.principal.Org, a.principal.ID)
	if err != nil {
		return err
	}
	held, err := r.keyHolds(ctx, tx, p, maxMakers)
	if err != nil {
		return err
	}
	a.parts, a.until, a.makers = held.parts, held.until, held.makers
	return reachDevices(ctx, tx, p.Org, a.parts)
}

const (
	deviceAccount = `SELECT d.uid, d.class, d.disabled OR o.disabled, o.profile, d.token_hash, d.scram, d.token_version, d.token_until, d.old_hash, d.old_scram, d.old_until, '', '', '', FALSE, FALSE, FALSE, d.registers
		FROM device d JOIN org o ON o.id = d.org WHERE d.org = $1 AND d.type = $2 AND d.id = $3`
	applicationAccount = `SELECT a.uid, '', a.disabled OR o.disabled, o.profile, a.token_hash, a.scram, a.token_version, a.token_until, a.old_hash, a.old_scram, a.old_until, '', '', '', FALSE, FALSE, FALSE, FALSE
		FROM application a JOIN org o ON o.id = a.org WHERE a.org = $1 AND a.key = $2`
	userAccount = `SELECT u.uid, '', u.disabled OR o.disabled, o.profile, u.token_hash, u.scram, u.token_version, u.token_until, u.old_hash, u.old_scram, u.old_until, u.rules, o.rules,
		u.role, o.home_anonymous, o.home_prefix, o.home_v0, FALSE
		FROM mqtt_user u JOIN org o ON o.id = u.org WHERE u.org = $1 AND u.name = $2`
)

func readAccount(ctx context.Context, tx *store.Tx, p auth.Principal) (*account, error) {
	var row *sql.Row
	switch p.Kind {
	case auth.Device, auth.Gateway:
		typ, id := p.TypeAndID()
		row = tx.QueryRowContext(ctx, deviceAccount, p.Org, typ, id)
	case auth.Application:
		row = tx.QueryRowContext(ctx, applicationAccount, p.Org, p.ID)
	case auth.User:
		row = tx.QueryRowContext(ctx, userAccount, p.Org, p.ID)
	default:
		return nil, errNobody
	}
	a := &account{principal: p}
	var class, rules, patterns string
	var until, oldUntil int64
	err := row.Scan(&a.uid, &class, &a.disabled, &a.profile, &a.token.hash, &a.token.scram, &a.token.version, &until,
		&a.before.hash, &a.before.scram, &oldUntil, &rules, &patterns,
		&a.role, &a.home.Anonymous, &a.home.Prefix, &a.home.V0, &a.registers)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, errNobody
	case err != nil:
		return nil, fmt.Errorf("read account: %w", err)
	case class != "" && kindOf(class) != p.Kind:
		return nil, errNobody // a device that calls itself a gateway, or the other way round
	}
	a.token.until = orZero(until)
	if len(a.before.hash) > 0 {
		a.before.version, a.before.until = a.token.version-1, fromMicros(oldUntil)
	}
	if a.rules, err = storedRules(rules); err != nil {
		return nil, err
	}
	if a.patterns, err = storedRules(patterns); err != nil {
		return nil, err
	}
	return a, nil
}

// readAttached returns the enabled devices attached to gateway p.
func readAttached(ctx context.Context, tx *store.Tx, p auth.Principal) ([]string, error) {
	typ, id := p.TypeAndID()
	const q = `SELECT type, id FROM device
		WHERE org = $1 AND gateway_type = $2 AND gateway_id = $3 AND gateway_id <> '' AND NOT disabled ORDER BY type, id`
	rows, err := tx.QueryContext(ctx, q, p.Org, typ, id)
	if err != nil {
		return nil, fmt.Errorf("list attached devices: %w", err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var typ, id string
		if err := rows.Scan(&typ, &id); err != nil {
			return nil, fmt.Errorf("read attached device: %w", err)
		}
		all = append(all, typ+":"+id)
	}
	return all, wrap("list attached devices", rows.Err())
}

// storedRules reads rules from the store; an empty text is none.
func storedRules(s string) ([]auth.Rule, error) {
	if s == "" {
		return nil, nil
	}
	var rules []Rule
	if err := decodeRules(s, &rules); err != nil {
		return nil, err
	}
	parsed, err := parseRules(rules)
	return parsed, wrap("decode rules", err)
}

// lockable returns what a lock may be of, where a is let in as ref.
func (a *account) lockable(ref auth.Ref) lockable {
	x := lockedRef(ref)
	x.makers = a.makers
	return x
}

// identity returns what the rights of a follow from.
func (a *account) identity(ref auth.Ref) profile.Identity {
	return profile.Identity{Ref: ref, Attached: a.attached, Register: a.registers, Patterns: a.patterns, Rules: a.rules, Clients: a.clients,
		Role: a.role, Home: a.home, Parts: a.parts}
}
