package topic

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// A Tree maps filters to values and finds all filters that match a name.
//
// Any number of readers and writers may use it at the same time. Readers never
// lock and never wait: they see the tree as some Update left it. An Update
// copies the path it changes and nothing else. The zero Tree is empty and ready.
type Tree[V any] struct {
	mu   sync.Mutex // held by the writer
	root atomic.Pointer[root[V]]
}

// A root is one state of a tree. It never changes.
type root[V any] struct {
	seed       maphash.Seed
	kids       *kids[V]
	len        int
	generation uint64
}

// A node stands for one or more levels that follow its parent's. A node
// without a value has at least two children, so a filter that shares its last
// levels with no other costs one node, however many levels they are.
type node[V any] struct {
	label string // the levels; those of a filter that ends here may be a part of its string
	value V
	set   bool // a filter ends here and has the value
	kids  *kids[V]
}

// level returns the first level of the label.
func (n *node[V]) level() string { return levelAt(n.label, 0) }

// begins reports whether level is the first level of the label.
func (n *node[V]) begins(level string) bool {
	l := len(level)
	return len(n.label) >= l && n.label[:l] == level && (len(n.label) == l || n.label[l] == '/')
}

// levelAt returns the level of s that begins at pos.
func levelAt(s string, pos int) string {
	if i := strings.IndexByte(s[pos:], '/'); i >= 0 {
		return s[pos : pos+i]
	}
	return s[pos:]
}

// Len returns the number of filters.
func (t *Tree[V]) Len() int {
	if r := t.root.Load(); r != nil {
		return r.len
	}
	return 0
}

// Generation returns a number that is greater after every Update that changed
// something. What Match finds may be kept until it changes, if it was asked
// for before Match was called.
func (t *Tree[V]) Generation() uint64 {
	if r := t.root.Load(); r != nil {
		return r.generation
	}
	return 0
}

// Get returns the value of f.
func (t *Tree[V]) Get(f Filter) (v V, ok bool) {
	r := t.root.Load()
	if r == nil {
		return v, false
	}
	if s := r.find(f.s); s.exact() {
		return s.node.value, s.node.set
	}
	return v, false
}

// Update calls fn with the value of f, if it has one, and gives f the value
// that fn returns, or removes f unless keep. fn must not use the tree's Update.
// A value that readers may hold must not be changed: return another one.
func (t *Tree[V]) Update(f Filter, fn func(old V, ok bool) (value V, keep bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var next root[V]
	if r := t.root.Load(); r != nil {
		next = *r
	} else {
		next.seed = maphash.MakeSeed()
	}
	s := next.find(f.s)
	var old V
	ok := s.exact() && s.node.set
	if ok {
		old = s.node.value
	}
	value, keep := fn(old, ok)
	var changed *node[V]
	switch {
	case keep:
		changed = s.put(next.seed, value)
		if !ok {
			next.len++
		}
	case ok:
		changed = (&node[V]{label: s.node.label, kids: s.node.kids}).tidy()
		next.len--
	default:
		return
	}
	next.kids = s.rebuild(next, changed)
	next.generation++
	t.root.Store(&next)
}

// A spot is the place of a filter in the tree, whether it is there or not.
type spot[V any] struct {
	path   []*node[V] // all of whose levels are the filter's, from the top down
	rest   string     // the levels of the filter after those
	node   *node[V]   // the child that begins as rest does; nil: none
	common int        // how much of rest and of the node's label is the same: whole levels
}

func (r *root[V]) find(f string) spot[V] {
	s := spot[V]{rest: f}
	for k := r.kids; ; k = s.node.kids {
		s.node = k.get(r.seed, levelAt(s.rest, 0))
		if s.node == nil {
			return s
		}
		s.common = common(s.node.label, s.rest)
		if s.common < len(s.node.label) || s.common == len(s.rest) {
			return s
		}
		s.path = append(s.path, s.node)
		s.rest = s.rest[s.common+1:]
	}
}

// exact reports whether the filter ends at the node.
func (s spot[V]) exact() bool {
	return s.node != nil && s.common == len(s.node.label) && s.common == len(s.rest)
}

// put returns a node that stands where s.node stood and in which the filter has the value.
func (s spot[V]) put(seed maphash.Seed, value V) *node[V] {
	end := &node[V]{label: s.rest, value: value, set: true}
	if s.node == nil {
		return end
	}
	if s.exact() {
		end.label, end.kids = s.node.label, s.node.kids
		return end
	}
	below := *s.node
	below.label = s.node.label[s.common+1:]
	var k *kids[V]
	k = k.with(seed, &below)
	if s.common == len(s.rest) {
		end.kids = k
		return end
	}
	end.label = s.rest[s.common+1:]
	// A clone, so that no filter's string is held for a label that outlives it.
	return &node[V]{label: strings.Clone(s.rest[:s.common]), kids: k.with(seed, end)}
}

// rebuild returns the children of the root after child, which may be nil, took
// the place of s.node. A path may have as many nodes as a filter has levels,
// so it is not walked by recursion.
func (s spot[V]) rebuild(r root[V], child *node[V]) *kids[V] {
	level := levelAt(s.rest, 0)
	replace := func(k *kids[V]) *kids[V] {
		if child == nil {
			return k.without(r.seed, level)
		}
		return k.with(r.seed, child)
	}
	for i := len(s.path) - 1; i >= 0; i-- {
		up := *s.path[i]
		up.kids = replace(up.kids)
		child, level = up.tidy(), up.level()
	}
	return replace(r.kids)
}

// tidy returns n, or nil if n stands for nothing, or n and its only child as one node.
func (n *node[V]) tidy() *node[V] {
	if n.set {
		return n
	}
	if n.kids == nil {
		return nil
	}
	c := n.kids.only()
	if c == nil {
		return n
	}
	one := *c
	one.label = n.label + "/" + c.label
	return &one
}

// common returns the length of the levels with which both a and b begin. Their
// first levels are the same.
func common(a, b string) int {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	if i == len(a) && (i == len(b) || b[i] == '/') {
		return i
	}
	return strings.LastIndexByte(a[:i], '/')
}

// Match calls visit with the value of every filter that matches n, in no order.
// It does not allocate.
func (t *Tree[V]) Match(n Name, visit func(V)) {
	if r := t.root.Load(); r != nil && n.s != "" {
		r.match(n.s, visit)
	}
}

// Covering calls visit with the value of every filter that covers f, in no order.
func (t *Tree[V]) Covering(f Filter, visit func(V)) {
	r := t.root.Load()
	if r == nil || f.s == "" {
		return
	}
	r.match(f.s, visit)
	if f.s != "#" || r.kids == nil || r.kids.plus == nil {
		return
	}
	// Every name has a first level, so "+/#" is the same as "#".
	switch p := r.kids.plus; {
	case p.label == "+/#":
		visit(p.value)
	case p.label == "+" && p.kids != nil && p.kids.hash != nil:
		visit(p.kids.hash.value)
	}
}

// match finds the filters that match s. If s is a filter, its wildcards count
// as levels that only the same or a wider wildcard matches.
func (r *root[V]) match(s string, visit func(V)) {
	type branch struct {
		node *node[V]
		pos  int
	}
	var buf [16]branch // enough for all but strange trees; more are kept on the heap
	later := buf[:0]
	k, pos := r.kids, 0 // the children to be asked for the level at pos; beyond the end: no level is left
	for {
		var n *node[V]
		if k != nil {
			if pos > 0 || s[0] != '$' { // [MQTT-4.7.2-1]
				if k.hash != nil {
					visit(k.hash.value)
				}
				if k.plus != nil && pos <= len(s) {
					later = append(later, branch{k.plus, pos})
				}
			}
			if pos <= len(s) {
				n = k.child(r.seed, levelAt(s, pos))
			}
		}
		for at := none; at == none; {
			if n == nil {
				if len(later) == 0 {
					return
				}
				n, pos = later[len(later)-1].node, later[len(later)-1].pos
				later = later[:len(later)-1]
			}
			switch at = consume(n.label, s, pos); at {
			case all:
				visit(n.value)
				n, at = nil, none
			case none:
				n = nil
			default:
				pos = at
			}
		}
		if pos > len(s) && n.set {
			visit(n.value)
		}
		k = n.kids
	}
}

const (
	none = -1 // the label does not match
	all  = -2 // the label ends in # and matches everything from here
)

// consume matches the levels of label with those of s from pos on, where a
// level begins, and returns where the next level begins, which is beyond
// len(s) if there is none.
func consume(label, s string, pos int) int {
	for i := 0; i < len(label); i++ {
		switch c := label[i]; {
		case c == '#':
			return all
		case c == '+':
			if pos < len(s) && s[pos] == '#' {
				return none
			}
			pos += len(levelAt(s, pos))
		case pos < len(s) && s[pos] == c:
			pos++
		case pos == len(s) && label[i:] == "/#": // "a/#" matches "a"
			return all
		default:
			return none
		}
	}
	if pos < len(s) && s[pos] != '/' {
		return none
	}
	return pos + 1
}

// All yields every filter with its value, in no order, as of the moment it is called.
func (t *Tree[V]) All(yield func(Filter, V) bool) {
	r := t.root.Load()
	if r == nil {
		return
	}
	type branch struct {
		node *node[V]
		path string // the levels above, each with its "/"
	}
	var later []branch
	for c := range r.kids.each {
		later = append(later, branch{c, ""})
	}
	for len(later) > 0 {
		b := later[len(later)-1]
		later = later[:len(later)-1]
		f := b.path + b.node.label
		if b.node.set && !yield(Filter{f}, b.node.value) {
			return
		}
		for c := range b.node.kids.each {
			later = append(later, branch{c, f + "/"})
		}
	}
}
