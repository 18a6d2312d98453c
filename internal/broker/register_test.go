package broker

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// clerk is a Registrar over a directory: it lets a user use what begins as the
// topic does, unless that says no.
type clerk struct {
	dir *directory

	mu    sync.Mutex // guards asked
	asked []string
}

func (c *clerk) Register(_ context.Context, ref auth.Ref, inTopic string) error {
	c.mu.Lock()
	c.asked = append(c.asked, inTopic)
	c.mu.Unlock()
	if strings.Contains(inTopic, "no") {
		return errs.E(errs.Denied, "not this one")
	}
	first, _, _ := strings.Cut(inTopic, "/")
	c.dir.set(ref.Principal.Org, ref.Principal.ID, func(u *user) {
		f := filter(first + "/#")
		u.spec.Rules = append(append([]auth.Rule{}, u.spec.Rules...), auth.Rule{Action: auth.Publish, Filter: f}, auth.Rule{Action: auth.Receive, Filter: f})
	})
	return nil
}

func (c *clerk) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := strings.Join(c.asked, " ")
	c.asked = nil
	return s
}

// Who uses a topic that may be registered gets it registered first, and is served
// then; what is refused stays so, and is not asked for again at once.
func TestRegistration(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		desk := &clerk{}
		w := start(t, func(c *Config) {
			desk.dir = c.Verifier.(*directory)
			c.Registrar = desk
		})
		w.dir.add(testOrg, "gateway", func(s *auth.Spec) {
			s.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: filter("+/cmd")}, {Action: auth.Publish, Filter: filter("own/#")}}
			s.Registrable = []auth.Rule{{Action: auth.Publish, Filter: filter("+/evt")}, {Action: auth.Subscribe, Filter: filter("+/cmd")}}
		})
		sub := w.connect(v, "sub", nil)
		sub.sub("#", 1)
		connect := func() *client {
			return w.connect(v, "gateway", func(p *mqtt.Connect) { as(p, testOrg, "gateway") })
		}
		c := connect()
		c.publish("own/evt", "1")
		sub.receive("own/evt", "1")
		c.send(pub("new/evt", "2", 0, 0)) // also without an acknowledgement
		sub.receive("new/evt", "2")
		c.publish("new/evt", "3")
		sub.receive("new/evt", "3")
		c.publish("other/evt", "4")
		sub.receive("other/evt", "4")
		if got := desk.take(); got != "new/evt other/evt" {
			t.Errorf("asked for %q", got)
		}
		for _, s := range []string{"no/evt", "no/evt", "new2/cmd", "new2/x"} {
			c.send(pub(s, "x", 1, 5))
			if v < mqtt.V5 {
				c.closed()
				c = connect()
			} else {
				c.expectAck(mqtt.PUBACK, 5, mqtt.NotAuthorized)
			}
		}
		want := "no/evt"
		if v < mqtt.V5 {
			want = "no/evt no/evt" // by two connections
		}
		if got := desk.take(); got != want {
			t.Errorf("asked for %q", got)
		}
		c.sub("cmds/cmd", 1) // what it subscribes for is registered too
		w.connect(v, "writer", nil).publish("cmds/cmd", "go")
		c.receive("cmds/cmd", "go")
		c.sub("cmds/cmd", 1)
		if got := desk.take(); got != "cmds/cmd" {
			t.Errorf("asked for %q", got)
		}
	})
}

// Where nobody registers, nothing is.
func TestNobodyRegisters(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "gateway", func(s *auth.Spec) {
		s.Rules = nil
		s.Registrable = []auth.Rule{{Action: auth.Publish, Filter: filter("#")}}
	})
	c := w.connect(mqtt.V5, "gateway", func(p *mqtt.Connect) { as(p, testOrg, "gateway") })
	c.send(pub("new/evt", "x", 1, 5))
	c.expectAck(mqtt.PUBACK, 5, mqtt.NotAuthorized)
}
