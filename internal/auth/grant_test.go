package auth_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/topic"
)

func filter(t testing.TB, s string) topic.Filter {
	t.Helper()
	f, err := topic.ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func name(t testing.TB, s string) topic.Name {
	t.Helper()
	n, err := topic.ParseName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNoRuleMeansNo(t *testing.T) {
	g := auth.NewGrant(auth.Spec{})
	for _, a := range []auth.Action{auth.Publish, auth.Subscribe, auth.Receive} {
		if err := g.Allow(a, name(t, "a")); errs.CodeOf(err) != errs.Denied {
			t.Errorf("%v without a rule: %v", a, err)
		}
	}
	if err := g.AllowFilter(filter(t, "a")); errs.CodeOf(err) != errs.Denied {
		t.Errorf("subscribe without a rule: %v", err)
	}
	if g.Receives(name(t, "a")) || g.ReceivesAll(filter(t, "a")) || g.Retain() || g.Shared() != "" {
		t.Error("an empty grant allows something")
	}
}

func TestAllow(t *testing.T) {
	spec := auth.Spec{Rules: []auth.Rule{
		{Action: auth.Publish, Filter: filter(t, "a/#")},
		{Action: auth.Publish, Filter: filter(t, "a/secret/#"), Deny: true},
		{Action: auth.Publish, Filter: filter(t, "a/secret/mine")},
		{Action: auth.Subscribe, Filter: filter(t, "a/#")},
		{Action: auth.Subscribe, Filter: filter(t, "a/secret/#"), Deny: true},
		{Action: auth.Receive, Filter: filter(t, "a/b")},
	}}
	many := spec
	for i := range 100 { // more rules than are looked at one by one; none concerns the topics asked for
		for a := auth.Publish; a <= auth.Receive; a++ {
			many.Rules = append(many.Rules, auth.Rule{Action: a, Filter: filter(t, fmt.Sprintf("other/%d/#", i)), Deny: i%2 == 0})
		}
	}
	for _, g := range []*auth.Grant{auth.NewGrant(spec), auth.NewGrant(many)} {
		for topic, want := range map[string]bool{
			"a": true, "a/b": true, "a/secret": false, "a/secret/b": false, "a/secret/mine": true, "a/secret/mine/b": false, "b": false, "$a": false,
		} {
			if err := g.Allow(auth.Publish, name(t, topic)); (err == nil) != want || err != nil && errs.CodeOf(err) != errs.Denied {
				t.Errorf("publish on %q: %v, want allowed %v", topic, err, want)
			}
		}
		for f, want := range map[string]bool{
			"a/#": true, "a/+": true, "a/b/+/c": true, "a/secret": false, "a/secret/#": false, "a/secret/mine": false, "#": false, "+/b": false, "b": false,
		} {
			if err := g.AllowFilter(filter(t, f)); (err == nil) != want || err != nil && errs.CodeOf(err) != errs.Denied {
				t.Errorf("subscribe to %q: %v, want allowed %v", f, err, want)
			}
		}
		if !g.Receives(name(t, "a/b")) || g.Receives(name(t, "a/c")) {
			t.Error("receive is not decided by its own rules")
		}
		if !g.ReceivesAll(filter(t, "a/b")) || g.ReceivesAll(filter(t, "a/+")) {
			t.Error("ReceivesAll is wrong")
		}
	}
}

var levels = []string{"a", "b", "c", "$x", "", "+", "+"}

func drawFilter(t *rapid.T, label string) topic.Filter {
	parts := rapid.SliceOfN(rapid.SampledFrom(levels), 1, 3).Draw(t, label)
	if rapid.Bool().Draw(t, label+" #") {
		parts = append(parts, "#")
	}
	f, err := topic.ParseFilter(strings.Join(parts, "/"))
	if err != nil {
		f, _ = topic.ParseFilter("a")
	}
	return f
}

func drawName(t *rapid.T) topic.Name {
	n, err := topic.ParseName(strings.Join(rapid.SliceOfN(rapid.SampledFrom(levels[:5]), 1, 4).Draw(t, "name"), "/"))
	if err != nil {
		n, _ = topic.ParseName("a")
	}
	return n
}

// TestGrantModel compares grants of few and of many rules with the definition.
func TestGrantModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) auth.Rule {
			return auth.Rule{
				Action: auth.Action(rapid.IntRange(0, 2).Draw(t, "action")),
				Filter: drawFilter(t, "rule"),
				Deny:   rapid.Bool().Draw(t, "deny"),
			}
		}), 0, 120).Draw(t, "rules")
		g := auth.NewGrant(auth.Spec{Rules: rules})
		for range 8 {
			n, f := drawName(t), drawFilter(t, "filter")
			for a := auth.Publish; a <= auth.Receive; a++ {
				want := false
				for _, r := range rules {
					if r.Action == a && r.Filter.Match(n) {
						want = !r.Deny
					}
				}
				if got := g.Allow(a, n) == nil; got != want {
					t.Fatalf("%v on %q: %v, want %v", a, n, got, want)
				}
				if a == auth.Receive && g.Receives(n) != want {
					t.Fatalf("Receives(%q) is not %v", n, want)
				}
			}
			want := false
			for _, r := range rules {
				if r.Action == auth.Subscribe && r.Filter.Covers(f) {
					want = !r.Deny
				}
			}
			if got := g.AllowFilter(f) == nil; got != want {
				t.Fatalf("subscribe to %q: %v, want %v", f, got, want)
			}
			if g.ReceivesAll(f) && f.Match(n) && !g.Receives(n) {
				t.Fatalf("ReceivesAll(%q), but %q is withheld", f, n)
			}
		}
	})
}

// TestRewrite: what a client names stands for one topic of its own prefix,
// whatever levels it chooses, and is shown to it as it named it.
func TestRewrite(t *testing.T) {
	const own = "iot-2/type/t/id/d/"
	g := auth.NewGrant(auth.Spec{Rewrites: []auth.Rewrite{
		{Client: "iot-2/", Org: own},
		{Client: "iotdm-1/", Org: "iotdm-1/type/t/id/d/"},
	}})
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{
			"iot-2", "iotdm-1", "type", "t", "id", "d", "d2", "..", ".", "", "cmd", "%2e%2e", "\\..", "é", "$", "+", "#",
		}), 0, 8).Draw(t, "levels")
		s := rapid.SampledFrom([]string{"iot-2/", "iotdm-1/", "iot-2", ""}).Draw(t, "first") + strings.Join(parts, "/")
		if n, err := topic.ParseName(s); err == nil {
			r, err := g.Resolve(n)
			if err != nil {
				t.Fatalf("Resolve(%q): %v", n, err)
			}
			if back := g.Present(r); back != s {
				t.Fatalf("%q stands for %q, which is shown as %q", s, r, back)
			}
			if strings.HasPrefix(s, "iot-2/") && !strings.HasPrefix(r.String(), own) {
				t.Fatalf("%q stands for %q", s, r)
			}
		}
		if f, err := topic.ParseFilter(s); err == nil {
			r, err := g.ResolveFilter(f)
			if err != nil {
				t.Fatalf("ResolveFilter(%q): %v", f, err)
			}
			if strings.HasPrefix(s, "iot-2/") && !strings.HasPrefix(r.String(), own) {
				t.Fatalf("%q stands for %q", s, r)
			}
		}
	})
	long := name(t, "iot-2/"+strings.Repeat("a", 65535-len("iot-2/")))
	if n, err := g.Resolve(long); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("a name that grows beyond 65535 bytes is resolved to %d bytes, %v", len(n.String()), err)
	}
	if f, err := g.ResolveFilter(filter(t, long.String())); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("a filter that grows beyond 65535 bytes is resolved to %d bytes, %v", len(f.String()), err)
	}
	if err := g.Allow(auth.Publish, name(t, own+"evt/e")); !strings.Contains(err.Error(), `"iot-2/evt/e"`) {
		t.Errorf("the refusal names another topic than the client did: %v", err)
	}
}

// gateway is a grant with rules for n attached devices.
func gateway(t testing.TB, n int) *auth.Grant {
	var s auth.Spec
	for i := range n {
		for a := auth.Publish; a <= auth.Receive; a++ {
			s.Rules = append(s.Rules, auth.Rule{Action: a, Filter: filter(t, fmt.Sprintf("iot-2/type/t/id/d%d/evt/+/fmt/+", i))})
		}
	}
	return auth.NewGrant(s)
}

func TestAllowDoesNotAllocate(t *testing.T) {
	n, f := name(t, "iot-2/type/t/id/d3/evt/e/fmt/json"), filter(t, "iot-2/type/t/id/d3/evt/+/fmt/json")
	other := name(t, "iot-2/type/t/id/x/evt/e/fmt/json")
	for _, devices := range []int{5, 1000} {
		g := gateway(t, devices)
		if got := testing.AllocsPerRun(100, func() {
			if g.Allow(auth.Publish, n) != nil || g.AllowFilter(f) != nil || !g.Receives(n) || g.Receives(other) {
				t.Error("wrong answer")
			}
		}); got != 0 {
			t.Errorf("with %d devices: %v allocations", devices, got)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	n := name(b, "iot-2/type/t/id/d3/evt/e/fmt/json")
	for _, devices := range []int{1, 10, 1000, 10000} {
		g := gateway(b, devices)
		b.Run(fmt.Sprint(devices), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				g.Receives(n)
			}
		})
	}
}
