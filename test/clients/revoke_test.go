package clients

import (
	"net/http"
	"testing"
	"time"
)

// gone is the promise: from the change on, a connection lives less than this.
const gone = time.Second

// A device whose right ends loses its connection within a second and does not
// come back, whatever ended it and whatever client it uses.
func TestRevocation(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, revoke := range map[string]func(*testing.T, *org){
		"device disabled": func(t *testing.T, o *org) {
			o.call(t, http.MethodPatch, o.path("/devices/sensor/one"), map[string]bool{"disabled": true}, nil)
		},
		"token replaced": func(t *testing.T, o *org) { o.call(t, http.MethodPost, o.path("/devices/sensor/one/token"), nil, nil) },
		"device deleted": func(t *testing.T, o *org) { o.call(t, http.MethodDelete, o.path("/devices/sensor/one"), nil, nil) },
		"organisation disabled": func(t *testing.T, o *org) {
			o.call(t, http.MethodPatch, o.path(""), map[string]bool{"disabled": true}, nil)
		},
		"organisation deleted": func(t *testing.T, o *org) { o.call(t, http.MethodDelete, o.path(""), nil, nil) },
	} {
		t.Run("mosquitto/"+name, func(t *testing.T) {
			t.Parallel()
			revokeMosquitto(t, s, revoke)
		})
		for _, version := range []int{4, 5} {
			t.Run("MQTT.js "+map[int]string{4: "3.1.1/", 5: "5/"}[version]+name, func(t *testing.T) {
				t.Parallel()
				revokeMQTTJS(t, s, revoke, version)
			})
		}
	}
	t.Run("application and user", func(t *testing.T) { t.Parallel(); revokeOthers(t, s) })
}

func revokeMosquitto(t *testing.T, s *site, revoke func(*testing.T, *org)) {
	o := s.org(t, "iot-2")
	device := o.sensors(t, "one", "two")
	p := s.sub(t, device[0], "-V", "mqttv311", "-q", "1", "-t", "iot-2/cmd/+/fmt/+")
	revoke(t, o)
	at := time.Now()
	code, lines := p.exit()
	// It comes back once, a second after it was cut, and ends when it is refused.
	if took := time.Since(at) - time.Second; took > gone || code != 5 {
		t.Errorf("mosquitto_sub was cut after %v and ended with code %d: %s", took, code, lines)
	}
	if code, out := s.pub(t, device[0], "-V", "mqttv311", "-t", "iot-2/evt/e/fmt/text", "-m", "x"); code != 5 {
		t.Errorf("exit code %d of a later client, want 5: %s", code, out)
	}
	if code, out := s.pub(t, device[0], "-V", "mqttv5", "-t", "iot-2/evt/e/fmt/text", "-m", "x"); code != 0x86 {
		t.Errorf("exit code %d of a later client, want %d: %s", code, 0x86, out)
	}
}

func revokeMQTTJS(t *testing.T, s *site, revoke func(*testing.T, *org), version int) {
	o := s.org(t, "iot-2")
	p := node(t, s, map[string]any{"version": version, "device": o.sensors(t, "one", "two")[0]}, "revoke.mjs")
	p.next("connected")
	revoke(t, o)
	at := time.Now()
	if version == 5 {
		if code := string(p.next("goodbye")); code != "135" && code != "152" {
			t.Errorf("the server ended the connection with reason %s, want 135 or 152", code)
		}
	}
	p.next("closed")
	if took := time.Since(at); took > gone {
		t.Errorf("the connection ended after %v", took)
	}
	want := map[string]string{"refused": `[5,5,5]`}
	if version == 5 {
		want = map[string]string{"refused": `[134,134,134]`}
	}
	p.check(want)
}

// revokeOthers ends the rights of an application and of a plain user; others of
// their organisation stay.
func revokeOthers(t *testing.T, s *site) {
	iot, plain := s.org(t, "iot-2"), s.org(t, "plain")
	app, other := iot.app(t, "app1"), iot.app(t, "app2")
	alice, bob := plain.user(t, "alice"), plain.user(t, "bob")
	ends := map[string]*client5{"app": s.paho5(t, "tls", app, nil), "alice": s.paho5(t, "wss", alice, nil)}
	stay := []*client5{s.paho5(t, "tls", other, nil), s.paho5(t, "tls", bob, nil)}
	stay[0].sub("iot-2/type/+/id/+/evt/+/fmt/+", 1)
	stay[1].sub("x", 1)
	iot.call(t, http.MethodPatch, iot.path("/apps/"+app.User), map[string]bool{"disabled": true}, nil)
	plain.call(t, http.MethodDelete, plain.path("/users/alice"), nil, nil)
	at := time.Now()
	for name, c := range ends {
		if code := c.end(); code != 0x87 && code != 0x98 {
			t.Errorf("%s: ended with reason %#x", name, code)
		}
	}
	if took := time.Since(at); took > gone {
		t.Errorf("the connections ended after %v", took)
	}
	for name, a := range map[string]account{"app": app, "alice": alice} {
		if c, err := s.try5(t, "tls", a, nil); err == nil || c.connack == nil || c.connack.ReasonCode != 0x86 {
			t.Errorf("%s is let in again: %v", name, err)
		}
	}
	stay[0].send("iot-2/type/t/id/d/evt/e/fmt/text", 1, "still here")
	same(t, "received by the other application", string(stay[0].next().Payload), "still here")
	stay[1].send("x", 1, "still here")
	same(t, "received by the other user", string(stay[1].next().Payload), "still here")
}
