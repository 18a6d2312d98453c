package broker

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/topic"
)

// lookout is a Guard that refuses what says so, and writes down what it was
// asked: "c" for Check, "a" for Admit and "h" when that was handed over.
type lookout struct {
	mu   sync.Mutex // guards the fields below
	log  string
	late bool // refuses with Admit only
}

func (l *lookout) note(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log += s
}

func (l *lookout) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.log
	l.log = ""
	return s
}

func (l *lookout) verdict(m *engine.Message) error {
	if strings.Contains(string(m.Payload), "bad") {
		return errs.E(errs.Denied, "it says so")
	}
	return nil
}

func (l *lookout) Check(_ context.Context, m *engine.Message) error {
	l.note("c")
	if l.late {
		return nil
	}
	return l.verdict(m)
}

func (l *lookout) Admit(_ context.Context, m *engine.Message) (func(), error) {
	l.note("a")
	if err := l.verdict(m); err != nil {
		return nil, err
	}
	return func() { l.note("h") }, nil
}

func guarded(s *auth.Spec) { s.Guarded = []topic.Filter{filter("g/+")} }

// A message on a guarded topic is looked at where permission is asked and again
// when it is published, whatever its quality of service; any other is not.
func TestGuard(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		for _, late := range []bool{false, true} {
			l := &lookout{late: late}
			w := start(t, func(c *Config) { c.Guard = l })
			w.dir.add(testOrg, "careful", guarded)
			sub := w.connect(v, "sub", nil)
			sub.sub("#", 0)
			connect := func() *client {
				return w.connect(v, "pub", func(p *mqtt.Connect) { as(p, testOrg, "careful") })
			}
			c := connect()
			c.publish("free", "bad")
			sub.receive("free", "bad")
			for range 2 { // what is remembered of a name changes nothing
				c.publish("g/x", "good")
				sub.receive("g/x", "good")
			}
			c.send(pub("g/x", "good too", 0, 0))
			sub.receive("g/x", "good too")
			if got := l.take(); got != "cahcahcah" {
				t.Errorf("asked %q", got)
			}
			for qos := range byte(3) {
				c.send(pub("g/x", "bad", qos, uint16(qos)))
				if v < mqtt.V5 {
					c.closed()
					c = connect()
					continue
				}
				if qos > 0 {
					c.expectAck(replyTo[qos], uint16(qos), mqtt.NotAuthorized)
				}
				c.ping()
			}
			if got, want := l.take(), map[bool]string{false: "ccc", true: "cacaca"}[late]; got != want {
				t.Errorf("asked %q about refused messages, want %q", got, want)
			}
			sub.ping() // nothing came through
		}
	})
}

// Without a Guard, what has to be looked at is refused, and so is a will.
func TestNobodyGuards(t *testing.T) {
	w := start(t, nil)
	w.dir.add(testOrg, "careful", guarded)
	careful := func(p *mqtt.Connect) { as(p, testOrg, "careful") }
	c := w.connect(mqtt.V5, "pub", careful)
	c.send(pub("g/x", "good", 1, 1))
	c.expectAck(mqtt.PUBACK, 1, mqtt.NotAuthorized)
	c.publish("free", "good")
	_, ack := w.try(hello(mqtt.V5, "c", func(p *mqtt.Connect) {
		careful(p)
		p.Will = &mqtt.Will{Topic: "g/x"}
	}))
	if ack.Code != mqtt.NotAuthorized {
		t.Errorf("will: %v", ack.Code)
	}
}

// A will on a guarded topic is looked at when it is made and when it is due.
func TestGuardedWill(t *testing.T) {
	l := &lookout{}
	w := start(t, func(c *Config) { c.Guard = l })
	w.dir.add(testOrg, "careful", guarded)
	sub := w.connect(mqtt.V5, "sub", nil)
	sub.sub("#", 0)
	will := func(payload string) *mqtt.Connect {
		return hello(mqtt.V5, "c", func(p *mqtt.Connect) {
			as(p, testOrg, "careful")
			p.Will = &mqtt.Will{Topic: "g/x", Payload: []byte(payload)}
		})
	}
	if _, ack := w.try(will("bad")); ack.Code != mqtt.NotAuthorized {
		t.Errorf("bad will: %v", ack.Code)
	}
	l.take()
	c, ack := w.try(will("good"))
	if ack.Code != mqtt.Success {
		t.Fatalf("good will: %v", ack.Code)
	}
	c.cut()
	sub.receive("g/x", "good")
	if got := l.take(); got != "cah" {
		t.Errorf("asked %q", got)
	}
	l.mu.Lock()
	l.late = true // allowed at CONNECT, and not any more when it is due
	l.mu.Unlock()
	if c, ack = w.try(will("bad")); ack.Code != mqtt.Success {
		t.Fatalf("will: %v", ack.Code)
	}
	c.cut()
	eventually(t, "the will is looked at", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.log == "ca" })
	sub.ping()
}
