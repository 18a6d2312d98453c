package embedded

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// An org is all of one organisation. Nothing in it points to another.
type org struct {
	e  *Engine
	id auth.OrgID

	tree   topic.Tree[interest]
	sealer atomic.Pointer[Sealer]
	drops  atomic.Int64 // how often all of it was dropped
	limits atomic.Pointer[quota.Limits]
	totals

	// Of the loop.
	sessions map[engine.SessionID]*session
	numbered map[uint64]*session         // persistent ones
	owners   map[auth.Principal]*session // the first of a list
	groups   map[groupName]*group
	wills    map[engine.SessionID]will
	dirty    bool // what it retains is to be counted with the batch
	charge   int  // its place in the charges of the batch being built, if it has one

	line     line // guarded by loop.mu
	retained overlay
}

// An interest is who subscribed to one filter. It does not change: see addSub.
type interest struct {
	one  *sub      // the only subscription, as most are
	many *audience // nil if there is only one
}

// An audience is several subscriptions to one filter, or shared ones.
type audience struct {
	subs   []*sub
	groups []*group
}

// A groupName names a shared subscription. The owner is part of it: whoever
// picks the name of another's group does not get the other's messages.
type groupName struct {
	owner  auth.Principal
	group  string
	filter string
}

// A group is a shared subscription with its members.
type group struct {
	name    groupName
	members atomic.Pointer[[]*member] // the slice does not change
	turn    atomic.Uint32
}

// A member is one subscription of a group.
type member struct {
	*sub
	ids []uint32
}

func newOrg(e *Engine, id auth.OrgID) *org {
	o := &org{
		e: e, id: id,
		sessions: map[engine.SessionID]*session{},
		numbered: map[uint64]*session{},
		owners:   map[auth.Principal]*session{},
		groups:   map[groupName]*group{},
		wills:    map[engine.SessionID]will{},
		retained: overlay{pending: map[string]*publication{}, slots: map[string]*slot{}},
	}
	o.limits.Store(&e.defaults)
	return o
}

// seal returns the organisation's sealer.
func (o *org) seal(ctx context.Context) (Sealer, error) {
	if s := o.sealer.Load(); s != nil {
		return *s, nil
	}
	s, err := o.e.sealer(ctx, o.id)
	if err != nil {
		return nil, fmt.Errorf("key of organisation %s: %w", o.id, err)
	}
	o.sealer.Store(&s)
	return s, nil
}

// addSub puts a subscription into effect, in place of old if that is not nil.
// It is called by the loop only.
func (o *org) addSub(s *sub, old *sub) {
	o.tree.Update(s.filter, func(in interest, ok bool) (interest, bool) {
		switch {
		case !ok || in.one != nil && old != nil:
			return interest{one: s}, true
		case in.one != nil:
			return interest{many: &audience{subs: []*sub{in.one, s}}}, true
		}
		next := *in.many
		if old != nil {
			next.subs = replaced(next.subs, old, s)
		} else {
			// In place, if there is room: readers of the former audience do not
			// look beyond its length, and there is one latest audience only.
			next.subs = append(next.subs, s)
		}
		return interest{many: &next}, true
	})
}

// join puts a shared subscription into effect, in place of old if that is not
// nil. It is called by the loop only.
func (o *org) join(s *sub, name string, old *sub) {
	full := groupName{s.s.id.Owner, name, s.filter.String()}
	g, ok := o.groups[full]
	if !ok {
		g = &group{name: full}
		o.groups[full] = g
		g.members.Store(&[]*member{})
	}
	s.group = g
	members := without(*g.members.Load(), func(m *member) bool { return m.sub == old })
	members = append(members, &member{s, s.ids()})
	g.members.Store(&members)
	if ok {
		return
	}
	o.tree.Update(s.filter, func(in interest, _ bool) (interest, bool) {
		next := in.audience()
		next.groups = append(next.groups[:len(next.groups):len(next.groups)], g)
		return interest{many: &next}, true
	})
}

// removeSub ends a subscription. It is called by the loop only.
func (o *org) removeSub(s *sub) {
	g := s.group
	if g != nil {
		members := without(*g.members.Load(), func(m *member) bool { return m.sub == s })
		g.members.Store(&members)
		if len(members) > 0 {
			return
		}
		delete(o.groups, g.name)
	}
	o.tree.Update(s.filter, func(in interest, _ bool) (interest, bool) {
		next := in.audience()
		if g != nil {
			next.groups = without(next.groups, func(h *group) bool { return h == g })
		} else {
			next.subs = without(next.subs, func(t *sub) bool { return t == s })
		}
		switch {
		case len(next.groups) > 0 || len(next.subs) > 1:
			return interest{many: &next}, true
		case len(next.subs) == 1:
			return interest{one: next.subs[0]}, true
		}
		return interest{}, false
	})
}

// audience returns the interest as an audience.
func (in interest) audience() audience {
	switch {
	case in.many != nil:
		return *in.many
	case in.one != nil:
		return audience{subs: []*sub{in.one}}
	}
	return audience{}
}

// replaced returns a copy of list with to in place of from.
func replaced[T comparable](list []T, from, to T) []T {
	next := make([]T, len(list), len(list)+1)
	copy(next, list)
	for i := range next {
		if next[i] == from {
			next[i] = to
		}
	}
	return next
}

// without returns a copy of list without what is out.
func without[T any](list []T, out func(T) bool) []T {
	next := make([]T, 0, len(list)+1)
	for _, v := range list {
		if !out(v) {
			next = append(next, v)
		}
	}
	return next
}
