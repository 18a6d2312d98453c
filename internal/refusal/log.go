// Package refusal remembers why something was refused, so that its owner can ask
// for it by the number that the client was told.
//
// A client is told that it was refused, and by which number; why, only the
// organisation's own people learn. The number stands for who was refused what,
// and not for the reason: it stays the same when the reason changes, so that
// nobody learns anything from seeing it change.
package refusal

import (
	"crypto/rand"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Refusal is that somebody was refused something, once or many times.
type Refusal struct {
	ID        string
	Org       string
	Principal string // as kind:org:id; who the client said it was, if it could not prove it
	Client    string // the client identifier, if it is known
	Action    string // "connect", "publish" or "subscribe"
	Topic     string // as the client named it
	Reason    string // of the latest
	Count     int64
	First     time.Time
	Last      time.Time
}

type key struct{ principal, client, action, topic string }

// The bounds of a Log. What is kept of one organisation never pushes out what is
// kept of another, unless there are more than maxOrgs.
const (
	maxPerOrg = 500
	maxOrgs   = 2000
	maxText   = 300 // bytes of what a client chose
)

// A Log remembers the latest refusals of each organisation, in memory: it forgets
// all with the process. A nil Log remembers nothing.
type Log struct {
	now func() time.Time

	mu    sync.Mutex // guards the fields below
	orgs  map[string]*ofOrg
	watch func(Refusal) // nil: nobody is told
}

type ofOrg struct {
	refusals map[key]*Refusal
	last     time.Time
}

// NewLog returns an empty Log. now is time.Now if nil.
func NewLog(now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	return &Log{now: now, orgs: map[string]*ofOrg{}}
}

// Note remembers r and returns its number, or "" if the Log is nil. ID, Count,
// First and Last are not used.
func (g *Log) Note(r Refusal) string {
	if g == nil {
		return ""
	}
	r.Client, r.Topic, r.Principal = clip(r.Client), clip(r.Topic), clip(r.Principal)
	k := key{r.Principal, r.Client, r.Action, r.Topic}
	id, watch := g.note(k, r)
	if watch != nil {
		watch(r)
	}
	return id
}

// Watch has fn told of every refusal from now on, after it was noted.
func (g *Log) Watch(fn func(Refusal)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watch = fn
}

func (g *Log) note(k key, r Refusal) (id string, watch func(Refusal)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	of := g.orgs[r.Org]
	if of == nil {
		if len(g.orgs) >= maxOrgs {
			g.forgetOldest()
		}
		of = &ofOrg{refusals: map[key]*Refusal{}}
		g.orgs[r.Org] = of
	}
	of.last = now
	old := of.refusals[k]
	if old == nil {
		if len(of.refusals) >= maxPerOrg {
			of.forgetOldest()
		}
		r.ID, r.First = strings.ToLower(rand.Text()[:12]), now
		old = &r
		of.refusals[k] = old
	}
	old.Reason, old.Last = r.Reason, now
	old.Count++
	return old.ID, g.watch
}

// forgetOldest forgets the organisation of which nothing was refused for longest.
// mu is held.
func (g *Log) forgetOldest() {
	var oldest string
	for org, of := range g.orgs {
		if oldest == "" || of.last.Before(g.orgs[oldest].last) {
			oldest = org
		}
	}
	delete(g.orgs, oldest)
}

// forgetOldest makes room for some, so that it is seldom called.
func (of *ofOrg) forgetOldest() {
	all := of.sorted()
	for _, r := range all[maxPerOrg*9/10:] {
		delete(of.refusals, key{r.Principal, r.Client, r.Action, r.Topic})
	}
}

// sorted returns the refusals, the latest first.
func (of *ofOrg) sorted() []*Refusal {
	all := make([]*Refusal, 0, len(of.refusals))
	for _, r := range of.refusals {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *Refusal) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// List returns the refusals of an organisation, the latest first.
func (g *Log) List(org string) []Refusal {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.orgs[org]
	if of == nil {
		return nil
	}
	var all []Refusal
	for _, r := range of.sorted() {
		all = append(all, *r)
	}
	return all
}

// Find returns the refusal of that number in an organisation.
func (g *Log) Find(org, id string) (Refusal, bool) {
	for _, r := range g.List(org) {
		if r.ID == strings.ToLower(id) {
			return r, true
		}
	}
	return Refusal{}, false
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
