package broker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/registry"
)

// A lock ends the connections that it is of within a second and tells them why; a
// will that waits for its time is not published.
func TestLocksEndConnections(t *testing.T) {
	s := newSite(t)
	ctx := context.Background()
	login := func(device string, more func(*mqtt.Connect)) *client {
		return s.connect(mqtt.V5, s.clientID(device), func(p *mqtt.Connect) {
			p.Username, p.Password = mqtt.Some("use-token-auth"), []byte(s.tokens[device])
			if more != nil {
				more(p)
			}
		})
	}
	for _, l := range []registry.Lock{
		{Kind: registry.LockPrincipal, Target: "device:t:one"},
		{Kind: registry.LockType, Target: "t"},
		{Kind: registry.LockAddress, Target: "127.0.0.0/8"},
		{Kind: registry.LockClient, Target: s.clientID("one")},
	} {
		c := login("one", nil)
		l.Org, l.Reason = s.org, "call us"
		made, err := s.reg.CreateLock(ctx, s.admin, l)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		p, err := c.packet()
		if d, ok := p.(*mqtt.Disconnect); err != nil || !ok || d.Code != mqtt.AdministrativeAction ||
			!strings.Contains(d.Properties.ReasonString.Or(""), "locked: call us") || time.Since(begun) > time.Second {
			t.Errorf("%s: %+v %v after %v", l.Kind, p, err, time.Since(begun))
		}
		if _, ack := s.try(hello(mqtt.V5, s.clientID("one"), func(p *mqtt.Connect) {
			p.Username, p.Password = mqtt.Some("use-token-auth"), []byte(s.tokens["one"])
		})); ack.Code != mqtt.NotAuthorized {
			t.Errorf("%s: a new connection is answered %v", l.Kind, ack.Code)
		}
		if err := s.reg.DeleteLock(ctx, s.admin, s.org, made.ID); err != nil {
			t.Fatal(err)
		}
	}

	app, token, err := s.reg.CreateApplication(ctx, s.admin, registry.Application{Org: s.org})
	if err != nil {
		t.Fatal(err)
	}
	watcher := s.connect(mqtt.V5, "a:"+string(s.org)+":w", func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Some(app.Key), []byte(token.Reveal()) })
	watcher.sub("iot-2/type/+/id/+/evt/+/fmt/+", 0)
	dying := login("one", func(p *mqtt.Connect) {
		p.Properties.SessionExpiry = mqtt.Some[uint32](60)
		p.Will = &mqtt.Will{Topic: "iot-2/evt/gone/fmt/json", Payload: []byte("x"), Delay: 1}
	})
	dying.cut()
	time.Sleep(100 * time.Millisecond)
	if _, err := s.reg.CreateLock(ctx, s.admin, registry.Lock{Org: s.org, Kind: registry.LockPrincipal, Target: "device:t:one", Reason: "x"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond)
	login("two", nil).publish("iot-2/evt/e/fmt/json", "after it")
	watcher.receive("iot-2/type/t/id/two/evt/e/fmt/json", "after it")
}
