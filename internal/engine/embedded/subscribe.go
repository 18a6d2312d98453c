package embedded

import (
	"context"
	"errors"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// subscribe is what Subscribe does.
type subscribe struct {
	waiter
	h      *handle
	subs   []engine.Subscription
	became []engine.Subscribed
	scans  []*scan
}

// Subscribe adds or replaces subscriptions, and queues retained messages.
func (h *handle) Subscribe(ctx context.Context, subs []engine.Subscription) ([]engine.Subscribed, error) {
	for i := range subs {
		if subs[i].QoS > 2 || subs[i].Filter.String() == "" {
			return nil, errs.E(errs.Invalid, "a subscription needs a filter and a QoS of 0, 1 or 2")
		}
	}
	l := h.s.o.e.loop
	op := &subscribe{waiter: newWaiter(), h: h, subs: subs, became: make([]engine.Subscribed, len(subs))}
	if err := l.do(ctx, op, op.waiter); err != nil {
		l.enqueue(&endScans{waiter: newWaiter(), h: h}) // it may have begun them
		return nil, err
	}
	if len(op.scans) == 0 {
		return op.became, nil
	}
	var err error
	for _, c := range op.scans {
		if err = c.run(ctx); err != nil {
			break
		}
	}
	end := &endScans{waiter: newWaiter(), h: h}
	ended := l.do(ctx, end, end.waiter)
	if err == nil {
		err = ended
	}
	if ctx.Err() != nil || errors.Is(ended, engine.ErrClosed) {
		if err == nil { // all went well, and who asked is gone
			err = ctx.Err()
		}
		return nil, err // the loop may still be writing what became of them
	}
	return op.became, err
}

func (c *subscribe) run(l *loop) {
	s := c.h.s
	if !c.h.held() {
		c.result <- engine.ErrLost
		return
	}
	if err := l.e.health.refusal(); err != nil && s.persistent {
		c.result <- err
		return
	}
	if err := c.room(); err != nil {
		c.result <- err
		return
	}
	for i := range c.subs {
		in := c.subs[i]
		when := in.Retained
		in.Retained = engine.RetainedNever
		existed := l.subscribe(s, in)
		c.became[i].Existed = existed
		if s.persistent && in.QoS > 0 && in.Group == "" &&
			(when == engine.RetainedAlways || when == engine.RetainedIfNew && !existed) {
			c.became[i].Queued = true
			c.scans = append(c.scans, newScan(c.h, in, &c.became[i]))
		}
	}
	s.scans = c.scans
	if s.persistent {
		l.wait(c)
	} else {
		c.result <- nil
	}
}

// room returns nil if the organisation may have the subscriptions that are not
// there yet.
func (c *subscribe) room() error {
	s := c.h.s
	most := s.o.limits.Load().Get(quota.OrgSubscriptions)
	left := most - s.o.subs.Load()
	if left >= int64(len(c.subs)) {
		return nil
	}
	fresh := map[subName]struct{}{}
	for i := range c.subs {
		name := subName{c.subs[i].Group, c.subs[i].Filter.String()}
		if s.subs.get(name) == nil {
			fresh[name] = struct{}{}
		}
	}
	if n := int64(len(fresh)); n > 0 && n > left {
		return quota.Exceeded(quota.OrgSubscriptions, most)
	}
	return nil
}

// subscribe puts one subscription into effect and keeps it. It is in effect
// before it is durable; who asked for it hears of it when it is both.
func (l *loop) subscribe(s *session, in engine.Subscription) (existed bool) {
	name := subName{in.Group, in.Filter.String()}
	old := s.subs.get(name)
	if old != nil && old.subscription() == in {
		return true // clients subscribe again whenever they connect
	}
	l.enter(s, in, old)
	if s.persistent {
		l.key = subKey(l.key[:0], s.o.id, s.number, name)
		l.value = appendSub(l.value[:0], &in)
		l.building.set(l.key, l.value)
	}
	return old != nil
}

// enter puts a subscription into effect, in place of old if that is not nil.
func (l *loop) enter(s *session, in engine.Subscription, old *sub) {
	n := newSub(s, in)
	if in.Group != "" {
		s.o.join(n, in.Group, old)
	} else {
		s.o.addSub(n, old)
	}
	s.subs.put(n)
	if old == nil {
		s.o.subs.Add(1)
	}
}

// unsubscribe is what Unsubscribe does.
type unsubscribe struct {
	waiter
	h       *handle
	name    subName
	existed bool
}

// Unsubscribe removes a subscription.
func (h *handle) Unsubscribe(ctx context.Context, f topic.Filter, group string) (bool, error) {
	op := &unsubscribe{waiter: newWaiter(), h: h, name: subName{group, f.String()}}
	if err := h.s.o.e.loop.do(ctx, op, op.waiter); err != nil {
		return false, err
	}
	return op.existed, nil
}

func (c *unsubscribe) run(l *loop) {
	s := c.h.s
	if !c.h.held() {
		c.result <- engine.ErrLost
		return
	}
	if err := l.failed(); err != nil && s.persistent {
		c.result <- err
		return
	}
	if old := s.subs.get(c.name); old != nil {
		c.existed = true
		s.subs.remove(c.name)
		s.o.removeSub(old)
		s.o.subs.Add(-1)
		if s.persistent {
			l.key = subKey(l.key[:0], s.o.id, s.number, c.name)
			l.building.delete(l.key)
		}
	}
	if s.persistent {
		l.wait(c)
	} else {
		c.result <- nil
	}
}
