package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/store"
)

// Limits are what is set for an organisation and, if it was asked for, for a
// device type of it.
type Limits struct {
	Org  quota.Limits
	Type quota.Limits
}

// Effective returns what holds where base holds for everybody.
func (l Limits) Effective(base quota.Limits) quota.Limits {
	return l.Type.Under(l.Org.Over(base))
}

// OrgLimits returns what is set for an organisation.
func (r *Registry) OrgLimits(ctx context.Context, a Actor, org auth.OrgID) (Limits, error) {
	return r.shownLimits(ctx, a, limitKey{org: org})
}

// TypeLimits returns what is set for a device type and its organisation.
func (r *Registry) TypeLimits(ctx context.Context, a Actor, org auth.OrgID, typ string) (Limits, error) {
	if typ == "" {
		return Limits{}, noType(typ)
	}
	return r.shownLimits(ctx, a, limitKey{org, typ})
}

func (r *Registry) shownLimits(ctx context.Context, a Actor, k limitKey) (Limits, error) {
	ctx, err := r.may(ctx, a, k.org, permission.LimitRead)
	if err != nil {
		return Limits{}, err
	}
	var l Limits
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		l, err = readBoth(ctx, tx, k)
		return err
	})
	return l, err
}

// SetOrgLimits changes what is set for an organisation: each limit that change
// names, to a value or, with nil, back to what holds for everybody.
func (r *Registry) SetOrgLimits(ctx context.Context, a Actor, org auth.OrgID, change map[string]any) (Limits, error) {
	if err := a.mayAdminister(); err != nil {
		return Limits{}, err
	}
	return r.setLimits(ctx, a, limitKey{org: org}, change)
}

// SetTypeLimits changes what is set for the devices of a type. It can only
// lower what holds for them.
func (r *Registry) SetTypeLimits(ctx context.Context, a Actor, org auth.OrgID, typ string, change map[string]any) (Limits, error) {
	ctx, err := r.may(ctx, a, org, permission.LimitWrite)
	if err != nil {
		return Limits{}, err
	}
	if typ == "" {
		return Limits{}, noType(typ)
	}
	for name := range change {
		if l, ok := quota.Named(name); ok && l.OfOrg() {
			return Limits{}, errs.E(errs.Invalid, "%s: is of the whole organisation and cannot be set for a device type; an administrator can set it for the organisation", name)
		}
	}
	return r.setLimits(ctx, a, limitKey{org, typ}, change)
}

func (r *Registry) setLimits(ctx context.Context, a Actor, k limitKey, change map[string]any) (Limits, error) {
	var now Limits
	err := r.change(forOrg(ctx, k.org), a, func(tx *store.Tx) (effect, error) {
		e := effect{org: k.org, action: "org.limits", target: string(k.org), limits: &k}
		var err error
		if now, err = readBoth(ctx, tx, k); err != nil {
			return e, err
		}
		own, update, args := &now.Org, `UPDATE org SET limits = $1 WHERE id = $2`, []any{k.org}
		if k.typ != "" {
			e.action, e.target = "type.limits", k.typ
			own, update, args = &now.Type, `UPDATE device_type SET limits = $1 WHERE org = $2 AND id = $3`, []any{k.org, k.typ}
		}
		before := own.Map()
		if *own, err = own.Change(change); err != nil {
			return e, err
		}
		e.detail = map[string]any{"limits": own.Map(), "before": before}
		_, err = tx.ExecContext(ctx, update, append([]any{storedLimits(*own)}, args...)...)
		return e, wrap("set limits", err)
	})
	if err != nil {
		return Limits{}, err
	}
	return now, nil
}

// readBoth reads what is set for the organisation and for the type that k names.
func readBoth(ctx context.Context, tx *store.Tx, k limitKey) (l Limits, err error) {
	if l.Org, err = readLimits(ctx, tx, limitKey{org: k.org}); err == nil && k.typ != "" {
		l.Type, err = readLimits(ctx, tx, k)
	}
	return l, err
}

// readLimits reads what is set for what k names.
func readLimits(ctx context.Context, tx *store.Tx, k limitKey) (l quota.Limits, err error) {
	q, args, missing := `SELECT limits FROM org WHERE id = $1`, []any{k.org}, noOrg(k.org)
	if k.typ != "" {
		q, args, missing = `SELECT limits FROM device_type WHERE org = $1 AND id = $2`, []any{k.org, k.typ}, noType(k.typ)
	}
	var text string
	switch err := tx.QueryRowContext(ctx, q, args...).Scan(&text); {
	case errors.Is(err, sql.ErrNoRows):
		return l, missing
	case err != nil:
		return l, fmt.Errorf("read limits: %w", err)
	case text == "":
		return l, nil
	}
	// A name that is not known is that of a limit of a newer version. What it
	// bounds must not go unbounded, so that it is an error.
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return l, errs.Wrap(errs.Unavailable, err, "the limits that are set cannot be read; the log says why")
	}
	return l, nil
}

func storedLimits(l quota.Limits) string {
	if l == (quota.Limits{}) {
		return ""
	}
	b, _ := json.Marshal(l) // names and numbers always marshal
	return string(b)
}

// Limits implements auth.Verifier.
func (r *Registry) Limits(ctx context.Context, org auth.OrgID, typ string) (quota.Limits, error) {
	k := limitKey{org, typ}
	l, generation, ok := r.limits.get(k)
	if ok {
		return l, nil
	}
	err := r.view(forOrg(ctx, org), func(tx *store.Tx) (err error) {
		l, err = readLimits(ctx, tx, k)
		return err
	})
	switch {
	case err == nil:
		r.limits.put(k, l, generation)
	case errs.CodeOf(err) == errs.NotFound:
		return quota.Limits{}, nil
	}
	return l, err
}

// limitsOf returns what is set for p's organisation and for its device type.
func (r *Registry) limitsOf(ctx context.Context, p auth.Principal) (org, typ quota.Limits, err error) {
	if org, err = r.Limits(ctx, p.Org, ""); err != nil {
		return org, typ, err
	}
	if p.Kind == auth.Device || p.Kind == auth.Gateway {
		name, _ := p.TypeAndID()
		typ, err = r.Limits(ctx, p.Org, name)
	}
	return org, typ, err
}

// A limitKey names a device type or, without typ, an organisation.
type limitKey struct {
	org auth.OrgID
	typ string
}

// limitCacheSize is how many organisations and device types a limitCache knows;
// at some 300 bytes each a full one is 3 MB.
const limitCacheSize = 10_000

// limitCache remembers what is set. It is apart from the accounts, so that a
// change of limits costs nobody the account that is remembered of it: an
// organisation may change those of its device types as often as it likes.
type limitCache struct {
	mu         sync.RWMutex // guards the fields below
	set        map[limitKey]quota.Limits
	generation uint64 // counts what was forgotten
}

// get and put are those of cache.
func (c *limitCache) get(k limitKey) (l quota.Limits, generation uint64, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	l, ok = c.set[k]
	return l, c.generation, ok
}

func (c *limitCache) put(k limitKey, l quota.Limits, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.generation != generation {
		return
	}
	if c.set == nil {
		c.set = map[limitKey]quota.Limits{}
	}
	if len(c.set) >= limitCacheSize {
		for k := range c.set { // any one
			delete(c.set, k)
			break
		}
	}
	c.set[k] = l
}

func (c *limitCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.set = nil
}
