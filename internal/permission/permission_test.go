package permission

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/errs"
)

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for p := range count {
		s := p.String()
		if s == "" || seen[s] || strings.ContainsAny(s, " \n") {
			t.Errorf("permission %d is called %q", p, s)
		}
		seen[s] = true
		got, err := Parse([]string{s})
		if err != nil || got != Of(p) || Stored(s) != Of(p) {
			t.Errorf("%q reads as %v, %v", s, got, err)
		}
	}
	if _, err := Parse([]string{"org:read", "org:destroy"}); errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), "org:destroy") {
		t.Errorf("%v", err)
	}
	if Stored("org:read future:thing") != Of(OrgRead) {
		t.Error("an unknown stored name matters")
	}
	if count > 64 {
		t.Error("a Set has room for 64")
	}
}

// Nobody gets by a role what the role is not for.
func TestRoles(t *testing.T) {
	for _, r := range Roles() {
		if got, ok := Builtin(r.Name); !ok || got != r || r.Description == "" {
			t.Errorf("%q: %+v %v", r.Name, got, ok)
		}
	}
	set := func(name string) Set { r, _ := Builtin(name); return r.Set }
	for _, name := range []string{"auditor", Support, Reader} {
		if s := set(name) & (messages | devices&^see); s != 0 {
			t.Errorf("%s may %v", name, s)
		}
		for _, n := range set(name).Names() {
			if strings.HasSuffix(n, ":write") {
				t.Errorf("%s may %s", name, n)
			}
		}
	}
	if !set(Owner).Covers(set(Manager)) || set(Manager).Covers(set(Owner)) {
		t.Error("a manager is not below an owner")
	}
	if !set("member").Covers(set(Application)) {
		t.Error("a member cannot make a standard key")
	}
	if _, ok := Builtin("root"); ok {
		t.Error("there is a role root")
	}
}

func rights(t *rapid.T, label string) Rights {
	r := Rights{Set: Set(rapid.Uint64().Draw(t, label)) & All}
	if r.Limited = rapid.Bool().Draw(t, label+" limited"); r.Limited {
		r.Groups = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID).Draw(t, label+" groups")
		slices.Sort(r.Groups)
	}
	return r
}

// reaches is what Covers and Meet are about, one permission and group at a time.
func reaches(r Rights, p Permission, group string) bool {
	return r.Set.Has(p) && (!r.Limited || slices.Contains(r.Groups, group))
}

// held are rights from several sides.
func held(t *rapid.T, label string) Held {
	var h Held
	for range rapid.IntRange(0, 3).Draw(t, label+" parts") {
		h = append(h, rights(t, label))
	}
	return h
}

// What several sides give together is what any of them gives, what is made of it
// stays within it, and nobody gives what they do not hold.
func TestHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, other, s := held(t, "held"), held(t, "other"), rights(t, "rights")
		any := func(h Held, p Permission, g string) bool {
			return slices.ContainsFunc(h, func(r Rights) bool { return reaches(r, p, g) })
		}
		within, more := h.Within(s), append(slices.Clone(h), other...)
		lacks := false
		for p := range count {
			limited, groups := h.Reach(p)
			for _, g := range []string{"a", "b", "c", "d", "none"} {
				if got := h.Set().Has(p) && (!limited || slices.Contains(groups, g)); got != any(h, p, g) {
					t.Fatalf("%+v: %v reaches %q: %v", h, p, g, got)
				}
				if any(within, p, g) != (any(h, p, g) && reaches(s, p, g)) {
					t.Fatalf("%+v within %+v: %+v: %v in %q", h, s, within, p, g)
				}
				if any(more, p, g) != (any(h, p, g) || any(other, p, g)) {
					t.Fatalf("%+v and %+v: %v in %q", h, other, p, g)
				}
				lacks = lacks || reaches(s, p, g) && !any(h, p, g)
			}
		}
		if h.Covers(s) && lacks || !h.Covers(s) && !lacks && h.Set().Covers(s.Set) {
			t.Fatalf("%+v covers %+v: %v", h, s, h.Covers(s))
		}
		for _, r := range within {
			if !h.Covers(r) {
				t.Fatalf("%+v does not cover %+v of it", h, r)
			}
		}
	})
}

// Whatever is made with the rights of several is within each of them, and
// nothing that all of them allow is lost.
func TestMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rights(t, "a"), rights(t, "b")
		m := Meet(a, b)
		if !a.Covers(m) || !b.Covers(m) {
			t.Fatalf("Meet(%+v, %+v) = %+v", a, b, m)
		}
		for p := range count {
			for _, g := range []string{"a", "b", "c", "d", "none"} {
				if want := reaches(a, p, g) && reaches(b, p, g); reaches(m, p, g) != want {
					t.Fatalf("Meet(%+v, %+v) = %+v: %v in %q", a, b, m, p, g)
				}
			}
		}
	})
}

// Who covers another may do all that the other may.
func TestCovers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rights(t, "a"), rights(t, "b")
		more := false
		for p := range count {
			for _, g := range []string{"a", "b", "c", "d", "none"} {
				more = more || reaches(b, p, g) && !reaches(a, p, g)
			}
		}
		if a.Covers(b) && more {
			t.Fatalf("%+v covers %+v", a, b)
		}
		if !a.Covers(a) || !(Rights{Set: All}).Covers(b) || !a.Covers(Rights{Limited: true}) {
			t.Fatalf("%+v", a)
		}
	})
}

// A decision depends on what is held in the organisation, only grows with it,
// and tells a stranger nothing.
func TestDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Holder{Member: rapid.Bool().Draw(t, "member"), Administrator: rapid.Bool().Draw(t, "administrator"), Rights: held(t, "rights")}
		p := Permission(rapid.Uint8().Draw(t, "permission"))
		got := Decide(h, p)
		switch {
		case !h.Member && !h.Administrator && got != Hidden:
			t.Fatalf("a stranger is answered %v", got)
		case got == Allowed && !(h.Member && h.Rights.Set().Has(p)) && !(h.Administrator && (p == OrgRead || p == LimitRead)):
			t.Fatalf("%+v may %v", h, p)
		case p < count && h.Member && h.Rights.Set().Has(p) && got != Allowed:
			t.Fatalf("%+v may not %v: %v", h, p, got)
		case p >= count && got != Hidden:
			t.Fatalf("what is not known is answered %v", got)
		}
		less := h
		less.Rights = h.Rights.Within(rights(t, "ceiling"))
		less.Administrator = false
		if Decide(less, p) > got {
			t.Fatalf("fewer rights allow more: %+v, %+v, %v", h, less, p)
		}
	})
	if Decide(Holder{System: true}, DeviceWrite) != Allowed {
		t.Error("KeepMQ itself is refused")
	}
}
