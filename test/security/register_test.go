package security

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A gateway that may register devices gets none that is there already, none of
// another organisation, no type and no gateway; and one that may not registers
// nothing at all, over MQTT or HTTP.
func TestRegistrationTakesNothing(t *testing.T) {
	s := start(t)
	at := "/orgs/" + s.ours.id
	var made struct{ Token string }
	s.api.Call(http.MethodPost, at+"/devices", map[string]any{"type": "hubs", "id": "second", "registers": true}, &made)
	second := login{"g:" + s.ours.id + ":hubs:second", "use-token-auth", made.Token}
	s.api.Call(http.MethodPost, at+"/devices", map[string]any{"type": "sensor", "id": "of-hub", "gateway": "hubs:hub"}, nil)
	event := func(typ, id string) string { return "iot-2/type/" + typ + "/id/" + id + "/evt/e/fmt/json" }
	exists := func(typ, id string) bool { return s.api.Do(http.MethodGet, at+"/devices/"+typ+"/"+id, nil, nil) == nil }

	hub := s.connect(t, s.ours.asGateway().packet())
	c := s.connect(t, second.packet())
	app := s.connect(t, s.ours.asApp().packet())
	app.subscribe(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	for name, topic := range map[string]string{
		"free": event("sensor", "one"), "another gateway's": event("sensor", "of-hub"), "no type": event("new", "x"), "a gateway": event("hubs", "third"),
		"the other gateway": event("hubs", "hub"), "a command": "iot-2/type/sensor/id/x/cmd/c/fmt/json", "long": event("sensor", strings.Repeat("x", 37)),
		"a name": event("sensor", "a b"), "climbing": event("sensor", ".."+"/.."),
	} {
		if code := c.publish(topic, "{}", false); code != mqtt.NotAuthorized {
			t.Errorf("%s: %v", name, code)
		}
	}
	if code := hub.publish(event("sensor", "x"), "{}", false); code != mqtt.NotAuthorized || exists("sensor", "x") {
		t.Errorf("a gateway that may not registers: %v", code)
	}
	p := named(second.packet(), second.client)
	p.Will = &mqtt.Will{Topic: event("sensor", "by-will")}
	if _, code := s.refused(t, p); code != mqtt.NotAuthorized || exists("sensor", "by-will") {
		t.Errorf("a will registers: %v", code)
	}
	for _, m := range app.ping() {
		t.Errorf("%s went through", m.Topic)
	}
	if code := c.publish(event("sensor", "new"), "{}", false); code != mqtt.Success || !exists("sensor", "new") {
		t.Errorf("a new device: %v", code)
	}
	if got := app.ping(); len(got) != 1 || string(got[0].Topic) != event("sensor", "new") {
		t.Errorf("the application got %d messages", len(got))
	}
	if code := hub.publish(event("sensor", "new"), "{}", false); code != mqtt.NotAuthorized {
		t.Errorf("another gateway speaks for it: %v", code)
	}
	// What it subscribes for is registered and then reaches it, and nobody else.
	if codes := c.subscribe(1, "iot-2/type/sensor/id/told/cmd/+/fmt/+"); codes[0] >= 0x80 || !exists("sensor", "told") {
		t.Errorf("subscribes: %v", codes)
	}
	hub.subscribe(1, "iot-2/type/sensor/id/told/cmd/+/fmt/+")
	app.publish("iot-2/type/sensor/id/told/cmd/c/fmt/json", "{}", false)
	if got := c.ping(); len(got) != 1 {
		t.Errorf("the gateway got %d commands", len(got))
	}
	if got := hub.ping(); len(got) != 0 {
		t.Errorf("another gateway got %d commands", len(got))
	}
	// Over HTTP it is the same.
	for name, tc := range map[string]struct {
		by   login
		id   string
		want string
	}{
		"may": {second, "by-http", "200"}, "another's": {second, "of-hub", "403"}, "may not": {s.ours.asGateway(), "http-2", "403"},
	} {
		user := strings.ReplaceAll(tc.by.client, ":", "/")
		req := fmt.Sprintf("POST /api/v0002/device/types/sensor/devices/%s/events/e HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Basic %s\r\nContent-Length: 2\r\n\r\n{}",
			tc.id, base64.StdEncoding.EncodeToString([]byte(user+":"+tc.by.password)))
		line, conn := s.say(t, s.MQTTPort, req)
		conn.NetConn().Close()
		if !strings.Contains(line, tc.want) || exists("sensor", tc.id) != (tc.want == "200" || tc.id == "of-hub") {
			t.Errorf("%s: %q", name, line)
		}
	}
}
