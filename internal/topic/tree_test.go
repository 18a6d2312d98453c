package topic

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func filter(t testing.TB, s string) Filter {
	t.Helper()
	f, err := ParseFilter(s)
	if err != nil {
		t.Fatalf("ParseFilter(%q): %v", s, err)
	}
	return f
}

func name(t testing.TB, s string) Name {
	t.Helper()
	n, err := ParseName(s)
	if err != nil {
		t.Fatalf("ParseName(%q): %v", s, err)
	}
	return n
}

func set[V any](tree *Tree[V], f Filter, v V) {
	tree.Update(f, func(V, bool) (V, bool) { return v, true })
}

func remove[V any](tree *Tree[V], f Filter) {
	tree.Update(f, func(v V, _ bool) (V, bool) { return v, false })
}

func matches(tree *Tree[string], n Name) []string {
	var got []string
	tree.Match(n, func(s string) { got = append(got, s) })
	slices.Sort(got)
	return got
}

func TestTreeMatch(t *testing.T) {
	filters := []string{
		"#", "+", "+/#", "/", "/+", "+/+", "a", "a/", "a/#", "a/+", "a/+/#", "a/b", "a/b/c", "a/b/#",
		"a//c", "a/+/c", "$SYS/#", "$SYS/+", "+/b", "/a", "//", "a/b/c/d/e", "a/b/c/d/f",
	}
	names := []string{
		"a", "b", "/", "//", "a/", "/a", "a/b", "a//", "a//c", "a/b/c", "a/b/c/d", "a/b/c/d/e", "$SYS", "$SYS/a",
		"$SYS/", "$", "$/b", "a/$SYS", "ab", "b/b",
	}
	var tree Tree[string]
	for _, f := range filters {
		set(&tree, filter(t, f), f)
	}
	for _, s := range names {
		n := name(t, s)
		var want []string
		for _, f := range filters {
			if filter(t, f).Match(n) {
				want = append(want, f)
			}
		}
		slices.Sort(want)
		if got := matches(&tree, n); !slices.Equal(got, want) {
			t.Errorf("Match(%q) = %q, want %q", s, got, want)
		}
	}
}

// drawFilter draws a filter of few different levels, so that filters share some.
func drawFilter(t *rapid.T) Filter {
	levels := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "ab", "+", "$", "+"}), 1, 5).Draw(t, "levels")
	if rapid.Bool().Draw(t, "hash") {
		levels = append(levels, "#")
	}
	s := strings.Join(levels, "/")
	if s == "" {
		s = "#"
	}
	return Filter{s}
}

func drawName(t *rapid.T) Name {
	s := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "", "ab", "$", "c"}), 1, 6).Draw(t, "name"), "/")
	if s == "" {
		s = "a"
	}
	return Name{s}
}

// TestTreeModel compares a tree with a map after every change.
func TestTreeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree[int]
		model := map[Filter]int{}
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			f := drawFilter(t)
			keep := rapid.IntRange(0, 2).Draw(t, "keep") > 0
			was, had := model[f]
			before := tree.Generation()
			tree.Update(f, func(old int, ok bool) (int, bool) {
				if old != was || ok != had {
					t.Fatalf("Update(%q) gave %d, %v, want %d, %v", f, old, ok, was, had)
				}
				return i, keep
			})
			if changed := tree.Generation() > before; changed != (keep || had) {
				t.Fatalf("generation changed: %v after keep %v of a filter that was there: %v", changed, keep, had)
			}
			if delete(model, f); keep {
				model[f] = i
			}
			check(t, &tree, model, drawName(t), drawFilter(t))
		}
		for f := range model {
			remove(&tree, f)
		}
		if r := tree.root.Load(); r != nil && (r.len != 0 || r.kids != nil) {
			t.Fatalf("an emptied tree has %d filters and children %v", r.len, r.kids)
		}
	})
}

func check(t *rapid.T, tree *Tree[int], model map[Filter]int, n Name, g Filter) {
	var want, got []int
	for f, v := range model {
		if f.Match(n) {
			want = append(want, v)
		}
	}
	tree.Match(n, func(v int) { got = append(got, v) })
	if slices.Sort(want); !slices.Equal(want, slices.Sorted(slices.Values(got))) {
		t.Fatalf("Match(%q) = %v, want %v in %v", n, got, want, model)
	}
	want, got = nil, nil
	for f, v := range model {
		if f.Covers(g) {
			want = append(want, v)
		}
	}
	tree.Covering(g, func(v int) { got = append(got, v) })
	if slices.Sort(want); !slices.Equal(want, slices.Sorted(slices.Values(got))) {
		t.Fatalf("Covering(%q) = %v, want %v in %v", g, got, want, model)
	}
	if tree.Len() != len(model) {
		t.Fatalf("Len = %d, want %d", tree.Len(), len(model))
	}
	seen := 0
	for f, v := range tree.All {
		seen++
		if w, ok := model[f]; !ok || w != v {
			t.Fatalf("All yields %q: %d, want %d, %v", f, v, w, ok)
		}
		if w, ok := tree.Get(f); !ok || w != v {
			t.Fatalf("Get(%q) = %d, %v, want %d", f, w, ok, v)
		}
	}
	if seen != len(model) {
		t.Fatalf("All yields %d filters of %d", seen, len(model))
	}
	if r := tree.root.Load(); r != nil {
		for c := range r.kids.each {
			shape(t, c)
		}
	}
}

// shape checks that no node is there in vain.
func shape(t *rapid.T, n *node[int]) {
	count := 0
	for c := range n.kids.each {
		count++
		shape(t, c)
	}
	if !n.set && count < 2 || n.kids != nil && count == 0 {
		t.Fatalf("node %q without a value has %d children", n.label, count)
	}
}

// TestHAMT gives the map a hash of few bits, so that there are collisions at
// every depth.
func TestHAMT(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mask := rapid.SampledFrom([]uint64{0, 1, 1 << 63, 0xf << 60, 0x10842108, 0xffff}).Draw(t, "mask")
		sum := func(s string) uint64 {
			var h uint64
			for _, c := range []byte(s) {
				h = (h ^ uint64(c)) * 0x9e3779b97f4a7c15
			}
			return h & mask
		}
		h := new(hamt[int])
		model := map[string]int{}
		for i := range rapid.IntRange(1, 120).Draw(t, "steps") {
			level := fmt.Sprint(rapid.IntRange(0, 60).Draw(t, "level"))
			old := h
			_, had := model[level]
			if rapid.IntRange(0, 2).Draw(t, "put") > 0 {
				next, added := h.with(&node[int]{label: level + "/x", value: i}, level, sum, 0)
				if added == had {
					t.Fatalf("with %q: added %v", level, added)
				}
				h, model[level] = next, i
			} else if had {
				was := old.get(level, sum(level))
				h = h.without(level, sum, 0)
				delete(model, level)
				if old.get(level, sum(level)) != was {
					t.Fatalf("without changed the map it was called on")
				}
			}
			for level, v := range model {
				if n := h.get(level, sum(level)); n == nil || n.value != v {
					t.Fatalf("get(%q) = %v, want %d", level, n, v)
				}
			}
			if n := h.get("none", sum("none")); n != nil {
				t.Fatalf("get of a level that is not there: %v", n)
			}
			count := 0
			for range h.each {
				count++
			}
			if count != len(model) {
				t.Fatalf("%d nodes, want %d", count, len(model))
			}
		}
	})
}

// TestTreeWide grows one node to many children and back.
func TestTreeWide(t *testing.T) {
	const n = 5000
	var tree Tree[int]
	for i := range n {
		set(&tree, filter(t, fmt.Sprintf("d/%d/cmd/+", i)), i)
	}
	set(&tree, filter(t, "d/+/cmd/#"), n)
	for i := range n {
		if i%2 == 0 {
			remove(&tree, filter(t, fmt.Sprintf("d/%d/cmd/+", i)))
		}
	}
	for i := range n {
		var got []int
		tree.Match(name(t, fmt.Sprintf("d/%d/cmd/x", i)), func(v int) { got = append(got, v) })
		slices.Sort(got)
		want := []int{n}
		if i%2 == 1 {
			want = []int{i, n}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("device %d: %v, want %v", i, got, want)
		}
	}
	for f := range tree.All {
		remove(&tree, f)
	}
	if r := tree.root.Load(); r.kids != nil || r.len != 0 {
		t.Errorf("an emptied tree has %d filters", r.len)
	}
}

// TestTreeDeep uses filters of as many levels as fit in a topic.
func TestTreeDeep(t *testing.T) {
	const levels = 32000
	a, plus := strings.Repeat("a/", levels-1)+"a", strings.Repeat("+/", levels-1)+"+"
	var tree Tree[string]
	want := []string{}
	add := func(f, as string) {
		set(&tree, filter(t, f), as)
		want = append(want, as)
	}
	add(a, "all a")
	add(plus, "all +")
	add(a[:len(a)-1]+"#", "a to #")
	add(plus[:len(plus)-1]+"#", "+ to #")
	for i := 1; i < 600; i++ { // a node at each of many depths, with an alternative at each
		p := a[:100*i]
		add(p+"#", fmt.Sprint(i, " #"))
		add(p+plus[len(p):], fmt.Sprint(i, " +"))
		set(&tree, filter(t, p+"a"), "short")
	}
	slices.Sort(want)
	if got := matches(&tree, name(t, a)); !slices.Equal(got, want) {
		t.Errorf("%d filters match, want %d", len(got), len(want))
	}
	if got := matches(&tree, name(t, a+"/b")); len(got) != len(want)-(2+599) {
		t.Errorf("%d filters match a name of one more level", len(got))
	}
	for f := range tree.All {
		remove(&tree, f)
	}
	if r := tree.root.Load(); r.kids != nil || r.len != 0 {
		t.Errorf("an emptied tree has %d filters", r.len)
	}
}

// TestTreeConcurrent reads while several writers change other filters: what is
// not changed is found every time, and what a writer removed is not found later.
func TestTreeConcurrent(t *testing.T) {
	var tree Tree[string]
	set(&tree, filter(t, "d/+/x"), "stays")
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			n := name(t, "d/7/x")
			for {
				select {
				case <-stop:
					return
				default:
				}
				before, found := tree.Generation(), 0
				tree.Match(n, func(s string) {
					if s == "stays" {
						found++
					}
				})
				if found != 1 {
					t.Error("a filter that nobody changes was not found")
					return
				}
				if after := tree.Generation(); after < before {
					t.Errorf("generation went back from %d to %d", before, after)
				}
			}
		})
	}
	for w := range 3 {
		writers.Go(func() {
			for i := range 2000 {
				id := fmt.Sprintf("w%d-%d", w, i%40)
				f, n := filter(t, "d/"+id+"/x"), name(t, "d/"+id+"/x")
				set(&tree, f, id)
				if got := matches(&tree, n); !slices.Equal(got, []string{"stays", id}) {
					t.Errorf("after setting %s: %q", id, got)
				}
				remove(&tree, f)
				if got := matches(&tree, n); !slices.Equal(got, []string{"stays"}) {
					t.Errorf("after removing %s: %q", id, got)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if tree.Len() != 1 {
		t.Errorf("%d filters are left, want 1", tree.Len())
	}
}

func TestTreeMatchDoesNotAllocate(t *testing.T) {
	var tree Tree[int]
	for i := range 1000 {
		set(&tree, filter(t, fmt.Sprintf("iot-2/type/t/id/d%d/cmd/+/fmt/+", i)), i)
	}
	set(&tree, filter(t, "iot-2/type/+/id/+/cmd/+/fmt/+"), -1)
	set(&tree, filter(t, "#"), -2)
	n, g, sum := name(t, "iot-2/type/t/id/d77/cmd/reboot/fmt/json"), filter(t, "iot-2/type/t/id/d77/cmd/+/fmt/+"), 0
	if got := testing.AllocsPerRun(100, func() {
		tree.Match(n, func(v int) { sum += v })
		tree.Covering(g, func(v int) { sum += v })
	}); got != 0 {
		t.Errorf("Match and Covering allocate %v times", got)
	}
	if sum == 0 {
		t.Error("nothing matched")
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkTree(b *testing.B) {
	var tree Tree[*int]
	const size = 1_000_000
	v := new(int)
	filters := make([]Filter, size)
	names := make([]Name, size)
	for i := range size {
		filters[i] = filter(b, fmt.Sprintf("iot-2/type/sensor/id/dev-%07d/cmd/+/fmt/+", i))
		names[i] = name(b, fmt.Sprintf("iot-2/type/sensor/id/dev-%07d/cmd/reboot/fmt/json", i*7919%size))
	}
	before := heap()
	for _, f := range filters {
		set(&tree, f, v)
	}
	perFilter := float64(heap()-before) / size
	found := 0
	b.Run("match", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			tree.Match(names[i%size], func(*int) { found++ })
		}
		b.ReportMetric(perFilter, "B/filter")
		if found < b.N {
			b.Error("not every name was matched")
		}
	})
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			set(&tree, filters[i*7919%size], v)
		}
	})
	b.Run("applications", func(b *testing.B) {
		set(&tree, filter(b, "iot-2/type/+/id/+/evt/+/fmt/+"), v)
		set(&tree, filter(b, "iot-2/type/sensor/id/+/evt/+/fmt/+"), v)
		n := name(b, "iot-2/type/sensor/id/dev-0000042/evt/temperature/fmt/json")
		b.ReportAllocs()
		for range b.N {
			tree.Match(n, func(*int) { found++ })
		}
	})
}
