package embedded

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
)

// claim is what Claim does.
type claim struct {
	waiter
	engine.Claim
	o     *org
	will  sealedRecord
	left  atomic.Bool // the caller does not wait any more
	found engine.Claimed
}

// Claim takes hold of a session.
func (e *Engine) Claim(ctx context.Context, c engine.Claim) (engine.Claimed, error) {
	if c.Sink == nil || c.Expiry < 0 || c.Queue < 0 || c.QueueBytes < 0 {
		return engine.Claimed{}, errs.E(errs.Invalid, "a claim needs a sink, and no negative limits")
	}
	o, err := e.org(c.ID.Owner.Org)
	if err != nil {
		return engine.Claimed{}, err
	}
	if c.Queue == 0 {
		c.Queue = e.limits.Queue
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = e.limits.QueueBytes
	}
	op := &claim{waiter: newWaiter(), Claim: c, o: o}
	if c.Will != nil {
		if err := op.sealWill(ctx); err != nil {
			return engine.Claimed{}, err
		}
	}
	if err := e.loop.do(ctx, op, op.waiter); err != nil {
		// If the claim succeeds after all, it is nobody's.
		op.left.Store(true)
		e.loop.enqueue(&abandoned{op})
		return engine.Claimed{}, err
	}
	return op.found, nil
}

// abandoned closes a session whose claimer has gone.
type abandoned struct{ c *claim }

func (a *abandoned) run(l *loop) {
	if h, ok := a.c.found.Session.(*handle); ok && h.held() {
		l.let(h, engine.Close{Expiry: a.c.Expiry})
	}
}

func (c *claim) run(l *loop) {
	s := c.o.sessions[c.ID]
	keeps := c.Expiry > 0 || s != nil && s.persistent
	if err := c.refusal(l, s, keeps); err != nil {
		c.result <- err
		return
	}
	if c.left.Load() {
		c.result <- context.Canceled
		return
	}
	if s != nil {
		ended := !s.persistent || c.Clean || s.uid != c.UID || s.over(l.e.now())
		if h := s.holder.Swap(nil); h != nil {
			// A session that ends with its connection does not go on in another.
			ended = ended || s.expiry == 0
			c.o.held.Add(-1)
			s.release()
			h.sink.Lost(engine.ErrTakenOver)
		}
		if ended {
			l.end(s)
			s = nil
		}
	}
	c.found.Present = s != nil
	if s == nil {
		s = newSession(c.o, c.ID, l.e.number(), c.Expiry > 0)
		l.add(s)
	}
	s.expiry, s.closed, s.uid = c.Expiry, time.Time{}, c.UID
	s.limit(int64(c.Queue), c.QueueBytes, c.EndWhenFull)
	l.deadlines.remove(s)
	h := &handle{s: s, sink: c.Sink, mayWait: c.MayWait}
	c.found.Session = h
	for sub := range s.subs.all {
		c.found.Subscriptions = append(c.found.Subscriptions, sub.subscription())
	}
	for id := range s.received {
		c.found.Received = append(c.found.Received, id)
		if h.received == nil {
			h.received = map[uint16]struct{}{}
		}
		h.received[id] = struct{}{}
	}
	s.holder.Store(h)
	c.o.held.Add(1)
	c.keepWill(l)
	if s.persistent {
		l.store(s)
		l.wait(c)
		return
	}
	if keeps {
		l.wait(c) // what it discarded
		return
	}
	c.result <- nil
}

// refusal returns why the claim is refused, or nil. A session that is there may
// be claimed on a full disk, and when there are too many: how else would its
// queue become shorter.
func (c *claim) refusal(l *loop, s *session, keeps bool) error {
	if !keeps {
		return nil
	}
	if s != nil && s.persistent {
		return l.failed()
	}
	if err := l.e.health.refusal(); err != nil {
		return err
	}
	if most := c.o.limits.Load().Get(quota.OrgSessions); c.o.persistent.Load() >= most {
		return quota.Exceeded(quota.OrgSessions, most)
	}
	return nil
}

// over reports whether a session that nobody holds has expired.
func (s *session) over(now time.Time) bool {
	return s.holder.Load() == nil && s.expiry != engine.Forever && !s.closed.IsZero() && !now.Before(s.closed.Add(s.expiry))
}

// add puts a new session where it is found.
func (l *loop) add(s *session) {
	o := s.o
	o.sessions[s.id] = s
	if s.persistent {
		o.numbered[s.number] = s
		o.persistent.Add(1)
	}
	if s.next = o.owners[s.id.Owner]; s.next != nil {
		s.next.prev = s
	}
	o.owners[s.id.Owner] = s
	o.total.Add(1)
}

// store writes the record of a session.
func (l *loop) store(s *session) {
	s.mu.Lock()
	sent := s.sent
	s.mu.Unlock()
	r := sessionRecord{
		id: s.id, uid: s.uid, expiry: s.expiry, queue: s.most.Load(), queueBytes: s.mostBytes.Load(),
		endWhenFull: s.endWhenFull.Load(), held: s.holder.Load() != nil, closed: s.closed, sent: sent,
	}
	l.key = numberKey(l.key[:0], keySession, s.o.id, s.number)
	l.value = r.append(l.value[:0])
	l.building.set(l.key, l.value)
}

// end removes a session. Its queue goes later; nobody finds it any more.
func (l *loop) end(s *session) {
	o := s.o
	for sub := range s.subs.all {
		o.removeSub(sub)
	}
	s.noteRefusals()
	o.subs.Add(-int64(s.subs.len()))
	o.total.Add(-1)
	o.queued.Add(-s.cursor.count)
	o.queuedBytes.Add(-s.cursor.bytes)
	delete(o.sessions, s.id)
	delete(o.numbered, s.number)
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case s.next != nil:
		o.owners[s.id.Owner] = s.next
	default:
		delete(o.owners, s.id.Owner)
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.next, s.prev = nil, nil
	s.gone = true
	l.deadlines.remove(s)
	s.release()
	if !s.persistent {
		return
	}
	o.persistent.Add(-1)
	for _, kind := range [...]byte{keySession, keyCursor} {
		l.key = numberKey(l.key[:0], kind, o.id, s.number)
		l.building.delete(l.key)
	}
	for _, kind := range [...]byte{keySub, keyReceived} {
		l.building.deletePrefix(numberKey(nil, kind, o.id, s.number))
	}
	if s.cursor.count > 0 {
		l.key = numberKey(l.key[:0], keyGarbage, o.id, s.number)
		l.building.set(l.key, []byte{recordVersion})
		l.building.ended = append(l.building.ended, s)
	}
}

// buried has the queue of an ended session removed.
func (s *session) buried(l *loop) { l.e.sweeper.collect() }

// closing is what Close does.
type closing struct {
	waiter
	engine.Close
	h *handle
}

// Close lets go of the session.
func (h *handle) Close(ctx context.Context, c engine.Close) error {
	if !h.held() {
		return engine.ErrLost
	}
	op := &closing{waiter: newWaiter(), Close: c, h: h}
	return h.s.o.e.loop.do(ctx, op, op.waiter)
}

func (c *closing) run(l *loop) {
	if !c.h.held() {
		c.result <- engine.ErrLost
		return
	}
	if kept := l.let(c.h, c.Close); kept || c.h.s.persistent {
		l.wait(c)
	} else {
		c.result <- nil
	}
}

// let lets go of a held session. It reports whether a will is kept.
func (l *loop) let(h *handle, c engine.Close) (kept bool) {
	s := h.s
	now := l.e.now()
	s.holder.Store(nil)
	s.o.held.Add(-1)
	s.noteRefusals()
	kept = l.closeWill(s.id, c.KeepWill, now)
	s.release()
	if !s.persistent || c.Expiry <= 0 {
		l.end(s)
		return kept
	}
	s.expiry, s.closed = c.Expiry, now
	l.store(s)
	l.expire(s)
	return kept
}

// letGo closes what is still held, because the engine is being closed: it was
// not cut by a crash, so what was sent is known. Wills are kept as after a
// crash.
func (l *loop) letGo() {
	l.e.orgs.Range(func(_, v any) bool {
		for _, s := range v.(*org).sessions {
			h := s.holder.Swap(nil)
			if h == nil {
				continue
			}
			s.o.held.Add(-1)
			s.release()
			if s.persistent {
				s.closed = l.e.now()
				l.store(s)
			}
			h.sink.Lost(errClosed())
		}
		return true
	})
}
