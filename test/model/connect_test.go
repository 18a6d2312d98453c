package model

import (
	"slices"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// connect connects a device, as pick says. If it is connected, that takes over.
func (w *world) connect(d *device, pick *picker) {
	u := w.user(d.id)
	p := &mqtt.Connect{
		Version: mqtt.V5, ClientID: d.id.client, CleanStart: pick.one(5),
		Username: mqtt.Some(u.login()), Password: mqtt.Credential(u.password()),
	}
	if pick.one(3) {
		p.Version = mqtt.V311
	} else {
		p.Properties.SessionExpiry = mqtt.Some([]uint32{0, 300, 7, 3600, 60}[pick.of(5)])
		if n := []uint16{0, 1, 2, 3, 0, 1}[pick.of(6)]; n > 0 {
			p.Properties.ReceiveMaximum = mqtt.Some(n)
		}
		if n := []uint32{0, 0, 0, 90}[pick.of(4)]; n > 0 {
			p.Properties.MaximumPacketSize = mqtt.Some(n)
		}
		if n := []uint16{0, 2, 10}[pick.of(3)]; n > 0 {
			p.Properties.TopicAliasMaximum = mqtt.Some(n)
		}
	}
	p.KeepAlive = []uint16{0, 0, 10}[pick.of(3)]
	if pick.one(3) {
		p.Will = w.newWill(p.Version, pick)
	}
	w.hello(d, p)
}

func (w *world) newWill(v mqtt.Version, pick *picker) *mqtt.Will {
	will := &mqtt.Will{Topic: topics[pick.of(len(topics))], Payload: []byte(w.text("w", 0)), QoS: byte(pick.of(3)), Retain: pick.one(4)}
	if v >= mqtt.V5 {
		will.Delay = []uint32{0, 5, 30}[pick.of(3)]
		if pick.one(4) {
			will.Expiry = mqtt.Some[uint32](20)
		}
	}
	return will
}

// hello sends CONNECT and notes what has to become of it.
func (w *world) hello(d *device, p *mqtt.Connect) {
	u := w.user(d.id)
	w.logf("connect %v v%v clean=%v expiry=%v window=%v size=%v keep alive=%d will=%v", d.id, p.Version, p.CleanStart,
		p.Properties.SessionExpiry.Or(0), p.Properties.ReceiveMaximum.Or(0), p.Properties.MaximumPacketSize.Or(0), p.KeepAlive, describe(p.Will))
	switch {
	case u.gone || u.refused:
		w.refused(d, p, mqtt.BadUserNameOrPassword)
		return
	case p.Will != nil && !u.allows(p.Will.Topic):
		w.refused(d, p, mqtt.NotAuthorized)
		return
	case p.Will != nil && p.Will.Retain && !u.retain && p.Version >= mqtt.V5:
		w.refused(d, p, mqtt.RetainNotSupported)
		return
	}
	s := w.sessions[d.id]
	if s != nil && s.conn != nil {
		w.end(s.conn, dropped, mqtt.SessionTakenOver)
		s = w.sessions[d.id]
	}
	if s != nil && (p.CleanStart || s.uid != u.uid) {
		w.logf("  session %v is discarded", d.id)
		w.endSession(s)
		s = nil
	}
	c := w.dial(d, p)
	present := s != nil
	if s == nil {
		s = &session{id: d.id, subs: map[subKey]*subscription{}}
		w.sessions[d.id] = s
	}
	c.take5(p)
	s.persistent = s.persistent || c.expiry > 0
	s.uid, s.expiry, s.conn, s.will = u.uid, c.expiry, c, nil
	c.s = s
	if p.Will != nil {
		c.will = w.willOf(d, u, p)
	}
	for k := range s.subs {
		if !u.mayHold(filter(k.filter)) {
			w.withdraw(s, k)
		}
	}
	if d.conn != nil {
		d.conn.leave()
	}
	d.conn, d.owed = c, nil
	c.expect("CONNECT", mqtt.CONNACK, 0, func(p mqtt.Packet) {
		if a := p.(*mqtt.Connack); a.Code != mqtt.Success || a.SessionPresent != present {
			w.failf("%v: CONNACK %v present=%v, want present=%v [MQTT-3.2.2-2]", c, a.Code, a.SessionPresent, present)
		}
		w.resume(c, present)
	})
}

func describe(will *mqtt.Will) any {
	if will == nil {
		return "none"
	}
	return struct {
		topic, text string
		qos         byte
		retain      bool
		delay       uint32
	}{will.Topic, string(will.Payload), will.QoS, will.Retain, will.Delay}
}

func (w *world) willOf(d *device, u *user, p *mqtt.Connect) *will {
	delay := time.Duration(p.Will.Delay) * time.Second
	return &will{
		id: d.id, uid: u.uid, delay: delay, must: true, expiry: time.Duration(p.Will.Expiry.Or(0)) * time.Second,
		m: message{
			text: string(p.Will.Payload), org: d.id.org, topic: p.Will.Topic, qos: p.Will.QoS,
			retain: p.Will.Retain && u.retain, from: d.id,
		},
	}
}

// take5 notes what CONNECT asks for.
func (c *conn) take5(p *mqtt.Connect) {
	c.expiry = 1000 * time.Hour
	switch {
	case p.Version >= mqtt.V5:
		c.expiry = time.Duration(p.Properties.SessionExpiry.Or(0)) * time.Second
	case p.CleanStart:
		c.expiry = 0
	}
	c.keepAlive = time.Duration(p.KeepAlive) * time.Second
	c.window = min(maxInflight, int(p.Properties.ReceiveMaximum.Or(mqtt.DefaultReceiveMaximum)))
	c.aliasMax = int(p.Properties.TopicAliasMaximum.Or(0))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.largest = int(p.Properties.MaximumPacketSize.Or(0))
}

// refused sends a CONNECT that must be refused, and disturb nobody.
func (w *world) refused(d *device, p *mqtt.Connect, code mqtt.ReasonCode) {
	c := w.dial(d, p)
	c.over, c.codes = true, nil
	if p.Version < mqtt.V5 {
		code = mqtt.ReasonCode(mqtt.ReturnNotAuthorized)
	}
	c.expect("CONNECT", mqtt.CONNACK, 0, func(p mqtt.Packet) {
		if a := p.(*mqtt.Connack); a.Code != code || a.SessionPresent {
			w.failf("%v: CONNACK %v present=%v, want %v", c, a.Code, a.SessionPresent, code)
		}
	})
}

// resume goes on with what the device had under way [MQTT-4.4.0-1].
func (w *world) resume(c *conn, present bool) {
	d := c.d
	if !present {
		d.out = nil
		return
	}
	u := w.user(d.id)
	for _, f := range slices.Clone(d.out) {
		if f.receipt {
			if f.freed || !d.late {
				w.free(c, f)
			}
			continue
		}
		f.unsure = true
		f.p.Dup = true
		f.p.TopicAlias = 0
		f.p.Topic = []byte(f.m.topic)
		f.m.twice = true
		f.m.bare = f.m.bare || c.version < mqtt.V5 && len(f.m.carried) > 0 || !f.m.expires.IsZero()
		w.logf("    %v → PUBLISH again %v id %d", c, f.m, f.p.PacketID)
		c.send(f.p)
		if u.allows(f.m.topic) {
			w.route(f.m, c.s, false)
		} else if c.version < mqtt.V5 {
			c.may = true
		}
		w.awaitAck(c, f)
	}
}

// ending is how a connection ends, as far as its will goes.
type ending bool

const (
	clean   ending = true
	dropped ending = false
)

// end ends a connection: by the server with one of the codes, or without one.
func (w *world) end(c *conn, how ending, codes ...mqtt.ReasonCode) {
	if c.over {
		return
	}
	w.logf("  %v ends", c)
	c.over, c.codes = true, codes
	s := c.s
	if c.will != nil && !s.persistent {
		ghost := *c.will // nobody waits until it is forgotten
		ghost.must, ghost.m.twice = false, true
		w.ghosts = append(w.ghosts, &ghost)
	}
	if will := c.will; will != nil && how == dropped {
		will.delay = min(will.delay, c.expiry)
		if will.delay == 0 {
			w.publishWill(will)
		} else {
			will.due = time.Now().Add(will.delay)
			s.will = will
		}
	}
	c.will = nil
	w.letGo(s)
	s.expiry, s.closed = c.expiry, time.Now()
	if !s.persistent || s.expiry == 0 {
		w.endSession(s)
	}
	if c.d.conn == c {
		c.d.conn, c.d.owed = nil, nil
	}
}

// letGo takes what goes with the connection out of a session.
func (w *world) letGo(s *session) {
	w.doubt(s.conn)
	s.conn = nil
	for _, e := range slices.Clone(s.queue) {
		if !e.queued {
			s.drop(e)
			e.unsure()
		}
	}
}

// doubt notes what the server may have kept from a client without anybody seeing it.
func (w *world) doubt(c *conn) {
	for _, e := range c.s.queue {
		if e.phase < released && e.on != c && w.unfit(c, e) {
			e.unsure()
		}
	}
}

// unsure notes that an entry may not come, and is lost to its group if it went here.
func (e *entry) unsure() {
	e.must, e.doubt = false, true
	if e.choice != nil {
		e.choice.void = true
	}
}

// leave closes a connection from the client's side.
func (c *conn) leave() {
	c.cut = true
	c.raw.Close()
}

// disconnect ends the connection of a device in one of several ways.
func (w *world) disconnect(d *device, pick *picker) {
	c := d.conn
	if c == nil {
		return
	}
	switch pick.of(6) {
	case 0: // a normal one
		w.logf("disconnect %v", d.id)
		c.send(&mqtt.Disconnect{})
		w.end(c, clean)
	case 1:
		if c.version < mqtt.V5 {
			return
		}
		p := &mqtt.Disconnect{Code: mqtt.DisconnectWithWill}
		if c.expiry > 0 && pick.one(2) {
			n := []uint32{0, 100}[pick.of(2)]
			p.Properties.SessionExpiry = mqtt.Some(n)
			c.expiry = time.Duration(n) * time.Second
		}
		w.logf("disconnect %v with will, expiry %v", d.id, c.expiry)
		c.send(p)
		w.end(c, dropped)
	case 2: // nobody is there any more, and the server does not know
		if c.keepAlive > 0 {
			w.logf("%v is half open", c)
			c.reading = false
			d.conn, d.owed = nil, nil
		}
	default:
		w.logf("cut %v", c)
		w.end(c, dropped)
		c.leave()
	}
}
