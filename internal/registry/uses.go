package registry

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/store"
)

// How uses of tokens are stored: at a connect nothing is written.
const (
	keepUsesEvery = 20 * time.Second
	usesAtOnce    = 1000   // in one transaction
	usesSoon      = 10_000 // so many do not wait for the time to come
)

// A useKey is one token of somebody; version 0 is what is not a token of ours.
type useKey struct {
	org     auth.OrgID
	uid     string
	version int
}

// A use is when, and from where, a token was last used.
type use struct {
	at      time.Time
	address string
	holder  auth.Principal
}

// uses is what was used since it was last stored.
type uses struct {
	mu   sync.Mutex // guards the fields below
	of   map[useKey]use
	full chan struct{} // of one: it is time to store them
}

func (u *uses) filled() chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.full == nil {
		u.full = make(chan struct{}, 1)
	}
	return u.full
}

func (u *uses) note(a *account, version int, at time.Time, address string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = map[useKey]use{}
	}
	u.of[useKey{a.principal.Org, a.uid, version}] = use{at, address, a.principal}
	if len(u.of) >= usesSoon && u.full != nil {
		select {
		case u.full <- struct{}{}:
		default:
		}
	}
}

// take returns all uses, which are the caller's to store.
func (u *uses) take() map[useKey]use {
	u.mu.Lock()
	defer u.mu.Unlock()
	of := u.of
	u.of = nil
	return of
}

// back gives back what could not be stored. What was used since then stays.
func (u *uses) back(of map[useKey]use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = of
		return
	}
	for k, x := range of {
		if _, later := u.of[k]; !later {
			u.of[k] = x
		}
	}
}

// KeepUses stores when tokens were last used, a while later and many at a time,
// until ctx ends. What is used from then on is for StoreUses.
func (r *Registry) KeepUses(ctx context.Context) {
	full := r.uses.filled()
	tick := time.NewTicker(keepUsesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-full:
		}
		if err := r.StoreUses(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("when tokens were last used could not be stored; it stays remembered", "err", err)
		}
	}
}

// StoreUses stores when tokens were last used. What cannot be stored stays
// remembered.
func (r *Registry) StoreUses(ctx context.Context) error {
	all := r.uses.take()
	batch := make(map[useKey]use, min(len(all), usesAtOnce))
	for k, x := range all {
		batch[k] = x
		if len(batch) < usesAtOnce && len(batch) < len(all) {
			continue
		}
		if err := r.storeUses(ctx, batch); err != nil {
			r.uses.back(all)
			return err
		}
		for k := range batch {
			delete(all, k)
		}
		clear(batch)
	}
	return nil
}

func (r *Registry) storeUses(ctx context.Context, batch map[useKey]use) error {
	return r.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		for k, x := range batch {
			// Who was deleted meanwhile has used nothing.
			table, where, args := tokenRow(x.holder)
			q := `INSERT INTO credential_use (org, uid, version, used_at, address)
				SELECT org, uid, $4, $5, $6 FROM ` + table + ` WHERE ` + where + ` AND uid = $7
				ON CONFLICT (org, uid, version) DO UPDATE SET used_at = excluded.used_at, address = excluded.address`
			if _, err := tx.ExecContext(ctx, q, append(args, k.version, micros(x.at), x.address, k.uid)...); err != nil {
				return fmt.Errorf("store use of token: %w", err)
			}
		}
		return nil
	})
}

// hostOf returns the address of "address:port", or what it is given.
func hostOf(s string) string {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().Unmap().String()
	}
	return clip(s)
}
