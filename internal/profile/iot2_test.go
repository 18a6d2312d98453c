package profile_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/topic"
)

func grant(t testing.TB, which string, id profile.Identity) *auth.Grant {
	t.Helper()
	g, err := profile.Grant(which, id)
	if err != nil {
		t.Fatalf("Grant: %v", err)
	}
	return g
}

func identity(kind auth.Kind, id, client string) profile.Identity {
	return profile.Identity{Ref: auth.Ref{Principal: auth.Principal{Org: "abc123", Kind: kind, ID: id}, Client: client},
		Parts: []profile.Part{{Rights: permission.Rights{Set: permission.All}}}}
}

func device(t testing.TB) *auth.Grant {
	return grant(t, profile.IoT2, identity(auth.Device, "T:D", "d:abc123:T:D"))
}

func gateway(t testing.TB) *auth.Grant {
	id := identity(auth.Gateway, "GT:G", "g:abc123:GT:G")
	id.Attached = []string{"T:D", "T:D2", "U:D"}
	return grant(t, profile.IoT2, id)
}

// may does what the broker does with a topic or filter that a client sends:
// it resolves it and asks the grant.
func may(g *auth.Grant, a auth.Action, s string) (resolved string, err error) {
	if a == auth.Subscribe {
		f, err := topic.ParseFilter(s)
		if err != nil {
			return "", err
		}
		if f, err = g.ResolveFilter(f); err != nil {
			return "", err
		}
		return f.String(), g.AllowFilter(f)
	}
	n, err := topic.ParseName(s)
	if err != nil {
		return "", err
	}
	if a == auth.Publish {
		if n, err = g.Resolve(n); err != nil {
			return "", err
		}
	}
	return n.String(), g.Allow(a, n)
}

// A table says what a client may do; what is not "" is the organisation's topic.
type table map[string]string

func (tt table) check(t *testing.T, g *auth.Grant, a auth.Action) {
	t.Helper()
	for s, want := range tt {
		got, err := may(g, a, s)
		switch {
		case want == "" && err == nil:
			t.Errorf("%v %q is allowed, as %q", a, s, got)
		case want == "" && errs.CodeOf(err) != errs.Denied:
			t.Errorf("%v %q: %v, which is not a refusal", a, s, err)
		case want != "" && (err != nil || got != want):
			t.Errorf("%v %q: as %q, %v, want %q", a, s, got, err, want)
		}
	}
}

func TestDevice(t *testing.T) {
	g := device(t)
	table{
		"iot-2/evt/e/fmt/json":                 "iot-2/type/T/id/D/evt/e/fmt/json",
		"iot-2/evt/é ü/fmt/anything":           "iot-2/type/T/id/D/evt/é ü/fmt/anything",
		"iotdevice-1/mgmt/manage":              "iotdevice-1/type/T/id/D/mgmt/manage",
		"iotdevice-1/mgmt/unmanage":            "iotdevice-1/type/T/id/D/mgmt/unmanage",
		"iotdevice-1/device/update/location":   "iotdevice-1/type/T/id/D/device/update/location",
		"iotdevice-1/add/diag/errorCodes":      "iotdevice-1/type/T/id/D/add/diag/errorCodes",
		"iotdevice-1/clear/diag/errorCodes":    "iotdevice-1/type/T/id/D/clear/diag/errorCodes",
		"iotdevice-1/add/diag/log":             "iotdevice-1/type/T/id/D/add/diag/log",
		"iotdevice-1/clear/diag/log":           "iotdevice-1/type/T/id/D/clear/diag/log",
		"iotdevice-1/notify":                   "iotdevice-1/type/T/id/D/notify",
		"iotdevice-1/response":                 "iotdevice-1/type/T/id/D/response",
		"iot-2/evt/e/fmt":                      "",
		"iot-2/evt/e/fmt/json/x":               "",
		"iot-2/evt/e":                          "",
		"iot-2/evt":                            "",
		"iot-2":                                "",
		"iot-2/":                               "",
		"iot-2/cmd/c/fmt/json":                 "", // commands are for devices, not from them
		"iot-2/mon":                            "",
		"iot-2/notify":                         "",
		"iot-2/type/T/id/D/evt/e/fmt/json":     "", // not even its own, in the organisation's form
		"iot-2/type/T/id/D2/evt/e/fmt/json":    "",
		"iot-2/../D2/evt/e/fmt/json":           "",
		"iot-2//evt/e/fmt/json":                "",
		"/iot-2/evt/e/fmt/json":                "",
		"IOT-2/evt/e/fmt/json":                 "",
		"iot-2/intf/i/evt/state":               "",
		"iot-2/app/app1/mon":                   "",
		"iotdevice-1/other":                    "",
		"iotdevice-1/mgmt/manage/x":            "",
		"iotdevice-1/type/T/id/D2/mgmt/manage": "",
		"iotdevice-1/type/T/id/D/mgmt/manage":  "",
		"iotdm-1/response":                     "",
		"iotdm-1/mgmt/initiate/device/reboot":  "",
		"iotdm-1/type/T/id/D2/mgmt/initiate/x": "",
		"evt/e/fmt/json":                       "",
		"$SYS/a":                               "",
		"$share/g/iot-2/evt/e/fmt/json":        "",
		"anything":                             "",
	}.check(t, g, auth.Publish)
	own := "iotdm-1/type/T/id/D/"
	table{
		"iot-2/cmd/+/fmt/+":                          "iot-2/type/T/id/D/cmd/+/fmt/+",
		"iot-2/cmd/reboot/fmt/json":                  "iot-2/type/T/id/D/cmd/reboot/fmt/json",
		"iot-2/cmd/reboot/fmt/+":                     "iot-2/type/T/id/D/cmd/reboot/fmt/+",
		"iotdm-1/#":                                  own + "#",
		"iotdm-1/response":                           own + "response",
		"iotdm-1/observe":                            own + "observe",
		"iotdm-1/cancel":                             own + "cancel",
		"iotdm-1/device/update":                      own + "device/update",
		"iotdm-1/mgmt/initiate/device/reboot":        own + "mgmt/initiate/device/reboot",
		"iotdm-1/mgmt/initiate/device/factory_reset": own + "mgmt/initiate/device/factory_reset",
		"iotdm-1/mgmt/initiate/firmware/download":    own + "mgmt/initiate/firmware/download",
		"iotdm-1/mgmt/initiate/firmware/update":      own + "mgmt/initiate/firmware/update",
		"iotdm-1/mgmt/custom/#":                      own + "mgmt/custom/#",
		"#":                                          "",
		"+/#":                                        "",
		"+":                                          "",
		"+/cmd/+/fmt/+":                              "",
		"+/+/+/+/+":                                  "",
		"+/type/T/id/D/cmd/+/fmt/+":                  "",
		"iot-2/#":                                    "",
		"iot-2/+/#":                                  "",
		"iot-2/+/+/fmt/+":                            "",
		"iot-2/cmd/#":                                "",
		"iot-2/cmd/+":                                "",
		"iot-2/cmd/+/fmt/#":                          "",
		"iot-2/evt/+/fmt/+":                          "",
		"iot-2/mon":                                  "",
		"iot-2/type/+/id/+/cmd/+/fmt/+":              "",
		"iot-2/type/T/id/D/cmd/+/fmt/+":              "",
		"iot-2/type/T/id/D2/cmd/+/fmt/+":             "",
		"iot-2/../D2/cmd/+/fmt/+":                    "",
		"iotdevice-1/#":                              "",
		"iotdevice-1/response":                       "",
		"+/response":                                 "",
		"$SYS/#":                                     "",
		"$share/g/iot-2/cmd/+/fmt/+":                 "", // a share is taken apart before it comes here
	}.check(t, g, auth.Subscribe)
	table{
		"iot-2/type/T/id/D/cmd/c/fmt/json":  "iot-2/type/T/id/D/cmd/c/fmt/json",
		own + "response":                    own + "response",
		"iot-2/type/T/id/D2/cmd/c/fmt/json": "",
		"iot-2/type/T2/id/D/cmd/c/fmt/json": "",
		"iot-2/type/T/id/D/evt/e/fmt/json":  "",
		"iot-2/type/T/id/D/mon":             "",
		"iot-2/type/T/id/D2/evt/e/fmt/json": "",
		"iotdm-1/type/T/id/D2/response":     "",
		"iotdm-1/response":                  "",
		"iotdevice-1/type/T/id/D/response":  "",
		"$SYS/a":                            "",
	}.check(t, g, auth.Receive)
	n, _ := topic.ParseName("iot-2/type/T/id/D/cmd/c/fmt/json")
	if got := g.Present(n); got != "iot-2/cmd/c/fmt/json" {
		t.Errorf("the device sees its command as %q", got)
	}
	if g.Retain() || g.Shared() != "" || g.Separate() {
		t.Error("a device may retain or share")
	}
}

func TestGateway(t *testing.T) {
	g := gateway(t)
	pub := table{
		"iot-2/type/T/id/D9/evt/e/fmt/json":    "", // not attached
		"iot-2/type/U/id/D2/evt/e/fmt/json":    "", // the type of one, the id of another
		"iot-2/type/GT/id/D/evt/e/fmt/json":    "",
		"iot-2/evt/e/fmt/json":                 "",
		"iot-2/type/GT/id/G/notify":            "",
		"iot-2/type/T/id/D/mon":                "",
		"iotdevice-1/type/T/id/D9/mgmt/manage": "",
		"iotdevice-1/mgmt/manage":              "",
		"iotdevice-1/type/T/id/D/other":        "",
		"iotdm-1/type/T/id/D/response":         "",
		"$SYS/a":                               "",
	}
	recv := table{
		"iot-2/type/T/id/D9/cmd/c/fmt/json": "",
		"iot-2/type/U/id/D2/cmd/c/fmt/json": "",
		"iot-2/type/T/id/D9/mon":            "",
		"iotdm-1/type/T/id/D9/response":     "",
		"iotdm-1/response":                  "",
		"iot-2/type/GT/id/G/notify":         "iot-2/type/GT/id/G/notify",
		"iot-2/type/T/id/D/notify":          "",
		"iot-2/type/GT/id/G2/notify":        "",
		"iot-2/type/T/id/D/evt/e/fmt/json":  "",
		"iot-2/app/app1/mon":                "",
	}
	for _, d := range []string{"type/GT/id/G", "type/T/id/D", "type/T/id/D2", "type/U/id/D"} {
		for _, s := range []string{"evt/e/fmt/json"} {
			pub["iot-2/"+d+"/"+s] = "iot-2/" + d + "/" + s
		}
		pub["iot-2/"+d+"/cmd/c/fmt/json"] = ""
		for _, s := range []string{"mgmt/manage", "mgmt/unmanage", "device/update/location", "add/diag/errorCodes",
			"clear/diag/errorCodes", "add/diag/log", "clear/diag/log", "notify", "response"} {
			pub["iotdevice-1/"+d+"/"+s] = "iotdevice-1/" + d + "/" + s
		}
		for _, s := range []string{"iot-2/" + d + "/cmd/c/fmt/json", "iot-2/" + d + "/mon", "iotdm-1/" + d + "/response", "iotdm-1/" + d + "/mgmt/custom/b/a"} {
			recv[s] = s
		}
	}
	pub.check(t, g, auth.Publish)
	recv.check(t, g, auth.Receive)
	sub := table{
		"#": "", "+/#": "", "iot-2/#": "", "iot-2/type/#": "", "iot-2/cmd/+/fmt/+": "", "iot-2/type/+/id/+/evt/+/fmt/+": "",
		"iot-2/type/T/id/D/evt/+/fmt/+": "", "iot-2/type/+/id/+/#": "", "iot-2/type/+/id/+/notify": "",
		"iot-2/type/GT/id/G2/notify": "", "iot-2/app/+/mon": "", "iotdevice-1/#": "", "+/type/+/id/+/cmd/+/fmt/+": "", "$SYS/#": "",
	}
	for _, s := range []string{
		"iot-2/type/+/id/+/cmd/+/fmt/+", "iot-2/type/T/id/D/cmd/+/fmt/+", "iot-2/type/GT/id/G/cmd/c/fmt/json", "iot-2/type/T/id/+/cmd/+/fmt/+",
		"iot-2/type/GT/id/G/notify", "iot-2/type/T/id/D/mon", "iot-2/type/+/id/+/mon", "iotdm-1/#", "iotdm-1/type/T/id/D/#",
		"iotdm-1/type/T/id/D/response", "iotdm-1/type/GT/id/G/mgmt/custom/#",
	} {
		sub[s] = s
	}
	sub.check(t, g, auth.Subscribe)
	if g.Retain() || g.Shared() != "" || g.Separate() {
		t.Error("a gateway may retain or share")
	}
}

func TestApplication(t *testing.T) {
	both := []string{"iot-2/type/T/id/D/evt/e/fmt/json", "iot-2/type/T/id/D/cmd/c/fmt/json"}
	fromPlatform := []string{
		"iot-2/type/T/id/D/mon", "iot-2/app/app1/mon", "iot-2/type/T/id/D/intf/i/evt/state", "iot-2/type/T/id/D/err/data",
		"iot-2/intf/i/rule/r/evt/trigger", "iot-2/intf/i/rule/r/err/data", "iot-2/thing/type/T/id/I/intf/i/evt/state", "iot-2/thing/type/T/id/I/err/data",
	}
	never := []string{
		"iot-2/evt/e/fmt/json", "iot-2/cmd/c/fmt/json", "iotdevice-1/mgmt/manage", "iotdevice-1/type/T/id/D/mgmt/manage", "iotdm-1/response",
		"iotdm-1/type/T/id/D/mgmt/initiate/device/reboot", "iot-2/type/T/id/D/notify", "iot-2/type/T/id/D/evt/e/fmt", "iot-2/type/T/id/D/evt/e/fmt/json/x",
		"iot-2/type/T/id/D", "iot-2", "$SYS/a", "a",
	}
	pub, recv, sub := table{}, table{}, table{}
	for _, s := range both {
		pub[s], recv[s], sub[s] = s, s, s
	}
	for _, s := range fromPlatform {
		pub[s], recv[s], sub[s] = "", s, s
	}
	for _, s := range never {
		pub[s], recv[s], sub[s] = "", "", ""
	}
	for _, s := range []string{
		"iot-2/type/+/id/+/evt/+/fmt/+", "iot-2/type/+/id/+/cmd/+/fmt/+", "iot-2/type/T/id/+/evt/e/fmt/+", "iot-2/type/+/id/+/mon", "iot-2/app/+/mon",
		"iot-2/type/+/id/+/intf/+/evt/state", "iot-2/type/+/id/+/err/data", "iot-2/intf/+/rule/+/evt/trigger", "iot-2/intf/+/rule/+/err/data",
		"iot-2/thing/type/+/id/+/intf/+/evt/state", "iot-2/thing/type/+/id/+/err/data",
	} {
		sub[s] = s
	}
	for _, s := range []string{"#", "+/#", "iot-2/#", "iot-2/type/#", "iot-2/type/+/id/+/#", "iot-2/type/+/id/+/+/+/fmt/+", "+/type/+/id/+/evt/+/fmt/+",
		"iotdevice-1/#", "iotdm-1/#", "+/type/#", "$SYS/#"} {
		sub[s] = ""
	}
	people := []profile.Identity{
		identity(auth.Application, "a-abc123-0123456789", "a:abc123:app1"),
		identity(auth.Application, "a-abc123-0123456789", "A:abc123:app1"),
		identity(auth.Person, "0190", "a:abc123:keepmq-sub"),
		identity(auth.System, "console", "console"),
	}
	for _, id := range people {
		g := grant(t, profile.IoT2, id)
		pub.check(t, g, auth.Publish)
		recv.check(t, g, auth.Receive)
		sub.check(t, g, auth.Subscribe)
		if g.Retain() {
			t.Errorf("%v may retain", id.Ref.Principal)
		}
		for s, allowed := range sub { // what an application may subscribe to it receives whole
			if f, err := topic.ParseFilter(s); err != nil || allowed != "" && !g.ReceivesAll(f) {
				t.Errorf("%v: a delivery for %q may be refused", id.Ref.Principal, s)
			}
		}
	}
}

func TestScalable(t *testing.T) {
	tests := []struct {
		client, shared string
		separate       bool
	}{
		{"a:abc123:app1", "", false},
		{"A:abc123:app1", "A/app1", true},
		{"A:abc123:app1:i1", "A/app1", false}, // its own session, the same group
		{"A:abc123:app1:i2", "A/app1", false},
		{"A:abc123:app2", "A/app2", true},
	}
	for _, tt := range tests {
		g := grant(t, profile.IoT2, identity(auth.Application, "a-abc123-0123456789", tt.client))
		if g.Shared() != tt.shared || g.Separate() != tt.separate {
			t.Errorf("%s: shared %q, separate %v", tt.client, g.Shared(), g.Separate())
		}
		if s := g.Shared(); s != "" {
			if group, _, _, err := topic.ParseShared("$share/" + s + "/a"); err == nil && group == s {
				t.Errorf("%s: a client can name the group %q", tt.client, s)
			}
		}
	}
}

func TestRefused(t *testing.T) {
	attached := func(s string) profile.Identity {
		id := identity(auth.Gateway, "GT:G", "g:abc123:GT:G")
		id.Attached = []string{"T:D", s}
		return id
	}
	for name, tt := range map[string]struct {
		profile string
		id      profile.Identity
	}{
		"unknown profile":                     {"other", identity(auth.Device, "T:D", "d:abc123:T:D")},
		"no profile":                          {"", identity(auth.Device, "T:D", "d:abc123:T:D")},
		"nobody":                              {profile.IoT2, profile.Identity{}},
		"any kind":                            {profile.IoT2, identity(auth.AnyKind, "", "")},
		"unknown kind":                        {profile.IoT2, identity(auth.Kind(99), "T:D", "d:abc123:T:D")},
		"user in iot-2":                       {profile.IoT2, identity(auth.User, "alice", "c")},
		"device with a wildcard":              {profile.IoT2, identity(auth.Device, "T:+", "d:abc123:T:D")},
		"type with a wildcard":                {profile.IoT2, identity(auth.Device, "+:D", "d:abc123:T:D")},
		"device with a slash":                 {profile.IoT2, identity(auth.Device, "T:D/x", "d:abc123:T:D")},
		"device without an id":                {profile.IoT2, identity(auth.Device, "T", "d:abc123:T:D")},
		"device with three parts":             {profile.IoT2, identity(auth.Device, "T:D:x", "d:abc123:T:D")},
		"gateway with a wildcard":             {profile.IoT2, identity(auth.Gateway, "T:#", "g:abc123:T:D")},
		"attached with a wildcard":            {profile.IoT2, attached("+:+")},
		"attached without an id":              {profile.IoT2, attached("T")},
		"attached with a slash":               {profile.IoT2, attached("T:D/cmd")},
		"application as a device":             {profile.IoT2, identity(auth.Application, "a-abc123-0123456789", "d:abc123:T:D")},
		"application of another organisation": {profile.IoT2, identity(auth.Application, "a-abc123-0123456789", "a:xyz789:app1")},
		"application with no app id":          {profile.IoT2, identity(auth.Application, "a-abc123-0123456789", "whatever")},
		"person as an app of an other one":    {profile.IoT2, identity(auth.Person, "0190", "A:xyz789:app1")},
		"device in plain":                     {profile.Plain, identity(auth.Device, "T:D", "d:abc123:T:D")},
		"gateway in plain":                    {profile.Plain, identity(auth.Gateway, "T:D", "g:abc123:T:D")},
		"any kind in plain":                   {profile.Plain, identity(auth.AnyKind, "", "")},
	} {
		g, err := profile.Grant(tt.profile, tt.id)
		if code := errs.CodeOf(err); g != nil || code != errs.Denied && code != errs.Invalid {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
}

// TestIsolation: whatever topics and filters device A uses, nothing of device B
// is written or seen.
func TestIsolation(t *testing.T) {
	ids := []string{"T:D", "T:D2", "T2:D", "D:T", "type:id", "evt:cmd", "..:..", "iot-2:iot-2"}
	words := []string{"iot-2", "iotdevice-1", "iotdm-1", "type", "id", "T", "T2", "D", "D2", "evt", "cmd", "fmt", "json", "mon", "notify", "response",
		"mgmt", "manage", "..", ".", "", "+", "+", "#", "$SYS", "%u"}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SampledFrom(ids).Draw(t, "a"), rapid.SampledFrom(ids).Draw(t, "b")
		id := identity(rapid.SampledFrom([]auth.Kind{auth.Device, auth.Gateway}).Draw(t, "kind"), a, "")
		if id.Ref.Principal.Kind == auth.Gateway {
			id.Attached = rapid.SliceOfN(rapid.SampledFrom(ids), 0, 3).Draw(t, "attached")
		}
		own := append([]string{a}, id.Attached...)
		for _, o := range own {
			if o == b {
				return // b is a's to speak for
			}
		}
		g, err := profile.Grant(profile.IoT2, id)
		if err != nil {
			t.Fatal(err)
		}
		typ, dev, _ := strings.Cut(b, ":")
		of := "/type/" + typ + "/id/" + dev + "/"
		theirs := []string{"iot-2" + of, "iotdevice-1" + of, "iotdm-1" + of}
		s := strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 0, 5).Draw(t, "levels"), "/")
		if rapid.Bool().Draw(t, "aimed") { // most are too far off to be a danger
			s = rapid.SampledFrom(append(theirs, "iot-2/", "iotdm-1/", "iotdevice-1/", "+"+of)).Draw(t, "prefix") + s
		}
		if n, err := topic.ParseName(s); err == nil {
			// The topic as it stands is delivered to A only if it is not B's.
			if g.Receives(n) {
				notTheirs(t, n.String(), theirs, "receives")
			}
			if r, err := g.Resolve(n); err == nil && g.Allow(auth.Publish, r) == nil {
				notTheirs(t, r.String(), theirs, "publishes to")
			}
		}
		var filters []topic.Filter
		if f, err := topic.ParseFilter(s); err == nil {
			if f, err = g.ResolveFilter(f); err == nil && g.AllowFilter(f) == nil {
				filters = append(filters, f)
			}
		}
		for _, rest := range []string{"cmd/c/fmt/json", "evt/e/fmt/json", "mon", "notify", "response", "mgmt/manage", "mgmt/custom/b/a"} {
			for _, p := range theirs {
				n, err := topic.ParseName(p + rest)
				if err != nil {
					t.Fatal(err)
				}
				if g.Receives(n) || g.Allow(auth.Publish, n) == nil {
					t.Fatalf("%s may use %q", a, n)
				}
				for _, f := range filters {
					if f.Match(n) && g.ReceivesAll(f) {
						t.Fatalf("%s receives all of %q unasked, and so %q", a, f, n)
					}
				}
			}
		}
	})
}

func notTheirs(t *rapid.T, s string, theirs []string, does string) {
	for _, p := range theirs {
		if strings.HasPrefix(s, p) {
			t.Fatalf("it %s %q", does, s)
		}
	}
}

// TestPresent: what a device names is shown to it as it named it.
func TestPresent(t *testing.T) {
	g := device(t)
	for _, s := range []string{"iot-2/evt/e/fmt/json", "iotdevice-1/response", "iotdm-1/response", "iot-2/type/T/id/D/evt", "iotdm-1/type/T/id/D/x", "a", "iot-2"} {
		n, err := topic.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		r, err := g.Resolve(n)
		if err != nil || g.Present(r) != s {
			t.Errorf("%q stands for %q and is shown as %q", s, r, g.Present(r))
		}
	}
}

func BenchmarkGatewayGrant(b *testing.B) {
	id := identity(auth.Gateway, "GT:G", "g:abc123:GT:G")
	for i := range 1000 {
		id.Attached = append(id.Attached, fmt.Sprintf("T:device-%d", i))
	}
	b.ReportAllocs()
	for range b.N {
		grant(b, profile.IoT2, id)
	}
}

// A gateway that may register devices still may do nothing for one that is not
// its own: only the registration of that is asked for.
func TestGatewayThatRegisters(t *testing.T) {
	id := identity(auth.Gateway, "GT:G", "g:abc123:GT:G")
	id.Attached = []string{"T:D"}
	plain := grant(t, profile.IoT2, id)
	id.Register = true
	g := grant(t, profile.IoT2, id)
	table{}.not("iot-2/type/T/id/new/evt/e/fmt/json", "iotdevice-1/type/T/id/new/mgmt/manage", "iot-2/type/T/id/new/cmd/c/fmt/json").check(t, g, auth.Publish)
	table{}.not("iot-2/type/T/id/new/cmd/c/fmt/json").check(t, g, auth.Receive)
	if plain.Registrar() || !g.Registrar() {
		t.Error("who may register?")
	}
	for s, want := range map[string]bool{
		"iot-2/type/T/id/new/evt/e/fmt/json": true, "iotdevice-1/type/T/id/new/mgmt/manage": true,
		"iot-2/type/T/id/new/cmd/c/fmt/json": false, "iot-2/type/T/id/new/mon": false, "iotdm-1/type/T/id/new/x": false, "iot-2/evt/e/fmt/json": false, "x": false,
	} {
		n, err := topic.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		if g.Registers(n) != want || plain.Registers(n) {
			t.Errorf("%s: registers %v", s, g.Registers(n))
		}
	}
	for s, want := range map[string]bool{
		"iot-2/type/T/id/new/cmd/+/fmt/+": true, "iot-2/type/T/id/new/cmd/c/fmt/json": true, "iot-2/type/+/id/+/cmd/+/fmt/+": true, // and no device stands in that
		"iot-2/type/T/id/D/cmd/+/fmt/+": false, "iot-2/type/T/id/new/evt/+/fmt/+": false, "iot-2/type/T/id/new/#": false, "#": false,
	} {
		f, err := topic.ParseFilter(s)
		if err != nil {
			t.Fatal(err)
		}
		if g.RegistersFilter(f) != want || plain.RegistersFilter(f) {
			t.Errorf("%s: registers %v", s, g.RegistersFilter(f))
		}
	}
	for s, want := range map[string]string{
		"iot-2/type/T/id/new/evt/e/fmt/json": "T:new", "iotdevice-1/type/T/id/d.1/mgmt/manage": "T:d.1",
		"iot-2/type/+/id/new/cmd/+/fmt/+": ":", "iot-2/type/T/id/+/cmd/+/fmt/+": ":", "iot-2/type/T/id/a b/evt/e/fmt/f": ":", "iot-2/type//id/x/evt/e/fmt/f": ":",
		"iot-2/type/T/id/" + n37 + "/evt/e/fmt/f": ":", "iot-2/type/T/id/x": ":", "x": ":", "iot-2/app/T/id/x/evt": ":",
	} {
		typ, dev, ok := profile.DeviceIn(s)
		if typ+":"+dev != want || ok != (want != ":") {
			t.Errorf("%s: %q %q %v", s, typ, dev, ok)
		}
	}
}
