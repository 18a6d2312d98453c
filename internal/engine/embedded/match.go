package embedded

import (
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

// A match is who gets what is published to one topic by one session. It does
// not change, and it is true as long as the tree has that generation.
type match struct {
	topic      string
	generation uint64
	live       []target // sessions that are not persistent
	kept       []target // persistent sessions
	groups     []*group
}

// A target is a session that gets a message, once, however many of its
// subscriptions match.
type target struct {
	s   *session
	qos byte // the highest of its subscriptions
	rap bool
	ids []uint32
}

// delivery says how a message goes to the target.
func (t *target) delivery(m *engine.Message) engine.Delivery {
	return engine.Delivery{QoS: min(m.QoS, t.qos), Retain: m.Retain && t.rap, IDs: t.ids}
}

// deliver hands a message that is not queued to whoever holds the session.
func (t *target) deliver(m *engine.Message) {
	if h := t.s.holder.Load(); h != nil {
		h.sink.Deliver(m, t.delivery(m))
	}
}

// maxMatches bounds the topics a session remembers.
const maxMatches = 64

// match returns who gets what h publishes to a topic. A connection publishes to
// few topics, so they are remembered.
func (h *handle) match(n topic.Name) *match {
	o, s := h.s.o, n.String()
	generation := o.tree.Generation()
	if m := h.last; m != nil && m.generation == generation && m.topic == s {
		return m
	}
	m := h.matches[s]
	if m == nil || m.generation != generation {
		m = o.match(n, h.s, generation)
		if h.matches == nil || len(h.matches) >= maxMatches {
			h.matches = make(map[string]*match, 4)
		}
		h.matches[s] = m
	}
	h.last = m
	return m
}

// match finds who gets what from, which may be nil, publishes to a topic.
func (o *org) match(n topic.Name, from *session, generation uint64) *match {
	m := &match{topic: n.String(), generation: generation}
	var all []*sub
	filters := 0
	o.tree.Match(n, func(in interest) {
		if in.one != nil {
			filters++
			all = append(all, in.one)
			return
		}
		if len(in.many.subs) > 0 {
			filters++
			all = append(all, in.many.subs...)
		}
		m.groups = append(m.groups, in.many.groups...)
	})
	targets := make([]target, 0, len(all))
	var place map[*session]int // needed only where a session may be met twice
	if filters > 1 {
		place = make(map[*session]int, len(all))
	}
	for _, s := range all {
		if s.noLocal && s.s == from {
			continue // [MQTT-3.8.3-3]
		}
		if i, ok := place[s.s]; ok {
			targets[i].merge(s)
			continue
		}
		if place != nil {
			place[s.s] = len(targets)
		}
		targets = append(targets, s.target(s.ids()))
	}
	for _, t := range targets {
		if t.s.persistent {
			m.kept = append(m.kept, t)
		} else {
			m.live = append(m.live, t)
		}
	}
	return m
}

func (s *sub) target(ids []uint32) target {
	return target{s: s.s, qos: s.qos, rap: s.rap, ids: ids}
}

// merge makes one target of two subscriptions [MQTT-3.3.4-2, MQTT-3.3.4-3].
func (t *target) merge(s *sub) {
	t.qos = max(t.qos, s.qos)
	t.rap = t.rap || s.rap
	t.ids = append(t.ids[:len(t.ids):len(t.ids)], s.ids()...)
}

// How a member of a group gets a message.
type way byte

const (
	toNobody way = iota
	toHolder     // at once
	toQueue      // the queue's room is reserved
)

// choose picks the member that gets a message, in turn: one that is held if
// there is one, otherwise one whose queue has room. If there is none, and
// members would have kept it, t is the one that has the say, and why what it has no
// room for.
func (g *group) choose(m *engine.Message, from *session, size int64) (t target, how way, why fullness) {
	members := *g.members.Load()
	if len(members) == 0 {
		return t, toNobody, fullNot
	}
	var full target
	first := int(g.turn.Add(1)) % len(members)
	for _, held := range [...]bool{true, false} {
		for i := range members {
			s := members[(first+i)%len(members)]
			if s.noLocal && s.s == from || (s.s.holder.Load() != nil) != held {
				continue
			}
			t = s.target(s.ids)
			if min(m.QoS, t.qos) == 0 || !s.s.persistent {
				if held {
					return t, toHolder, fullNot
				}
				continue
			}
			f := s.s.reserve(size)
			if f == fullNot {
				return t, toQueue, fullNot
			}
			// One that refuses rather than end has the say: nothing is lost then.
			if why == fullNot || full.s.endWhenFull.Load() && !s.s.endWhenFull.Load() {
				full, why = t, f
			}
		}
	}
	return full, toNobody, why
}
