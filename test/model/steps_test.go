package model

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// topics and filters are what clients use. They overlap.
var (
	topics  = []string{"a/x", "a/y", "b", "a", "$z/q"}
	filters = []string{
		"a/x", "a/#", "#", "b", "+/x", "a/+", "+", "a/y", "$z/#", "a",
		"$share/g/a/x", "$share/g/#", "$share/h/a/+", "$share/h/b",
	}
)

// text makes the payload of a message, which tells it apart.
func (w *world) text(prefix string, size int) string {
	w.texts++
	s := fmt.Sprint(prefix, w.texts)
	if n := size - len(s); n > 0 {
		s += strings.Repeat(".", n)
	}
	return s
}

// publish has a device publish one message.
func (w *world) publish(d *device, pick *picker, qos byte) {
	c := d.conn
	if c == nil || qos > 0 && len(d.out) >= maxInflight-2 {
		return
	}
	u := w.user(d.id)
	p := &mqtt.Publish{QoS: qos, Topic: []byte(topics[pick.of(len(topics))])}
	if p.Retain = pick.one(4) && !w.racing; p.Retain && !u.retain {
		p.Retain = false
	}
	m := &message{org: d.id.org, topic: string(p.Topic), qos: qos, retain: p.Retain, from: d.id, text: w.text("m", []int{0, 0, 0, 120}[pick.of(4)])}
	if p.Retain && pick.one(4) {
		m.text = ""
	}
	p.Payload = []byte(m.text)
	if c.version >= mqtt.V5 {
		if n := []uint32{0, 0, 0, 6, 40}[pick.of(5)]; n > 0 {
			p.Expiry = mqtt.Some(n)
			m.expires = time.Now().Add(time.Duration(n) * time.Second)
		}
		if pick.one(4) {
			q := mqtt.Properties{ContentType: mqtt.Some("text"), UserProperties: []mqtt.UserProperty{{Key: "k", Value: m.text}, {Key: "k", Value: "2"}}}
			p.Carried = q.Carried()
			m.carried = p.Carried
		}
		if pick.one(3) {
			c.alias(p, uint16(1+pick.of(maxAliases)))
		}
	}
	w.sendPublish(c, u, p, m)
}

// alias uses a topic alias: set, if it does not stand for the topic.
func (c *conn) alias(p *mqtt.Publish, alias uint16) {
	p.TopicAlias = alias
	if c.own[alias] == string(p.Topic) {
		p.Topic = nil
	} else {
		c.own[alias] = string(p.Topic)
	}
}

func (w *world) sendPublish(c *conn, u *user, p *mqtt.Publish, m *message) {
	d := c.d
	if p.QoS > 0 {
		p.PacketID = d.identifier()
	}
	w.logf("publish %v id %d alias %d", m, p.PacketID, p.TopicAlias)
	c.send(p)
	allowed := u.allows(m.topic)
	if allowed {
		w.route(m, c.s, p.QoS == 0 && !w.racing)
	}
	if !allowed && c.version < mqtt.V5 {
		w.end(c, dropped) // there is no other way to refuse
		return
	}
	if p.QoS > 0 {
		f := &flow{m: m, p: p}
		d.out = append(d.out, f)
		w.awaitAck(c, f)
	}
}

// awaitAck expects the answer to a PUBLISH with QoS 1 or 2.
func (w *world) awaitAck(c *conn, f *flow) {
	typ := mqtt.PUBACK
	if f.p.QoS == 2 {
		typ = mqtt.PUBREC
	}
	c.expect("PUBLISH", typ, f.p.PacketID, func(p mqtt.Packet) {
		code := p.(*mqtt.Ack).Code
		allowed := w.user(f.m.from).allows(f.m.topic)
		switch {
		case code == mqtt.Success, code == mqtt.NoMatchingSubscribers:
			if !allowed && !f.unsure {
				w.failf("%v: %v is not allowed and was accepted", c, f.m)
			}
			w.accept(f.m)
		case code == mqtt.NotAuthorized && !allowed:
			if !f.unsure {
				w.refuse(f.m)
			}
		default:
			w.failf("%v: %v: %v", c, f.m, code)
		}
		if typ == mqtt.PUBACK || code.IsError() {
			c.d.forget(f)
			return
		}
		f.receipt, f.unsure = true, false
		if !c.d.late && !c.over {
			w.free(c, f)
		}
	})
}

// free sends PUBREL for a message.
func (w *world) free(c *conn, f *flow) {
	again := f.freed
	f.freed = true
	w.logf("    %v → PUBREL %d", c, f.p.PacketID)
	c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: f.p.PacketID})
	c.expect("PUBREL", mqtt.PUBCOMP, f.p.PacketID, func(p mqtt.Packet) {
		if code := p.(*mqtt.Ack).Code; code != mqtt.Success && !(again && code == mqtt.PacketIdentifierNotFound) {
			w.failf("%v: PUBCOMP %d says %v", c, f.p.PacketID, code)
		}
		c.d.forget(f)
	})
}

// early has a device send PUBREL together with its message, before it can have
// PUBREC: the server may go on, or end the connection.
func (w *world) early(d *device, pick *picker) {
	c := d.conn
	if c == nil || len(d.out) >= maxInflight-2 || !w.user(d.id).allows("b") {
		return
	}
	m := &message{org: d.id.org, topic: "b", qos: 2, from: d.id, text: w.text("m", 0)}
	p := &mqtt.Publish{QoS: 2, PacketID: d.identifier(), Topic: []byte(m.topic), Payload: []byte(m.text)}
	f := &flow{m: m, p: p, receipt: true, freed: true}
	d.out = append(d.out, f)
	w.logf("publish %v id %d, with PUBREL", m, p.PacketID)
	c.send(p, &mqtt.Ack{Type: mqtt.PUBREL, PacketID: p.PacketID})
	w.racing = true // the end of the connection may come in between
	w.route(m, c.s, false)
	w.racing = false
	c.may = true
	c.expect("PUBLISH", mqtt.PUBREC, p.PacketID, func(p mqtt.Packet) {
		if code := p.(*mqtt.Ack).Code; code.IsError() {
			w.failf("%v: %v: %v", c, m, code)
		}
		w.accept(m)
	})
	c.expect("PUBREL", mqtt.PUBCOMP, p.PacketID, func(mqtt.Packet) { d.forget(f) })
}

// release sends a PUBREL that was held back, or a PUBREL for nothing.
func (w *world) release(d *device, pick *picker) {
	c := d.conn
	if c == nil {
		return
	}
	for _, f := range d.out {
		if f.receipt && !f.freed {
			if pick.one(4) { // first the message once more: it is the same one [MQTT-4.3.3-10]
				again := *f.p
				again.Dup, again.TopicAlias, again.Topic = true, 0, []byte(f.m.topic)
				w.logf("publish %v once more, id %d", f.m, f.p.PacketID)
				c.send(&again)
				c.expect("PUBLISH", mqtt.PUBREC, f.p.PacketID, func(p mqtt.Packet) {
					if code := p.(*mqtt.Ack).Code; code != mqtt.Success {
						w.failf("%v: %v sent once more: %v", c, f.m, code)
					}
				})
			}
			w.logf("PUBREL of %v", d.id)
			w.free(c, f)
			return
		}
	}
	id := uint16(900)
	w.logf("PUBREL of %v for nothing", d.id)
	c.send(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: id})
	c.expect("PUBREL", mqtt.PUBCOMP, id, func(p mqtt.Packet) {
		if code := p.(*mqtt.Ack).Code; c.version >= mqtt.V5 && code != mqtt.PacketIdentifierNotFound {
			w.failf("%v: PUBCOMP for nothing says %v", c, code)
		}
	})
}

// ack sends some of the acknowledgements that a device holds back.
func (w *world) ack(d *device, pick *picker) {
	c := d.conn
	if c == nil {
		return
	}
	for range 1 + pick.of(3) {
		if len(d.owed) == 0 {
			return
		}
		i := 0
		if pick.one(8) {
			i = pick.of(len(d.owed))
		}
		o := d.owed[i]
		d.owed = slices.Delete(d.owed, i, i+1)
		code := mqtt.Success
		if o.typ != mqtt.PUBCOMP && c.version >= mqtt.V5 && pick.one(10) {
			code = mqtt.UnspecifiedError
		}
		w.pay(c, o, code)
	}
}

// subscribe has a device subscribe to one or two filters.
func (w *world) subscribe(d *device, pick *picker) {
	c := d.conn
	if c == nil {
		return
	}
	u, s := w.user(d.id), c.s
	p := &mqtt.Subscribe{PacketID: 1000}
	if c.version >= mqtt.V5 && pick.one(2) {
		p.SubscriptionID = uint32(1 + pick.of(300))
	}
	var codes []mqtt.ReasonCode
	for range 1 + pick.of(2) {
		f := mqtt.Subscription{Filter: filters[pick.of(len(filters))], QoS: byte(2 - pick.of(3))}
		key := keyOf(f.Filter)
		if c.version >= mqtt.V5 {
			f.NoLocal = key.group == "" && pick.one(4)
			f.RetainAsPublished = pick.one(2)
			f.RetainHandling = byte(pick.of(3))
		}
		if slices.ContainsFunc(p.Subscriptions, func(o mqtt.Subscription) bool { return o.Filter == f.Filter }) {
			continue
		}
		p.Subscriptions = append(p.Subscriptions, f)
		w.logf("subscribe %v to %s qos%d no local=%v rap=%v handling=%d id=%d", d.id, f.Filter, f.QoS, f.NoLocal, f.RetainAsPublished, f.RetainHandling, p.SubscriptionID)
		if !u.mayHold(filter(key.filter)) {
			codes = append(codes, mqtt.NotAuthorized)
			continue
		}
		codes = append(codes, mqtt.ReasonCode(f.QoS))
		existed := s.subs[key] != nil
		s.subs[key] = &subscription{key, f.QoS, f.NoLocal, f.RetainAsPublished, p.SubscriptionID}
		if key.group == "" && (f.RetainHandling == mqtt.RetainSend || f.RetainHandling == mqtt.RetainSendIfNew && !existed) {
			w.bringRetained(s, s.subs[key])
		}
	}
	if c.version < mqtt.V5 {
		for i := range codes {
			if codes[i].IsError() {
				codes[i] = mqtt.UnspecifiedError
			}
		}
	}
	c.send(p)
	c.expect("SUBSCRIBE", mqtt.SUBACK, p.PacketID, func(p mqtt.Packet) {
		if got := p.(*mqtt.Suback).Codes; !slices.Equal(got, codes) {
			w.failf("%v: SUBACK %v, want %v", c, got, codes)
		}
	})
}

func keyOf(f string) subKey {
	if rest, ok := strings.CutPrefix(f, "$share/"); ok {
		group, f, _ := strings.Cut(rest, "/")
		return subKey{group, f}
	}
	return subKey{"", f}
}

// bringRetained owes a session the retained messages of a subscription.
func (w *world) bringRetained(s *session, sub *subscription) {
	for _, topic := range topics {
		m := w.kept(s.id.org, topic)
		if m == nil || !matches(sub.filter, topic) {
			continue
		}
		e := w.newEntry(s, m, sub)
		e.stored, e.plain, e.kept = true, false, true // [MQTT-3.3.1-8]
		if e.fit() {
			w.owe(e, true)
		}
	}
}

// unsubscribe has a device unsubscribe from a filter.
func (w *world) unsubscribe(d *device, pick *picker) {
	c := d.conn
	if c == nil {
		return
	}
	f := filters[pick.of(len(filters))]
	w.logf("unsubscribe %v from %s", d.id, f)
	code := mqtt.NoSubscriptionExisted
	if w.withdraw(c.s, keyOf(f)) {
		code = mqtt.Success
	}
	c.send(&mqtt.Unsubscribe{PacketID: 1001, Filters: []string{f}})
	c.expect("UNSUBSCRIBE", mqtt.UNSUBACK, 1001, func(p mqtt.Packet) {
		if got := p.(*mqtt.Unsuback).Codes; c.version >= mqtt.V5 && (len(got) != 1 || got[0] != code) {
			w.failf("%v: UNSUBACK %v, want %v", c, got, code)
		}
	})
}

// withdraw ends a subscription. What it brought and was not sent may still come
// [MQTT-3.10.4-3].
func (w *world) withdraw(s *session, k subKey) bool {
	if s.subs[k] == nil {
		return false
	}
	delete(s.subs, k)
	for _, e := range s.queue {
		if e.phase == waiting && slices.Contains(e.filter, k.filter) {
			e.unsure()
		}
	}
	return true
}
