package registry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/refusal"
	"github.com/keepmq/keepmq/internal/store"
)

// A RefusalClass is a kind of refusal. On the audit record it is "refuse." and
// the class.
type RefusalClass string

// The classes of refusals. Refused sign-ins are recorded by themselves.
const (
	RefusedCredential  RefusalClass = "credential"   // it is wrong, ended or missing, or there is no such name
	RefusedCertificate RefusalClass = "certificate"  // it was revoked, or is another's
	RefusedDisabled    RefusalClass = "disabled"     // who is good, and disabled
	RefusedRights      RefusalClass = "rights"       // who is good, and has no rights or no place here
	RefusedRule        RefusalClass = "rule"         // a lock, a network rule or a policy says no
	RefusedMalformed   RefusalClass = "malformed"    // a CONNECT that is none, or names nobody
	RefusedUnchecked   RefusalClass = "unchecked"    // it could not be checked
	RefusedLimit       RefusalClass = "limit"        // a limit is reached
	RefusedAttempts    RefusalClass = "attempts"     // too many were refused before
	RefusedEnrolment   RefusalClass = "enrolment"    // a token for a certificate is wrong, ended or used
	RefusedSession     RefusalClass = "session"      // an access token is wrong or has ended
	RefusedPermission  RefusalClass = "permission"   // who is signed in may not do this
	RefusedOrg         RefusalClass = "organisation" // who is signed in has no place in the organisation
	RefusedPublish     RefusalClass = "publish"      // a client may not publish to a topic
	RefusedReceive     RefusalClass = "receive"      // a client may not subscribe to a topic
)

// A NotedRefusal is one refusal.
type NotedRefusal struct {
	Org     auth.OrgID // whose record it is for; "": the installation's
	Class   RefusalClass
	Who     string // as far as it is known, or said
	Address string
}

// The bounds of what refusals are written. A stranger can cause as many records
// as there are pairs of an organisation and a class, each of them ever less often.
const (
	maxTallies  = 2000
	maxUnknown  = 500              // of organisations of which it is not known whether they are there
	tallyFirst  = 10 * time.Minute // until the second record of a pair
	tallyMost   = 24 * time.Hour   // between two records, and to begin anew
	talliesInTx = 100
)

type tallyKey struct {
	org   auth.OrgID
	class RefusalClass
}

// A tally is what was refused of one class in one organisation and is not on the
// record yet.
type tally struct {
	count       int64
	first, last time.Time
	who         string // the latest
	address     string

	known   bool          // the organisation is there
	written time.Time     // when the latest record was; zero: never
	pause   time.Duration // until the next one
}

// tallies counts refusals. They are lost with the process as far as they are not
// on the record.
type tallies struct {
	mu      sync.Mutex // guards the fields below
	all     map[tallyKey]*tally
	unknown int // how many in all are not known
}

func (t *tallies) note(n NotedRefusal, now time.Time) {
	k := tallyKey{n.Org, n.Class}
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.all[k]
	if one == nil {
		if t.all == nil {
			t.all = map[tallyKey]*tally{}
		}
		if len(t.all) >= maxTallies || t.unknown >= maxUnknown {
			k.org = "" // the classes are few
		}
		if one = t.all[k]; one == nil {
			one = &tally{known: k.org == ""}
			t.all[k] = one
			if !one.known {
				t.unknown++
			}
		}
	}
	if one.count == 0 {
		one.first = now
	}
	one.count++
	one.last, one.who, one.address = now, clip(n.Who), clip(n.Address)
}

// unsettled returns the organisations of which it is not known whether they are
// there.
func (t *tallies) unsettled() map[auth.OrgID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	orgs := map[auth.OrgID]bool{}
	for k, one := range t.all {
		if !one.known {
			orgs[k.org] = false
		}
	}
	return orgs
}

// settle is told which organisations are there. What was refused in the name of
// others goes into the installation's record: a name that nobody has must not get
// one of its own.
func (t *tallies) settle(there map[auth.OrgID]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, one := range t.all {
		is, told := there[k.org]
		if one.known || !told {
			continue
		}
		t.unknown--
		if one.known = is; is {
			continue
		}
		delete(t.all, k)
		k.org = ""
		nobodys := t.all[k]
		if nobodys == nil {
			t.all[k] = one
			one.known = true
			continue
		}
		if nobodys.count == 0 || one.first.Before(nobodys.first) {
			nobodys.first = one.first
		}
		if one.last.After(nobodys.last) {
			nobodys.last, nobodys.who, nobodys.address = one.last, one.who, one.address
		}
		nobodys.count += one.count
	}
}

// due returns what is to be written at now, or with all what there is.
func (t *tallies) due(now time.Time, all bool) map[tallyKey]tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	due := map[tallyKey]tally{}
	for k, one := range t.all {
		switch age := now.Sub(one.written); {
		case one.count == 0 && age >= tallyMost:
			delete(t.all, k)
		case one.known && one.count > 0 && (all || age >= one.pause):
			due[k] = *one
		}
	}
	return due
}

// done takes away what was written.
func (t *tallies) done(written map[tallyKey]tally, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, w := range written {
		one := t.all[k]
		if one == nil {
			continue
		}
		if one.count -= w.count; one.count > 0 {
			one.first = w.last // not later than the first that is left
		}
		one.pause = min(max(2*one.pause, tallyFirst), tallyMost)
		if !one.written.IsZero() && w.first.Sub(one.written) >= tallyMost {
			one.pause = tallyFirst // it was quiet for long
		}
		one.written = now
	}
}

// NoteRefusal counts a refusal for the audit record. It never waits for the disk.
func (r *Registry) NoteRefusal(n NotedRefusal) {
	r.tallied.note(n, r.now())
	if r.toldRefused != nil {
		r.toldRefused(n)
	}
}

// noted counts what a client may not do with a topic. Refused connections are
// counted where the reason is known.
func (r *Registry) noted(n refusal.Refusal) {
	class, ok := map[string]RefusalClass{auth.Publish.String(): RefusedPublish, auth.Receive.String(): RefusedReceive}[n.Action]
	if ok {
		r.NoteRefusal(NotedRefusal{Org: auth.OrgID(n.Org), Class: class, Who: n.Principal})
	}
}

// classOf returns the class of the reason why somebody is not let in.
func classOf(reason error) RefusalClass {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(reason, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(errDisabled):
		return RefusedDisabled
	case is(errCertificateBad, errOtherName):
		return RefusedCertificate
	case is(errNotMember, errNoRights):
		return RefusedRights
	case is(refusals...):
		return RefusedCredential
	case errs.CodeOf(reason) == errs.Denied:
		return RefusedRule
	}
	return RefusedUnchecked
}

// RecordRefusals puts on the audit record what was refused, one record for each
// organisation and class with how often, first and last: the first within a
// minute, later ones ever less often. With all it leaves nothing out.
func (r *Registry) RecordRefusals(ctx context.Context, all bool) error {
	ctx = store.ForAll(ctx)
	there := r.tallied.unsettled()
	err := r.view(ctx, func(tx *store.Tx) error {
		for org := range there {
			var n int
			if err := tx.QueryRowContext(ctx, `SELECT COUNT(*) FROM org WHERE id = $1`, org).Scan(&n); err != nil {
				return fmt.Errorf("look for organisation: %w", err)
			}
			there[org] = n > 0
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.tallied.settle(there)
	now := r.now()
	due := r.tallied.due(now, all)
	for len(due) > 0 {
		page := map[tallyKey]tally{}
		for k, t := range due {
			if len(page) == talliesInTx {
				break
			}
			page[k] = t
			delete(due, k)
		}
		err := r.db.Update(ctx, func(tx *store.Tx) error {
			for k, t := range page {
				if err := recordTally(ctx, tx, k, t); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fault(fmt.Errorf("record refusals: %w", err))
		}
		r.tallied.done(page, now)
	}
	return nil
}

func recordTally(ctx context.Context, tx *store.Tx, k tallyKey, t tally) error {
	return audit.Append(ctx, tx, audit.Event{
		Org: k.org, Actor: auth.Principal{Kind: auth.System, ID: "refusals"}, Action: "refuse." + string(k.class),
		Target: t.who, Address: t.address, Detail: map[string]any{"count": t.count, "first": t.first, "last": t.last},
	})
}

// KeepRefusals records refusals every minute until ctx ends, and then the rest.
func (r *Registry) KeepRefusals(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			if err := r.RecordRefusals(last, true); err != nil {
				r.log.Error("the last refusals are not on the audit record", "err", err)
			}
			return
		case <-tick.C:
			if err := r.RecordRefusals(ctx, false); err != nil && ctx.Err() == nil {
				r.log.Error("refusals could not be put on the audit record; they stay counted", "err", err)
			}
		}
	}
}
