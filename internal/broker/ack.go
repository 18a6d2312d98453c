package broker

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// replies are the answers to packets of the client that wait for the engine.
// They go out in the order in which the packets came [MQTT-4.6.0-2].
type replies struct {
	flying  atomic.Int32 // QoS 0 messages under way in the engine
	awaited atomic.Bool  // somebody waits for some of them to arrive

	mu    sync.Mutex // guards the fields below
	queue []*reply
	lent  *[replySpace]*reply // what queue is in; nil: memory of its own, or none
	calls int                 // under way in the engine
	bytes int                 // of their payloads
	quota int                 // QoS 1 and 2 messages that count for our Receive Maximum

	received map[uint16]receipt // QoS 2 messages before their PUBREL

	settled chan struct{} // has a token after progress; nil: nobody has waited for that yet
}

// receipt is what is known of a QoS 2 message from the client.
type receipt byte

const (
	receiptPending receipt = iota + 1 // the engine has it, PUBREC was not sent
	receiptSent                       // PUBREC was sent
	receiptOld                        // PUBREC was sent on an earlier connection
)

// A reply is one answer that waits for its turn.
type reply struct {
	c     *conn
	typ   mqtt.Type
	id    uint16
	size  int
	code  mqtt.ReasonCode
	msg   string
	ready bool
	done  func(error) // finish, made once
}

// Replies, and the space for some of them, are lent while they wait.
const replySpace = 32

var (
	replyPool   sync.Pool
	replySpaces = sync.Pool{New: func() any { return new([replySpace]*reply) }}
)

// add puts r at the end of the queue. mu is held.
func (q *replies) add(r *reply) {
	if q.queue == nil {
		q.lent = replySpaces.Get().(*[replySpace]*reply)
		q.queue = q.lent[:0]
	}
	full := len(q.queue) == cap(q.queue)
	q.queue = append(q.queue, r)
	if full {
		q.giveBack()
	}
}

// giveBack returns the space, when the queue is empty or has outgrown it. mu is held.
func (q *replies) giveBack() {
	if q.lent != nil {
		clear(q.lent[:])
		replySpaces.Put(q.lent)
		q.lent = nil
	}
}

// progress returns what has a token after progress. mu is held.
func (q *replies) progress() <-chan struct{} {
	if q.settled == nil {
		q.settled = make(chan struct{}, 1)
	}
	return q.settled
}

// note notes what is known of a QoS 2 message. mu is held.
func (q *replies) note(id uint16, r receipt) {
	if q.received == nil {
		q.received = map[uint16]receipt{}
	}
	q.received[id] = r
}

// expect registers an answer of type typ to packet id, to be completed by its done.
func (c *conn) expect(typ mqtt.Type, id uint16, size int) *reply {
	c.replies.mu.Lock()
	defer c.replies.mu.Unlock()
	return c.expectLocked(typ, id, size)
}

// expectLocked is expect. replies.mu is held.
func (c *conn) expectLocked(typ mqtt.Type, id uint16, size int) *reply {
	r, _ := replyPool.Get().(*reply)
	if r == nil {
		r = new(reply)
		r.done = r.finish
	}
	r.c, r.typ, r.id, r.size, r.code, r.msg, r.ready = c, typ, id, size, mqtt.Success, "", false
	q := &c.replies
	q.calls++
	q.bytes += size
	q.add(r)
	return r
}

// finish completes a reply. It may run on any goroutine, with the engine's
// locks held.
func (r *reply) finish(err error) {
	c := r.c
	if err != nil {
		c.replyFailed(r, err)
	}
	q := &c.replies
	q.mu.Lock()
	defer q.mu.Unlock()
	q.calls--
	q.bytes -= r.size
	r.ready = true
	c.flushReplies()
	if q.settled == nil {
		return
	}
	select {
	case q.settled <- struct{}{}:
	default:
	}
}

// flushReplies sends the answers whose turn it is. replies.mu is held.
func (c *conn) flushReplies() {
	q := &c.replies
	n := 0
	for n < len(q.queue) && q.queue[n].ready {
		r := q.queue[n]
		q.queue[n] = nil
		n++
		switch failed := r.code.IsError(); r.typ {
		case mqtt.PUBACK:
			q.quota--
		case mqtt.PUBREC:
			if failed {
				delete(q.received, r.id)
				q.quota--
			} else if q.received[r.id] == receiptPending {
				q.note(r.id, receiptSent)
			}
		}
		c.sendAck(r.typ, r.id, r.code, r.msg)
		replyPool.Put(r)
	}
	if q.queue = q.queue[n:]; len(q.queue) == 0 {
		q.queue = nil
		q.giveBack()
	}
}

// replyFailed notes why a packet was not served. Before MQTT 5 there is no way
// to say so but to end the connection, and a missing answer has no other use
// to anyone either way where the packet is no PUBLISH.
func (c *conn) replyFailed(r *reply, err error) {
	r.code, r.msg = publishCode(err), errs.Message(err)
	c.noteRefusal(err)
	if c.version < mqtt.V5 || r.typ == mqtt.PUBREL || r.typ == mqtt.PUBCOMP || errors.Is(err, engine.ErrLost) {
		e := endingOf(err)
		e.code = closingCode(r.code)
		c.end(e) // and so the answer is not sent
	}
	if r.typ == mqtt.PUBACK || r.typ == mqtt.PUBREC {
		c.b.metrics.publishRefused[errs.CodeOf(err)].Add(1)
		c.logRefusal("publish refused", r.code, err)
	}
}

// passedOn is called when the engine is done with a QoS 0 message.
func (c *conn) passedOn(err error) {
	if err != nil {
		c.messageLost(err)
	}
	q := &c.replies
	q.flying.Add(-1)
	if !q.awaited.Load() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case q.settled <- struct{}{}:
	default:
	}
}

// flyers waits until there are no more QoS 0 messages under way than may be.
func (c *conn) flyers(most int, over <-chan struct{}) error {
	q := &c.replies
	q.mu.Lock()
	settled := q.progress()
	q.mu.Unlock()
	q.awaited.Store(true)
	for int(q.flying.Load()) > most {
		c.block()
		select {
		case <-settled:
		case <-over:
			return errEnded
		}
	}
	return nil
}

// messageLost notes why a QoS 0 message was not passed on.
func (c *conn) messageLost(err error) {
	c.noteRefusal(err)
	c.b.metrics.publishRefused[errs.CodeOf(err)].Add(1)
	c.logRefusal("message is lost", publishCode(err), err)
	if errors.Is(err, engine.ErrLost) {
		c.end(endingOf(err))
	}
}

// closingCode returns code if DISCONNECT may carry it.
func closingCode(code mqtt.ReasonCode) mqtt.ReasonCode {
	if code.ValidIn(mqtt.DISCONNECT) {
		return code
	}
	return mqtt.UnspecifiedError
}

// sendAck sends an acknowledgement, with a reason if the client wants to know.
func (c *conn) sendAck(typ mqtt.Type, id uint16, code mqtt.ReasonCode, msg string) {
	if code == mqtt.Success && c.clientMax >= 4 { // which is how long it is
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		if c.out.end == nil {
			a := mqtt.Ack{Type: typ, PacketID: id}
			c.out.buf = a.Append(c.out.take(), c.version)
			c.flushLocked()
		}
		return
	}
	a := mqtt.Ack{Type: typ, PacketID: id, Code: code}
	if msg != "" && c.problemInfo {
		a.ReasonString = reason(msg) // [MQTT-3.1.2-29]
	}
	c.send(&a)
}

// acknowledged serves PUBACK, PUBREC, PUBREL and PUBCOMP.
func (c *conn) acknowledged(t mqtt.Type, body []byte) error {
	a := &c.work.ack
	if err := a.Decode(t, body, c.version); err != nil {
		return err
	}
	switch t {
	case mqtt.PUBREL:
		return c.pubrel(a.PacketID)
	case mqtt.PUBREC:
		return c.pubrec(a)
	}
	return c.complete(t, a.PacketID)
}

// complete serves PUBACK and PUBCOMP: the message is the client's now.
func (c *conn) complete(t mqtt.Type, id uint16) error {
	o := &c.out
	o.mu.Lock()
	m, ok := o.inflight.get(id)
	switch {
	case !ok: // an answer to an earlier connection, or no answer at all: nothing to do
		o.mu.Unlock()
		return c.slow(1, 0)
	case t == mqtt.PUBACK && m.qos != 1, t == mqtt.PUBCOMP && !m.released:
		o.mu.Unlock()
		return protocolError(mqtt.ProtocolError, "acknowledgement: does not fit the message's QoS (4.3)")
	}
	c.settleLocked(id)
	o.mu.Unlock()
	if m.offset != 0 {
		c.sess.Ack(m.offset)
	}
	return nil
}

// settleLocked ends a message's place in the window. What the queue has for it is
// sent when all is read that has come, see breathe.
func (c *conn) settleLocked(id uint16) {
	c.out.inflight.remove(id)
	if len(c.out.pending) > 0 {
		c.drainLocked()
	}
	c.out.room.Broadcast()
}

// pubrec serves PUBREC. PUBREL is sent when it is durable that the message must
// not be sent again.
func (c *conn) pubrec(a *mqtt.Ack) error {
	o := &c.out
	o.mu.Lock()
	m, ok := o.inflight.get(a.PacketID)
	switch {
	case !ok:
		o.mu.Unlock()
		c.sendAck(mqtt.PUBREL, a.PacketID, mqtt.PacketIdentifierNotFound, "")
		return c.slow(1, 0)
	case m.qos != 2:
		o.mu.Unlock()
		return protocolError(mqtt.ProtocolError, "pubrec: the message has not QoS 2 (4.3.3)")
	case a.Code.IsError() && !m.released:
		c.settleLocked(a.PacketID) // the client does not want it
		o.mu.Unlock()
		if m.offset != 0 {
			c.sess.Ack(m.offset)
		}
		return nil
	}
	again := m.released
	m.released = true
	o.inflight.put(a.PacketID, m)
	o.mu.Unlock()
	if again { // it costs the engine as much as the first time
		if err := c.slow(1, 0); err != nil {
			return err
		}
	}
	r := c.expect(mqtt.PUBREL, a.PacketID, 0)
	if m.offset == 0 {
		r.done(nil)
	} else {
		c.sess.Release(m.offset, r.done)
	}
	return nil
}

// pubrel serves PUBREL. PUBCOMP is sent when it is durable that the identifier
// is free again.
func (c *conn) pubrel(id uint16) error {
	q := &c.replies
	q.mu.Lock()
	state := q.received[id]
	if state == receiptPending {
		q.mu.Unlock()
		return protocolError(mqtt.ProtocolError, "pubrel: before PUBREC (4.3.3)")
	}
	delete(q.received, id)
	if state == receiptSent {
		q.quota--
	}
	q.mu.Unlock()
	if state == 0 {
		r := c.expect(mqtt.PUBCOMP, id, 0)
		r.code = mqtt.PacketIdentifierNotFound
		r.done(nil)
		return c.slow(1, 0)
	}
	r := c.expect(mqtt.PUBCOMP, id, 0)
	if c.persistent {
		c.sess.Forget(id, r.done)
	} else {
		r.done(nil)
	}
	return nil
}
