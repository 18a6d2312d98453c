package security

import (
	"net/http"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// Users of plain organisations with the same names and client identifiers, in
// one organisation or in two, share nothing that is not theirs together.
func TestPlainUsersAreApart(t *testing.T) {
	s := start(t)
	type account struct{ org, name, username, Password string }
	newUser := func(org, name string) account {
		a := account{org: org, name: name, username: org + "/" + name}
		s.api.Call(http.MethodPost, "/orgs/"+org+"/users", map[string]string{"name": name}, &a)
		return a
	}
	var a, b struct{ ID string }
	s.api.Call(http.MethodPost, "/orgs", map[string]string{"name": "A", "profile": "plain"}, &a)
	s.api.Call(http.MethodPost, "/orgs", map[string]string{"name": "B", "profile": "plain"}, &b)
	ann, bob, other := newUser(a.ID, "ann"), newUser(a.ID, "bob"), newUser(b.ID, "ann")
	const id = "same"
	as := func(u account) *mqtt.Connect {
		p := login{id, u.username, u.Password}.packet()
		p.CleanStart = false
		p.Properties.SessionExpiry = mqtt.Some(uint32(60))
		return p
	}
	victim := s.connect(t, as(ann))
	for _, f := range []string{"#", "$share/g/#", "+/+", "/#"} {
		if code := victim.subscribe(1, f); len(code) != 1 || code[0].IsError() {
			t.Fatalf("%s: %v", f, code)
		}
	}
	// The same client identifier of another user is another session.
	for _, u := range []account{bob, other} {
		c := s.dial(t, nil)
		c.send(as(u))
		if ack, ok := c.next().(*mqtt.Connack); !ok || ack.Code != mqtt.Success || ack.SessionPresent {
			t.Fatalf("%s: %+v", u.username, ack)
		}
		c.nc.NetConn().Close()
	}
	victim.ping()
	for name, l := range map[string]login{
		"other organisation's password": {id, ann.username, other.Password},
		"other user's password":         {id, ann.username, bob.Password},
		"other organisation's name":     {id, other.username, ann.Password},
		"no organisation":               {id, "ann", ann.Password},
		"two organisations":             {id, b.ID + "/" + ann.username, ann.Password},
		"climbing":                      {id, b.ID + "/../" + ann.username, ann.Password},
		"wildcard":                      {id, a.ID + "/#", ann.Password},
		"plus":                          {id, "+/ann", ann.Password},
		"percent":                       {"%c", "%u", ann.Password},
		"as a device":                   {"d:" + a.ID + ":sensor:ann", "use-token-auth", ann.Password},
	} {
		if c, code := s.refused(t, l.packet()); !code.IsError() {
			t.Errorf("%s: let in", name)
			c.nc.NetConn().Close()
		}
	}
	c := s.connect(t, login{"writer", other.username, other.Password}.packet())
	for _, topic := range []string{"x", "/x", "a/b", a.ID + "/x", "../" + a.ID + "/x", "//", "$SYS/x", "$share/g/x"} {
		c.send(&mqtt.Publish{Topic: []byte(topic), Payload: []byte("crossed"), Retain: true})
		_ = c.raw((&mqtt.Pingreq{}).Append(nil, mqtt.V5))
		for p := c.next(); p != nil; p = c.next() {
			if _, ok := p.(*mqtt.Pingresp); ok {
				break
			}
		}
		c = s.connect(t, login{"writer", other.username, other.Password}.packet())
	}
	for _, m := range victim.ping() {
		t.Errorf("%q reached the other organisation", m.Topic)
	}
	late := s.connect(t, login{"late", ann.username, ann.Password}.packet())
	late.subscribe(1, "#")
	for _, m := range late.ping() {
		t.Errorf("%q is retained in the other organisation", m.Topic)
	}
}
