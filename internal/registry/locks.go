package registry

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/store"
)

// What a lock may be of.
const (
	LockPrincipal = "principal" // "device:TYPE:ID", "gateway:TYPE:ID", "application:KEY", "user:NAME" or "person:ID"
	LockType      = "type"      // a device type
	LockAddress   = "address"   // an IP address, or a range of them (CIDR)
	LockAuthority = "authority" // a certificate authority, by the key identifier in the certificates it issued (RFC 5280 §4.2.1.1)
	LockClient    = "client"    // an MQTT client identifier
)

const (
	maxLocks  = 1000 // of an organisation, and of the installation
	maxReason = 200
)

// A Lock denies what it is of every new connection and request, and ends those
// there are, until it expires or is deleted. What it locks out keeps its
// credentials, sessions and queued messages.
type Lock struct {
	Org     auth.OrgID // empty: the whole installation
	ID      string
	Kind    string
	Target  string
	Reason  string // told to who is locked out, once they have proved who they are
	Maker   string // as kind:org:id
	Created time.Time
	Expires time.Time // zero: never
}

const lockColumns = `org, id, kind, target, reason, maker, created_at, expires_at`

func (l *Lock) scan(row scanner) error {
	var created, expires int64
	err := row.Scan(&l.Org, &l.ID, &l.Kind, &l.Target, &l.Reason, &l.Maker, &created, &expires)
	l.Created = fromMicros(created)
	if expires != 0 {
		l.Expires = fromMicros(expires)
	}
	return err
}

// check checks a new lock, and writes its target in the one way that is compared.
func (l *Lock) check(now time.Time) error {
	var bad mistakes
	bad.add(checkText("reason", l.Reason, maxReason))
	if strings.TrimSpace(l.Reason) == "" {
		bad.add(errs.E(errs.Invalid, "reason must say why, for who is locked out"))
	}
	if !l.Expires.IsZero() && !l.Expires.After(now) {
		bad.add(errs.E(errs.Invalid, "expires must be in the future"))
	}
	bad.add(l.checkTarget())
	return bad.err()
}

func (l *Lock) checkTarget() error {
	switch l.Kind {
	case LockPrincipal:
		p, err := ParseWho(l.Target)
		if err == nil && l.Org == "" && p.Kind != auth.Person {
			err = errs.E(errs.Invalid, "only a person can be locked out of the installation; lock %s in its organisation", p.Kind)
		}
		return err
	case LockType:
		if l.Org == "" {
			return errs.E(errs.Invalid, "a device type is locked in its organisation")
		}
		return auth.CheckName("device type", l.Target)
	case LockAddress:
		prefix, err := parsePrefix(l.Target)
		if err != nil {
			return errs.E(errs.Invalid, "target must be an IP address or a range of them, as 192.0.2.0/24 or 2001:db8::/32")
		}
		l.Target = prefix.String()
		return nil
	case LockAuthority:
		b, err := hex.DecodeString(strings.ReplaceAll(l.Target, ":", ""))
		if err != nil || len(b) < 8 || len(b) > 64 {
			return errs.E(errs.Invalid, "target must be an authority key identifier, in hexadecimal")
		}
		l.Target = hex.EncodeToString(b)
		return nil
	case LockClient:
		if l.Target == "" || len(l.Target) > 256 {
			return errs.E(errs.Invalid, "target must be a client identifier of 1 to 256 bytes")
		}
		return checkText("target", l.Target, 256)
	}
	return errs.E(errs.Invalid, "kind must be %q, %q, %q, %q or %q, is %q", LockPrincipal, LockType, LockAddress, LockAuthority, LockClient, clip(l.Kind))
}

// parsePrefix reads an address range, or one address.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 range written as IPv6", s)
	}
	return p.Masked(), err
}

// mayLock is may for locks of an organisation or, if org is empty, of the
// installation.
func (r *Registry) mayLock(ctx context.Context, a Actor, org auth.OrgID, p permission.Permission) (context.Context, permission.Holder, error) {
	if org == "" {
		return store.ForAll(ctx), permission.Holder{System: true}, a.mayAdminister()
	}
	ctx, h, err := r.mayAs(ctx, a, org, p)
	if err == nil {
		err = unlimited(h)
	}
	return ctx, h, err
}

// CreateLock locks somebody or something out, and ends what they have open. It is
// refused if it would end what a itself works with.
func (r *Registry) CreateLock(ctx context.Context, a Actor, l Lock) (Lock, error) {
	ctx, h, err := r.mayLock(ctx, a, l.Org, permission.LockWrite)
	if err != nil {
		return Lock{}, err
	}
	l.Created = r.now()
	if err := l.check(l.Created); err != nil {
		return Lock{}, err
	}
	if a.Principal.Kind != auth.System && newLockSet([]Lock{l}).find(lockedActor(a, l.Org), l.Created) != nil {
		return Lock{}, errs.E(errs.Invalid, "this would lock out yourself; have somebody else do it, from somewhere else")
	}
	if l.ID, err = newUID(); err != nil {
		return Lock{}, err
	}
	l.Maker = a.Principal.String()
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: l.Org, action: "lock.create", target: l.ID, locks: true, everyone: l.Org == "",
			detail: map[string]any{"kind": l.Kind, "target": l.Target, "reason": l.Reason}}
		if !l.Expires.IsZero() {
			e.detail["expires"] = l.Expires.UTC().Format(time.RFC3339)
		}
		if err := mayLockOut(ctx, tx, h, l); err != nil {
			return e, err
		}
		var err error
		if e.renew, err = l.affected(ctx, tx); err != nil {
			return e, err
		}
		const prune = `DELETE FROM lockout WHERE org = $1 AND expires_at <> 0 AND expires_at < $2`
		if _, err := tx.ExecContext(ctx, prune, l.Org, micros(l.Created.Add(-6*endLocksEvery))); err != nil {
			return e, fmt.Errorf("delete old locks: %w", err)
		}
		if err := room(ctx, tx, l.Org, "lockout", maxLocks); err != nil {
			return e, err
		}
		const q = `INSERT INTO lockout (org, id, kind, target, reason, maker, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
		_, err = tx.ExecContext(ctx, q, l.Org, l.ID, l.Kind, l.Target, l.Reason, l.Maker, micros(l.Created), expiry(l.Expires))
		return e, wrap("insert lock", err)
	})
	if err != nil {
		return Lock{}, err
	}
	return l, nil
}

// mayLockOut checks that whoever has h has all the rights of the member that l
// locks out: a manager does not rid an organisation of its owners.
func mayLockOut(ctx context.Context, tx *store.Tx, h permission.Holder, l Lock) error {
	if l.Org == "" {
		return nil
	}
	if _, err := readOrg(ctx, tx, l.Org); err != nil {
		return err
	}
	if p, err := ParseWho(l.Target); l.Kind == LockPrincipal && err == nil && p.Kind == auth.Person {
		m, err := readMember(ctx, tx, l.Org, p.ID)
		if err != nil {
			return err
		}
		return mayTake(ctx, tx, h, m)
	}
	return nil
}

// mayLetIn checks that whoever has h has all the rights that the end of l gives
// back: who may not give a role does not give it by deleting a lock.
func mayLetIn(ctx context.Context, tx *store.Tx, h permission.Holder, l Lock) error {
	p, err := ParseWho(l.Target)
	if l.Org == "" || l.Kind != LockPrincipal || err != nil {
		return nil //nolint:nilerr // what cannot be read is of nobody
	}
	switch p.Kind {
	case auth.Person:
		var m Member
		if m, err = readMember(ctx, tx, l.Org, p.ID); err == nil {
			return mayTake(ctx, tx, h, m)
		}
	case auth.Application:
		var x Application
		if x, err = readApplication(ctx, tx, l.Org, p.ID); err == nil {
			rights, err := x.own(ctx, tx)
			if err != nil {
				return err
			}
			return within(h, rights)
		}
	case auth.Service:
		var s Service
		if s, err = readService(ctx, tx, l.Org, p.ID); err == nil {
			return mayService(ctx, tx, h, s)
		}
	default:
		return nil
	}
	if errs.CodeOf(err) == errs.NotFound {
		return nil // there is nothing to give back
	}
	return err
}

// affected returns who is to be asked for again because of l, a lock of an
// organisation: who is locked out, the API keys that they stand behind, and the
// gateway that speaks for them.
func (l Lock) affected(ctx context.Context, tx *store.Tx) ([]auth.Principal, error) {
	p, err := ParseWho(l.Target)
	if l.Kind != LockPrincipal || err != nil {
		return []auth.Principal{{Org: l.Org}}, nil //nolint:nilerr // of what cannot be read everybody may be
	}
	p.Org = l.Org
	all := []auth.Principal{p}
	switch p.Kind {
	case auth.Person, auth.Application, auth.Service:
		return all, keysOf(ctx, tx, p, maxMakers, &all)
	case auth.Device:
		typ, id := p.TypeAndID()
		d, err := readDevice(ctx, tx, l.Org, typ, id)
		if err == nil && d.Gateway != "" {
			all = append(all, auth.Principal{Org: l.Org, Kind: auth.Gateway, ID: d.Gateway})
		}
		if errs.CodeOf(err) == errs.NotFound {
			err = nil // what is not there yet can be locked, too
		}
		return all, err
	}
	return all, nil
}

// keysOf adds the API keys to all that maker stands behind, also those that stand
// at most depth keys further on.
func keysOf(ctx context.Context, tx *store.Tx, maker auth.Principal, depth int, all *[]auth.Principal) error {
	const q = `SELECT key FROM application WHERE org = $1 AND maker_kind = $2 AND maker = $3 ORDER BY key`
	rows, err := tx.QueryContext(ctx, q, maker.Org, int64(maker.Kind), maker.ID)
	if err != nil {
		return fmt.Errorf("list API keys: %w", err)
	}
	var keys []auth.Principal
	err = each(rows, func() error {
		p := auth.Principal{Org: maker.Org, Kind: auth.Application}
		keys = append(keys, p)
		return wrap("read API key", rows.Scan(&keys[len(keys)-1].ID))
	})
	*all = append(*all, keys...)
	for i := 0; err == nil && depth > 0 && i < len(keys); i++ {
		err = keysOf(ctx, tx, keys[i], depth-1, all)
	}
	return err
}

// Locks lists the locks of an organisation or, if org is empty, of the whole
// installation, which have not expired.
func (r *Registry) Locks(ctx context.Context, a Actor, org auth.OrgID) ([]Lock, error) {
	ctx, _, err := r.mayLock(ctx, a, org, permission.LockRead)
	if err != nil {
		return nil, err
	}
	const q = `SELECT ` + lockColumns + ` FROM lockout WHERE org = $1 AND (expires_at = 0 OR expires_at > $2) ORDER BY id LIMIT $3`
	return list[Lock](ctx, r, q, org, micros(r.now()), maxLocks)
}

// DeleteLock lets in again what a lock locked out.
func (r *Registry) DeleteLock(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	ctx, h, err := r.mayLock(ctx, a, org, permission.LockWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: "lock.delete", target: id, locks: true}
		l, err := one[Lock](tx.QueryRowContext(ctx, `SELECT `+lockColumns+` FROM lockout WHERE org = $1 AND id = $2`, org, id),
			errs.E(errs.NotFound, "lock %q not found", clip(id)))
		if err != nil {
			return e, err
		}
		e.detail = map[string]any{"kind": l.Kind, "target": l.Target, "reason": l.Reason}
		if err := mayLetIn(ctx, tx, h, l); err != nil {
			return e, err
		}
		if l.Kind == LockType || l.Kind == LockPrincipal && org != "" {
			// Gateways speak for them again.
			if e.renew, err = l.affected(ctx, tx); err != nil {
				return e, err
			}
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM lockout WHERE org = $1 AND id = $2`, org, id)
		return e, wrap("delete lock", err)
	})
}

// A lockable is all of a client, or of an actor, that a lock may be of.
type lockable struct {
	principal auth.Principal
	makers    []auth.Principal // of an API key: who stands behind it
	client    string
	address   netip.Addr // invalid: not known
	anywhere  bool       // it is not asked where it is
	// authority is the key identifier of who issued its certificate. certified says
	// that it has one: then an authority that is not known may be any.
	authority string
	certified bool
}

// lockedRef returns what a lock may be of, from the Ref of a grant.
func lockedRef(ref auth.Ref) lockable {
	x := lockable{principal: ref.Principal, client: ref.Client, address: ref.Address}
	for proof := range strings.SplitSeq(ref.Credential, ",") {
		if rest, ok := strings.CutPrefix(proof, "cert:"); ok {
			_, x.authority, _ = strings.Cut(rest, ":")
			x.certified = true
		}
	}
	return x
}

// lockedPrincipal returns what a lock may be of, of somebody who does nothing
// themselves.
func lockedPrincipal(p auth.Principal) lockable { return lockable{principal: p, anywhere: true} }

// lockedActor returns what a lock may be of, from who asks for something in org.
func lockedActor(a Actor, org auth.OrgID) lockable {
	x := lockable{principal: a.Principal}
	x.principal.Org = org
	if ap, err := netip.ParseAddrPort(a.Address); err == nil {
		x.address = ap.Addr().Unmap()
	} else if addr, err := netip.ParseAddr(a.Address); err == nil {
		x.address = addr.Unmap()
	}
	return x
}

// A lockSet is the locks of an organisation, or of the installation.
type lockSet struct {
	byTarget map[string][]Lock // by kind, a space, and target
	ranges   []lockedRange
}

type lockedRange struct {
	prefix netip.Prefix
	lock   Lock
}

func newLockSet(all []Lock) *lockSet {
	s := &lockSet{byTarget: map[string][]Lock{}}
	for _, l := range all {
		if l.Kind != LockAddress {
			k := l.Kind + " " + l.Target
			s.byTarget[k] = append(s.byTarget[k], l)
			continue
		}
		p, err := netip.ParsePrefix(l.Target)
		if err != nil {
			p = netip.Prefix{} // of every address: what cannot be read locks all
		}
		s.ranges = append(s.ranges, lockedRange{p, l})
	}
	return s
}

// find returns the lock that x is locked by at now, or nil.
func (s *lockSet) find(x lockable, now time.Time) *Lock {
	good := func(l *Lock) bool { return l.Expires.IsZero() || now.Before(l.Expires) }
	for i := range s.ranges {
		g := &s.ranges[i]
		if good(&g.lock) && !x.anywhere && (!x.address.IsValid() || !g.prefix.IsValid() || g.prefix.Contains(x.address.WithZone(""))) {
			return &g.lock
		}
	}
	keys := []string{LockPrincipal + " " + x.principal.Kind.String() + ":" + x.principal.ID, LockClient + " " + x.client}
	if k := x.principal.Kind; k == auth.Device || k == auth.Gateway {
		typ, _ := x.principal.TypeAndID()
		keys = append(keys, LockType+" "+typ)
	}
	if x.authority != "" {
		keys = append(keys, LockAuthority+" "+x.authority)
	}
	for _, k := range keys {
		if i := slices.IndexFunc(s.byTarget[k], func(l Lock) bool { return good(&l) }); i >= 0 {
			return &s.byTarget[k][i]
		}
	}
	if x.certified && x.authority == "" {
		for k, of := range s.byTarget {
			if i := slices.IndexFunc(of, func(l Lock) bool { return l.Kind == LockAuthority && good(&l) }); i >= 0 {
				return &s.byTarget[k][i]
			}
		}
	}
	return nil
}

// unlocked checks that no lock, of x's organisation or of the installation, is of x.
func (r *Registry) unlocked(ctx context.Context, x lockable) error {
	for _, org := range []auth.OrgID{x.principal.Org, ""} {
		s, err := r.locksOf(ctx, org)
		if err != nil {
			return err
		}
		if len(s.byTarget) == 0 && len(s.ranges) == 0 {
			continue
		}
		if l := s.find(x, r.clock()); l != nil {
			return errs.E(errs.Denied, "locked: %s", l.Reason)
		}
		for _, m := range x.makers {
			if s.find(lockedPrincipal(m), r.clock()) != nil {
				return errs.E(errs.Denied, "locked: whoever stands behind this API key is locked out")
			}
		}
	}
	return nil
}

// unlockedActor is unlocked for who asks for something in org, which may be none.
func (r *Registry) unlockedActor(ctx context.Context, a Actor, org auth.OrgID) error {
	if a.Principal.Kind == auth.System {
		return nil
	}
	x := lockedActor(a, org)
	if a.Principal.Kind == auth.Application && org != "" {
		acc, err := r.account(ctx, x.principal, func(*account) bool { return true })
		if err != nil {
			return fault(err)
		}
		x.makers = acc.makers
	}
	return fault(r.unlocked(ctx, x))
}

// unlockedOf returns those of the devices ("type:id") of org that are not locked.
func (r *Registry) unlockedOf(ctx context.Context, org auth.OrgID, devices []string) ([]string, error) {
	s, err := r.locksOf(ctx, org)
	if err != nil || len(s.byTarget) == 0 {
		return devices, err
	}
	var all []string
	for _, d := range devices {
		if s.find(lockedPrincipal(auth.Principal{Org: org, Kind: auth.Device, ID: d}), r.clock()) == nil {
			all = append(all, d)
		}
	}
	return all, nil
}

// endLocksEvery is how long after the end of a lock its devices may be without
// their gateway.
const endLocksEvery = 10 * time.Second

// EndLocks has gateways speak again for the devices whose lock ended, until ctx
// ends. Whoever is locked out themselves comes back when they connect.
func (r *Registry) EndLocks(ctx context.Context) {
	tick := time.NewTicker(endLocksEvery)
	defer tick.Stop()
	since := r.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			now := r.now()
			if err := r.tellEndedLocks(ctx, since, now); err != nil {
				if ctx.Err() == nil {
					r.log.Error("locks that ended could not be looked for; this is tried again", "err", err)
				}
				continue
			}
			since = now
		}
	}
}

// tellEndedLocks has everybody asked for again in the organisations where a lock
// of devices ended after since and not after now.
func (r *Registry) tellEndedLocks(ctx context.Context, since, now time.Time) error {
	var ended []auth.Principal
	err := r.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		const q = `SELECT DISTINCT org FROM lockout WHERE org <> '' AND expires_at > $1 AND expires_at <= $2
			AND (kind = 'type' OR kind = 'principal' AND target LIKE 'device:%')`
		rows, err := tx.QueryContext(ctx, q, micros(since), micros(now))
		if err != nil {
			return fmt.Errorf("list ended locks: %w", err)
		}
		ended = nil
		return each(rows, func() error {
			ended = append(ended, auth.Principal{})
			return wrap("read ended lock", rows.Scan(&ended[len(ended)-1].Org))
		})
	})
	r.changes.tell(ended)
	return err
}

// locksOf returns the locks of an organisation, as remembered or else as the store
// has them.
func (r *Registry) locksOf(ctx context.Context, org auth.OrgID) (*lockSet, error) {
	s, generation := r.locks.get(org)
	if s != nil {
		return s, nil
	}
	const q = `SELECT ` + lockColumns + ` FROM lockout WHERE org = $1`
	scope := forOrg(ctx, org)
	if org == "" {
		scope = store.ForAll(ctx) // of the installation
	}
	all, err := list[Lock](scope, r, q, org)
	if err != nil {
		return nil, fmt.Errorf("read locks: %w", err)
	}
	s = newLockSet(all)
	r.locks.put(org, s, generation)
	return s, nil
}
