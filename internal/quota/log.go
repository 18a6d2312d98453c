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

// maxAll bounds the events of all organisations together: some 100 MB.
const maxAll = 200_000

// A Log remembers which clients reached which limits, for their owners to see.
// Its memory is bounded: the same again is counted, not added, and what was
// seen longest ago goes first. It forgets all with the process.
type Log struct {
	now func() time.Time

	mu    sync.Mutex // guards the fields below
	orgs  map[string]map[eventKey]*Event
	total int // events in orgs
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
		of = map[eventKey]*Event{}
		g.orgs[e.Org] = of
	}
	old := of[key]
	if old == nil {
		if len(of) >= maxEvents {
			g.total -= forgetOldest(of)
		}
		if g.total >= maxAll {
			g.forgetOther(e.Org)
		}
		g.total++
		added := e
		added.Count, added.First = 0, now
		old = &added
		of[key] = old
	}
	old.Count += max(e.Count, 1)
	old.Last, old.Value = now, e.Value
}

// forgetOther forgets an organisation other than this one. mu is held.
func (g *Log) forgetOther(org string) {
	for other, of := range g.orgs {
		if other != org {
			g.total -= len(of)
			delete(g.orgs, other)
			return
		}
	}
}

// forgetOldest makes room for many, so that it is seldom called, and
// returns how many.
func forgetOldest(of map[eventKey]*Event) (n int) {
	last := make([]time.Time, 0, len(of))
	for _, e := range of {
		last = append(last, e.Last)
	}
	slices.SortFunc(last, time.Time.Compare)
	border := last[len(last)/4]
	for key, e := range of {
		if !e.Last.After(border) {
			delete(of, key)
			n++
		}
	}
	return n
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
	g.total -= len(g.orgs[org])
	delete(g.orgs, org)
}
