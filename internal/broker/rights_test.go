package broker

import (
	"context"
	"regexp"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/registry"
)

// What an API key may do changes while it is connected: a subscription that its
// role does not allow any more is withdrawn, what its resource groups do not reach
// is not delivered, and with the last right the connection goes.
func TestRightsOfAConnectedKey(t *testing.T) {
	s := newSite(t)
	ctx := context.Background()
	app, token, err := s.reg.CreateApplication(ctx, s.admin, registry.Application{Org: s.org})
	if err != nil {
		t.Fatal(err)
	}
	login := func(p *mqtt.Connect) {
		p.Username, p.Password = mqtt.Some(app.Key), []byte(token.Reveal())
	}
	key := s.connect(mqtt.V5, "a:"+string(s.org)+":dash", login)
	const events, commands = "iot-2/type/+/id/+/evt/+/fmt/+", "iot-2/type/+/id/+/cmd/+/fmt/+"
	key.sub(events, 0)
	key.sub(commands, 0)
	device := s.connect(mqtt.V5, s.clientID("one"), func(p *mqtt.Connect) {
		p.Username, p.Password = mqtt.Some("use-token-auth"), []byte(s.tokens["one"])
	})
	says := func(what string) { device.publish("iot-2/evt/e/fmt/json", what) }
	says("first")
	key.receive("iot-2/type/t/id/one/evt/e/fmt/json", "first")

	set := func(a registry.Application) {
		t.Helper()
		a.Org, a.Key = s.org, app.Key
		if err := s.reg.SetApplicationRights(ctx, s.admin, a); err != nil {
			t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // far below the second that is promised
	}
	set(registry.Application{Limited: true})
	says("of no group of the key's")
	set(registry.Application{})
	says("second")
	key.receive("iot-2/type/t/id/one/evt/e/fmt/json", "second")
	set(registry.Application{Permissions: []string{permission.CommandReceive.String()}})
	says("events are not for it")
	set(registry.Application{})
	says("and the subscription is gone")
	key.sub(events, 0)
	says("third")
	key.receive("iot-2/type/t/id/one/evt/e/fmt/json", "third")

	if err := s.reg.SetApplicationDisabled(ctx, s.admin, s.org, app.Key, true); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if code := key.closed(); code != mqtt.NotAuthorized && code != mqtt.AdministrativeAction || time.Since(begun) > time.Second {
		t.Errorf("disabled, it ends with %v after %v", code, time.Since(begun))
	}
}

// A refusal has a number, under which the owner finds what was refused to whom.
func TestRefusalsHaveNumbers(t *testing.T) {
	s := newSite(t)
	c := s.connect(mqtt.V5, s.clientID("one"), func(p *mqtt.Connect) {
		p.Username, p.Password = mqtt.Some("use-token-auth"), []byte(s.tokens["one"])
	})
	number := func(reason mqtt.Opt[string]) string {
		t.Helper()
		m := regexp.MustCompile(`\(refusal ([a-z0-9]{12})\)$`).FindStringSubmatch(reason.Or(""))
		if m == nil {
			t.Fatalf("%q has no number", reason.Or(""))
		}
		return m[1]
	}
	c.send(pub("iot-2/cmd/c/fmt/json", "x", 1, 1))
	published := number(expect[*mqtt.Ack](c).ReasonString)
	c.send(&mqtt.Subscribe{PacketID: 2, Subscriptions: []mqtt.Subscription{{Filter: "iot-2/evt/+/fmt/+"}}})
	subscribed := number(expect[*mqtt.Suback](c).ReasonString)
	for id, want := range map[string][2]string{published: {"publish", "iot-2/cmd/c/fmt/json"}, subscribed: {"subscribe", "iot-2/evt/+/fmt/+"}} {
		r, err := s.reg.Refused(context.Background(), s.admin, s.org, id)
		if err != nil || r.Action != want[0] || r.Topic != want[1] || r.Client != s.clientID("one") || r.Principal != "device:"+string(s.org)+":t:one" {
			t.Errorf("%s: %+v %v", id, r, err)
		}
	}
}
