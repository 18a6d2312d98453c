package embedded

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/topic"
)

// A publication is a message on its way to disk.
type publication struct {
	o      *org
	from   *handle // nil: a sender without a session
	done   func(error)
	number uint64
	size   int64 // of the message, as queues count it
	cost   int   // what it counts against Limits.Pending
	drops  int64 // of the organisation, before it was sealed

	expires  int64
	retain   bool // as published
	qos      byte // as published
	retains  bool // it is, or clears, the retained message of its topic
	topic    topic.Name
	packetID uint16 // to be recorded; 0: none

	slot    *slot           // with retains
	message *engine.Message // a copy, if somebody needs one from memory; nil otherwise
	sealed  []byte          // valid until written, and of a retained one until it is forgotten
	sealing *sealing        // where it is
	kept    []target        // sessions that queue it; room is reserved in each
	crowded []target        // sessions that are to queue it, or to end if there is no room
	live    []target        // sessions that get it when it is durable: QoS 2 only
	more    []target        // likewise

	refused bool            // nothing of it is kept; of the loop
	inline  bool            // the message stands in its only entry
	offsets []engine.Offset // of the entries in kept; 0: none
	one     [1]engine.Offset
	wait    bool
}

// Publish routes a message of a sender without a session.
func (e *Engine) Publish(ctx context.Context, m *engine.Message, done func(error)) {
	o, err := e.org(m.Org)
	if err != nil {
		tell(done, err)
		return
	}
	o.publish(ctx, nil, o.match(m.Topic, nil, 0), m, 0, done)
}

// Publish routes a message.
func (h *handle) Publish(ctx context.Context, m *engine.Message, packetID uint16, done func(error)) {
	switch o := h.s.o; {
	case !h.held():
		tell(done, engine.ErrLost)
	case m.Org != o.id:
		tell(done, errs.E(errs.Denied, "a message must stay in its organisation"))
	case packetID != 0 && h.s.persistent && h.recorded(packetID):
		o.e.loop.barrier(done)
	default:
		if !h.s.persistent {
			packetID = 0
		}
		o.publish(ctx, h, h.match(m.Topic), m, packetID, done)
	}
}

// recorded reports whether the message with a packet identifier was received
// before. One that was refused was not: what has its identifier now is another.
func (h *handle) recorded(packetID uint16) bool {
	for _, id := range h.refused.take() {
		delete(h.received, id)
	}
	_, ok := h.received[packetID]
	return ok
}

func tell(done func(error), err error) {
	if done != nil {
		done(err)
	}
}

// publish delivers m to whoever gets it from memory, and sends it to the loop
// if anything of it is to be kept.
func (o *org) publish(ctx context.Context, h *handle, to *match, m *engine.Message, packetID uint16, done func(error)) {
	if !m.Retain && packetID == 0 && (m.QoS == 0 || len(to.kept)+len(to.groups) == 0) {
		o.pass(h, to, m)
		tell(done, nil)
		return
	}
	p := publications.Get().(*publication)
	*p = publication{
		o: o, from: h, done: done, topic: m.Topic, size: sizeOf(m), expires: millis(m.Expires),
		retain: m.Retain, qos: m.QoS, retains: m.Retain, packetID: packetID, wait: m.QoS > 0,
	}
	if err := p.address(to, m); err != nil {
		p.forget()
		tell(done, err)
		return
	}
	if !p.retains && packetID == 0 && len(p.kept)+len(p.crowded) == 0 {
		p.deliver(m)
		p.forget()
		tell(done, nil)
		return
	}
	if err := p.prepare(ctx, m); err != nil {
		p.unreserve()
		p.forget()
		tell(done, err)
		return
	}
	if packetID == 0 {
		// A QoS 2 message is delivered when its identifier is recorded, so that
		// it is delivered once; any other goes out now.
		p.deliver(m)
	} else {
		if h.received == nil {
			h.received = map[uint16]struct{}{}
		}
		h.received[packetID] = struct{}{}
	}
	p.send()
}

// pass delivers a message that nobody keeps. It does not allocate.
func (o *org) pass(h *handle, to *match, m *engine.Message) {
	deliverAll(to.live, m)
	if m.QoS > 0 {
		return
	}
	deliverAll(to.kept, m)
	var from *session
	if h != nil {
		from = h.s
	}
	for _, g := range to.groups {
		if t, how, _ := g.choose(m, from, 0); how == toHolder {
			t.deliver(m)
		}
	}
}

func deliverAll(to []target, m *engine.Message) {
	for i := range to {
		to[i].deliver(m)
	}
}

// address decides who gets the message, and reserves room in every queue that
// must keep it: in all of them or in none. The loop sees to those that have no
// room and end rather than refuse.
func (p *publication) address(to *match, m *engine.Message) error {
	var from *session
	if p.from != nil {
		from = p.from.s
	}
	p.live = to.live
	p.kept = to.kept
	if m.QoS == 0 {
		p.more, p.kept = to.kept, nil
	}
	if p.split() {
		p.more, p.kept = nil, nil
		for _, t := range to.kept {
			if min(m.QoS, t.qos) == 0 {
				p.more = append(p.more, t)
			} else {
				p.kept = append(p.kept, t)
			}
		}
	}
	for i := 0; i < len(p.kept); i++ {
		s := p.kept[i].s
		why := s.reserve(p.size)
		if why == fullNot {
			continue
		}
		if s.endWhenFull.Load() {
			p.crowded = append(p.crowded, p.kept[i])
			p.kept = slices.Delete(slices.Clone(p.kept), i, i+1)
			i--
			continue
		}
		p.kept = p.kept[:i]
		p.unreserveSessions()
		return s.refuse(why)
	}
	for _, g := range to.groups {
		t, how, why := g.choose(m, from, p.size)
		switch {
		case how == toQueue:
			p.kept = append(p.kept[:len(p.kept):len(p.kept)], t)
		case how == toHolder:
			p.more = append(p.more[:len(p.more):len(p.more)], t)
		case why != fullNot && t.s.endWhenFull.Load():
			p.crowded = append(p.crowded, t)
		case why != fullNot:
			p.unreserveSessions()
			return t.s.refuse(why)
		}
	}
	if n := int64(len(p.kept)); n > 0 {
		if err := p.o.reserve(n, p.size); err != nil {
			p.unreserveSessions()
			return err
		}
	}
	return nil
}

// split reports whether a persistent session gets the message at QoS 0.
func (p *publication) split() bool {
	for i := range p.kept {
		if p.kept[i].qos == 0 {
			return true
		}
	}
	return false
}

// unreserve gives back the room that address has reserved.
func (p *publication) unreserve() {
	p.o.unreserve(int64(len(p.kept)), p.size)
	p.unreserveSessions()
}

func (p *publication) unreserveSessions() {
	for i := range p.kept {
		p.kept[i].s.unreserve(p.size)
	}
	p.kept = nil
}

func (p *publication) deliver(m *engine.Message) {
	deliverAll(p.live, m)
	deliverAll(p.more, m)
	p.live, p.more = nil, nil
}

// mayWait is called before the publisher has to wait.
func (p *publication) mayWait() {
	if p != nil && p.from != nil && p.from.mayWait != nil {
		p.from.mayWait()
	}
}

// What a publication needs is lent, from Publish to the end of its batch.
var (
	publications = sync.Pool{New: func() any { return new(publication) }}
	sealings     = sync.Pool{New: func() any { return new(sealing) }}
)

// A sealing is the space to seal a message.
type sealing struct{ plain, sealed, additional []byte }

// maxSealing bounds the space that is kept for the next message.
const maxSealing = 64 << 10

// seal seals the message.
func (p *publication) seal(s Sealer, m *engine.Message) {
	x := sealings.Get().(*sealing)
	x.plain = appendMessage(x.plain[:0], m)
	x.additional = appendAdditional(x.additional[:0], sealMessage, p.o.id, p.number)
	x.sealed = s.Seal(x.sealed[:0], x.plain, x.additional)
	p.sealed, p.sealing = x.sealed, x
}

// written says that what was sealed is in a batch, or not to be in any. What is
// retained is not lent: whoever subscribes meanwhile may take it from memory.
func (p *publication) written() {
	if p.retains {
		return
	}
	x := p.sealing
	p.sealing, p.sealed = nil, nil
	if x != nil && cap(x.sealed)+cap(x.plain) <= maxSealing {
		sealings.Put(x)
	}
}

// forget says that nobody has p any more.
func (p *publication) forget() {
	p.written()
	*p = publication{}
	publications.Put(p)
}

// prepare checks that the message can be kept, waits for its turn and seals it.
func (p *publication) prepare(ctx context.Context, m *engine.Message) error {
	e := p.o.e
	if err := e.health.refusal(); err != nil && !(p.frees(m) && errors.Is(err, engine.ErrDiskFull)) {
		return err
	}
	if p.o.sealer.Load() == nil {
		p.mayWait()
	}
	if _, err := p.o.seal(ctx); err != nil {
		return err // asked here as well: a key that is long in coming takes up no room
	}
	p.cost = 256 + int(p.size) + 96*(len(p.kept)+len(p.crowded))
	if err := e.loop.admit(ctx, p.o, p.cost, p); err != nil {
		return err
	}
	if len(p.kept)+len(p.crowded) > 0 || p.retains && len(m.Payload) > 0 {
		p.drops = p.o.drops.Load()
		s, err := p.o.seal(ctx)
		if err != nil {
			e.loop.readmit(p.o, p.cost)
			return err
		}
		p.number = e.number()
		p.seal(s, m)
	}
	if p.retains {
		if err := p.reserveRetained(ctx, len(m.Payload) > 0); err != nil {
			e.loop.readmit(p.o, p.cost)
			return err
		}
	}
	if p.retains || p.packetID != 0 || p.heldTarget() {
		p.message = cloneMessage(m)
	}
	return nil
}

// frees reports whether all that is kept of the message is that a retained one
// is removed: that goes on when the disk is full.
func (p *publication) frees(m *engine.Message) bool {
	return p.retains && len(m.Payload) == 0 && p.packetID == 0 && len(p.kept)+len(p.crowded) == 0
}

// reserveRetained makes room for the retained message: before anybody gets it,
// for what is refused to its publisher goes to nobody.
func (p *publication) reserveRetained(ctx context.Context, stays bool) (err error) {
	p.mayWait()
	if p.slot, err = p.o.enter(ctx, p.topic.String()); err != nil || !stays {
		return err
	}
	if err = p.o.reserveRetained(p.slot, p.retainedSize()); err != nil {
		p.o.leave(p.topic.String(), p.slot)
	}
	return err
}

func (p *publication) retainedSize() int64 { return retainedSize(p.topic.String(), p.sealed) }

// heldTarget reports whether a session that queues the message is held, and so
// will read it at once.
func (p *publication) heldTarget() bool {
	for i := range p.kept {
		if p.kept[i].s.holder.Load() != nil {
			return true
		}
	}
	return false
}

// send hands the publication to the loop. done is p's from here on, and p the
// loop's once it is in the queue.
func (p *publication) send() {
	o, done, wait, retains := p.o, p.done, p.wait, p.retains
	l := o.e.loop
	if !wait {
		p.done = nil
	}
	if retains {
		o.retained.Lock()
		o.retained.pending[p.topic.String()] = p
	}
	ok := l.enqueue(p)
	if retains {
		if !ok {
			delete(o.retained.pending, p.topic.String())
			o.retained.leave(p.topic.String(), p.slot)
		}
		o.retained.Unlock()
	}
	switch {
	case !ok:
		p.unreserve()
		l.readmit(o, p.cost)
		p.forget()
		tell(done, errClosed())
	case !wait:
		tell(done, nil)
	}
}

// sizeOf returns what a message counts against the bytes of a queue.
func sizeOf(m *engine.Message) int64 {
	return int64(len(m.Payload) + len(m.Topic.String()) + len(m.Properties) + 64)
}
