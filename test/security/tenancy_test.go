package security

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// No credential works under a client identifier that is not its own.
func TestClientIDHijackAcrossIdentities(t *testing.T) {
	s := start(t)
	a, b := s.ours, s.theirs
	victim := s.connect(t, b.asDevice().packet())
	screen := s.connect(t, b.asApp().packet())
	for name, l := range map[string]login{
		"device of the other organisation":      {b.asDevice().client, "use-token-auth", a.device},
		"gateway of the other organisation":     {b.asGateway().client, "use-token-auth", a.gateway},
		"application in the other organisation": {b.asApp().client, a.key, a.token},
		"other application's key, our token":    {b.asApp().client, b.key, a.token},
		"their key in our organisation":         {a.asApp().client, b.key, b.token},
		"scalable application elsewhere":        {"A:" + b.id + ":screen", a.key, a.token},
		"device token as gateway":               {"g:" + a.id + ":sensor:one", "use-token-auth", a.device},
		"gateway token as device":               {"d:" + a.id + ":hubs:hub", "use-token-auth", a.gateway},
		"gateway's token for its device":        {a.asDevice().client, "use-token-auth", a.gateway},
		"API key as device":                     {a.asDevice().client, a.key, a.token},
		"application's token as device":         {a.asDevice().client, "use-token-auth", a.token},
		"device token as application":           {a.asApp().client, a.key, a.device},
		"device token as access token":          {a.asApp().client, "use-access-token", a.device},
		"access token as device":                {a.asDevice().client, "use-token-auth", s.api.Token()},
		"access token in a device's client id":  {a.asDevice().client, "use-access-token", s.api.Token()},
		"access token in a gateway's client id": {a.asGateway().client, "use-access-token", s.api.Token()},
		"access token in an unknown one":        {"a:zzzzzz:x", "use-access-token", s.api.Token()},
		"key in a plain user's form":            {"x", a.id + "/" + a.key, a.token},
		"wildcard user":                         {"x", a.id + "/+", a.token},
		"multi-level user":                      {"x", a.id + "/#", a.token},
		"wildcard organisation":                 {"x", "+/one", a.device},
		"%u":                                    {"%u", "%u", a.device},
		"client id with another level":          {a.asDevice().client + "/x", "use-token-auth", a.device},
		"client id with another part":           {a.asDevice().client + ":x", "use-token-auth", a.device},
		"client id with NUL":                    {"a:" + a.id + ":s\x00", a.key, a.token},
		"client id in capitals":                 {strings.ToUpper(a.asDevice().client), "use-token-auth", a.device},
		"application id with a wildcard":        {"a:" + a.id + ":+/#", a.key, a.token},
		"empty password":                        {a.asDevice().client, "use-token-auth", ""},
		"no user":                               {a.asDevice().client, "", a.device},
	} {
		c, code := s.refused(t, l.packet())
		if !code.IsError() {
			t.Errorf("%s: let in", name)
			c.nc.Close()
		}
	}
	for _, sni := range []string{b.id + ".messaging.localhost", strings.ToUpper(b.id) + ".messaging.localhost", b.id + ".messaging.example.org"} {
		conf := s.TLS()
		conf.ServerName, conf.InsecureSkipVerify = sni, true // the name is the attack
		c := s.dial(t, conf)
		c.send(a.asDevice().packet())
		if ack, ok := c.next().(*mqtt.Connack); ok && !ack.Code.IsError() {
			t.Errorf("our device under the other's host name %s: let in", sni)
		}
	}
	victim.ping() // nobody took it over
	screen.ping()
	s.healthy(t)
}

// refused is try for connections that may also end without an answer.
func (s *site) refused(t *testing.T, p *mqtt.Connect) (*client, mqtt.ReasonCode) {
	c := s.dial(t, nil)
	c.send(p)
	if ack, ok := c.next().(*mqtt.Connack); ok {
		return c, ack.Code
	}
	return c, mqtt.UnspecifiedError
}

// Whatever topics one organisation writes, the other, with the same names, sees
// nothing: no message, retained message, will or share.
func TestTopicsDoNotCrossOrganisations(t *testing.T) {
	s := start(t)
	a, b := s.ours, s.theirs
	screen := s.connect(t, b.asApp().packet())
	for _, f := range []string{"#", "+/#", "iot-2/#", "iot-2/type/+/id/+/evt/+/fmt/+", "iot-2/type/sensor/id/one/evt/x/fmt/json",
		"$share/g/iot-2/type/+/id/+/evt/+/fmt/+", "$SYS/#", a.id + "/#", "+/" + a.id + "/#", "iot-2/type/+/id/+/cmd/+/fmt/+"} {
		if screen.subscribe(1, f) == nil {
			screen = s.connect(t, b.asApp().packet())
		}
	}
	screen.subscribe(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	device := s.connect(t, b.asDevice().packet())
	device.subscribe(1, "iot-2/cmd/+/fmt/+")

	for _, topic := range []string{"iot-2/evt/x/fmt/json", "iot-2/type/sensor/id/one/evt/x/fmt/json", "iot-2/type/sensor/id/one/cmd/x/fmt/json",
		b.id + "/iot-2/type/sensor/id/one/evt/x/fmt/json", "../" + b.id + "/iot-2/evt/x/fmt/json", "iot-2/../" + b.id + "/evt/x/fmt/json",
		"/iot-2/evt/x/fmt/json", "iot-2//evt/x/fmt/json", "$SYS/x", "$share/g/iot-2/evt/x/fmt/json", "iot-2/evt/../fmt/json", "iot-2/evt/%2e%2e/fmt/json"} {
		for _, retain := range []bool{false, true} {
			for _, l := range []login{a.asDevice(), a.asGateway(), a.asApp()} {
				c := s.connect(t, l.packet())
				c.publish(topic, "crossed", retain)
				c.nc.NetConn().Close()
				w := l.packet()
				w.Will = &mqtt.Will{Topic: topic, Payload: []byte("crossed"), QoS: 1, Retain: retain}
				if c, code := s.try(t, w); !code.IsError() {
					c.nc.NetConn().Close() // cut: the will is due
				}
			}
		}
	}
	for _, m := range slices.Concat(screen.ping(), device.ping()) {
		t.Errorf("%q reached the other organisation", m.Topic)
	}
	late := s.connect(t, login{"a:" + b.id + ":late", b.key, b.token}.packet())
	late.subscribe(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	for _, m := range late.ping() {
		t.Errorf("%q is retained in the other organisation", m.Topic)
	}
}

// A will is a message like any other: what a client may not publish it may not
// leave behind either.
func TestWillBypassesACL(t *testing.T) {
	s := start(t)
	app := s.connect(t, s.ours.asApp().packet())
	app.subscribe(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	app.subscribe(1, "iot-2/type/+/id/+/cmd/+/fmt/+")
	for _, topic := range []string{"iot-2/type/sensor/id/two/evt/x/fmt/json", "iot-2/type/hubs/id/hub/cmd/x/fmt/json", "iot-2/cmd/x/fmt/json",
		"iot-2/evt/+/fmt/json", "#", "$SYS/x", "iotdm-1/type/sensor/id/one/x", ""} {
		p := s.ours.asDevice().packet()
		p.Will = &mqtt.Will{Topic: topic, Payload: []byte("bypass"), QoS: 1}
		c, code := s.refused(t, p)
		if !code.IsError() {
			t.Errorf("a will on %q was accepted", topic)
		}
		c.nc.NetConn().Close()
	}
	// The right to it ends before it is due.
	p := s.ours.asDevice().packet()
	p.Properties.SessionExpiry = mqtt.Some(uint32(60))
	p.Will = &mqtt.Will{Topic: "iot-2/evt/late/fmt/json", Payload: []byte("bypass"), QoS: 1, Delay: 1}
	s.connect(t, p).nc.NetConn().Close()
	s.api.Call(http.MethodPatch, "/orgs/"+s.ours.id+"/devices/sensor/one", map[string]bool{"disabled": true}, nil)
	// Another one, of a gateway that may, is due after it.
	p = s.ours.asGateway().packet()
	p.Properties.SessionExpiry = mqtt.Some(uint32(60))
	p.Will = &mqtt.Will{Topic: "iot-2/type/hubs/id/hub/evt/due/fmt/json", Payload: []byte("due"), QoS: 1, Delay: 1}
	s.connect(t, p).nc.NetConn().Close()
	eventually(t, "the will that may be published is", func() bool {
		due := false
		for _, m := range app.ping() {
			if due = strings.Contains(string(m.Topic), "/evt/due/"); !due {
				t.Errorf("a will on %q was published", m.Topic)
			}
		}
		return due
	})
}

// An API key opens nothing of another organisation, on any route, and a refusal
// does not tell what exists there.
func TestAPIKeyOpensOnlyItsOrganisation(t *testing.T) {
	s := start(t)
	a, b := s.ours, s.theirs
	var doc struct {
		Paths map[string]map[string]any
	}
	s.api.Call(http.MethodGet, "/openapi.json", nil, &doc)
	web := s.web(t)
	tried := 0
	for path, methods := range doc.Paths {
		if !strings.Contains(path, "{org}") {
			continue
		}
		for method := range methods {
			method = strings.ToUpper(method)
			var answers []string
			for _, names := range [][2]string{{"one", b.key}, {"nobody", "a-" + b.id + "-0000000000"}} {
				at := strings.NewReplacer("{org}", b.id, "{type}", "sensor", "{id}", names[0], "{key}", names[1], "{name}", names[0], "{serial}", "1").Replace(path)
				for _, auth := range []string{basic(a.key, a.token), basic(b.key, a.token), "Bearer " + a.token, "Bearer " + b.token, ""} {
					status, body := web.do(method, at, auth, `{}`)
					tried++
					if status/100 == 2 {
						t.Errorf("%s %s with %.8s…: %d %s", method, at, auth, status, body)
					}
					if auth == basic(a.key, a.token) {
						answers = append(answers, fmt.Sprint(status))
					}
				}
			}
			if answers[0] != answers[1] {
				t.Errorf("%s %s: %v tell what exists", method, path, answers)
			}
		}
	}
	if tried < 100 {
		t.Errorf("only %d requests were tried", tried)
	}
	if status, body := web.do(http.MethodGet, "/orgs", basic(a.key, a.token), ""); strings.Contains(body, b.id) {
		t.Errorf("/orgs: %d %s", status, body)
	}
	if status, body := web.do(http.MethodGet, "/audit", basic(a.key, a.token), ""); strings.Contains(body, b.id) {
		t.Errorf("/audit: %d %s", status, body)
	}
	s.healthy(t)
}

func basic(user, token string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+token))
}

type web struct {
	t      *testing.T
	base   string
	client *http.Client
}

func (s *site) web(t *testing.T) *web {
	tr := &http.Transport{TLSClientConfig: s.TLS()}
	t.Cleanup(tr.CloseIdleConnections)
	return &web{t, fmt.Sprintf("https://localhost:%d/api/v1", s.HTTPSPort), &http.Client{Transport: tr, Timeout: patience}}
}

func (w *web) do(method, path, auth, body string) (int, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	res, err := w.client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	return res.StatusCode, string(b)
}

// Two API keys of one organisation that connect with the same client identifier
// have a session each: neither inherits the other's messages.
func TestSessionTakeoverBetweenPrincipals(t *testing.T) {
	s := start(t)
	var second struct{ Key, Token string }
	s.api.Call(http.MethodPost, "/orgs/"+s.ours.id+"/apps", map[string]string{"name": "second"}, &second)
	as := func(key, token string) *mqtt.Connect {
		p := login{s.ours.asApp().client, key, token}.packet()
		p.CleanStart = false
		p.Properties.SessionExpiry = mqtt.Some(uint32(60))
		return p
	}
	first := s.connect(t, as(s.ours.key, s.ours.token))
	first.subscribe(1, "iot-2/type/+/id/+/evt/+/fmt/+")
	intruder := s.dial(t, nil)
	intruder.send(as(second.Key, second.Token))
	ack, ok := intruder.next().(*mqtt.Connack)
	if !ok {
		t.Fatal("no CONNACK")
	}
	if ack.SessionPresent {
		t.Error("it was given the other's session")
	}
	d := s.connect(t, s.ours.asDevice().packet())
	if code := d.publish("iot-2/evt/x/fmt/json", "{}", false); code.IsError() {
		t.Fatal(code)
	}
	if got := first.ping(); len(got) != 1 {
		t.Errorf("the owner received %d messages, want 1", len(got))
	}
	if !ack.Code.IsError() && len(intruder.ping()) != 0 {
		t.Error("the other received a message")
	}
}
