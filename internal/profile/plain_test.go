package profile_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/topic"
)

func rule(t testing.TB, a auth.Action, s string, deny bool) auth.Rule {
	t.Helper()
	f, err := topic.ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return auth.Rule{Action: a, Filter: f, Deny: deny}
}

func user(name, client string, rules ...auth.Rule) profile.Identity {
	id := identity(auth.User, name, client)
	id.Rules = rules
	id.Clients = []string{"other", client}
	return id
}

func TestPlainEverything(t *testing.T) {
	for _, id := range []profile.Identity{
		user("alice", "c", profile.Everything()...),
		identity(auth.Application, "a-abc123-0123456789", "a:abc123:app1"),
		identity(auth.Person, "0190", "a:abc123:x"),
		identity(auth.System, "bridge", ""),
	} {
		g := grant(t, profile.Plain, id)
		for _, a := range []auth.Action{auth.Publish, auth.Receive} {
			table{"a": "a", "a/b/c": "a/b/c", "/": "/", "iot-2/evt/e/fmt/f": "iot-2/evt/e/fmt/f", "a/$b": "a/$b", "$SYS/a": "", "$a": ""}.check(t, g, a)
		}
		table{"#": "#", "+/#": "+/#", "a/+": "a/+", "$SYS/#": "", "$SYS/a": "", "$a/+": ""}.check(t, g, auth.Subscribe)
		if !g.Retain() || g.Shared() != "" || g.Separate() {
			t.Errorf("%v: retain %v, shared %q", id.Ref.Principal, g.Retain(), g.Shared())
		}
	}
}

func TestPlainWithoutRules(t *testing.T) {
	g := grant(t, profile.Plain, user("alice", "c"))
	for a := auth.Publish; a <= auth.Receive; a++ {
		table{"a": "", "alice/a": "", "$a": ""}.check(t, g, a)
	}
}

func TestPlainTemplates(t *testing.T) {
	g := grant(t, profile.Plain, user("alice", "phone",
		rule(t, auth.Publish, "home/%u/#", false),
		rule(t, auth.Publish, "home/%u/locked", true),
		rule(t, auth.Publish, "dev-%c-%u/+", false),
		rule(t, auth.Publish, "rate/100%/x", false),
		rule(t, auth.Subscribe, "home/%u/+", false),
		rule(t, auth.Receive, "%u/%c", false),
	))
	table{
		"home/alice": "home/alice", "home/alice/a/b": "home/alice/a/b", "home/alice/locked": "", "home/bob/a": "", "home/%u/a": "", "home/phone/a": "",
		"dev-phone-alice/x": "dev-phone-alice/x", "dev-%c-alice/x": "", "dev-phone-bob/x": "", "rate/100%/x": "rate/100%/x", "rate/100/x": "",
	}.check(t, g, auth.Publish)
	table{"home/alice/+": "home/alice/+", "home/alice/a": "home/alice/a", "home/alice/#": "", "home/+/a": "", "home/+/+": "", "home/%u/+": ""}.check(t, g, auth.Subscribe)
	table{"alice/phone": "alice/phone", "alice/tv": "", "bob/phone": "", "phone/alice": ""}.check(t, g, auth.Receive)
}

// Names that would be more than a part of a level: what they would reach, they must not.
func TestPlainHostileNames(t *testing.T) {
	for _, bad := range []string{"", "+", "#", "a/b", "a/+", "a/#", "/", "%u", "%c", "50%", "$SYS", "a$", "x+", "\x00", "bob/private"} {
		id := user("alice", bad,
			rule(t, auth.Publish, "%c/a", false),
			rule(t, auth.Publish, "home/%c", false),
			rule(t, auth.Publish, "home/%c/#", false),
			rule(t, auth.Publish, "own/%u", false),
		)
		g := grant(t, profile.Plain, id)
		for _, s := range []string{"home/x", "home/a/b", "home/bob/private", "home", "home/", "home//a", "x/a", "$SYS/a", "a/b/a", "home/alice", "home/%u", "/a"} {
			if _, err := may(g, auth.Publish, s); errs.CodeOf(err) != errs.Denied {
				t.Errorf("client id %q may publish on %q: %v", bad, s, err)
			}
		}
		if _, err := may(g, auth.Publish, "own/alice"); err != nil {
			t.Errorf("client id %q: a rule without it is gone: %v", bad, err)
		}
		id.Ref.Principal.ID, id.Ref.Client = bad, "phone"
		g = grant(t, profile.Plain, id)
		for _, s := range []string{"own/x", "own/bob/private", "own/a/b", "own", "own/"} {
			if _, err := may(g, auth.Publish, s); errs.CodeOf(err) != errs.Denied {
				t.Errorf("user %q may publish on %q: %v", bad, s, err)
			}
		}
		// Without the rule that denies, more would be allowed: nothing is.
		id = user("alice", bad, rule(t, auth.Publish, "#", false), rule(t, auth.Publish, "log/%c", true))
		if g, err := profile.Grant(profile.Plain, id); g != nil || errs.CodeOf(err) != errs.Denied {
			t.Errorf("client id %q escapes a rule that denies: %v", bad, err)
		}
	}
	long := user("alice", strings.Repeat("c", 65535), rule(t, auth.Publish, "a/%c", false))
	if _, err := may(grant(t, profile.Plain, long), auth.Publish, "a/c"); errs.CodeOf(err) != errs.Denied {
		t.Errorf("a client id that does not fit: %v", err)
	}
}

// What %c stands for is decided by who the user is, not by what it says: with a
// client identifier that is not its own it gets nothing from such rules, and
// nothing at all if one of them denies.
func TestPlainClientsOfOthers(t *testing.T) {
	id := user("alice", "phone", rule(t, auth.Publish, "dev/%c/#", false), rule(t, auth.Publish, "own/%u", false))
	for _, clients := range [][]string{nil, {}, {"Phone"}, {"phone "}, {"pho", "phone2"}, {""}} {
		id.Clients = clients
		table{"dev/phone/x": "", "dev//x": "", "dev/%c/x": "", "own/alice": "own/alice"}.check(t, grant(t, profile.Plain, id), auth.Publish)
	}
	id.Clients = []string{"tv", "phone"}
	table{"dev/phone/x": "dev/phone/x", "dev/tv/x": "", "own/alice": "own/alice"}.check(t, grant(t, profile.Plain, id), auth.Publish)
	id.Rules = append(id.Rules, rule(t, auth.Publish, "dev/%c/locked", true))
	table{"dev/phone/x": "dev/phone/x", "dev/phone/locked": ""}.check(t, grant(t, profile.Plain, id), auth.Publish)
	id.Clients = []string{"tv"}
	if g, err := profile.Grant(profile.Plain, id); g != nil || errs.CodeOf(err) != errs.Denied {
		t.Errorf("another's client id escapes a rule that denies: %v", err)
	}
}

// Pattern rules are for all users. A user's own come after them, and decide.
func TestPlainPatterns(t *testing.T) {
	id := user("alice", "phone")
	id.Patterns = []auth.Rule{
		rule(t, auth.Publish, "home/%u/#", false), rule(t, auth.Publish, "home/%u/locked", true),
		rule(t, auth.Publish, "news", false), rule(t, auth.Subscribe, "home/#", false), rule(t, auth.Receive, "home/%u/#", false),
	}
	g := grant(t, profile.Plain, id)
	table{"home/alice/x": "home/alice/x", "home/bob/x": "", "home/alice/locked": "", "news": "news", "home/%u/x": ""}.check(t, g, auth.Publish)
	table{"home/#": "home/#", "home/bob/+": "home/bob/+", "#": ""}.check(t, g, auth.Subscribe)
	table{"home/alice": "home/alice", "home/bob": ""}.check(t, g, auth.Receive)
	id.Rules = []auth.Rule{rule(t, auth.Publish, "home/alice/locked", false), rule(t, auth.Publish, "news", true)}
	g = grant(t, profile.Plain, id)
	table{"home/alice/x": "home/alice/x", "home/alice/locked": "home/alice/locked", "news": ""}.check(t, g, auth.Publish)
	id.Ref.Principal.ID = "a/+"
	if g, err := profile.Grant(profile.Plain, id); g != nil || errs.CodeOf(err) != errs.Denied {
		t.Errorf("a name escapes a pattern that denies: %v", err)
	}
}

// TestPlainIsolation: with rules of one's own prefix nobody reaches another's,
// whatever both are called.
func TestPlainIsolation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab+#/%uc$é")), 0, 5, -1)
		client := text.Draw(t, "client")
		own, err := topic.ParseFilter("home/%c/#")
		if err != nil {
			t.Fatal(err)
		}
		id := user("alice", client)
		if !rapid.Bool().Draw(t, "its own") {
			id.Clients = nil
		}
		for a := auth.Publish; a <= auth.Receive; a++ {
			id.Rules = append(id.Rules, auth.Rule{Action: a, Filter: own})
		}
		g, err := profile.Grant(profile.Plain, id)
		if err != nil {
			t.Fatal(err)
		}
		n, err := topic.ParseName("home/" + text.Draw(t, "name"))
		if err != nil {
			return
		}
		if second := strings.Split(n.String(), "/")[1]; g.Receives(n) && (second != client || client == "" || id.Clients == nil) {
			t.Fatalf("client %q receives %q", client, n)
		}
	})
}
