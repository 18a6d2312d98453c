package embedded

import (
	"cmp"
	"slices"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

// A sub is a subscription in effect. It does not change, and there may be
// millions of them: what few have is elsewhere.
type sub struct {
	s       *session
	filter  topic.Filter
	group   *group // nil: it is not shared
	id      uint32
	qos     byte
	noLocal bool
	rap     bool // retain as published
}

func newSub(s *session, in engine.Subscription) *sub {
	return &sub{s: s, filter: in.Filter, id: in.ID, qos: in.QoS, noLocal: in.NoLocal, rap: in.RetainAsPublished}
}

// subscription returns what was asked for.
func (s *sub) subscription() engine.Subscription {
	return engine.Subscription{Filter: s.filter, Group: s.name().group, QoS: s.qos, NoLocal: s.noLocal, RetainAsPublished: s.rap, ID: s.id}
}

func (s *sub) name() subName {
	n := subName{filter: s.filter.String()}
	if s.group != nil {
		n.group = s.group.name.group
	}
	return n
}

// ids returns nil or the identifier.
func (s *sub) ids() []uint32 {
	if s.id == 0 {
		return nil
	}
	return []uint32{s.id}
}

// A subSet is the subscriptions of a session by name.
type subSet struct {
	few  []*sub           // in the order of their names, or
	many map[subName]*sub // when they are many
}

// fewSubs is up to how many a session has in a plain list. A map takes several
// times the memory; a long list takes long to change.
const fewSubs = 1000

func (n subName) compare(m subName) int {
	return cmp.Or(cmp.Compare(n.group, m.group), cmp.Compare(n.filter, m.filter))
}

// find returns where in few a name is, or belongs.
func (x *subSet) find(n subName) (int, bool) {
	return slices.BinarySearchFunc(x.few, n, func(s *sub, n subName) int { return s.name().compare(n) })
}

func (x *subSet) get(n subName) *sub {
	if x.many != nil {
		return x.many[n]
	}
	if i, ok := x.find(n); ok {
		return x.few[i]
	}
	return nil
}

// put adds s, in place of one with its name.
func (x *subSet) put(s *sub) {
	n := s.name()
	if x.many != nil {
		x.many[n] = s
		return
	}
	i, ok := x.find(n)
	switch {
	case ok:
		x.few[i] = s
	case len(x.few) < fewSubs:
		x.few = slices.Insert(x.few, i, s)
	default:
		x.many = make(map[subName]*sub, len(x.few)+1)
		for _, s := range x.few {
			x.many[s.name()] = s
		}
		x.many[n], x.few = s, nil
	}
}

func (x *subSet) remove(n subName) {
	if x.many != nil {
		delete(x.many, n)
		return
	}
	if i, ok := x.find(n); ok {
		x.few = slices.Delete(x.few, i, i+1)
	}
}

func (x *subSet) len() int { return len(x.few) + len(x.many) }

func (x *subSet) all(yield func(*sub) bool) {
	for _, s := range x.few {
		if !yield(s) {
			return
		}
	}
	for _, s := range x.many {
		if !yield(s) {
			return
		}
	}
}
