package alert

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/store"
)

// maxFacts is how many facts may wait. What comes when there are more is not
// looked at: whoever tells of it must not wait.
const maxFacts = 8192

// everyMinute is how often the traffic of the devices is looked at.
const everyMinute = time.Minute

// A signedIn is a sign-in, and where the person is signed in besides.
type signedIn struct {
	now    SignIn
	before []SignIn
}

// facts is what waits to be looked at.
type facts struct {
	all     chan Fact
	signIns chan signedIn
	lost    atomic.Int64
}

// Note takes in a fact. It never waits.
func (s *Service) Note(f Fact) {
	if f.Org == "" {
		return // there is nobody to tell but the log, which knows already
	}
	select {
	case s.facts.all <- f:
	default:
		s.facts.lost.Add(1)
	}
}

// NoteSignIn takes in that a person signed in, who is signed in as before says
// besides. It never waits.
func (s *Service) NoteSignIn(now SignIn, before []SignIn) {
	select {
	case s.facts.signIns <- signedIn{now, before}:
	default:
		s.facts.lost.Add(1)
	}
}

// NoteSession is NoteSignIn for a session, and those there were before.
func (s *Service) NoteSession(now registry.Session, before []registry.Session) {
	place := func(x registry.Session) SignIn { return SignIn{x.Person, x.Address, x.UserAgent} }
	all := make([]SignIn, 0, len(before))
	for _, b := range before {
		all = append(all, place(b))
	}
	s.NoteSignIn(place(now), all)
}

// NoteRefusal takes in a refusal. It never waits.
func (s *Service) NoteRefusal(n registry.NotedRefusal) {
	f := Fact{Org: n.Org, Who: n.Who, Address: n.Address}
	switch n.Class {
	case registry.RefusedCredential, registry.RefusedCertificate, registry.RefusedAttempts:
		f.Kind = ConnectRefused
	case registry.RefusedPublish, registry.RefusedReceive, registry.RefusedPermission, registry.RefusedOrg, registry.RefusedRights:
		f.Kind = PermissionRefused
	case registry.RefusedRule:
		f.Kind = RuleRefused
	default:
		return
	}
	s.Note(f)
}

// Watch looks at facts, and once a minute at the traffic, until ctx ends. traffic
// returns how many messages each device has sent since it was asked last.
func (s *Service) Watch(ctx context.Context, traffic func() iter.Seq2[auth.Principal, int64]) {
	d := NewDetector()
	tick := time.NewTicker(everyMinute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-s.facts.all:
			if a, ok := d.Observe(f, s.Now()); ok {
				s.raise(ctx, a)
			}
		case in := <-s.facts.signIns:
			s.signedIn(ctx, in)
		case <-tick.C:
			for who, n := range traffic() {
				if a, ok := d.Traffic(who, n); ok {
					s.raise(ctx, a)
				}
			}
			if n := s.facts.lost.Swap(0); n > 0 {
				s.Log.Warn("too much happened to look for what is unusual in all of it", "left_out", n)
			}
		}
	}
}

// raise is Raise for what a client said the organisation is: it may not be there.
func (s *Service) raise(ctx context.Context, a Alert) {
	err := s.DB.View(store.ForOrg(ctx, string(a.Org)), func(tx *store.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM org WHERE id = $1`, a.Org).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return errs.E(errs.NotFound, "there is no such organisation")
		}
		return nil
	})
	if err == nil {
		err = s.Raise(ctx, a)
	}
	if err != nil && errs.CodeOf(err) != errs.NotFound && ctx.Err() == nil {
		s.Log.Error("an alert is lost", "org", a.Org, "rule", a.Rule, "err", err)
	}
}

// maxOrgs bounds in how many organisations a person's sign-in raises an alert.
const maxOrgs = 50

// signedIn raises the alerts of a sign-in in each organisation that the person
// belongs to.
func (s *Service) signedIn(ctx context.Context, in signedIn) {
	all := NewPlace(in.now, in.before)
	if len(all) == 0 {
		return
	}
	var orgs []member
	err := s.DB.View(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		orgs, err = collect[member](ctx, tx, `SELECT org FROM member WHERE person = $1 ORDER BY org LIMIT $2`, in.now.Person, maxOrgs)
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.Log.Error("a sign-in cannot be looked at", "err", err)
	}
	for _, a := range all {
		for _, m := range orgs {
			a.Org = m.org
			s.raise(ctx, a)
		}
	}
}

type member struct{ org auth.OrgID }

func (m *member) scan(row scanner) error { return row.Scan(&m.org) }
