package profile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/topic"
)

func resident(name, role string, o profile.HomeOptions) profile.Identity {
	id := identity(auth.User, name, "any client id")
	id.Role, id.Home = role, o
	return id
}

// prefixed has every topic begin with the organisation.
func (tt table) prefixed() table {
	all := table{}
	for s, want := range tt {
		if want != "" {
			want = "abc123/" + want
		}
		all["abc123/"+s] = want
	}
	return all
}

// ok is a table in which all of these are allowed, as they are.
func ok(topics ...string) table {
	all := table{}
	for _, s := range topics {
		all[s] = s
	}
	return all
}

func (tt table) not(topics ...string) table {
	for _, s := range topics {
		tt[s] = ""
	}
	return tt
}

// What each role may do, with and without the prefix.
func TestHomeRoles(t *testing.T) {
	v1 := map[string][3]table{ // publish, subscribe, receive
		profile.Actor: {
			ok("desired/ann/lamp/on", "desired/bob/x/y", "desired/x").
				not("current/ann/lamp/on", "current/bob/lamp/on", "device/1", "provider/1", "discover", "leave", "announce/bob/x", "bob/lamp/on/set", "x", "current", "device/1/x"),
			ok("#", "+/#", "current/#", "desired/#", "device/+", "provider/+", "current/bob/lamp/on"),
			ok("current/bob/lamp/on", "desired/bob/lamp/on", "device/1", "provider/1", "current/ann/x").not("bob/lamp/on/get", "announce/bob/lamp", "other", "x/y"),
		},
		profile.Provider: {
			ok("current/ann/lamp/on", "current/ann/lamp/reachable", "device/1", "device/bob", "provider/1").
				not("current/bob/lamp/on", "current/annabel/x", "current/anna", "desired/ann/lamp/on", "desired/bob/x", "device/1/x", "device", "provider/1/x", "ann/x", "discover", "leave", "x"),
			ok("desired/ann/#", "desired/ann/lamp/on", "desired/#", "#", "+/#").
				not("desired/bob/#", "desired/+/lamp/on", "desired/bob/lamp/on", "current/ann/lamp/on", "current/#", "current/+/#", "device/1", "device/#", "provider/+", "desired/annabel/#"),
			ok("desired/ann/lamp/on", "desired/ann").not("desired/bob/lamp/on", "desired/annabel/x", "current/ann/lamp/on", "device/1", "provider/1", "x"),
		},
		profile.Bridge: {
			ok("current/ann/lamp/on", "device/1", "provider/1", "desired/ann/x", "desired/bob/x").not("current/bob/lamp/on", "device/1/x", "x", "discover", "ann/x"),
			ok("#", "current/#", "desired/bob/x"),
			ok("current/bob/lamp/on", "desired/bob/lamp/on", "device/1", "provider/1").not("x", "bob/x/get"),
		},
	}
	for role, want := range v1 {
		for _, o := range []profile.HomeOptions{{}, {Prefix: true}, {Anonymous: true}} {
			g := grant(t, profile.Home, resident("ann", role, o))
			for a, tt := range want {
				if o.Prefix {
					bare := table{}
					for s := range tt {
						bare[s] = ""
					}
					bare.check(t, g, auth.Action(a)) // without the prefix nothing is there
					tt = tt.prefixed()
				}
				tt.check(t, g, auth.Action(a))
			}
			if !g.Retain() || g.Separate() || g.Shared() != "" {
				t.Errorf("%s: retain %v, separate %v", role, g.Retain(), g.Separate())
			}
		}
	}
	// Another tenant's prefix is nobody's.
	g := grant(t, profile.Home, resident("ann", profile.Bridge, profile.HomeOptions{Prefix: true, V0: true}))
	for a := auth.Publish; a <= auth.Receive; a++ {
		table{}.not("xyz789/current/ann/x", "xyz789/desired/ann/x", "xyz789/device/1", "xyz789/ann/x").check(t, g, a)
	}
	table{}.not("xyz789/#", "+/current/ann/x", "+/#", "#").check(t, g, auth.Subscribe)
}

// Version 0 is for older clients: a provider has what begins with its name, and
// an actor gives orders where they end in "set".
func TestHomeVersion0(t *testing.T) {
	o := profile.HomeOptions{V0: true}
	actor := grant(t, profile.Home, resident("ann", profile.Actor, o))
	ok("discover", "bob/lamp/on/set", "bob/on/set", "desired/bob/x", "desired/bob/lamp/set").
		not("bob/lamp/on/get", "bob/lamp/on", "announce/bob/lamp", "leave", "announce/bob/x/set", "device/x/set", "provider/x/set",
			"current/bob/set", "current/bob/lamp/set", "current/bob/lamp/on/set", "leave/x/set", "device/1").check(t, actor, auth.Publish)
	ok("announce/bob/lamp", "bob/lamp/on/get", "leave", "current/bob/x").check(t, actor, auth.Receive)
	provider := grant(t, profile.Home, resident("bob", profile.Provider, o))
	ok("announce/bob/lamp", "announce/bob", "bob/lamp/on/get", "leave", "current/bob/x", "device/1").
		not("announce/ann/lamp", "ann/lamp/on/get", "ann/lamp/on/set", "discover", "desired/bob/x", "current/ann/x", "announce/bobby/x", "bobby/x").check(t, provider, auth.Publish)
	ok("bob/lamp/on/set", "discover", "desired/bob/x").not("ann/lamp/on/set", "announce/bob/lamp", "leave", "current/bob/x").check(t, provider, auth.Receive)
	ok("bob/#", "bob/lamp/on/set", "discover", "#", "ann/#").not("ann/lamp/on/set", "ann/lamp/#", "announce/ann/x", "+/lamp/on/set").check(t, provider, auth.Subscribe)
	for s, want := range map[string]bool{"device/1": true, "provider/1": true, "announce/bob/x": true, "leave": true, "current/bob/x": false, "device/1/x": false, "bob/x": false} {
		n, err := topic.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		if provider.Guarded(n) != want {
			t.Errorf("%s: guarded %v", s, !want)
		}
	}
}

func TestHomeAnonymous(t *testing.T) {
	id := identity(auth.Anonymous, "", "x")
	for _, o := range []profile.HomeOptions{{}, {V0: true}, {Prefix: true}, {Anonymous: true, Prefix: true}} {
		if id.Home = o; true {
			if g, err := profile.Grant(profile.Home, id); g != nil || errs.CodeOf(err) != errs.Denied {
				t.Errorf("%+v: let in: %v", o, err)
			}
		}
	}
	id.Home = profile.HomeOptions{Anonymous: true, V0: true}
	g := grant(t, profile.Home, id)
	table{}.not("desired/ann/x", "current/ann/x", "device/1", "provider/1", "discover", "x", "leave").check(t, g, auth.Publish)
	ok("current/#", "device/+", "provider/#", "#").not("desired/ann/#", "desired/+/x", "x/y").check(t, g, auth.Subscribe)
	ok("current/ann/x", "device/1", "provider/1").not("desired/ann/x", "ann/x/get", "leave").check(t, g, auth.Receive)
	if g.Retain() || !g.Separate() {
		t.Errorf("retain %v, separate %v", g.Retain(), g.Separate())
	}
	for _, other := range []string{profile.Plain, profile.IoT2} {
		if g, err := profile.Grant(other, id); g != nil || err == nil {
			t.Errorf("let in to %s", other)
		}
	}
}

func TestHomeOthers(t *testing.T) {
	for _, id := range []profile.Identity{
		identity(auth.Device, "T:D", "d:abc123:T:D"), identity(auth.Gateway, "T:D", "g:abc123:T:D"),
		resident("ann", "", profile.HomeOptions{}), resident("ann", "owner", profile.HomeOptions{}), resident("", profile.Actor, profile.HomeOptions{}),
		resident("a/b", profile.Provider, profile.HomeOptions{}), resident("+", profile.Provider, profile.HomeOptions{}), resident("#", profile.Bridge, profile.HomeOptions{}),
		resident("%u", profile.Provider, profile.HomeOptions{}), resident("$SYS", profile.Provider, profile.HomeOptions{V0: true}),
		resident("current", profile.Provider, profile.HomeOptions{V0: true}), resident("desired", profile.Provider, profile.HomeOptions{}),
		resident("device", profile.Bridge, profile.HomeOptions{}), resident("announce", profile.Provider, profile.HomeOptions{V0: true}),
	} {
		if g, err := profile.Grant(profile.Home, id); g != nil || errs.CodeOf(err) != errs.Denied {
			t.Errorf("%v as %q: let in: %v", id.Ref.Principal, id.Role, err)
		}
	}
	app := identity(auth.Application, "a-abc123-0123456789", "a:abc123:x")
	app.Home = profile.HomeOptions{Prefix: true}
	g := grant(t, profile.Home, app)
	ok("current/ann/x", "abc123/device/1", "x").check(t, g, auth.Publish)
	for _, s := range []string{"device/1", "provider/1", "abc123/device/1"} {
		if n, err := topic.ParseName(s); err != nil || !g.Guarded(n) {
			t.Errorf("%s is not guarded", s)
		}
	}
}

// TestHomeIsolation: whatever two users are called and whatever is chosen, a
// provider never publishes as the other, nor reads what is for the other, and
// never gives orders.
func TestHomeIsolation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab.-@+#/%$")), 1, 4, -1)
		name, other := text.Draw(t, "name"), text.Draw(t, "other")
		o := profile.HomeOptions{Prefix: rapid.Bool().Draw(t, "prefix"), V0: rapid.Bool().Draw(t, "v0")}
		g, err := profile.Grant(profile.Home, resident(name, profile.Provider, o))
		if err != nil || name == other || strings.Contains(other, "/") {
			return
		}
		level := rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 0, 2, -1)
		tail := strings.Join(rapid.SliceOfN(level, 1, 3).Draw(t, "tail"), "/")
		for _, head := range []string{"current/", "desired/", "announce/", "", "abc123/current/", "xyz789/current/", "abc123/", "abc123/desired/"} {
			n, err := topic.ParseName(head + other + "/" + tail)
			if err != nil {
				continue
			}
			if (o.V0 || other != "abc123") && strings.HasPrefix(n.String(), name+"/") || o.Prefix && strings.HasPrefix(n.String(), "abc123/"+name+"/") {
				continue // its own, of version 0
			}
			if g.Allow(auth.Publish, n) == nil || g.Receives(n) {
				t.Fatalf("%q reaches %s of %q (%+v)", name, n, other, o)
			}
		}
		for _, s := range []string{"desired/" + name + "/x", "abc123/desired/" + name + "/x"} {
			if n, err := topic.ParseName(s); err == nil && g.Allow(auth.Publish, n) == nil {
				t.Fatalf("%q gives orders on %s", name, n)
			}
		}
	})
}

func TestParseHomeTopic(t *testing.T) {
	for s, want := range map[string]profile.HomeTopic{
		"device/1": {Kind: "device", ID: "1"}, "provider/a b": {Kind: "provider", ID: "a b"}, "leave": {Kind: "leave"}, "announce/ann/x": {Kind: "announce"},
		"device/device/1": {Prefix: "device/", Kind: "device", ID: "1"}, "device/leave": {Kind: "device", ID: "leave"},
		"device/": {}, "device": {}, "device/1/2": {}, "xyz789/device/1": {}, "current/x": {}, "/device/1": {}, "x/device/1": {},
	} {
		n, err := topic.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := profile.ParseHomeTopic("device", n)
		if got != want || (err == nil) != (want.Kind != "") {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

// What a device says of its place must have one meaning only, and be its provider's.
func TestHomeDevice(t *testing.T) {
	for s, want := range map[string]bool{
		`{"root":"ann/lamp"}`: true, `{"name":"Lamp","type":"lightbulb","features":{"on":{}},"root":"ann/hall/lamp","providerID":"7"}`: true,
		`{"root":"ann/lamp","providerID":null}`: true, ` {"root":"ann/é"} `: true,
		``: false, `null`: false, `[]`: false, `"ann/x"`: false, `{}`: false, `{"root":null}`: false, `{"root":7}`: false, `{"root":""}`: false,
		`{"root":"ann"}`: false, `{"root":"ann/"}`: false, `{"root":"bob/lamp"}`: false, `{"root":"annabel/lamp"}`: false, `{"root":"/ann/lamp"}`: false,
		`{"root":"ann/+"}`: false, `{"root":"ann/#"}`: false, `{"root":"ann/\u0000"}`: false, `{"root":"Ann/lamp"}`: false,
		`{"root":"bob/lamp","root":"ann/lamp"}`: false, `{"root":"ann/lamp","root":"bob/lamp"}`: false, `{"root":"ann/lamp","Root":"bob/lamp"}`: false,
		`{"ROOT":"bob/lamp","root":"ann/lamp"}`: false, `{"Root":"ann/lamp"}`: false, `{"\u0072oot":"bob/x","root":"ann/lamp"}`: false,
		`{"root":"ann/lamp"}{"root":"bob/lamp"}`: false, `{"root":"ann/lamp"} x`: false, `{"root":"ann/lamp"`: false, `{"root":"ann/lamp","x":}`: false,
		`{"root":"ann/lamp","providerID":7}`: false, `{"root":"ann/lamp","PROVIDERID":"7"}`: false, "{\"root\":\"ann/\xff\"}": false,
		`{"root":"ann/` + strings.Repeat("x", 65530) + `"}`: false,
	} {
		err := profile.CheckHomeDevice([]byte(s), "ann")
		if (err == nil) != want || err != nil && errs.Message(err) == "" {
			t.Errorf("%.60s: %v", s, err)
		}
	}
	d, err := profile.ParseHomeDevice([]byte(`{"root":"ann/lamp","providerID":"7"}`))
	if err != nil || d != (profile.HomeDevice{Root: "ann/lamp", ProviderID: "7"}) {
		t.Error(d, err)
	}
}

func TestHomeAnnounceAndLeave(t *testing.T) {
	for s, want := range map[string]bool{
		`{"name":"Lamp","type":"light","feature":{"on":{}}}`: true, `{"topic":"ann/lamp","lastWillID":"ann/1","feature":{"on":{"getTopic":"ann/g","setTopic":"ann/s"}}}`: true,
		`{"topic":"ann","lastWillID":"ann"}`: true, `{"topic":"bob/lamp"}`: false, `{"lastWillID":"bob/1"}`: false, `{"lastWillID":"7"}`: false,
		`{"feature":{"on":{"setTopic":"bob/s"}}}`: false, `{"feature":{"on":{"getTopic":"ann/g","GetTopic":"bob/g"}}}`: false, `{"feature":7}`: false,
		`{"feature":{"on":7}}`: false, `{"topic":"ann/x","Topic":"bob/x"}`: false, `x`: false,
	} {
		if err := profile.CheckAnnounce([]byte(s), "ann"); (err == nil) != want {
			t.Errorf("announce %s: %v", s, err)
		}
	}
	for s, want := range map[string]bool{"ann": true, "ann/lamp": true, "bob": false, "ann/": false, "annabel/x": false, "": false, "ann/#": false, "ann/\xff": false} {
		if err := profile.CheckLeave([]byte(s), "ann"); (err == nil) != want {
			t.Errorf("leave %q: %v", s, err)
		}
	}
}

// FuzzHomeDevice: metadata that are accepted mean the same to a reader that does
// not care for the case of keys.
func FuzzHomeDevice(f *testing.F) {
	for _, s := range []string{`{"root":"ann/lamp","providerID":"7"}`, `{"Root":"bob/x","root":"ann/x"}`, `{"features":{"a":{"root":"bob/x"}},"root":"ann/x"}`, `{"ſ":1}`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if profile.CheckHomeDevice(b, "ann") != nil {
			return
		}
		var other struct{ Root, ProviderID string }
		if err := json.Unmarshal(b, &other); err != nil || !strings.HasPrefix(other.Root, "ann/") {
			t.Fatalf("%q is read as %+v, %v", b, other, err)
		}
		if d, err := profile.ParseHomeDevice(b); err != nil || d.Root != other.Root || d.ProviderID != other.ProviderID {
			t.Fatalf("%q is %+v and %+v, %v", b, d, other, err)
		}
	})
}
