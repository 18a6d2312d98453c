package security

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A house is a plain organisation.
type house struct {
	s  *site
	id string
}

func (s *site) house() *house {
	var made struct{ ID string }
	s.api.Call(http.MethodPost, "/orgs", map[string]string{"name": "House", "profile": "plain"}, &made)
	return &house{s, made.ID}
}

// user makes a user with these rules, written as on the command line.
func (h *house) user(name string, rules ...string) login {
	var made struct{ Password string }
	in := map[string]any{"name": name}
	if len(rules) > 0 {
		in["rules"] = parse(rules)
	}
	h.s.api.Call(http.MethodPost, "/orgs/"+h.id+"/users", in, &made)
	return login{client: name, user: h.id + "/" + name, password: made.Password}
}

// rule replaces the rules of a user. The change holds for whoever connects when
// it returns, and soon after for whoever is connected.
func (h *house) rule(name string, rules ...string) {
	h.s.api.Call(http.MethodPatch, "/orgs/"+h.id+"/users/"+name, map[string]any{"rules": parse(rules)}, nil)
}

func parse(rules []string) []map[string]any {
	all := []map[string]any{}
	for _, r := range rules {
		f := strings.Fields(r)
		all = append(all, map[string]any{"deny": f[0] == "deny", "action": f[1], "filter": f[2]})
	}
	return all
}

// lasting has a CONNECT ask for a session that goes on.
func lasting(p *mqtt.Connect) *mqtt.Connect {
	p.CleanStart = false
	p.Properties.SessionExpiry = mqtt.Some(uint32(600))
	return p
}

// named gives a CONNECT another client identifier.
func named(p *mqtt.Connect, client string) *mqtt.Connect {
	p.ClientID = client
	return p
}

// The will of a client that is not let in is nobody's: it is neither published
// nor kept, nor does it take the place of the one that the real client left.
func TestWillOfRefusedClient(t *testing.T) {
	s := start(t)
	h := s.house()
	ann := h.user("ann")
	watcher := s.connect(t, named(ann.packet(), "watcher"))
	watcher.subscribe(1, "#")
	real := lasting(ann.packet())
	real.Will = &mqtt.Will{Topic: "will", Payload: []byte("real"), QoS: 1}
	victim := s.connect(t, real)
	for name, f := range map[string]func(*mqtt.Connect){
		"wrong password":   func(p *mqtt.Connect) { p.Password = []byte("wrong") },
		"nobody":           func(p *mqtt.Connect) { p.Username = mqtt.Some(h.id + "/nobody") },
		"no credentials":   func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Opt[string]{}, nil },
		"forbidden will":   func(p *mqtt.Connect) { p.Will.Topic = "$SYS/x" },
		"unknown method":   func(p *mqtt.Connect) { p.Properties.AuthMethod = mqtt.Some("none") },
		"no such protocol": func(p *mqtt.Connect) { p.Version = 6 },
	} {
		p := ann.packet()
		p.Will = &mqtt.Will{Topic: "will", Payload: []byte(name), QoS: 1, Retain: true}
		f(p)
		c, code := s.refused(t, p)
		if !code.IsError() {
			t.Errorf("%s: let in", name)
		}
		c.nc.NetConn().Close()
	}
	for _, m := range watcher.ping() {
		t.Errorf("the will %q was published", m.Payload)
	}
	victim.nc.NetConn().Close()
	eventuallyGets(t, watcher, "real")
	late := s.connect(t, named(ann.packet(), "late"))
	late.subscribe(1, "#")
	for _, m := range late.ping() {
		t.Errorf("the will %q is retained", m.Payload)
	}
}

// eventuallyGets waits for a message with that payload, and for no other.
func eventuallyGets(t *testing.T, c *client, payload string) *mqtt.Publish {
	t.Helper()
	for {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			if string(p.Payload) != payload {
				t.Errorf("got %q, want %q", p.Payload, payload)
			}
			if p.QoS == 1 {
				c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID})
			}
			return p
		case nil:
			t.Fatalf("the connection ended before %q", payload)
		}
	}
}

// A CONNECT that fails leaves the session it names as it was: neither Clean
// Start, nor a short expiry, nor a takeover takes effect before authentication.
func TestFailedAuthenticationWithCleanStart(t *testing.T) {
	s := start(t)
	h := s.house()
	ann, bob := h.user("ann"), h.user("bob")
	victim := s.connect(t, lasting(ann.packet()))
	victim.subscribe(1, "a")
	attack := func() {
		for name, f := range map[string]func(*mqtt.Connect){
			"wrong password": func(p *mqtt.Connect) { p.Password = []byte("wrong") },
			"no password":    func(p *mqtt.Connect) { p.Password = nil },
			"bob's password": func(p *mqtt.Connect) { p.Password = []byte(bob.password) },
			"no user":        func(p *mqtt.Connect) { p.Username = mqtt.Opt[string]{} },
		} {
			p := ann.packet()
			f(p)
			if c, code := s.refused(t, p); !code.IsError() {
				t.Errorf("%s: let in", name)
				c.nc.NetConn().Close()
			}
		}
		// Somebody else with the same client identifier is let in, to a session of its own.
		c := s.connect(t, named(bob.packet(), ann.client))
		c.send(&mqtt.Disconnect{})
		c.ended()
	}
	attack()
	victim.ping()
	victim.nc.NetConn().Close()
	writer := s.connect(t, bob.packet())
	writer.publish("a", "kept", false)
	attack()
	again := s.dial(t, nil)
	again.send(lasting(ann.packet()))
	if ack, ok := again.next().(*mqtt.Connack); !ok || !ack.SessionPresent {
		t.Fatalf("the session is gone: %+v", ack)
	}
	eventuallyGets(t, again, "kept")
}

// What waits in a session or is in flight when a right is taken away is not sent
// any more, neither for the first time nor again.
func TestInflightResendIgnoresChangedACL(t *testing.T) {
	s := start(t)
	h := s.house()
	ann, bob := h.user("ann"), h.user("bob")
	reader := s.connect(t, lasting(ann.packet()))
	reader.subscribe(2, "secret/#", "open/#")
	writer := s.connect(t, bob.packet())
	for _, topic := range []string{"secret/1", "open/1", "secret/2"} {
		writer.publish(topic, topic, false)
	}
	for range 3 { // they are in flight: nothing is acknowledged
		if _, ok := reader.next().(*mqtt.Publish); !ok {
			t.Fatal("not delivered")
		}
	}
	reader.nc.NetConn().Close()
	writer.publish("secret/3", "secret/3", false)
	h.rule("ann", "allow subscribe #", "allow receive open/#")
	back := s.connect(t, lasting(ann.packet()))
	eventuallyGets(t, back, "open/1")
	for _, m := range back.ping() {
		t.Errorf("%s is sent although it may not be read", m.Topic)
	}
}

// A right that was taken away while a client was absent is gone when its session
// goes on: its subscription shows nothing, and it publishes nothing.
func TestSessionResumeWithStaleRights(t *testing.T) {
	s := start(t)
	h := s.house()
	ann, bob := h.user("ann"), h.user("bob")
	reader := s.connect(t, lasting(ann.packet()))
	reader.subscribe(1, "secret/#", "open/#")
	reader.nc.NetConn().Close()
	h.rule("ann", "allow subscribe open/#", "allow receive open/#")
	back := s.connect(t, lasting(ann.packet()))
	writer := s.connect(t, bob.packet())
	writer.publish("secret/1", "secret", false)
	writer.publish("open/1", "open", false)
	eventuallyGets(t, back, "open")
	for _, m := range back.ping() {
		t.Errorf("%s is sent although it may not be read", m.Topic)
	}
	if code := back.publish("open/1", "x", false); code != mqtt.NotAuthorized {
		t.Errorf("publish: %v", code)
	}
	h.rule("ann", "allow subscribe #", "allow receive #")
	writer.publish("secret/2", "secret", false)
	for _, m := range back.ping() {
		t.Errorf("%s: the subscription came back with the right", m.Topic)
	}
}

// The templates of rules stand for what a client is called and never for more:
// no name, client identifier or topic makes a rule reach further.
func TestACLTemplateCharacters(t *testing.T) {
	s := start(t)
	h := s.house()
	rules := []string{"allow publish of/%u/#", "allow publish by/%c/#", "allow subscribe by/%c/#", "allow receive #"}
	ann := h.user("ann", rules...)
	other := s.connect(t, h.user("other").packet())
	other.subscribe(1, "#")
	for _, id := range []string{"+", "#", "+/+", "a/b", "%u", "%c", "$SYS", "../bob", "by/bob", "ann/#", "bob/../bob", " ", "é", "a+", "+a", "%", "%%u"} {
		c := s.dial(t, nil)
		c.send(named(ann.packet(), id))
		if ack, ok := c.next().(*mqtt.Connack); !ok || ack.Code != mqtt.Success {
			continue
		}
		for _, f := range []string{"by/bob/#", "by/+/#", "by/#", "#", "+/#", "by/%c/#", "by/" + id + "/#"} {
			codes := c.subscribe(1, f)
			if len(codes) == 1 && codes[0] < 0x80 && f != "by/"+id+"/#" {
				t.Errorf("client id %q: may subscribe to %s", id, f)
			}
			if len(codes) == 1 && codes[0] < 0x80 && strings.ContainsAny(id, "+#/%$") {
				t.Errorf("client id %q: stands for more than one level in %s", id, f)
			}
		}
	}
	s.api.Call(http.MethodPatch, "/orgs/"+h.id+"/users/ann", map[string]any{"clients": []string{"desk"}}, nil)
	c := s.connect(t, named(ann.packet(), "desk"))
	for topic, want := range map[string]mqtt.ReasonCode{
		"of/ann/x": mqtt.Success, "by/desk/x": mqtt.Success, "of/bob/x": mqtt.NotAuthorized, "by/ann/x": mqtt.NotAuthorized,
		"of/%u/x": mqtt.NotAuthorized, "by/%c/x": mqtt.NotAuthorized, "of/x": mqtt.NotAuthorized, "of//x": mqtt.NotAuthorized, "OF/ann/x": mqtt.NotAuthorized,
	} {
		if code := c.publish(topic, topic, false); code != want {
			t.Errorf("publish to %s: %v, want %v", topic, code, want)
		}
	}
	for _, m := range other.ping() {
		if topic := string(m.Topic); topic != "of/ann/x" && topic != "by/desk/x" {
			t.Errorf("%s went through", topic)
		}
	}
	for _, name := range []string{"a+b", "#", "%u", "a/b", "$x", "a b", ""} {
		if err := s.api.Do(http.MethodPost, "/orgs/"+h.id+"/users", map[string]any{"name": name}, nil); err == nil {
			t.Errorf("a user may be called %q", name)
		}
		if err := s.api.Do(http.MethodPatch, "/orgs/"+h.id+"/users/ann", map[string]any{"clients": []string{name}}, nil); err == nil && name != "a b" {
			t.Errorf("a user may have the client id %q", name)
		}
	}
}

// With a rule for all users, whoever calls itself by the client identifier that
// belongs to another gets nothing of the other's: neither what it sends, nor what
// is kept for it, nor a will in its name.
func TestPatternWithClientIDOfAnother(t *testing.T) {
	s := start(t)
	h := s.house()
	s.api.Call(http.MethodPatch, "/orgs/"+h.id+"/rules", map[string]any{"rules": parse([]string{
		"allow publish dev/%c/#", "allow subscribe dev/%c/#", "allow receive dev/%c/#", "allow publish of/%u"})}, nil)
	var ann, eve login
	for name, l := range map[string]*login{"ann": &ann, "eve": &eve} {
		*l = h.user(name)
		l.client = name + "-phone"
		s.api.Call(http.MethodPatch, "/orgs/"+h.id+"/users/"+name, map[string]any{"clients": []string{l.client}}, nil)
	}
	if err := s.api.Do(http.MethodPatch, "/orgs/"+h.id+"/users/eve", map[string]any{"clients": []string{ann.client}}, nil); err == nil {
		t.Error("two users have one client id")
	}
	victim := s.connect(t, ann.packet())
	victim.subscribe(1, "dev/"+ann.client+"/#")
	if code := victim.publish("dev/"+ann.client+"/kept", "mine", true); code != mqtt.Success {
		t.Fatalf("its own: %v", code)
	}
	victim.ping()
	for _, id := range []string{ann.client, "+", "#", "ann", "%u", "eve-phone/../ann-phone"} {
		p := named(eve.packet(), id)
		p.Will = &mqtt.Will{Topic: "dev/" + ann.client + "/will", Payload: []byte("forged"), QoS: 1, Retain: true}
		if _, code := s.refused(t, p); !code.IsError() {
			t.Errorf("as %q: let in with a will that is not allowed", id)
		}
		c := s.connect(t, named(eve.packet(), id))
		for _, f := range []string{"dev/" + ann.client + "/#", "dev/+/#", "#"} {
			if codes := c.subscribe(1, f); len(codes) != 1 || codes[0] < 0x80 {
				t.Errorf("as %q: subscribe to %s: %v", id, f, codes)
			}
		}
		if code := c.publish("dev/"+ann.client+"/x", "forged", true); code != mqtt.NotAuthorized {
			t.Errorf("as %q: publish: %v", id, code)
		}
		if code := c.publish("of/eve", "own", false); code != mqtt.Success {
			t.Errorf("as %q: a rule without %%c is gone: %v", id, code)
		}
		c.nc.NetConn().Close()
	}
	for _, m := range victim.ping() {
		t.Errorf("the victim got %s %q", m.Topic, m.Payload)
	}
	c := s.connect(t, eve.packet())
	if code := c.publish("dev/"+eve.client+"/x", "own", false); code != mqtt.Success {
		t.Errorf("as itself: %v", code)
	}
	// A rule that is taken away is gone for whoever is connected.
	s.api.Call(http.MethodPatch, "/orgs/"+h.id+"/rules", map[string]any{"rules": []any{}}, nil)
	for end := time.Now().Add(patience); c.publish("dev/"+eve.client+"/x", "own", false) == mqtt.Success; {
		if time.Now().After(end) {
			t.Fatal("a rule that was taken away goes on")
		}
	}
}

// A topic alias is resolved before it is asked whether the client may publish,
// and stands for a name of one connection only.
func TestAliasResolvedAfterCheck(t *testing.T) {
	s := start(t)
	h := s.house()
	ann := h.user("ann", "allow publish open")
	reader := s.connect(t, h.user("reader").packet())
	reader.subscribe(1, "#")
	send := func(c *client, topic string, alias uint16) mqtt.ReasonCode {
		c.send(&mqtt.Publish{Topic: []byte(topic), TopicAlias: alias, Payload: []byte("x"), QoS: 1, PacketID: 9})
		switch p := c.next().(type) {
		case *mqtt.Ack:
			return p.Code
		case *mqtt.Disconnect:
			return p.Code
		}
		return mqtt.UnspecifiedError
	}
	c := s.connect(t, ann.packet())
	for _, tt := range []struct {
		topic string
		alias uint16
		want  mqtt.ReasonCode
	}{
		{"open", 1, mqtt.Success}, {"", 1, mqtt.Success},
		{"secret", 2, mqtt.NotAuthorized}, {"", 2, mqtt.NotAuthorized}, // the alias is set, and still not allowed
		{"secret", 1, mqtt.NotAuthorized}, {"", 1, mqtt.NotAuthorized}, // what it stood for before does not count
		{"open", 2, mqtt.Success}, {"", 2, mqtt.Success},
	} {
		if code := send(c, tt.topic, tt.alias); code != tt.want {
			t.Errorf("topic %q, alias %d: %v, want %v", tt.topic, tt.alias, code, tt.want)
		}
	}
	got := reader.ping()
	h.rule("ann", "allow publish other")
	eventually(t, "the alias goes with the right", func() bool { return send(c, "", 2) == mqtt.NotAuthorized })
	if code := send(s.connect(t, named(ann.packet(), "second")), "", 2); code != mqtt.ProtocolError && code != mqtt.TopicAliasInvalid {
		t.Errorf("an alias of another connection: %v", code)
	}
	if len(got) != 4 {
		t.Errorf("%d messages went through, want 4", len(got))
	}
	for _, m := range got {
		if string(m.Topic) != "open" {
			t.Errorf("%s went through", m.Topic)
		}
	}
}

// A retained message reaches nobody who may not read its topic, however wide the
// subscription, and whenever the right was taken away.
func TestRetainedPastACL(t *testing.T) {
	s := start(t)
	h := s.house()
	writer := s.connect(t, h.user("writer").packet())
	for _, topic := range []string{"secret", "open", "a/secret"} {
		writer.publish(topic, topic, true)
	}
	narrow := h.user("narrow", "allow subscribe #", "allow receive #", "deny receive secret", "deny receive +/secret")
	for _, f := range []string{"#", "+", "secret", "+/secret", "a/#", "a/secret"} {
		for _, qos := range []byte{0, 1, 2} {
			for _, expiry := range []uint32{0, 600} {
				p := narrow.packet()
				p.Properties.SessionExpiry = mqtt.Some(expiry)
				c := s.connect(t, p)
				c.subscribe(qos, f)
				for _, m := range c.ping() {
					if string(m.Topic) != "open" {
						t.Errorf("%s with QoS %d: %s is sent", f, qos, m.Topic)
					}
				}
			}
		}
	}
	// Queued while it was allowed, read when it is not any more.
	was := h.user("was")
	c := s.connect(t, lasting(was.packet()))
	c.subscribe(1, "#")
	c.nc.NetConn().Close()
	h.rule("was", "allow subscribe #", "allow receive open")
	for _, m := range s.connect(t, lasting(was.packet())).ping() {
		if string(m.Topic) != "open" {
			t.Errorf("%s is sent after the right was taken away", m.Topic)
		}
	}
}

// A shared subscription reads what a plain one may, and nothing else; and it
// takes nothing away from a group of somebody else with the same name.
func TestSharedSubscriptionReadsMore(t *testing.T) {
	s := start(t)
	h := s.house()
	owner := s.connect(t, h.user("owner").packet())
	owner.subscribe(1, "$share/g/secret/#")
	thief := h.user("thief", "allow subscribe open/#", "allow receive open/#")
	c := s.connect(t, thief.packet())
	for _, f := range []string{"$share/g/secret/#", "$share/g/#", "$share/g/+/1", "$share/x/secret/1", "$share/g/$share/g/secret/#",
		"$share/open/#", "$share/open/secret/#", "$share/+/secret/#", "$share/#", "$SHARE/g/secret/#", "$queue/secret/#", "$share//secret/#"} {
		if codes := c.subscribe(1, f); len(codes) == 1 && codes[0] < 0x80 && f != "$share/open/#" {
			t.Errorf("%s is granted", f)
		} else if codes == nil {
			c = s.connect(t, thief.packet())
		}
	}
	wide := s.connect(t, h.user("wide", "allow subscribe #", "allow receive open/#").packet())
	wide.subscribe(1, "$share/g/secret/#") // granted, and shows nothing
	writer := s.connect(t, h.user("writer").packet())
	for range 10 {
		writer.publish("secret/1", "secret", false)
	}
	for name, x := range map[string]*client{"thief": c, "wide": wide} {
		for _, m := range x.ping() {
			t.Errorf("%s reads %s", name, m.Topic)
		}
	}
	if got := owner.ping(); len(got) != 10 {
		t.Errorf("the owner of the group got %d messages, want 10", len(got))
	}
}
