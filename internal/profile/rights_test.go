package profile_test

import (
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/topic"
)

// limitedTo is an application with few permissions, for one device or for all.
func limitedTo(limited bool, devices []string, ps ...permission.Permission) profile.Identity {
	id := identity(auth.Application, "a-abc123-0123456789", "a:abc123:app")
	id.Parts = []profile.Part{{Rights: permission.Rights{Set: permission.Of(ps...), Limited: limited}, Devices: devices}}
	return id
}

// Every permission of an application opens its own topics, and no others.
func TestApplicationPermissions(t *testing.T) {
	topics := map[string]struct{ publish, receive permission.Permission }{
		"iot-2/type/T/id/D/evt/e/fmt/json":    {permission.EventPublish, permission.EventReceive},
		"iot-2/type/T/id/D/cmd/c/fmt/json":    {permission.CommandPublish, permission.CommandReceive},
		"iot-2/type/T/id/D/mon":               {255, permission.MonitorReceive},
		"iot-2/app/app1/mon":                  {255, permission.MonitorReceive},
		"iot-2/type/T/id/D/err/data":          {255, permission.EventReceive},
		"iot-2/intf/i/rule/r/evt/trigger":     {255, permission.EventReceive},
		"iotdevice-1/type/T/id/D/mgmt/manage": {255, 255},
	}
	for _, p := range []permission.Permission{permission.EventPublish, permission.EventReceive, permission.CommandPublish,
		permission.CommandReceive, permission.MonitorReceive, permission.DeviceRead} {
		g := grant(t, profile.IoT2, limitedTo(false, nil, p))
		for s, want := range topics {
			n, err := topic.ParseName(s)
			if err != nil {
				t.Fatal(err)
			}
			f, err := topic.ParseFilter(s)
			if err != nil {
				t.Fatal(err)
			}
			if got := g.Allow(auth.Publish, n) == nil; got != (want.publish == p) {
				t.Errorf("%v: publish on %q: %v", p, s, got)
			}
			if got := g.Allow(auth.Receive, n) == nil; got != (want.receive == p) {
				t.Errorf("%v: receive %q: %v", p, s, got)
			}
			if got := g.AllowFilter(f) == nil; got != (want.receive == p) {
				t.Errorf("%v: subscribe to %q: %v", p, s, got)
			}
		}
	}
}

// An application that is limited to devices may subscribe for all, and receives
// what is theirs.
func TestLimitedApplication(t *testing.T) {
	g := grant(t, profile.IoT2, limitedTo(true, []string{"T:D"}, permission.EventPublish, permission.EventReceive,
		permission.CommandPublish, permission.CommandReceive, permission.MonitorReceive))
	for s, want := range map[string]bool{
		"iot-2/type/T/id/D/evt/e/fmt/json":  true,
		"iot-2/type/T/id/D/cmd/c/fmt/json":  true,
		"iot-2/type/T/id/D2/evt/e/fmt/json": false,
		"iot-2/type/U/id/D/cmd/c/fmt/json":  false,
	} {
		n, err := topic.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		if (g.Allow(auth.Publish, n) == nil) != want || (g.Allow(auth.Receive, n) == nil) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
	for s, want := range map[string]bool{
		"iot-2/type/T/id/D/mon": true, "iot-2/type/T/id/D2/mon": false, "iot-2/app/app1/mon": false,
		"iot-2/type/T/id/D/intf/i/evt/state": true, "iot-2/intf/i/rule/r/evt/trigger": false,
	} {
		n, err := topic.ParseName(s)
		if err != nil {
			t.Fatal(err)
		}
		if (g.Allow(auth.Receive, n) == nil) != want {
			t.Errorf("receive %q: want %v", s, want)
		}
	}
	all, err := topic.ParseFilter("iot-2/type/+/id/+/evt/+/fmt/+")
	if err != nil {
		t.Fatal(err)
	}
	if g.AllowFilter(all) != nil || g.ReceivesAll(all) {
		t.Error("a subscription for all is refused, or thought to be allowed all")
	}
	none := grant(t, profile.IoT2, limitedTo(true, nil, permission.EventPublish, permission.EventReceive))
	n, err := topic.ParseName("iot-2/type/T/id/D/evt/e/fmt/json")
	if err != nil {
		t.Fatal(err)
	}
	if none.Allow(auth.Publish, n) == nil || none.Receives(n) {
		t.Error("an application that is limited to no device reaches one")
	}
}

// In a plain organisation, or a home, it takes both kinds of messages to publish
// or to receive anything, and rights that are limited to devices give nothing.
func TestPlainPermissions(t *testing.T) {
	n, err := topic.ParseName("a/b")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id               profile.Identity
		publish, receive bool
	}{
		{limitedTo(false, nil, permission.EventPublish, permission.CommandPublish), true, false},
		{limitedTo(false, nil, permission.EventReceive, permission.CommandReceive), false, true},
		{limitedTo(false, nil, permission.EventPublish, permission.EventReceive), false, false},
		{limitedTo(true, []string{"T:D"}, permission.EventPublish, permission.CommandPublish, permission.EventReceive, permission.CommandReceive), false, false},
	} {
		for _, p := range []string{profile.Plain, profile.Home} {
			g := grant(t, p, tt.id)
			if (g.Allow(auth.Publish, n) == nil) != tt.publish || g.Receives(n) != tt.receive {
				t.Errorf("%s, %v limited %v: publish %v, receive %v", p, tt.id.Parts[0].Rights.Set, tt.id.Parts[0].Rights.Limited, g.Allow(auth.Publish, n) == nil, g.Receives(n))
			}
		}
	}
}
