package model

import (
	"slices"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// pass lets time pass. What happens by itself meanwhile happens in its order.
func (w *world) pass(d time.Duration) {
	// An odd time, so that nothing happens at the same moment as what the
	// clients do.
	until := time.Now().Add(d + 137*time.Millisecond)
	w.logf("%v pass, until %s", d, until.Format(time.TimeOnly))
	for time.Now().Before(until) {
		step := until
		for _, c := range w.conns {
			if c.keepAlive > 0 && c.reading && !c.over {
				w.ping(c)
				step = time.Now().Add(min(time.Until(step), 3*time.Second+time.Millisecond))
			}
		}
		if at, run := w.next(); run != nil && at.Before(step) {
			step = at
		}
		time.Sleep(time.Until(step))
		w.jumbled = true
		n := 0
		for at, run := w.next(); run != nil && !at.After(step); at, run = w.next() {
			run()
			n++
		}
		w.jumbled = false
		w.settle()
		if n > 0 {
			w.probe(true)
		}
	}
}

func (w *world) ping(c *conn) {
	c.send(&mqtt.Pingreq{})
	c.expect("PINGREQ", mqtt.PINGRESP, 0, func(mqtt.Packet) {})
}

// restart stops the server and starts it again.
func (w *world) restart() {
	w.logf("restart")
	total.restarts.Add(1)
	w.shaky, w.jumbled = true, true
	for _, c := range slices.Clone(w.conns) {
		w.end(c, dropped, mqtt.ServerShuttingDown)
	}
	w.stop()
	synctest.Wait()
	w.absorb()
	w.shaky, w.jumbled = false, false
	for _, s := range w.all() {
		s.finished = nil // all of it is on disk
	}
	w.ghosts = nil
	w.open()
	w.settle()
	w.probe(true)
}

// powerCut cuts the power and starts the server again.
func (w *world) powerCut() {
	w.logf("power cut")
	total.crashes.Add(1)
	w.crash()
	for _, c := range w.conns {
		c.over, c.codes = true, []mqtt.ReasonCode{anyCode}
	}
	synctest.Wait()
	w.absorb()
	now := time.Now()
	var due []*will
	for _, s := range w.all() {
		c := s.conn
		s.undo(nil)
		if c == nil {
			continue
		}
		w.letGo(s)
		for _, e := range s.queue {
			e.offered = true
		}
		s.closed = now
		if wl := c.will; wl != nil {
			wl.must = s.persistent // nobody waits for that of another
			wl.due = now.Add(wl.delay)
			due = append(due, wl)
			if s.persistent && c.expiry > 0 && wl.delay > 0 {
				s.will = wl
				due = due[:len(due)-1]
			}
		}
		c.d.conn, c.d.owed = nil, nil
		if !s.persistent || c.expiry == 0 {
			w.endSession(s)
		}
	}
	w.jumbled = true
	for _, wl := range append(due, w.ghosts...) {
		w.publishWill(wl)
	}
	w.jumbled, w.ghosts = false, nil
	w.open()
	w.settle()
	w.probe(true)
}

// undo puts what was done, and may not be any more, back into the queue: all
// of it, or what was done on one connection.
func (s *session) undo(on *conn) {
	for _, e := range slices.Clone(s.finished) {
		if on != nil && e.on != on {
			continue
		}
		e.phase, e.must, e.doubt, e.offered, e.on = e.back, false, true, true, nil
		if e.phase >= answered {
			e.phase = released
		}
		s.queue = append(s.queue, e)
		s.finished = slices.DeleteFunc(s.finished, func(o *entry) bool { return o == e })
	}
	slices.SortStableFunc(s.queue, func(a, b *entry) int { return a.order - b.order })
}

// change changes what a user may do.
func (w *world) change(u *user, pick *picker) {
	switch pick.of(6) {
	case 0:
		w.logf("%s is refused: %v", u.login(), !u.refused)
		w.dir.set(u, func() { u.refused = !u.refused })
	case 1:
		w.logf("%s is gone: %v", u.login(), !u.gone)
		w.dir.set(u, func() { u.gone = !u.gone; u.uid++ })
	case 2:
		w.logf("%s is another", u.login())
		w.dir.set(u, func() { u.uid++ })
	default:
		n := pick.of(len(rights))
		w.logf("%s has rights %d", u.login(), n)
		w.dir.set(u, func() { u.rights = n })
	}
	for _, s := range w.sessionsOf(u.org) {
		if s.id.user != u.name {
			continue
		}
		c := s.conn
		if c != nil && (u.gone || u.refused || s.uid != u.uid) {
			w.end(c, dropped, mqtt.NotAuthorized, mqtt.AdministrativeAction)
			continue
		}
		if c == nil {
			continue
		}
		for k := range s.subs {
			if !u.mayHold(filter(k.filter)) {
				w.logf("  %v loses %s", s.id, k.filter)
				w.withdraw(s, k)
			}
		}
	}
	if u.gone {
		for _, s := range w.sessionsOf(u.org) {
			if s.id.user == u.name {
				s.will = nil
				w.endSession(s)
			}
		}
	}
}

// probe looks at what is retained. After a power cut it tells what is.
func (w *world) probe(learn bool) {
	for _, org := range []string{"alpha1", "beta22"} {
		got := w.look(org)
		for _, topic := range topics {
			key := org + " " + topic
			found, v := got[topic], w.retained[key]
			if len(v) == 0 {
				v = versions{&message{}}
			}
			fits := func(m *message) bool {
				if m.text == "" || m.expired(time.Now()) {
					return found.text == ""
				}
				return m.text == found.text && m.left(time.Now()) == found.left
			}
			switch last := v[len(v)-1]; {
			case fits(last):
			case learn && slices.ContainsFunc(v, fits):
			default:
				w.failf("%s: %+v is retained on %s, want %v of %d", org, found, topic, last, len(v))
			}
			if learn {
				i := slices.IndexFunc(v, fits)
				for n := range v {
					if fits(v[n]) {
						i = n
					}
				}
				w.retained[key] = v[i : i+1]
			}
		}
	}
}

// kept is a retained message as somebody sees it.
type kept struct {
	text string
	left uint32 // seconds of its lifetime; 0: it has no end
}

// look returns what is retained in an organisation.
func (w *world) look(org string) map[string]kept {
	d := &device{id: identity{w.dir.users[0].org, "eve", "probe"}}
	d.id.org = w.dir.users[0].org
	if org != string(d.id.org) {
		d.id.org = w.dir.users[2].org
	}
	u := w.user(d.id)
	c := w.dial(d, &mqtt.Connect{Version: mqtt.V5, ClientID: "probe", CleanStart: true, Username: mqtt.Some(u.login()), Password: mqtt.Credential(u.password())})
	d.conn = c
	w.conns = slices.DeleteFunc(w.conns, func(o *conn) bool { return o == c })
	synctest.Wait()
	c.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "#"}, {Filter: "$z/#"}}})
	synctest.Wait()
	c.send(&mqtt.Disconnect{})
	synctest.Wait()
	arrivals, _ := c.take()
	c.raw.Close()
	got := map[string]kept{}
	subscribed := false
	for _, a := range arrivals {
		switch p := a.p.(type) {
		case *mqtt.Suback:
			subscribed = true
		case *mqtt.Publish:
			if _, twice := got[string(p.Topic)]; twice || !p.Retain {
				w.failf("look at what is retained: %q on %s, retain=%v", p.Payload, p.Topic, p.Retain)
			}
			got[string(p.Topic)] = kept{string(p.Payload), p.Expiry.Or(0)}
		}
	}
	if !subscribed {
		w.failf("look at what is retained: no SUBACK")
	}
	return got
}
