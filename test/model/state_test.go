package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// identity names a session: an organisation, one of its users, and the client
// identifier that the user chose.
type identity struct {
	org    auth.OrgID
	user   string
	client string
}

func (i identity) String() string { return fmt.Sprintf("%s/%s:%s", i.org, i.user, i.client) }

// A message is an application message inside an organisation.
type message struct {
	text    string // tells messages apart, unless it is empty
	org     auth.OrgID
	topic   string
	qos     byte
	retain  bool
	carried mqtt.Carried
	expires time.Time // zero: never
	from    identity
	order   int
	twice   bool     // sent again by its publisher, and nobody knows what became of the first time
	bare    bool     // with other properties the second time: its lifetime began again, or its client spoke an older version
	entries []*entry // who is to get it
	choices []*choice
}

func (m *message) String() string {
	expires := "never"
	if !m.expires.IsZero() {
		expires = m.expires.Format(time.TimeOnly)
	}
	return fmt.Sprintf("%.12q on %s qos%d retain=%v from %v, expires %s", m.text, m.topic, m.qos, m.retain, m.from, expires)
}

func (m *message) expired(at time.Time) bool { return !m.expires.IsZero() && !at.Before(m.expires) }

// left is the Message Expiry Interval at some time; 0: there is none.
func (m *message) left(at time.Time) uint32 {
	if m.expires.IsZero() {
		return 0
	}
	return uint32((max(m.expires.Sub(at), 0) + time.Second - 1) / time.Second)
}

// A choice is one message for one group: one of the members gets it.
type choice struct {
	group string
	must  bool
	taken bool
	void  bool // it may have gone to a member that will never show it
	loose bool // a member got one that may have been for another group
	left  int  // members that may still show it
}

// An entry is a message that is owed to a session.
type entry struct {
	s      *session
	m      *message
	qos    byte
	plain  bool // RETAIN may be 0
	kept   bool // RETAIN may be 1
	ids    []uint32
	queued bool // it outlives the connection
	stored bool // it is a retained message that a subscription brought
	must   bool // it has to arrive
	doubt  bool // it will not have to, whatever its publisher hears
	extra  int  // copies that may follow it
	choice *choice
	filter []string // of the subscriptions behind it

	order   int   // in which the session got it
	born    *conn // which held the session then
	offered bool  // it may have been sent: DUP may be set
	phase   phase
	back    phase // when it was done: where it stood before
	both    bool  // sent twice by its publisher: the session was to get it each time
	pid     uint16
	on      *conn // where it was seen last
	arrived int   // order in which the client first saw it
}

// phase is how far a delivery has come, as the client sees it.
type phase byte

const (
	waiting  phase = iota
	seen           // PUBLISH was received
	answered       // QoS 2: PUBREC was sent
	released       // QoS 2: PUBREL was received
	done           // PUBACK or PUBCOMP was sent, or it was given up
)

func (e *entry) String() string {
	return fmt.Sprintf("%v to %v at qos%d order %d phase %d pid %d must=%v queued=%v stored=%v", e.m, e.s.id, e.qos, e.order, e.phase, e.pid, e.must, e.queued, e.stored)
}

type subKey struct{ group, filter string }

// A subscription of a session.
type subscription struct {
	subKey
	qos     byte
	noLocal bool
	rap     bool
	id      uint32
}

// A session as the server must have it.
type session struct {
	id         identity
	uid        int
	persistent bool
	expiry     time.Duration // forever if negative
	closed     time.Time
	conn       *conn // who holds it; nil: nobody
	subs       map[subKey]*subscription
	queue      []*entry // not done
	finished   []*entry // done; a power cut may bring them back
	will       *will    // waits for its time
}

// A will that waits to be published.
type will struct {
	id     identity
	uid    int
	m      message
	expiry time.Duration // of the message; 0: none
	delay  time.Duration
	due    time.Time
	must   bool
}

// versions are what the retained message of a topic may be: the last one is
// meant, those before it are possible after a power cut. One without text is none.
type versions []*message

// matches is the model's own idea of a topic filter (4.7).
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (filter[0] == '+' || filter[0] == '#') {
		return false // [MQTT-4.7.2-1]
	}
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t), level != "+" && level != t[i]:
			return false
		}
	}
	return len(f) == len(t) || len(f) == len(t)+1 && f[len(t)] == "#"
}

// all returns the sessions, in an order that is the same in each run.
func (w *world) all() []*session {
	return slices.SortedFunc(maps.Values(w.sessions), func(a, b *session) int { return cmp.Compare(a.id.String(), b.id.String()) })
}

func (w *world) sessionsOf(org auth.OrgID) []*session {
	return slices.DeleteFunc(w.all(), func(s *session) bool { return s.id.org != org })
}

// route notes who is to get m. must says that it is certain to be published;
// otherwise settled entries become certain with accept. publisher is nil for wills.
func (w *world) route(m *message, publisher *session, must bool) {
	w.order++
	m.order = w.order
	groups := map[string][]*entry{}
	for _, s := range w.sessionsOf(m.org) {
		var normal *entry
		for _, k := range slices.SortedFunc(maps.Keys(s.subs), func(a, b subKey) int { return cmp.Compare(a.group+" "+a.filter, b.group+" "+b.filter) }) {
			sub := s.subs[k]
			if !matches(k.filter, m.topic) || sub.noLocal && s == publisher {
				continue
			}
			if k.group != "" {
				if e := w.newEntry(s, m, sub); e != nil {
					name := strings.Join([]string{s.id.user, k.group, k.filter}, " ")
					groups[name] = append(groups[name], e)
				}
				continue
			}
			if normal == nil {
				normal = w.newEntry(s, m, sub)
			} else {
				normal.merge(m, sub)
			}
		}
		if normal != nil && normal.fit() {
			w.owe(normal, must)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		w.choose(name, m, groups[name], must)
	}
	if m.retain {
		w.retain(m, must)
	}
}

// newEntry is what one subscription makes of a message. It may be unfit.
func (w *world) newEntry(s *session, m *message, sub *subscription) *entry {
	e := &entry{s: s, m: m, qos: min(m.qos, sub.qos), filter: []string{sub.filter}}
	e.plain, e.kept = !m.retain || !sub.rap, m.retain && sub.rap
	if sub.id != 0 {
		e.ids = []uint32{sub.id}
	}
	return e
}

// merge adds another subscription of the same session [MQTT-3.3.4-2, MQTT-3.3.4-3].
func (e *entry) merge(m *message, sub *subscription) {
	e.qos = max(e.qos, min(m.qos, sub.qos))
	e.plain, e.kept = e.plain || !sub.rap, e.kept || m.retain && sub.rap
	e.filter = append(e.filter, sub.filter)
	if sub.id != 0 {
		e.ids = append(e.ids, sub.id)
	}
}

// fit reports whether the session can get the entry at all.
func (e *entry) fit() bool {
	e.queued = e.s.persistent && e.qos > 0
	return e.queued || e.s.conn != nil
}

// owe adds an entry to its session.
func (w *world) owe(e *entry, must bool) {
	if e.m.twice && e.choice == nil {
		for _, old := range e.m.entries {
			switch {
			case old.s != e.s || old.stored || old.choice != nil:
			case old.phase == waiting && old.same(e) && w.sessions[e.s.id] == e.s && slices.Contains(e.s.queue, old):
				old.both = true
				if e.m.qos == 1 {
					old.extra++
				}
				return
			case e.m.qos == 2 && old.phase != waiting:
				return // it has come, once
			}
		}
		e.both = e.m.qos == 1
	}
	if w.shaky {
		must = must && e.queued
		e.offered = true
	}
	w.seq++
	e.order, e.must, e.born = w.seq, must, e.s.conn
	e.s.queue = append(e.s.queue, e)
	e.m.entries = append(e.m.entries, e)
	e.offered = e.offered || e.s.conn != nil && (!e.s.conn.reading || w.racing)
}

// same reports whether two entries of a session look the same to its client.
func (e *entry) same(o *entry) bool {
	return e.qos == o.qos && e.plain == o.plain && e.kept == o.kept && slices.Equal(e.ids, o.ids)
}

// choose owes a message to one of the members of a group: one that is connected,
// if there is one.
func (w *world) choose(name string, m *message, members []*entry, must bool) {
	var held, away []*entry
	for _, e := range members {
		if !e.fit() {
			continue
		}
		if e.s.conn != nil {
			held = append(held, e)
		} else {
			away = append(away, e)
		}
	}
	if len(held) == 0 || w.shaky {
		held = append(held, away...)
	}
	if len(held) == 0 {
		return
	}
	c := &choice{group: name, must: must, void: w.shaky, left: len(held)}
	for _, old := range m.choices {
		if old.group == name {
			c.void, old.void = true, true // sent before: both or either
			if m.qos == 2 && old.taken {
				return
			}
		}
	}
	m.choices = append(m.choices, c)
	for _, e := range held {
		e.choice = c
		w.owe(e, false)
	}
}

// accept makes a message certain: the server has acknowledged it.
func (w *world) accept(m *message) {
	for _, e := range m.entries {
		if e.choice == nil && e.phase == waiting && !e.doubt && (e.queued || e.s.conn != nil && !e.s.conn.over) && (!m.twice || e.both) && !m.bare {
			e.must = true
		}
	}
	for _, c := range m.choices {
		c.must = !m.twice && !m.bare
	}
	if m.retain {
		w.retain(m, true)
	}
}

// refuse takes a message back: the server has refused it.
func (w *world) refuse(m *message) {
	for _, e := range m.entries {
		if e.phase != waiting {
			w.failf("a message that was refused is delivered: %v", e)
		}
		e.s.drop(e)
	}
	m.entries, m.choices = nil, nil
}

// retain makes m the retained message of its topic.
func (w *world) retain(m *message, sure bool) {
	key := string(m.org) + " " + m.topic
	v := w.retained[key]
	if len(v) == 0 {
		v = versions{&message{}}
	}
	i := slices.Index(v, m)
	if i < 0 {
		i = len(v)
		v = append(slices.Clone(v), m)
	}
	if sure && m.qos > 0 && !w.jumbled {
		v = v[i:]
	}
	w.retained[key] = v
}

// kept returns the retained message of a topic, or nil.
func (w *world) kept(org auth.OrgID, topic string) *message {
	v := w.retained[string(org)+" "+topic]
	if len(v) == 0 {
		return nil
	}
	m := v[len(v)-1]
	if m.text == "" || m.expired(time.Now()) { // [MQTT-3.3.1-6]
		return nil
	}
	return m
}

// drop takes an entry that will not be seen (any more) out of the queue.
func (s *session) drop(e *entry) {
	if i := slices.Index(s.queue, e); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
}

// give up an entry: it does not come, because of what the server found out about
// this session only. The group it was for may have lost it.
func (s *session) giveUp(e *entry) {
	s.drop(e)
	if e.choice != nil {
		e.choice.void = true
	}
	if e.queued {
		e.offered, e.back = true, e.phase
		s.finished = append(s.finished, e)
	}
}

// finish notes that the client has done its part. back is where the delivery
// stands again if a power cut undoes that.
func (s *session) finish(e *entry, back phase) {
	e.phase, e.back = done, back
	s.drop(e)
	if e.queued {
		s.finished = append(s.finished, e)
	}
}

// endSession ends a session for good.
func (w *world) endSession(s *session) {
	if w.sessions[s.id] != s {
		return
	}
	for _, e := range s.queue {
		if e.choice != nil && e.phase == waiting {
			e.choice.void = true
		}
	}
	s.queue, s.finished = nil, nil
	delete(w.sessions, s.id)
	if s.will != nil { // the end of the session is the latest time for it [MQTT-3.1.3-9]
		wl := s.will
		s.will = nil
		w.publishWill(wl)
	}
}

// publishWill publishes a will, if its owner may do so now.
func (w *world) publishWill(wl *will) {
	u := w.user(wl.id)
	if u.gone || u.refused || u.uid != wl.uid || !u.allows(wl.m.topic) || wl.m.retain && !u.retain {
		w.logf("  the will of %v is not allowed", wl.id)
		return
	}
	m := wl.m
	if wl.expiry > 0 {
		m.expires = time.Now().Add(wl.expiry)
	}
	w.logf("  the will of %v is due: %v", wl.id, &m)
	w.route(&m, nil, wl.must)
	if m.retain {
		w.retain(&m, wl.must)
	}
}

// next returns when something happens by itself, and what.
func (w *world) next() (at time.Time, run func()) {
	sooner := func(t time.Time, f func()) {
		if at.IsZero() || t.Before(at) {
			at, run = t, f
		}
	}
	for _, s := range w.all() {
		if s.will != nil {
			sooner(s.will.due, func() {
				wl := s.will
				s.will = nil
				w.publishWill(wl)
			})
		}
		if s.conn == nil && s.expiry >= 0 {
			sooner(s.closed.Add(s.expiry), func() {
				w.logf("  session %v expires", s.id)
				w.endSession(s)
			})
		}
		if c := s.conn; c != nil && c.keepAlive > 0 {
			sooner(c.spoke.Add(c.keepAlive+c.keepAlive/2), func() {
				w.logf("  keep alive of %v", c)
				w.end(c, dropped, mqtt.KeepAliveTimeout)
			})
		}
	}
	return at, run
}
