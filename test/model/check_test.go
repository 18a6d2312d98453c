package model

import (
	"bytes"
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// settle waits until the broker has done all it would ever do, lets the clients
// answer, and checks that nothing is missing.
func (w *world) settle() {
	for range 10_000 {
		synctest.Wait()
		if !w.absorb() {
			w.complete()
			return
		}
	}
	w.failf("the clients and the server do not come to rest")
}

// absorb takes in what came. It reports whether there was anything.
func (w *world) absorb() (some bool) {
	for _, c := range slices.Clone(w.conns) {
		c.mu.Lock()
		ended := c.err != nil
		c.mu.Unlock()
		if ended && c.may && !c.over {
			w.logf("  %v has ended, as it may", c)
			w.end(c, dropped, anyCode)
			c.s.undo(c) // it may have ended before the acknowledgements came
		}
	}
	for _, c := range slices.Clone(w.conns) {
		got, err := c.take()
		some = some || len(got) > 0
		for _, a := range got {
			if c.reading {
				w.arrived(c, a)
			}
		}
		if err != nil {
			some = true
			w.ended(c, err)
		}
	}
	return some
}

// anyCode stands for every reason code, and for none.
const anyCode mqtt.ReasonCode = 0xFF

// ended checks how a connection has ended.
func (w *world) ended(c *conn, err error) {
	w.conns = slices.DeleteFunc(w.conns, func(o *conn) bool { return o == c })
	c.raw.Close()
	switch {
	case c.cut || !c.reading:
		return
	case !closedByServer(err):
		w.failf("%v: %v", c, err)
	case !c.over:
		w.failf("%v was closed by the server: %v, %+v", c, err, c.said)
	case len(c.codes) == 1 && c.codes[0] == anyCode:
		return
	case c.version < mqtt.V5 || len(c.codes) == 0:
		if c.said != nil {
			w.failf("%v: the server said %+v", c, c.said)
		}
	case c.said == nil || !slices.Contains(c.codes, c.said.Code):
		w.failf("%v: DISCONNECT %+v, want one of %v", c, c.said, c.codes)
	}
}

// arrived checks one packet.
func (w *world) arrived(c *conn, a arrival) {
	total.got.Add(1)
	if c.said != nil {
		w.failf("%v: %T after DISCONNECT", c, a.p)
	}
	switch p := a.p.(type) {
	case *mqtt.Publish:
		w.published(c, p, a.at)
	case *mqtt.Ack:
		w.logf("    %v ← %v %d %v", c, p.Type, p.PacketID, p.Code)
		if p.Type == mqtt.PUBREL {
			w.released(c, p)
		} else {
			c.answered(p.Type, p.PacketID, p)
		}
	case *mqtt.Connack:
		w.logf("    %v ← CONNACK %v present=%v", c, p.Code, p.SessionPresent)
		c.answered(mqtt.CONNACK, 0, p)
	case *mqtt.Suback:
		w.logf("    %v ← SUBACK %v", c, p.Codes)
		c.answered(mqtt.SUBACK, p.PacketID, p)
	case *mqtt.Unsuback:
		w.logf("    %v ← UNSUBACK %v", c, p.Codes)
		c.answered(mqtt.UNSUBACK, p.PacketID, p)
	case *mqtt.Pingresp:
		c.answered(mqtt.PINGRESP, 0, p)
	case *mqtt.Disconnect:
		w.logf("    %v ← DISCONNECT %v", c, p.Code)
		c.said = p
		if c.version < mqtt.V5 {
			w.failf("%v: the server sent DISCONNECT", c)
		}
	default:
		w.failf("%v: the server sent %T", c, p)
	}
}

// published checks a message that came.
func (w *world) published(c *conn, p *mqtt.Publish, at time.Time) {
	if c.s == nil {
		w.failf("%v got a message and was not let in: %s", c, p.Payload)
	}
	total.deliveries.Add(1)
	topic := c.unalias(p)
	w.logf("    %v ← PUBLISH %q on %s qos%d id %d dup=%v retain=%v ids=%v", c, short(p.Payload), topic, p.QoS, p.PacketID, p.Dup, p.Retain, p.SubscriptionIDs)
	s := c.s
	if p.QoS > 0 {
		for _, e := range s.queue {
			if e.pid == p.PacketID && e.qos > 0 && e.phase > waiting {
				w.again(c, e, p, topic)
				return
			}
		}
	}
	e := w.find(c, p, topic, at)
	if e == nil {
		return // on its way when the connection ended, and not kept
	}
	w.inOrder(c, e)
	w.arrivals++
	e.pid, e.on, e.arrived, e.offered, e.phase = p.PacketID, c, w.arrivals, true, seen
	if e.choice != nil {
		w.taken(e)
	}
	if e.extra > 0 {
		more := *e
		more.extra, more.must, more.phase, more.pid, more.on = e.extra-1, false, waiting, 0, nil
		s.queue = append(s.queue, &more)
		e.m.entries = append(e.m.entries, &more)
	}
	if e.qos == 0 {
		s.drop(e)
		e.phase = done
		return
	}
	if n := c.inflight(); n > c.window {
		w.failf("%v: %d messages in flight, Receive Maximum is %d [MQTT-3.3.4-9]: %v", c, n, c.window, s.queue)
	}
	w.acknowledge(c, e)
}

func short(b []byte) string {
	if len(b) > 12 {
		return string(b[:12]) + "…"
	}
	return string(b)
}

// unalias returns the topic of a message.
func (c *conn) unalias(p *mqtt.Publish) string {
	topic := string(p.Topic)
	if p.TopicAlias == 0 {
		if topic == "" {
			c.w.failf("%v: a message without a topic", c)
		}
		return topic
	}
	if int(p.TopicAlias) > c.aliasMax {
		c.w.failf("%v: topic alias %d, the maximum is %d [MQTT-3.1.2-26]", c, p.TopicAlias, c.aliasMax)
	}
	if topic != "" {
		c.given[p.TopicAlias] = topic
	}
	if c.given[p.TopicAlias] == "" {
		c.w.failf("%v: topic alias %d stands for nothing on this connection [MQTT-3.3.2-7]", c, p.TopicAlias)
	}
	return c.given[p.TopicAlias]
}

// again checks a message that comes under an identifier in use: it must be one
// that was sent on an earlier connection [MQTT-4.4.0-1].
func (w *world) again(c *conn, e *entry, p *mqtt.Publish, topic string) {
	switch {
	case string(p.Payload) != e.m.text, topic != e.m.topic, p.QoS != e.qos:
		w.failf("%v: identifier %d is in use for %v", c, p.PacketID, e)
	case e.on == c:
		w.failf("%v: sent twice on one connection [MQTT-4.4.0-1]: %v", c, e)
	case e.phase == released:
		w.failf("%v: sent again after PUBREL: %v", c, e)
	case !p.Dup:
		w.failf("%v: sent again without DUP [MQTT-3.3.1-1]: %v", c, e)
	case e.arrived < c.resent:
		w.failf("%v: sent again out of order [MQTT-4.6.0-1]: %v", c, e)
	case !w.user(e.s.id).receives(topic):
		w.failf("%v: sent again and not allowed any more: %v", c, e)
	}
	total.again.Add(1)
	c.resent = e.arrived
	e.on, e.phase = c, seen
	w.acknowledge(c, e)
}

// find returns the entry that a message is.
func (w *world) find(c *conn, p *mqtt.Publish, topic string, at time.Time) *entry {
	var best *entry
	var groups []*choice
	why := ""
	for _, e := range c.s.queue {
		if e.phase != waiting || e.m.topic != topic || e.m.text != string(p.Payload) {
			continue
		}
		if wrong := e.wrong(c, p, at); wrong != "" {
			why += fmt.Sprintf("\n  not %v: %s", e, wrong)
			continue
		}
		if best == nil || e.due() > best.due() {
			best = e
		}
		if e.choice != nil {
			groups = append(groups, e.choice)
		}
	}
	if best != nil && best.choice != nil && len(groups) > 1 {
		for _, g := range groups { // nobody can tell which of them it is from
			g.loose, g.void = true, true
		}
	}
	if best == nil && !c.over {
		w.failf("%v got what it must not: %q on %s qos%d retain=%v dup=%v ids=%v%s", c, short(p.Payload), topic, p.QoS, p.Retain, p.Dup, p.SubscriptionIDs, why)
	}
	return best
}

// due says how much an entry is expected, compared to another of the same message.
func (e *entry) due() int {
	switch {
	case e.must:
		return 3
	case e.choice != nil && e.choice.must && !e.choice.void:
		return 2
	case e.choice == nil:
		return 1
	}
	return 0
}

// wrong says what is wrong with a message as an entry, or nothing.
func (e *entry) wrong(c *conn, p *mqtt.Publish, at time.Time) string {
	ids := slices.Sorted(slices.Values(p.SubscriptionIDs))
	left, has := p.Expiry.Or(0), p.Expiry.Present()
	switch {
	case e.qos != p.QoS:
		return "another QoS"
	case p.Retain && !e.kept, !p.Retain && !e.plain:
		return "RETAIN is wrong"
	case p.Dup && !e.offered:
		return "DUP is set"
	case !c.w.user(e.s.id).receives(e.m.topic):
		return "not allowed"
	case c.version >= mqtt.V5 && !slices.Equal(ids, slices.Sorted(slices.Values(e.ids))):
		return fmt.Sprintf("subscription identifiers, want %v", e.ids)
	case e.m.bare:
	case e.m.expired(at) && !p.Dup:
		return "it has expired" // what was begun goes on [MQTT-4.4.0-1]
	case c.version >= mqtt.V5 && !bytes.Equal(p.Carried, e.m.carried):
		return "its properties have changed"
	case c.version >= mqtt.V5 && has != !e.m.expires.IsZero():
		return "Message Expiry Interval is there, or is not"
	case has && left != e.m.left(at):
		return fmt.Sprintf("Message Expiry Interval is %d [MQTT-3.3.2-6]", left)
	}
	return ""
}

// inOrder checks that e may come now.
func (w *world) inOrder(c *conn, e *entry) {
	for _, o := range slices.Clone(c.s.queue) {
		if o == e || o.m == e.m || o.order > e.order || o.stored && e.stored {
			continue
		}
		if o.phase == seen && o.on != c && o.queued && e.queued {
			switch {
			case w.unfit(c, o):
				c.s.giveUp(o)
			case o.must && !e.doubt: // a power cut may bring back what came before it
				w.failf("%v: %v comes before %v, which has to be sent again", c, e, o)
			}
			continue
		}
		ordered := o.m.from == e.m.from && o.m.qos == e.m.qos && o.qos == e.qos && !o.m.twice && !e.m.twice && !o.stored && !e.stored
		if o.phase != waiting || o.m.topic != e.m.topic || !ordered && !(o.stored && o.born == c && !e.stored) {
			continue
		}
		switch {
		case w.unfit(c, o):
			c.s.giveUp(o)
		case o.must:
			w.failf("%v: %v comes before %v [MQTT-4.6.0-6]", c, e, o)
		default:
			w.absent(o)
		}
	}
}

// unfit reports whether the server keeps an entry from the client, or may.
func (w *world) unfit(c *conn, e *entry) bool {
	d := mqtt.Delivery{QoS: e.qos, PacketID: 1, SubscriptionIDs: e.ids}
	if !e.m.expires.IsZero() {
		d.Expiry = mqtt.Some[uint32](1)
	}
	size := mqtt.PublishSize(c.version, &mqtt.Shared{Topic: e.m.topic, Payload: []byte(e.m.text), Carried: e.m.carried}, &d)
	return e.phase == waiting && e.m.expired(time.Now()) || !w.user(e.s.id).receives(e.m.topic) || c.largest > 0 && size > c.largest
}

// absent takes an entry out that is not in the server's queue, as is clear now.
func (w *world) absent(e *entry) {
	e.s.drop(e)
	if e.choice == nil {
		return
	}
	if e.choice.left--; e.choice.left == 0 && e.choice.must && !e.choice.taken && !e.choice.void {
		w.failf("nobody in group %q got %v", e.choice.group, e.m)
	}
}

// taken notes that one member of a group has got a message: nobody else will.
func (w *world) taken(e *entry) {
	e.choice.taken = true
	if e.choice.loose {
		return
	}
	for _, o := range slices.Clone(e.m.entries) {
		if o.choice == e.choice && o != e && o.phase == waiting {
			o.s.drop(o)
		}
	}
}

// released serves PUBREL.
func (w *world) released(c *conn, p *mqtt.Ack) {
	if slices.ContainsFunc(c.expected, func(x expected) bool { return x.typ == mqtt.PUBREL && x.id == p.PacketID }) {
		c.answered(mqtt.PUBREL, p.PacketID, p)
		return
	}
	for _, e := range c.s.queue {
		if e.pid == p.PacketID && e.qos == 2 && e.phase >= answered && e.on != c {
			w.goOn(c, e)
			return
		}
	}
	w.failf("%v: PUBREL %d for nothing", c, p.PacketID)
}

// goOn notes that PUBREL came.
func (w *world) goOn(c *conn, e *entry) {
	e.phase, e.on = released, c
	w.acknowledge(c, e)
}

// acknowledge answers PUBLISH or PUBREL, or owes the answer.
func (w *world) acknowledge(c *conn, e *entry) {
	if c.over || c.d.conn != c {
		return
	}
	o := owed{mqtt.PUBACK, e}
	switch {
	case e.phase == released:
		o.typ = mqtt.PUBCOMP
	case e.qos == 2:
		o.typ = mqtt.PUBREC
	}
	if c.d.hold {
		c.d.owed = append(c.d.owed, o)
		return
	}
	w.pay(c, o, mqtt.Success)
}

// pay sends an acknowledgement.
func (w *world) pay(c *conn, o owed, code mqtt.ReasonCode) {
	e := o.e
	w.logf("    %v → %v %d %v", c, o.typ, e.pid, code)
	c.send(&mqtt.Ack{Type: o.typ, PacketID: e.pid, Code: code})
	switch {
	case o.typ != mqtt.PUBREC:
		e.s.finish(e, e.phase)
	case code.IsError():
		e.s.finish(e, seen)
	default:
		e.phase = answered
		c.expect("PUBREC", mqtt.PUBREL, e.pid, func(p mqtt.Packet) {
			if code := p.(*mqtt.Ack).Code; code.IsError() {
				w.failf("%v: PUBREL %d says %v", c, e.pid, code)
			}
			w.goOn(c, e)
		})
	}
}

// complete checks that everything has come that must have come by now.
func (w *world) complete() {
	for _, c := range w.conns {
		switch {
		case c.over && !c.cut && c.reading:
			w.failf("%v is not closed by the server", c)
		case !c.over && len(c.expected) > 0:
			w.failf("%v: no answer to %s", c, c.expected[0].what)
		case !c.over:
			c.may = false
		}
	}
	for _, s := range w.all() {
		switch c := s.conn; {
		case c == nil:
		case !c.reading:
			w.doubt(c)
		case !c.over:
			w.completeFor(c)
		}
	}
}

func (w *world) completeFor(c *conn) {
	s := c.s
	full := c.inflight() >= c.window
	blocked := full && slices.ContainsFunc(s.queue, func(e *entry) bool { return e.stored && e.phase == waiting })
	for _, e := range slices.Clone(s.queue) {
		if full && (e.qos > 0 || blocked) {
			if e.phase < released && e.on != c && w.unfit(c, e) {
				e.unsure() // nobody knows when the server finds out
			}
			continue
		}
		switch {
		case e.phase < released && e.on != c && w.unfit(c, e):
			s.giveUp(e)
		case e.phase == waiting && e.must:
			w.failf("%v did not get %v", c, e)
		case e.phase == waiting:
			w.absent(e)
		case e.on != c && e.must:
			w.failf("%v did not get again %v", c, e)
		case e.on != c:
			s.drop(e)
		}
	}
}
