package broker

import (
	"bytes"
	"errors"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// Deliver is part of engine.Sink: a message that is in no queue.
func (c *conn) Deliver(m *engine.Message, d engine.Delivery) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	switch {
	case c.out.end != nil:
	case c.out.hold > 0 || c.out.retained > 0:
		c.keepLocked(&c.out.held, m, d)
	default:
		c.deliverLocked(m, d)
	}
}

// Wake is part of engine.Sink: the queue has entries.
func (c *conn) Wake() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.wake = true
	c.kickLocked()
}

// Lost is part of engine.Sink: the session is held no longer.
func (c *conn) Lost(why error) {
	e := endTakeover
	if errors.Is(why, engine.ErrEnded) {
		e = ending{code: mqtt.QuotaExceeded, msg: errs.Message(why), urgent: true}
		c.ended.Store(true)
	}
	e.lost, e.err = true, why
	c.end(e)
}

// deliverLocked sends a volatile message now, or keeps it until the window opens.
func (c *conn) deliverLocked(m *engine.Message, d engine.Delivery) {
	o := &c.out
	full := o.backlog() >= c.maxOutbound()
	if d.QoS == 0 {
		if full {
			c.droppedLocked()
			return
		}
		c.writeLocked(m, &d, 0, false)
		return
	}
	if full || len(o.pending) > 0 || o.inflight.len() >= c.window {
		c.keepLocked(&o.pending, m, d)
		return
	}
	c.sendVolatileLocked(m, &d)
}

// keepLocked keeps a copy for later. If there is no room, QoS 0 is dropped and
// anything else ends the connection, for a gap must not go unnoticed.
func (c *conn) keepLocked(list *[]copied, m *engine.Message, d engine.Delivery) {
	k := copied{*m, d}
	if c.out.waiting+k.size() > c.maxOutbound() {
		if d.QoS == 0 {
			c.droppedLocked()
			return
		}
		c.b.metrics.dropSlow.Add(1)
		c.noteLimit(quota.ClientOutbound, int64(c.maxOutbound()), quota.Ended, 1)
		c.endLocked(ending{code: mqtt.QuotaExceeded, msg: "messages were not acknowledged in time", urgent: true})
		return
	}
	k.m.Payload, k.m.Properties = bytes.Clone(m.Payload), m.Properties.Clone()
	c.out.waiting += k.size()
	*list = append(*list, k)
}

// drainLocked sends what the window and the buffer have room for now.
func (c *conn) drainLocked() {
	o := &c.out
	n := 0
	for n < len(o.pending) && o.inflight.len() < c.window && o.backlog() < c.maxOutbound() && o.end == nil {
		k := &o.pending[n]
		o.waiting -= k.size()
		c.sendVolatileLocked(&k.m, &k.d)
		*k = copied{}
		n++
	}
	if o.pending = o.pending[n:]; len(o.pending) == 0 {
		o.pending = nil
	}
	c.kickLocked()
}

// sendVolatileLocked sends a QoS 1 or 2 message that is in no queue.
func (c *conn) sendVolatileLocked(m *engine.Message, d *engine.Delivery) {
	id := c.freeIDLocked()
	if c.writeLocked(m, d, id, false) {
		c.out.inflight.put(id, outgoing{qos: d.QoS})
	}
}

// freeIDLocked returns an identifier that is not in use: there is one, for the
// window is smaller than their number. The session is not persistent: there,
// whatever has an identifier is in the queue.
func (c *conn) freeIDLocked() uint16 {
	o := &c.out
	for {
		o.nextID++
		if _, used := o.inflight.get(o.nextID); o.nextID != 0 && !used {
			return o.nextID
		}
	}
}

// writeLocked appends one PUBLISH. It reports false if the client must not or
// cannot have the message, which is then done with.
func (c *conn) writeLocked(m *engine.Message, d *engine.Delivery, id uint16, dup bool) bool {
	if c.out.end != nil {
		return false // nothing follows a DISCONNECT
	}
	grant := c.grant.Load()
	if !grant.Receives(m.Topic) {
		c.b.metrics.dropDenied.Add(1)
		return false
	}
	s := mqtt.Shared{Topic: grant.Present(m.Topic), Payload: m.Payload, Carried: m.Properties}
	p := mqtt.Delivery{QoS: d.QoS, Dup: dup, Retain: d.Retain, PacketID: id, SubscriptionIDs: d.IDs}
	if !m.Expires.IsZero() {
		left := time.Until(m.Expires)
		if left <= 0 && !dup { // what the client may have is brought to its end [MQTT-4.3.3-7]
			c.b.metrics.dropExpired.Add(1)
			return false
		}
		p.Expiry = mqtt.Some(uint32((max(left, 0) + time.Second - 1) / time.Second)) // [MQTT-3.3.2-6]
	}
	if mqtt.PublishSize(c.version, &s, &p) > int(c.clientMax) {
		c.b.metrics.dropLarge.Add(1) // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
		return false
	}
	if c.aliasMax > 0 && len(s.Topic) <= maxName {
		c.aliasLocked(&s, &p)
	}
	c.out.buf = mqtt.AppendPublish(c.out.take(), c.version, &s, &p)
	c.b.metrics.out[d.QoS].Add(1)
	c.flushLocked()
	return true
}

// aliasLocked gives each topic an alias with its first message, as long as the
// client has aliases left.
func (c *conn) aliasLocked(s *mqtt.Shared, p *mqtt.Delivery) {
	o := &c.out
	if alias := o.topics[s.Topic]; alias != 0 {
		p.TopicAlias, p.OmitTopic = alias, true
		return
	}
	if len(o.topics) >= c.aliasMax {
		return
	}
	q := *p
	q.TopicAlias = uint16(len(o.topics) + 1)
	if mqtt.PublishSize(c.version, s, &q) > int(c.clientMax) {
		return
	}
	*p = q
	if o.topics == nil {
		o.topics = map[string]uint16{}
	}
	o.topics[s.Topic] = p.TopicAlias
}

// kickLocked starts the pump if there is something to read and nothing in the way.
func (c *conn) kickLocked() {
	o := &c.out
	if !c.persistent || !o.wake || o.pumping || o.hold > 0 || o.end != nil ||
		o.inflight.len() >= c.window || o.backlog() >= c.maxOutbound() {
		return
	}
	o.pumping = true
	c.wg.Go(c.pump)
}

// pump sends what the queue holds, as far as the window and the buffer go.
func (c *conn) pump() {
	var space [32]engine.Entry
	o := &c.out
	for {
		o.mu.Lock()
		room := min(c.window-o.inflight.len(), len(space))
		if !o.wake || o.hold > 0 || o.end != nil || room <= 0 || o.backlog() >= c.maxOutbound() {
			o.pumping = false
			o.mu.Unlock()
			return
		}
		o.wake = false
		after, retained := o.cursor, o.retained
		o.mu.Unlock()

		c.turn.Lock()
		entries, err := c.sess.Read(c.ctx, after, space[:0:room])
		c.turn.Unlock()
		var done []engine.Offset
		stuck := false

		o.mu.Lock()
		for i := range entries {
			sent, ok := c.sendEntryLocked(&entries[i])
			if !ok {
				stuck = true
				break
			}
			if !sent {
				done = append(done, entries[i].Offset)
			}
			o.cursor = entries[i].Offset
		}
		o.wake = o.wake || stuck || len(entries) == room
		o.pumping = !stuck && err == nil
		// The last retained message may have expired in the queue: its end is enough.
		end := !stuck && err == nil && len(entries) < room
		if o.retained > 0 && (o.cursor >= o.retained || end && o.retained == retained) {
			o.retained = 0
			c.releaseHeldLocked()
		}
		o.mu.Unlock()
		clear(space[:])
		for _, off := range done {
			c.sess.Ack(off)
		}
		if err != nil {
			c.end(endingOf(err))
			return
		}
		if stuck {
			return // an acknowledgement will start another
		}
	}
}

// sendEntryLocked sends one entry of the queue. sent is false if the client
// must not have it; ok is false if its identifier is still in use, or nothing
// is sent any more.
func (c *conn) sendEntryLocked(e *engine.Entry) (sent, ok bool) {
	o := &c.out
	id := packetID(e.Offset)
	if _, used := o.inflight.get(id); used || o.end != nil {
		return false, false
	}
	if e.Released {
		o.inflight.put(id, outgoing{e.Offset, 2, true})
		c.sendLocked(&mqtt.Ack{Type: mqtt.PUBREL, PacketID: id})
		return true, true
	}
	if !c.writeLocked(e.Message, &e.Delivery, id, e.Sent) {
		return false, true
	}
	o.inflight.put(id, outgoing{e.Offset, e.Delivery.QoS, false})
	return true, true
}

// packetID derives the identifier from the place in the queue, so that it is
// the same when the message is sent again, even after a crash [MQTT-4.4.0-1].
func packetID(o engine.Offset) uint16 { return uint16((o-1)%65535 + 1) }
