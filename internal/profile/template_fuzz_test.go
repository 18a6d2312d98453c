package profile

import (
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/topic"
)

// FuzzTemplate puts any user name and client identifier into any rule. The rule
// then reaches no further than with a wildcard for one level in their place.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"%u/#", "a/%c/+", "%u%c", "%%u", "x-%u", "$%u", "#", "%u"} {
		f.Add(s, "ann", "c-1", "ann/a")
		f.Add(s, "+", "#", "b/c")
		f.Add(s, "%c", "$SYS", "$SYS/x")
		f.Add(s, "a/b", "", "a")
	}
	f.Fuzz(func(t *testing.T, rule, user, client, name string) {
		pattern, err := topic.ParseFilter(rule)
		if err != nil {
			return
		}
		got, ok := fill(pattern, user, client)
		if !ok {
			return
		}
		if !strings.Contains(rule, "%u") && !strings.Contains(rule, "%c") {
			if got != pattern {
				t.Fatalf("%q became %q", rule, got)
			}
			return
		}
		levels := strings.Split(rule, "/")
		for i, l := range levels {
			if strings.Contains(l, "%u") || strings.Contains(l, "%c") {
				levels[i] = "+"
			}
		}
		most, err := topic.ParseFilter(strings.Join(levels, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(rule, "$") { // a wildcard does not stand for a level that begins so
			return
		}
		if !most.Covers(got) || strings.Count(got.String(), "/") != strings.Count(rule, "/") {
			t.Fatalf("%q with %q and %q is %q, beyond %q", rule, user, client, got, most)
		}
		for _, wildcard := range []string{"+", "#"} {
			if strings.Count(got.String(), wildcard) != strings.Count(rule, wildcard) {
				t.Fatalf("%q with %q and %q is %q", rule, user, client, got)
			}
		}
		if n, err := topic.ParseName(name); err == nil && got.Match(n) && !most.Match(n) {
			t.Fatalf("%q matches %q", got, name)
		}
	})
}
