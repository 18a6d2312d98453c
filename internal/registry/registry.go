// Package registry knows who exists: organisations, device types, devices,
// gateways, applications, plain MQTT users and the people who administer them.
//
// It promises that every change is permitted, checked, and written in one
// transaction with its audit record; that a secret is shown once and kept only
// as a keyed hash; that one organisation never sees another; and that whoever
// is disabled, deleted or given a new token is refused from the moment the
// change returns, and named by Changes. It implements auth.Verifier.
//
// It does not count connections, and it holds no signing key: certificates come
// from a ca.Issuer. Rows it has read are kept in memory and forgotten with every
// change, so one process at a time may hold a store's registry.
package registry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/refusal"
	"github.com/keepmq/keepmq/internal/store"
)

// A Config is what a Registry works with. All fields are required except Now.
type Config struct {
	DB     store.DB
	Ring   *keyring.Ring
	Issuer Authority
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
	// Refusals remembers for its owner why a client was not let in. nil: a Log of
	// the registry's own.
	Refusals *refusal.Log
	// Country returns the country of an address (ISO 3166-1 alpha-2), or "" if it is
	// in none that is known. nil: there is no database of countries.
	Country func(netip.Addr) (string, error)
	// Notify sends a person a message, if they have an address. It does not wait. nil:
	// nobody is told.
	Notify func(ctx context.Context, p Person, subject, text string)
	// SignedIn is told of every sign-in, and of the sessions its person had then.
	// It must not wait. nil: nobody is.
	SignedIn func(s Session, before []Session)
	// Domain is the installation's DNS name, and Names are others that are its own.
	Domain string
	Names  []string
	// CertificatesChanged is called when what ShownCertificates returns may have
	// changed. nil: nobody wants to know.
	CertificatesChanged func(context.Context) error
	// Refused is told of every refusal. It must not wait. nil: nobody is.
	Refused func(NotedRefusal)
}

// A Registry is the registry of one store. Its methods may be called from any
// goroutine.
type Registry struct {
	db      store.DB
	ring    *keyring.Ring
	issuer  Authority
	log     *slog.Logger
	clock   func() time.Time
	known   cache
	limits  limitCache
	changes changes
	refused budget
	tallied tallies
	rules   ruleCache
	uses    uses // of tokens, that are not stored yet
	locks   orgCache[lockSet]
	gates   orgCache[gate]
	given   orgCache[givenNames] // under the organisation "", all of them
	domain  string
	names   []string
	tries   *throttle // of passwords and codes
	notify  func(ctx context.Context, p Person, subject, text string)
	country func(netip.Addr) (string, error) // nil: there is no database of countries

	certificates func(context.Context) error // nil: nobody wants to know of changes

	signedIn    func(Session, []Session) // nil: nobody is told
	toldRefused func(NotedRefusal)       // nil: nobody is told

	importing chan struct{} // holds one of those who check an imported hash

	// Refusals is why clients were not let in.
	Refusals *refusal.Log

	decoyOnce   sync.Once // guards the fields below
	decoySealed []byte
	decoyErr    error
}

// New returns the registry of c.DB.
func New(c Config) *Registry {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Refusals == nil {
		c.Refusals = refusal.NewLog(c.Now)
	}
	r := &Registry{Refusals: c.Refusals, country: c.Country, signedIn: c.SignedIn, toldRefused: c.Refused, notify: c.Notify, tries: newThrottle(), db: c.DB, ring: c.Ring, issuer: c.Issuer, log: c.Log, clock: c.Now}
	r.importing = make(chan struct{}, 1)
	r.domain, r.names, r.certificates = strings.ToLower(c.Domain), c.Names, c.CertificatesChanged
	c.Refusals.Watch(r.noted)
	return r
}

// now returns the time as precisely as it is stored.
func (r *Registry) now() time.Time { return r.clock().UTC().Truncate(time.Microsecond) }

// An effect is what a change did: its audit record, and whose grants it touches.
type effect struct {
	by       auth.Principal // who did it, where only the change finds out; else the actor
	org      auth.OrgID
	action   string
	target   string
	detail   map[string]any
	affected []auth.Principal
	everyone bool      // too many to name
	limits   *limitKey // of whom or what limits have changed; nil: of nothing

	locks bool // locks have changed
	gates bool // network rules or connection policies have changed
	names bool // names that were given to organisations have changed
	// certificates says that the server may have others to show.
	certificates bool
	renew        []auth.Principal // by these: who is to be asked for again
}

// change runs fn and the audit record of what it did in one transaction, and
// then lets nobody go on with what was true before. fn may run more than once.
func (r *Registry) change(ctx context.Context, a Actor, fn func(*store.Tx) (effect, error)) error {
	var did effect
	complete := false
	err := r.db.Update(ctx, func(tx *store.Tx) error {
		complete = false
		var err error
		if did, err = fn(tx); err != nil {
			return err
		}
		if err := audit.Append(ctx, tx, did.event(a)); err != nil {
			return fmt.Errorf("append audit record: %w", err)
		}
		complete = true
		return nil
	})
	// Commit point. If the commit reports an error it may still have happened,
	// so that what we remember is forgotten in either case.
	if complete {
		r.announce(did)
	}
	return fault(err)
}

func (e effect) event(a Actor) audit.Event {
	if e.by == (auth.Principal{}) {
		e.by = a.Principal
	}
	return audit.Event{Org: e.org, Actor: e.by, Action: e.action, Target: e.target,
		Detail: e.detail, Address: clip(a.Address), RequestID: clip(a.RequestID)}
}

func (r *Registry) announce(e effect) {
	if e.locks {
		r.locks.clear()
	}
	if e.gates {
		r.gates.clear()
	}
	if e.names {
		r.given.clear()
	}
	switch {
	case e.everyone:
		r.known.clear()
		r.limits.clear()
		r.changes.tellEveryone()
	case len(e.affected) > 0:
		for _, p := range e.affected {
			r.known.forget(p)
		}
		r.changes.tell(e.affected)
	case len(e.renew) > 0:
		r.changes.tell(e.renew)
	}
	if e.limits != nil {
		r.limits.clear()
		r.changes.tellLimits(*e.limits)
	}
	if e.certificates && r.certificates != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.certificates(ctx); err != nil {
			r.log.Error("changed server certificates are not in use yet; this is tried again", "err", err)
		}
	}
}

// forOrg returns a context whose transactions reach one organisation only, as far
// as the store can tell. A stranger may name none: then they find nobody.
func forOrg(ctx context.Context, org auth.OrgID) context.Context {
	if org == "" {
		org = "-" // no organisation has this id
	}
	return store.ForOrg(ctx, string(org))
}

// view runs fn on one state of the store.
func (r *Registry) view(ctx context.Context, fn func(*store.Tx) error) error {
	return fault(r.db.View(ctx, fn))
}

// fault gives an error of the store or of another part its code. What fails
// cannot be answered, and so is refused.
func fault(err error) error {
	if err == nil || errs.CodeOf(err) != errs.Internal {
		return err
	}
	return errs.Wrap(errs.Unavailable, err, "the registry cannot answer now; try again")
}

// wrap says what failed.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// scanner is a row to be read.
type scanner interface{ Scan(dest ...any) error }

// thing is something that can be read from a row.
type thing[T any] interface {
	*T
	scan(scanner) error
}

// one reads a thing, or returns missing when there is none.
func one[T any, P thing[T]](row scanner, missing error) (T, error) {
	var t T
	err := P(&t).scan(row)
	if errors.Is(err, sql.ErrNoRows) {
		return t, missing
	}
	return t, wrap("read row", err)
}

// noRow turns "there is no row" into missing.
func noRow(err, missing error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return missing
	}
	return wrap("read row", err)
}

// list reads all things that query finds.
func list[T any, P thing[T]](ctx context.Context, r *Registry, query string, args ...any) ([]T, error) {
	var all []T
	err := r.view(ctx, func(tx *store.Tx) error {
		all = nil
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		defer rows.Close()
		for rows.Next() {
			var t T
			if err := P(&t).scan(rows); err != nil {
				return fmt.Errorf("read row: %w", err)
			}
			all = append(all, t)
		}
		return wrap("list", rows.Err())
	})
	return all, err
}

// found turns "no row was changed" into missing.
func found(res sql.Result, err error, missing error) error {
	if err != nil {
		return fmt.Errorf("write row: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	if n == 0 {
		return missing
	}
	return nil
}

// able names the action of disabling or enabling.
func able(noun string, disabled bool) string {
	if disabled {
		return noun + ".disable"
	}
	return noun + ".enable"
}

func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
