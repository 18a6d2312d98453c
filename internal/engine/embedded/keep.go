package embedded

import (
	"fmt"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
)

// run keeps a publication: it numbers its entries and writes all of it into the
// batch being built.
func (p *publication) run(l *loop) {
	l.building.charge(p.o, p.cost)
	switch {
	case l.failed() != nil:
		p.refuse(l, l.failed())
		return
	case p.from != nil && !p.from.held():
		// Whoever sent it was taken over or dropped in the meantime.
		p.refuse(l, engine.ErrLost)
		return
	case p.sealed != nil && p.drops != p.o.drops.Load():
		// What it was sealed with may be gone.
		p.refuse(l, errs.Wrap(errs.NotFound, engine.ErrDropped, "the organisation was deleted"))
		return
	}
	if err := p.crowd(l); err != nil {
		p.refuse(l, err)
		return
	}
	p.keep(l)
	if p.packetID != 0 && !p.from.s.gone {
		s := p.from.s
		if s.received == nil {
			s.received = map[uint16]struct{}{}
		}
		s.received[p.packetID] = struct{}{}
		l.key = receivedKey(l.key[:0], s.o.id, s.number, p.packetID)
		l.building.set(l.key, []byte{recordVersion})
	}
	if p.retains {
		p.keepRetained(l)
	}
	p.written()
	if p.wait {
		l.wait(p)
	} else {
		l.after(p)
	}
}

// refuse tells that nothing was kept, once all before it is finished.
func (p *publication) refuse(l *loop, err error) {
	p.unreserve()
	p.refused = true
	if p.packetID != 0 {
		p.from.refused.add(p.packetID) // before its publisher hears of it
	}
	l.after(&refusal{p, err})
}

type refusal struct {
	p   *publication
	err error
}

func (r *refusal) finish(l *loop, _ error) { r.p.finish(l, r.err) }

// keep writes the queue entries. A message that one session needs stands in the
// entry; one that several need is written once.
func (p *publication) keep(l *loop) {
	p.offsets = p.one[:0]
	if len(p.kept) > 1 {
		p.offsets = make([]engine.Offset, 0, len(p.kept))
	}
	here := 0
	for i := range p.kept {
		if !p.kept[i].s.gone {
			here++
		}
	}
	p.inline = here == 1
	if here > 1 {
		l.key = numberKey(l.key[:0], keyMessage, p.o.id, p.number)
		r := sealedRecord{message: p.number, expires: p.expires, sealed: p.sealed}
		l.value = r.append(l.value[:0])
		l.building.set(l.key, l.value)
		l.refs.add(l.building, refKey{p.o.id, p.number}, here)
	}
	for i := range p.kept {
		t := &p.kept[i]
		if t.s.gone {
			t.s.unreserve(p.size)
			p.o.unreserve(1, p.size)
			p.offsets = append(p.offsets, 0)
			continue
		}
		p.offsets = append(p.offsets, p.keepFor(l, t))
	}
}

// keepFor writes the entry of one session.
func (p *publication) keepFor(l *loop, t *target) engine.Offset {
	for _, c := range t.s.scans {
		c.precede(l, p)
	}
	e := entryRecord{meta: p.meta(), qos: min(p.qos, t.qos), retain: p.retain && t.rap, ids: t.ids}
	if p.inline {
		e.sealed = p.sealed
	}
	return l.queueEntry(t.s, &e)
}

// queueEntry writes the next entry of a queue, in which room is reserved.
func (l *loop) queueEntry(s *session, e *entryRecord) engine.Offset {
	offset := s.cursor.next
	s.cursor.next++
	s.cursor.count++
	s.cursor.bytes += e.size
	l.touch(s)
	l.key = queueKey(l.key[:0], s.o.id, s.number, offset)
	l.value = e.append(l.value[:0])
	l.building.set(l.key, l.value)
	l.index(e.expires, l.key)
	return offset
}

func (p *publication) meta() meta {
	return meta{message: p.number, inline: p.inline, size: p.size, expires: p.expires}
}

// index notes when what stands at key is to be looked at by the sweeper.
func (l *loop) index(expires int64, key []byte) {
	if expires == 0 {
		return
	}
	l.key2 = expiryKey(l.key2[:0], expires, key)
	l.building.set(l.key2, nil)
	if b := l.building; b.expiry == 0 || expires < b.expiry {
		b.expiry = expires
	}
}

// keepRetained writes the retained message of the topic, or removes it.
func (p *publication) keepRetained(l *loop) {
	l.key = retainedKey(l.key[:0], p.o.id, p.topic.String())
	if len(p.message.Payload) == 0 {
		l.building.delete(l.key) // [MQTT-3.3.1-6]
		l.storeRetained(p.o, p.slot, 0, 0)
		return
	}
	l.storeRetained(p.o, p.slot, p.retainedSize(), p.expires)
	r := sealedRecord{message: p.number, expires: p.expires, sealed: p.sealed}
	l.value = r.append(l.value[:0])
	l.building.set(l.key, l.value)
	l.index(p.expires, l.key)
}

// finish makes a durable publication visible and tells its publisher.
func (p *publication) finish(l *loop, err error) {
	if p.retains {
		p.o.retained.Lock()
		if p.o.retained.pending[p.topic.String()] == p {
			delete(p.o.retained.pending, p.topic.String())
		}
		p.o.retained.leave(p.topic.String(), p.slot)
		p.o.retained.Unlock()
	}
	if err == nil {
		p.show(l)
	}
	done := p.done
	p.forget()
	tell(done, err)
}

func (p *publication) show(l *loop) {
	for i, o := range p.offsets {
		if o == 0 {
			continue
		}
		t := &p.kept[i]
		r := recent{offset: o, message: p.message, meta: p.meta()}
		r.delivery = engine.Delivery{QoS: min(p.qos, t.qos), Retain: p.retain && t.rap, IDs: t.ids}
		t.s.visible(r, p.message != nil)
		l.wakeUp(t.s)
	}
	if p.packetID != 0 {
		p.deliver(p.message)
	}
}

// wakeUp has the holder of s woken at the end of the batch that is being finished.
func (l *loop) wakeUp(s *session) {
	if b := l.finishing; b != nil && !s.waking && s.holder.Load() != nil {
		s.waking = true
		b.woken = append(b.woken, s)
	}
}

// A barrier is told when all before it is durable.
type barrier struct{ done func(error) }

func (b *barrier) run(l *loop)               { l.wait(b) }
func (b *barrier) finish(_ *loop, err error) { tell(b.done, err) }

func (l *loop) barrier(done func(error)) {
	if !l.enqueue(&barrier{done}) {
		tell(done, errClosed())
	}
}

// packetForget forgets a packet identifier, for PUBREL.
type packetForget struct {
	h        *handle
	packetID uint16
	done     func(error)
}

// Forget removes a recorded packet identifier.
func (h *handle) Forget(packetID uint16, done func(error)) {
	delete(h.received, packetID)
	if !h.s.persistent {
		tell(done, nil)
		return
	}
	if !h.s.o.e.loop.enqueue(&packetForget{h, packetID, done}) {
		tell(done, errClosed())
	}
}

func (f *packetForget) run(l *loop) {
	s := f.h.s
	if !f.h.held() {
		l.after(&told{f.done, engine.ErrLost})
		return
	}
	if _, ok := s.received[f.packetID]; ok {
		delete(s.received, f.packetID)
		l.key = receivedKey(l.key[:0], s.o.id, s.number, f.packetID)
		l.building.delete(l.key)
	}
	l.wait(f)
}

func (f *packetForget) finish(_ *loop, err error) {
	if err != nil {
		err = fmt.Errorf("forget packet identifier: %w", err)
	}
	tell(f.done, err)
}

// told passes an error on at the end of a batch, whatever became of that.
type told struct {
	done func(error)
	err  error
}

func (t *told) finish(_ *loop, _ error) { tell(t.done, t.err) }
