package topic

import (
	"hash/maphash"
	"math/bits"
	"slices"
)

// fewMax is up to how many literal children a node keeps in a plain slice.
const fewMax = 8

// kids are the children of a node. They never change: a changed set is a copy
// that shares what stayed the same. A nil *kids has no children.
type kids[V any] struct {
	plus, hash *node[V]   // the children that begin with a wildcard
	few        []*node[V] // the others, in no order, or
	many       *hamt[V]   // the others, when they are many
	n          int        // how many others
}

// child returns the literal child that begins with level.
func (k *kids[V]) child(seed maphash.Seed, level string) *node[V] {
	if k == nil {
		return nil
	}
	if k.many != nil {
		return k.many.get(level, maphash.String(seed, level))
	}
	return search(k.few, level)
}

// get returns the child that begins with level, which may be a wildcard.
func (k *kids[V]) get(seed maphash.Seed, level string) *node[V] {
	switch {
	case k == nil:
		return nil
	case level == "+":
		return k.plus
	case level == "#":
		return k.hash
	}
	return k.child(seed, level)
}

// with returns k with c in place of the child that begins with the same level.
func (k *kids[V]) with(seed maphash.Seed, c *node[V]) *kids[V] {
	var r kids[V]
	if k != nil {
		r = *k
	}
	switch level := c.level(); {
	case level == "+":
		r.plus = c
	case level == "#":
		r.hash = c
	case r.many != nil:
		var added bool
		r.many, added = r.many.with(c, level, summer(seed), 0)
		if added {
			r.n++
		}
	default:
		r.few = put(r.few, c, level)
		r.n = len(r.few)
		if r.n > fewMax {
			r.many = new(hamt[V])
			for _, c := range r.few {
				r.many, _ = r.many.with(c, c.level(), summer(seed), 0)
			}
			r.few = nil
		}
	}
	return &r
}

// without returns k without the child that begins with level, or nil if none is left.
func (k *kids[V]) without(seed maphash.Seed, level string) *kids[V] {
	if k.get(seed, level) == nil {
		return k
	}
	r := *k
	switch {
	case level == "+":
		r.plus = nil
	case level == "#":
		r.hash = nil
	case r.many != nil:
		r.many = r.many.without(level, summer(seed), 0)
		r.n--
		if r.n <= fewMax/2 { // not at fewMax, so that a set does not change its form to and fro
			for c := range r.many.each {
				r.few = append(r.few, c)
			}
			r.many = nil
		}
	default:
		r.few = drop(r.few, level)
		r.n--
	}
	if r.plus == nil && r.hash == nil && r.n == 0 {
		return nil
	}
	return &r
}

// only returns the child if there is exactly one.
func (k *kids[V]) only() *node[V] {
	var found *node[V]
	for c := range k.each {
		if found != nil {
			return nil
		}
		found = c
	}
	return found
}

// each yields all children.
func (k *kids[V]) each(yield func(*node[V]) bool) {
	if k == nil || k.hash != nil && !yield(k.hash) || k.plus != nil && !yield(k.plus) {
		return
	}
	for _, c := range k.few {
		if !yield(c) {
			return
		}
	}
	k.many.walk(yield)
}

// summer returns the hash function of a tree. Its seed is random, so that
// clients cannot choose levels that collide.
func summer(seed maphash.Seed) func(string) uint64 {
	return func(level string) uint64 { return maphash.String(seed, level) }
}

// A hamt is a hash array mapped trie of nodes by their first level: an
// immutable map in which a change copies O(log32 n) small pieces. Every piece
// takes five bits of the hash. Below the last of them, leaf is a plain list.
type hamt[V any] struct {
	leaves, subs uint32     // which of the 32 places hold a node, and which a further piece
	leaf         []*node[V] // in the order of their places
	sub          []*hamt[V]
}

const (
	hamtBits = 5
	hashBits = 64
)

// place returns the bit of the place for sum at a depth of shift bits.
func place(sum uint64, shift int) uint32 { return 1 << (sum >> shift & (1<<hamtBits - 1)) }

// rank returns the index of the place in a slice of those in set.
func rank(set, place uint32) int { return bits.OnesCount32(set & (place - 1)) }

func (h *hamt[V]) get(level string, sum uint64) *node[V] {
	for shift := 0; shift < hashBits; shift += hamtBits {
		p := place(sum, shift)
		if h.leaves&p != 0 {
			if c := h.leaf[rank(h.leaves, p)]; c.begins(level) {
				return c
			}
			return nil
		}
		if h.subs&p == 0 {
			return nil
		}
		h = h.sub[rank(h.subs, p)]
	}
	return search(h.leaf, level)
}

// with returns h with c, which begins with level, and whether c is a new one.
func (h *hamt[V]) with(c *node[V], level string, sum func(string) uint64, shift int) (*hamt[V], bool) {
	r := *h
	if shift >= hashBits {
		r.leaf = put(h.leaf, c, level)
		return &r, len(r.leaf) > len(h.leaf)
	}
	p := place(sum(level), shift)
	switch i, j := rank(h.leaves, p), rank(h.subs, p); {
	case h.subs&p != 0:
		var added bool
		r.sub = slices.Clone(h.sub)
		r.sub[j], added = h.sub[j].with(c, level, sum, shift+hamtBits)
		return &r, added
	case h.leaves&p == 0:
		r.leaves |= p
		r.leaf = inserted(h.leaf, i, c)
		return &r, true
	case h.leaf[i].begins(level):
		r.leaf = slices.Clone(h.leaf)
		r.leaf[i] = c
		return &r, false
	default: // two in one place: both go one piece down
		old := h.leaf[i]
		down, _ := new(hamt[V]).with(old, old.level(), sum, shift+hamtBits)
		down, _ = down.with(c, level, sum, shift+hamtBits)
		r.leaves &^= p
		r.leaf = removed(h.leaf, i)
		r.subs |= p
		r.sub = inserted(h.sub, j, down)
		return &r, true
	}
}

// without returns h without the node that begins with level, which is there.
func (h *hamt[V]) without(level string, sum func(string) uint64, shift int) *hamt[V] {
	r := *h
	if shift >= hashBits {
		r.leaf = drop(h.leaf, level)
		return &r
	}
	p := place(sum(level), shift)
	i, j := rank(h.leaves, p), rank(h.subs, p)
	if h.leaves&p != 0 {
		r.leaves &^= p
		r.leaf = removed(h.leaf, i)
		return &r
	}
	down := h.sub[j].without(level, sum, shift+hamtBits)
	if len(down.leaf) == 1 && len(down.sub) == 0 { // one alone moves up again
		r.subs &^= p
		r.sub = removed(h.sub, j)
		r.leaves |= p
		r.leaf = inserted(h.leaf, i, down.leaf[0])
		return &r
	}
	r.sub = slices.Clone(h.sub)
	r.sub[j] = down
	return &r
}

func (h *hamt[V]) each(yield func(*node[V]) bool) { h.walk(yield) }

// walk is each; it reports whether to go on.
func (h *hamt[V]) walk(yield func(*node[V]) bool) bool {
	if h == nil {
		return true
	}
	for _, c := range h.leaf {
		if !yield(c) {
			return false
		}
	}
	for _, s := range h.sub {
		if !s.walk(yield) {
			return false
		}
	}
	return true
}

// search returns the node in list that begins with level, or nil.
func search[V any](list []*node[V], level string) *node[V] {
	for _, c := range list {
		if c.begins(level) {
			return c
		}
	}
	return nil
}

// put returns a copy of list with c in place of the node that begins with level.
func put[V any](list []*node[V], c *node[V], level string) []*node[V] {
	for i, o := range list {
		if o.begins(level) {
			list = slices.Clone(list)
			list[i] = c
			return list
		}
	}
	return inserted(list, len(list), c)
}

// drop returns a copy of list without the node that begins with level.
func drop[V any](list []*node[V], level string) []*node[V] {
	for i, o := range list {
		if o.begins(level) {
			return removed(list, i)
		}
	}
	return list
}

// inserted returns a copy of list with x at i.
func inserted[T any](list []T, i int, x T) []T {
	r := make([]T, len(list)+1)
	copy(r, list[:i])
	r[i] = x
	copy(r[i+1:], list[i:])
	return r
}

// removed returns a copy of list without its element i.
func removed[T any](list []T, i int) []T {
	if len(list) == 1 {
		return nil
	}
	r := make([]T, len(list)-1)
	copy(r, list[:i])
	copy(r[i:], list[i+1:])
	return r
}
