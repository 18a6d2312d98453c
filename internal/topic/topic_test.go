package topic

import (
	"slices"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/errs"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("a", 65535)
	tests := []struct {
		s            string
		name, filter bool
	}{
		{"", false, false},
		{"a", true, true},
		{"/", true, true},
		{"//", true, true},
		{" ", true, true},
		{"$SYS/a", true, true},
		{"é/日本", true, true},
		{long, true, true},
		{long + "a", false, false},
		{"a\x00b", false, false},
		{"a/\xff", false, false},
		{"a/\xed\xa0\x80", false, false}, // a surrogate [MQTT-1.5.4-1]
		{"+", false, true},
		{"#", false, true},
		{"a/+", false, true},
		{"+/a", false, true},
		{"/+/", false, true},
		{"a/#", false, true},
		{"+/#", false, true},
		{"+/+/#", false, true},
		{"a+", false, false}, // [MQTT-4.7.1-2]
		{"+a", false, false},
		{"++", false, false},
		{"a/+b/c", false, false},
		{"a#", false, false}, // [MQTT-4.7.1-1]
		{"#a", false, false},
		{"##", false, false},
		{"#/", false, false},
		{"#/a", false, false},
		{"a/#/b", false, false},
		{"a/#+", false, false},
	}
	for _, tt := range tests {
		n, err := ParseName(tt.s)
		if (err == nil) != tt.name || err == nil && n.String() != tt.s || err != nil && errs.CodeOf(err) != errs.Invalid {
			t.Errorf("ParseName(%.20q) = %.20q, %v, want ok %v", tt.s, n, err, tt.name)
		}
		f, err := ParseFilter(tt.s)
		if (err == nil) != tt.filter || err == nil && f.String() != tt.s || err != nil && errs.CodeOf(err) != errs.Invalid {
			t.Errorf("ParseFilter(%.20q) = %.20q, %v, want ok %v", tt.s, f, err, tt.filter)
		}
	}
}

func TestParseShared(t *testing.T) {
	tests := []struct {
		s, group, filter string
		shared, ok       bool
	}{
		{"a/b", "", "a/b", false, true},
		{"$share", "", "$share", false, true},
		{"$shared/g/a", "", "$shared/g/a", false, true},
		{"a/$share/g/a", "", "a/$share/g/a", false, true},
		{"$share/g/a", "g", "a", true, true},
		{"$share/g/#", "g", "#", true, true},
		{"$share/g//", "g", "/", true, true},
		{"$share/g//a", "g", "/a", true, true},
		{"$share/g/$share/h/a", "g", "$share/h/a", true, true},
		{"$share/é g/+/a", "é g", "+/a", true, true},
		{"", "", "", false, false},
		{"a/#/b", "", "", false, false},
		{"$share/", "", "", true, false},
		{"$share//", "", "", true, false},
		{"$share//a", "", "", true, false},   // [MQTT-4.8.2-1]
		{"$share/+/a", "", "", true, false},  // [MQTT-4.8.2-2]
		{"$share/g+/a", "", "", true, false}, // [MQTT-4.8.2-2]
		{"$share/#/a", "", "", true, false},
		{"$share/#", "", "", true, false},
		{"$share/g", "", "", true, false},
		{"$share/g/", "", "", true, false},
		{"$share/g/a#", "", "", true, false},
		{"$share/g\x00/a", "", "", true, false},
		{"$share/g\xff/a", "", "", true, false},
		{"$share/g/a\x00", "", "", true, false},
		{"$share/g/" + strings.Repeat("a", 65535), "", "", true, false},
		{"$share/" + strings.Repeat("g", 65535) + "/a", "", "", true, false},
	}
	for _, tt := range tests {
		group, f, shared, err := ParseShared(tt.s)
		if group != tt.group || f.String() != tt.filter || shared != tt.shared || (err == nil) != tt.ok ||
			err != nil && errs.CodeOf(err) != errs.Invalid {
			t.Errorf("ParseShared(%.20q) = %q, %q, %v, %v", tt.s, group, f, shared, err)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		filter  string
		matches []string
		not     []string
	}{
		{"sport/tennis/player1/#", []string{"sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"}, []string{"sport/tennis/player10", "sport/tennis"}},
		{"sport/#", []string{"sport", "sport/"}, []string{"sports", "Sport"}},
		{"sport/tennis/+", []string{"sport/tennis/player1", "sport/tennis/"}, []string{"sport/tennis/player1/ranking", "sport/tennis"}},
		{"sport/+", []string{"sport/"}, []string{"sport"}},
		{"+/+", []string{"/finance", "/"}, []string{"finance", "a/b/c"}},
		{"/+", []string{"/finance"}, []string{"finance", "a/finance"}},
		{"+", []string{"a"}, []string{"/finance", "/", "$SYS"}},
		{"#", []string{"a", "/", "a/b/"}, []string{"$SYS/monitor/Clients", "$"}}, // [MQTT-4.7.2-1]
		{"+/monitor/Clients", []string{"a/monitor/Clients"}, []string{"$SYS/monitor/Clients"}},
		{"$SYS/#", []string{"$SYS", "$SYS/"}, []string{"$SYSTEM/a", "a"}},
		{"$SYS/monitor/+", []string{"$SYS/monitor/Clients"}, []string{"$SYS/monitor"}},
		{"a//b", []string{"a//b"}, []string{"a/b", "a/x/b"}}, // an empty level is a level
	}
	for _, tt := range tests {
		f := filter(t, tt.filter)
		for _, n := range tt.matches {
			if !f.Match(name(t, n)) {
				t.Errorf("%q does not match %q", tt.filter, n)
			}
		}
		for _, n := range tt.not {
			if f.Match(name(t, n)) {
				t.Errorf("%q matches %q", tt.filter, n)
			}
		}
	}
}

// sequences returns all sequences of 1 to n levels.
func sequences(levels []string, n int) []string {
	var all, last []string
	for i := range n {
		var next []string
		for _, l := range levels {
			if i == 0 {
				next = append(next, l)
			}
			for _, s := range last {
				next = append(next, s+"/"+l)
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

// TestRelations decides Covers, Overlaps and Prefix by looking at all names.
// The names have one level and one word more than the filters, so that there is
// always a name that no filter means.
func TestRelations(t *testing.T) {
	names := []Name{{""}} // never valid, but with it the answers depend on levels alone
	for _, s := range sequences([]string{"", "a", "$", "$a", "z"}, 4) {
		if n, err := ParseName(s); err == nil { // all but the empty one
			names = append(names, n)
		}
	}
	var filters []Filter
	for _, s := range sequences([]string{"", "a", "$", "$a", "+", "#"}, 3) {
		if f, err := ParseFilter(s); err == nil {
			filters = append(filters, f)
		}
	}
	if len(names) < 700 || len(filters) < 150 {
		t.Fatalf("%d names and %d filters are too few", len(names), len(filters))
	}
	matched := make([][]bool, len(filters))
	for i, f := range filters {
		matched[i] = make([]bool, len(names))
		for j, n := range names {
			matched[i][j] = f.Match(n)
			if matched[i][j] && !strings.HasPrefix(n.s, f.Prefix()) {
				t.Errorf("%q matches %q, which does not begin with %q", f, n, f.Prefix())
			}
		}
	}
	for i, f := range filters {
		for j, g := range filters {
			covers, overlaps := true, false
			for k := range names {
				covers = covers && (matched[i][k] || !matched[j][k])
				overlaps = overlaps || matched[i][k] && matched[j][k]
			}
			if got := f.Covers(g); got != covers {
				t.Errorf("%q.Covers(%q) = %v", f, g, got)
			}
			if got := f.Overlaps(g); got != overlaps {
				t.Errorf("%q.Overlaps(%q) = %v", f, g, got)
			}
		}
	}
}

func TestPrefix(t *testing.T) {
	for f, want := range map[string]string{
		"#": "", "+": "", "+/a": "", "/#": "", "/+": "/", "a/#": "a", "a/+": "a/", "a/b/+/c": "a/b/", "a/b": "a/b",
	} {
		if got := filter(t, f).Prefix(); got != want {
			t.Errorf("%q.Prefix() = %q, want %q", f, got, want)
		}
	}
}

// naive is the definition of a match, level by level.
func naive(f, n []string) bool {
	if len(f) == 0 || len(n) == 0 {
		return len(f) == len(n) || len(f) == 1 && f[0] == "#"
	}
	return f[0] == "#" || (f[0] == "+" || f[0] == n[0]) && naive(f[1:], n[1:])
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a", "#", "a/+/#", "$share/g/a", "$share//a", "a\x00", "\xff", "a+", "/"} {
		f.Add(s, "a/b", "+/#")
	}
	f.Add("+/+", "/", "#")
	f.Fuzz(func(t *testing.T, s, other, third string) {
		if n, err := ParseName(s); err == nil && n.String() != s {
			t.Fatalf("ParseName(%q) = %q", s, n)
		}
		group, shared, isShared, err := ParseShared(s)
		if err == nil && isShared && (s != "$share/"+group+"/"+shared.String() || strings.ContainsAny(group, "/+#")) {
			t.Fatalf("ParseShared(%q) = %q, %q", s, group, shared)
		}
		g, err := ParseFilter(s)
		if err != nil {
			return
		}
		if levels := strings.Split(s, "/"); slices.ContainsFunc(levels[:len(levels)-1], func(l string) bool {
			return strings.Contains(l, "#") || l != "+" && strings.Contains(l, "+")
		}) {
			t.Fatalf("ParseFilter accepts %q", s)
		}
		var tree Tree[int]
		set(&tree, g, 1)
		if n, err := ParseName(other); err == nil {
			dollar := strings.HasPrefix(other, "$") && !strings.HasPrefix(s, "$")
			want := !dollar && naive(strings.Split(s, "/"), strings.Split(other, "/"))
			if got := g.Match(n); got != want {
				t.Fatalf("%q.Match(%q) = %v", g, n, got)
			}
			found := false
			tree.Match(n, func(int) { found = true })
			if found != want {
				t.Fatalf("a tree of %q finds %q: %v", g, n, found)
			}
			if h, err := ParseFilter(third); err == nil && g.Covers(h) && h.Match(n) && !want {
				t.Fatalf("%q covers %q but does not match %q", g, h, n)
			}
		}
		if h, err := ParseFilter(third); err == nil {
			set(&tree, h, 2)
			found := false
			tree.Covering(h, func(v int) { found = found || v == 1 })
			if _, same := tree.Get(g); !same || g != h && found != g.Covers(h) {
				t.Fatalf("%q covers %q: %v, in a tree: %v", g, h, g.Covers(h), found)
			}
			if g.Covers(h) && !g.Overlaps(h) {
				t.Fatalf("%q covers %q but does not overlap with it", g, h)
			}
		}
	})
}

func TestClip(t *testing.T) {
	long := strings.Repeat("é", 150)
	for s, want := range map[string]string{"": "", "a/b": "a/b", long[:200]: long[:200], long: long[:200] + "…", "x" + long: "x" + long[:198] + "…"} {
		if got := Clip(s); got != want {
			t.Errorf("Clip(%.20q…) = %q", s, got)
		}
	}
}
