package security

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A homestead is an organisation of the home profile.
type homestead struct {
	s      *site
	id     string
	prefix string
}

func (s *site) homestead(options map[string]any) *homestead {
	var made struct{ ID string }
	s.api.Call(http.MethodPost, "/orgs", map[string]any{"name": "Home", "profile": "home", "home": options}, &made)
	h := &homestead{s: s, id: made.ID}
	if options["prefix"] == true {
		h.prefix = h.id + "/"
	}
	return h
}

func (h *homestead) user(name, role string) login {
	var made struct{ Password string }
	h.s.api.Call(http.MethodPost, "/orgs/"+h.id+"/users", map[string]any{"name": name, "role": role}, &made)
	return login{client: name, user: h.id + "/" + name, password: made.Password}
}

func metadata(root, provider string) string {
	return fmt.Sprintf(`{"name":"n","type":"lightbulb","features":{"on":{}},"root":%q,"providerID":%q}`, root, provider)
}

// codes checks which code each publish gets; all are retained.
func (c *client) codes(t *testing.T, prefix string, want map[[2]string]mqtt.ReasonCode) {
	t.Helper()
	for p, code := range want {
		if got := c.publish(prefix+p[0], p[1], true); got != code {
			t.Errorf("%s %.40q: %v, want %v", p[0], p[1], got, code)
		}
	}
}

// No user of a home speaks for another: neither where its devices speak, nor by
// taking their ids, nor by metadata that two readers understand differently, nor
// with a will. With the prefix of a tenant it is the same, and without it nothing
// is there.
func TestHomeOwnership(t *testing.T) {
	s := start(t)
	for _, options := range []map[string]any{{}, {"prefix": true}, {"v0": true}} {
		h := s.homestead(options)
		ann, eve, actor := h.user("ann", "provider"), h.user("eve", "bridge"), h.user("watch", "actor")
		watch := s.connect(t, actor.packet())
		watch.subscribe(1, h.prefix+"#")
		good := s.connect(t, ann.packet())
		for _, p := range [][2]string{{"provider/p", "{}"}, {"device/lamp", metadata("ann/lamp", "p")}, {"current/ann/lamp/on", "1"}} {
			if code := good.publish(h.prefix+p[0], p[1], true); code != mqtt.Success {
				t.Fatalf("%v %s: %v", options, p[0], code)
			}
		}
		watch.ping()
		evil := s.connect(t, eve.packet())
		const no = mqtt.NotAuthorized
		evil.codes(t, h.prefix, map[[2]string]mqtt.ReasonCode{
			{"current/ann/lamp/on", "0"}: no, {"current/ann", "x"}: no, {"device/lamp", metadata("eve/lamp", "")}: no, {"device/lamp", ""}: no,
			{"provider/p", ""}: no, {"provider/p", "{}"}: no, {"provider/lamp", "{}"}: no, {"device/p", metadata("eve/x", "")}: no,
			{"device/new", metadata("ann/lamp", "")}: no, {"device/new", metadata("annabel/x", "")}: no, {"device/new", `{"root":"ann/lamp","root":"eve/x"}`}: no,
			{"device/new", `{"root":"eve/x","ROOT":"ann/lamp"}`}: no, {"device/new", `{"root":"eve/+"}`}: no, {"device/new", "\x00"}: no, {"device/new/x", metadata("eve/x", "")}: no,
			{"announce/ann/x", "{}"}: no, {"ann/lamp/on/get", "1"}: no, {"leave", "ann/lamp"}: no, {"device", "x"}: no,
		})
		if h.prefix != "" {
			evil.codes(t, "", map[[2]string]mqtt.ReasonCode{{"device/lamp", metadata("eve/x", "")}: no, {"current/eve/x", "1"}: no, {"desired/ann/lamp/on", "1"}: no})
			if codes := evil.subscribe(1, "#"); codes[0] < 0x80 {
				t.Errorf("%v: subscribes outside of its prefix", options)
			}
		}
		for _, w := range []mqtt.Will{
			{Topic: "current/ann/lamp/on", Payload: []byte("0")}, {Topic: "device/lamp", Retain: true}, {Topic: "provider/p", Retain: true},
			{Topic: "device/new", Payload: []byte(metadata("ann/x", "")), Retain: true}, {Topic: "device/new", Payload: []byte(metadata("eve/x", ""))},
			{Topic: "leave", Payload: []byte("ann")},
		} {
			p := named(eve.packet(), "will")
			w.Topic = h.prefix + w.Topic
			p.Will = &w
			if _, code := s.refused(t, p); code != no {
				t.Errorf("%v: will on %s: %v", options, w.Topic, code)
			}
		}
		// What is its own goes, and the device is still ann's.
		if code := evil.publish(h.prefix+"device/own", metadata("eve/x", ""), true); code != mqtt.Success {
			t.Errorf("%v: its own device: %v", options, code)
		}
		for _, m := range watch.ping() {
			if string(m.Topic) != h.prefix+"device/own" {
				t.Errorf("%v: %s %q went through", options, m.Topic, m.Payload)
			}
		}
		if code := good.publish(h.prefix+"device/lamp", metadata("ann/other", "p"), true); code != mqtt.Success {
			t.Errorf("%v: ann's own device: %v", options, code)
		}
		// An actor is nobody's device, and a provider reads what it is told and no more.
		watch.codes(t, h.prefix, map[[2]string]mqtt.ReasonCode{
			{"current/ann/lamp/on", "0"}: no, {"current/watch/x", "0"}: no, {"device/x", metadata("watch/x", "")}: no, {"provider/x", "{}"}: no,
			{"desired/ann/lamp/on", "1"}: mqtt.Success, {"desired/eve/x/on", "1"}: mqtt.Success,
		})
		for f, ok := range map[string]bool{"desired/ann/#": true, "desired/#": true, "#": true, "desired/eve/#": false, "current/#": false, "device/lamp": false, "provider/+": false} {
			if f == "#" && h.prefix != "" {
				continue
			}
			if codes := good.subscribe(1, h.prefix+f); (codes[0] < 0x80) != ok {
				t.Errorf("%v: a provider subscribes to %s: %v", options, f, codes)
			}
		}
		watch.publish(h.prefix+"desired/eve/x/on", "0", false)
		watch.publish(h.prefix+"desired/ann/lamp/on", "0", false)
		for _, m := range good.ping() {
			if string(m.Topic) != h.prefix+"desired/ann/lamp/on" {
				t.Errorf("%v: a provider got %s", options, m.Topic)
			}
		}
	}
}

// Whoever gives no name is let in only where a home says so, reads what devices
// say, publishes nothing and leaves nothing, a will least of all; and is gone as
// soon as the home says otherwise.
func TestHomeAnonymous(t *testing.T) {
	s := start(t)
	h := s.homestead(map[string]any{"anonymous": true})
	closed := s.homestead(map[string]any{})
	tenant := s.homestead(map[string]any{"prefix": true})
	plain := s.house()
	nameless := func(org string) *mqtt.Connect {
		return &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 600, ClientID: "same", Username: mqtt.Some(org + "/")}
	}
	for _, org := range []string{closed.id, tenant.id, plain.id, s.ours.id, "nope00"} {
		if _, code := s.refused(t, nameless(org)); code != mqtt.BadUserNameOrPassword {
			t.Errorf("%s: %v", org, code)
		}
	}
	ann := s.connect(t, h.user("ann", "provider").packet())
	ann.publish("device/lamp", metadata("ann/lamp", ""), true)
	p := nameless(h.id)
	p.Will = &mqtt.Will{Topic: "current/ann/lamp/on", Payload: []byte("0")}
	if _, code := s.refused(t, p); code != mqtt.NotAuthorized {
		t.Errorf("a will: %v", code)
	}
	one, two := s.connect(t, lasting(nameless(h.id))), s.connect(t, nameless(h.id)) // of one client id, and neither ends the other
	for _, c := range []*client{one, two} {
		if codes := c.subscribe(1, "current/#", "device/#", "desired/#", "desired/ann/#"); codes[0] >= 0x80 || codes[1] >= 0x80 || codes[3] < 0x80 {
			t.Errorf("subscribes: %v", codes)
		}
		for _, s := range []string{"desired/ann/lamp/on", "current/ann/lamp/on", "device/x", "provider/x", "x"} {
			if code := c.publish(s, "1", false); code != mqtt.NotAuthorized {
				t.Errorf("%s: %v", s, code)
			}
		}
	}
	h.s.connect(t, h.user("watch", "actor").packet()).publish("desired/ann/lamp/on", "1", false)
	ann.publish("current/ann/lamp/on", "1", false)
	for _, c := range []*client{one, two} {
		for _, m := range c.ping() {
			if s := string(m.Topic); s != "device/lamp" && s != "current/ann/lamp/on" {
				t.Errorf("got %s", s)
			}
		}
	}
	s.api.Call(http.MethodPatch, "/orgs/"+h.id, map[string]any{"home": map[string]any{"anonymous": false}}, nil)
	one.ended()
	two.ended()
	if _, code := s.refused(t, nameless(h.id)); code != mqtt.BadUserNameOrPassword {
		t.Errorf("afterwards: %v", code)
	}
}

// A change of role acts on who is connected: the rights of the old one are gone,
// the subscriptions too.
func TestHomeRoleIsTakenAway(t *testing.T) {
	s := start(t)
	h := s.homestead(nil)
	bob := s.connect(t, h.user("bob", "bridge").packet())
	if codes := bob.subscribe(1, "current/#"); codes[0] >= 0x80 {
		t.Fatal(codes)
	}
	if code := bob.publish("device/lamp", metadata("bob/lamp", ""), true); code != mqtt.Success {
		t.Fatal(code)
	}
	s.api.Call(http.MethodPatch, "/orgs/"+h.id+"/users/bob", map[string]any{"role": "provider"}, nil)
	for end := time.Now().Add(patience); bob.publish("desired/x/y", "1", false) == mqtt.Success; {
		if time.Now().After(end) {
			t.Fatal("a bridge that is a provider now still gives orders")
		}
	}
	if code := bob.publish("device/lamp", metadata("bob/lamp", ""), true); code != mqtt.Success {
		t.Errorf("its own device: %v", code)
	}
	ann := s.connect(t, h.user("ann", "provider").packet())
	ann.publish("current/ann/x", "1", false)
	for _, m := range bob.ping() {
		t.Errorf("got %s", m.Topic)
	}
}
