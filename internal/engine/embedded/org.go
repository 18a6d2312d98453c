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

	tree   topic.Tree[*interest]
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

// A sub is a subscription in effect. It does not change.
type sub struct {
	s *session
	engine.Subscription
	ids []uint32 // nil or the identifier
}

// A group is a shared subscription with its members.
type group struct {
	name    groupName
	members atomic.Pointer[[]*sub] // the slice does not change
	turn    atomic.Uint32
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
	if s.Group != "" {
		o.addMember(s, old)
		return
	}
	o.tree.Update(s.Filter, func(in *interest, ok bool) (*interest, bool) {
		if !ok {
			return &interest{subs: []*sub{s}}, true
		}
		next := *in
		if old != nil {
			next.subs = replaced(in.subs, old, s)
		} else {
			// In place, if there is room: readers of the former interest do not
			// look beyond its length, and there is one latest interest only.
			next.subs = append(in.subs, s)
		}
		return &next, true
	})
}

func (o *org) addMember(s *sub, old *sub) {
	name := groupName{s.s.id.Owner, s.Group, s.Filter.String()}
	g, ok := o.groups[name]
	if !ok {
		g = &group{name: name}
		o.groups[name] = g
		g.members.Store(&[]*sub{s})
		o.tree.Update(s.Filter, func(in *interest, ok bool) (*interest, bool) {
			next := interest{}
			if ok {
				next = *in
			}
			next.groups = append(next.groups[:len(next.groups):len(next.groups)], g)
			return &next, true
		})
		return
	}
	members := *g.members.Load()
	if old != nil {
		members = replaced(members, old, s)
	} else {
		members = append(members[:len(members):len(members)], s)
	}
	g.members.Store(&members)
}

// removeSub ends a subscription. It is called by the loop only.
func (o *org) removeSub(s *sub) {
	if s.Group == "" {
		o.tree.Update(s.Filter, func(in *interest, ok bool) (*interest, bool) {
			if !ok {
				return nil, false
			}
			next := *in
			next.subs = without(in.subs, s)
			return &next, len(next.subs)+len(next.groups) > 0
		})
		return
	}
	name := groupName{s.s.id.Owner, s.Group, s.Filter.String()}
	g, ok := o.groups[name]
	if !ok {
		return
	}
	members := without(*g.members.Load(), s)
	g.members.Store(&members)
	if len(members) > 0 {
		return
	}
	delete(o.groups, name)
	o.tree.Update(s.Filter, func(in *interest, ok bool) (*interest, bool) {
		if !ok {
			return nil, false
		}
		next := *in
		next.groups = without(in.groups, g)
		return &next, len(next.subs)+len(next.groups) > 0
	})
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

// without returns a copy of list without v.
func without[T comparable](list []T, v T) []T {
	next := make([]T, 0, len(list))
	for _, w := range list {
		if w != v {
			next = append(next, w)
		}
	}
	return next
}
