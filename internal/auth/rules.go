package auth

import "github.com/keepmq/keepmq/internal/topic"

// scanned is up to how many rules are looked at one after the other: then a tree
// is faster. A gateway has some for each device attached to it.
const scanned = 4

// A ruleSet holds the rules of one action, in order.
type ruleSet struct {
	list []Rule
	tree *topic.Tree[int] // from filter to the index of its last rule; nil if the rules are few
}

func newRuleSet(list []Rule) ruleSet {
	s := ruleSet{list: list}
	if len(list) > scanned {
		s.tree = new(topic.Tree[int])
		for i, r := range list {
			s.tree.Update(r.Filter, func(int, bool) (int, bool) { return i, true })
		}
	}
	return s
}

// last returns the index of the last rule that matches n, or -1.
func (s *ruleSet) last(n topic.Name) int {
	last := -1
	if s.tree != nil {
		s.tree.Match(n, func(i int) { last = max(last, i) })
		return last
	}
	for i := len(s.list) - 1; i >= 0; i-- {
		if s.list[i].Filter.Match(n) {
			return i
		}
	}
	return last
}

// lastCovering returns the index of the last rule that covers f, or -1.
func (s *ruleSet) lastCovering(f topic.Filter) int {
	last := -1
	if s.tree != nil {
		s.tree.Covering(f, func(i int) { last = max(last, i) })
		return last
	}
	for i := len(s.list) - 1; i >= 0; i-- {
		if s.list[i].Filter.Covers(f) {
			return i
		}
	}
	return last
}

// decision returns what the rule of that index decides; none says no.
func (s *ruleSet) decision(i int) Decision {
	if i < 0 {
		return Decision{}
	}
	return Decision{Allowed: !s.list[i].Deny, Rule: s.list[i]}
}

// allows reports whether the last rule that matches n allows it.
func (s *ruleSet) allows(n topic.Name) bool {
	i := s.last(n)
	return i >= 0 && !s.list[i].Deny
}

// allowsFilter reports whether the last rule that covers f allows it.
func (s *ruleSet) allowsFilter(f topic.Filter) bool {
	i := s.lastCovering(f)
	return i >= 0 && !s.list[i].Deny
}

// allowsAll reports whether every name that f matches is certainly allowed: one
// rule allows them all, and none after it denies any.
func (s *ruleSet) allowsAll(f topic.Filter) bool {
	for i := len(s.list) - 1; i >= 0; i-- {
		switch r := s.list[i]; {
		case r.Deny && r.Filter.Overlaps(f):
			return false
		case !r.Deny && r.Filter.Covers(f):
			return true
		}
	}
	return false
}
