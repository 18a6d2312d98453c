package quota

import (
	"slices"
	"strings"
	"sync"
	"time"
)

// An Outcome is what became of something that reached a limit.
type Outcome byte

// The outcomes.
const (
	Refused Outcome = iota // and its sender was told, if the protocol has a word for it
	Delayed                // its sender was slowed down
	Dropped                // it was thrown away
	Ended                  // with it ended the connection or the session
)

func (o Outcome) String() string { return [...]string{"refused", "delayed", "dropped", "ended"}[o] }

// An Event is that a client reached a limit, once or many times.
type Event struct {
	Org       string
	Principal string // who reached it, as kind:org:id
	Client    string // its session, or "" if it has none
	Limit     Limit
	Value     int64 // of the limit
	Outcome   Outcome
	Count     int64 // how often
	First     time.Time
	Last      time.Time
}

type eventKey struct {
	principal, client string
	limit             Limit
	outcome           Outcome
}

// maxEvents is how many events a Log keeps of one organisation: the latest.
const maxEvents = 500

// maxClient is how many bytes of a client's name an Event has: a client chooses
// its name.
const maxClient = 200

// maxOrgs bounds the organisations of a Log.
const maxOrgs = 10_000

// A Log remembers which clients reached which limits, for their owners to see.
// Its memory is bounded: the same again is counted, not added, and what was
// seen longest ago goes first. It forgets all with the process.
type Log struct {
	now func() time.Time

	mu   sync.Mutex // guards orgs
	orgs map[string]map[eventKey]*Event
}

// NewLog returns an empty Log. now is time.Now if nil.
func NewLog(now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	return &Log{now: now, orgs: map[string]map[eventKey]*Event{}}
}

// Add adds e, which happened e.Count times, or once if that is 0. First and Last
// are not used. A nil Log forgets it.
func (g *Log) Add(e Event) {
	if g == nil {
		return
	}
	now := g.now()
	if len(e.Client) > maxClient {
		e.Client = strings.ToValidUTF8(e.Client[:maxClient], "") + "…"
	}
	key := eventKey{e.Principal, e.Client, e.Limit, e.Outcome}
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.orgs[e.Org]
	if of == nil {
		if len(g.orgs) >= maxOrgs {
			g.forgetOrg()
		}
		of = map[eventKey]*Event{}
		g.orgs[e.Org] = of
	}
	old := of[key]
	if old == nil {
		if len(of) >= maxEvents {
			forgetOldest(of)
		}
		added := e
		added.Count, added.First = 0, now
		old = &added
		of[key] = old
	}
	old.Count += max(e.Count, 1)
	old.Last, old.Value = now, e.Value
}

// forgetOrg forgets one organisation. mu is held.
func (g *Log) forgetOrg() {
	for org := range g.orgs {
		delete(g.orgs, org)
		return
	}
}

// forgetOldest makes room for many, so that it is seldom called.
func forgetOldest(of map[eventKey]*Event) {
	last := make([]time.Time, 0, len(of))
	for _, e := range of {
		last = append(last, e.Last)
	}
	slices.SortFunc(last, time.Time.Compare)
	border := last[len(last)/4]
	for key, e := range of {
		if !e.Last.After(border) {
			delete(of, key)
		}
	}
}

// Events returns the events of an organisation, the latest first.
func (g *Log) Events(org string) []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]Event, 0, len(g.orgs[org]))
	for _, e := range g.orgs[org] {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b Event) int { return b.Last.Compare(a.Last) })
	return all
}

// Forget forgets the events of an organisation.
func (g *Log) Forget(org string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.orgs, org)
}
