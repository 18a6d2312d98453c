package broker

import (
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"bytes"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// memory is an engine that keeps everything in memory: enough of one to see
// what the broker asks of an engine.
type memory struct {
	mu       sync.Mutex // guards everything below
	sessions map[engine.SessionID]*memSession
	retained map[auth.OrgID]map[string]*engine.Message
	next     int

	stall   chan struct{} // not nil: Publish completes when it is closed
	refuse  error         // not nil: what Publish says
	waiting sync.WaitGroup

	claiming func() // not nil: is called by Claim, once
	onClaim  func(engine.Claim)
	limits   map[auth.OrgID]quota.Limits
}

type memSession struct {
	e        *memory
	id       engine.SessionID
	expiry   time.Duration
	limit    int
	subs     []engine.Subscription
	queue    []engine.Entry
	last     engine.Offset
	received map[uint16]bool
	will     *engine.Will
	handle   *memHandle
}

type memHandle struct {
	s    *memSession
	sink engine.Sink
}

func newMemory() *memory {
	return &memory{sessions: map[engine.SessionID]*memSession{}, retained: map[auth.OrgID]map[string]*engine.Message{}}
}

func (e *memory) Claim(_ context.Context, k engine.Claim) (engine.Claimed, error) {
	e.mu.Lock()
	hook := e.claiming
	e.claiming = nil
	e.mu.Unlock()
	if hook != nil {
		hook()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sessions[k.ID]
	if s != nil && s.handle != nil {
		s.handle.sink.Lost(engine.ErrTakenOver)
	}
	present := s != nil && !k.Clean
	if !present {
		s = &memSession{e: e, id: k.ID, received: map[uint16]bool{}}
		e.sessions[k.ID] = s
	}
	if e.onClaim != nil {
		e.onClaim(k)
	}
	s.expiry, s.limit, s.will = k.Expiry, k.Queue, k.Will
	s.handle = &memHandle{s, k.Sink}
	return engine.Claimed{
		Session: s.handle, Present: present, Subscriptions: slices.Clone(s.subs),
		Received: slices.Collect(maps.Keys(s.received)),
	}, nil
}

func (e *memory) Publish(_ context.Context, m *engine.Message, done func(error)) {
	e.publish(nil, m, 0, done)
}

func (e *memory) publish(from *memSession, m *engine.Message, id uint16, done func(error)) {
	e.mu.Lock()
	if e.refuse != nil {
		defer e.mu.Unlock()
		done(e.refuse)
		return
	}
	stall := e.stall
	err := e.route(from, m)
	if err == nil && id != 0 {
		from.received[id] = true
	}
	e.mu.Unlock()
	if stall == nil {
		done(err)
		return
	}
	e.waiting.Go(func() {
		<-stall
		done(err)
	})
}

func (e *memory) route(from *memSession, m *engine.Message) error {
	if m.Retain {
		org := e.retained[m.Org]
		if org == nil {
			org = map[string]*engine.Message{}
			e.retained[m.Org] = org
		}
		if len(m.Payload) == 0 {
			delete(org, m.Topic.String())
		} else {
			org[m.Topic.String()] = own(m)
		}
	}
	type target struct {
		s *memSession
		d engine.Delivery
	}
	var targets []target
	groups := map[string][]target{}
	for _, s := range e.sessions {
		if s.id.Owner.Org != m.Org {
			continue
		}
		var d engine.Delivery
		hit := false
		for _, sub := range s.subs {
			if !sub.Filter.Match(m.Topic) || sub.NoLocal && s == from {
				continue
			}
			one := engine.Delivery{QoS: min(sub.QoS, m.QoS), Retain: m.Retain && sub.RetainAsPublished}
			if sub.ID != 0 {
				one.IDs = []uint32{sub.ID}
			}
			if sub.Group != "" {
				key := s.id.Owner.String() + "/" + sub.Group + "/" + sub.Filter.String()
				groups[key] = append(groups[key], target{s, one})
				continue
			}
			hit = true
			d = engine.Delivery{QoS: max(d.QoS, one.QoS), Retain: d.Retain || one.Retain, IDs: append(d.IDs, one.IDs...)}
		}
		if hit {
			targets = append(targets, target{s, d})
		}
	}
	for _, members := range groups {
		e.next++
		slices.SortFunc(members, func(a, b target) int { return strings.Compare(a.s.id.Client, b.s.id.Client) })
		targets = append(targets, members[e.next%len(members)])
	}
	for _, t := range targets {
		if t.s.expiry > 0 && t.d.QoS > 0 && t.s.limit > 0 && len(t.s.queue) >= t.s.limit {
			return engine.ErrQueueFull
		}
	}
	for _, t := range targets {
		t.s.deliver(m, t.d)
	}
	return nil
}

func (s *memSession) deliver(m *engine.Message, d engine.Delivery) {
	if s.expiry > 0 && d.QoS > 0 {
		s.last++
		s.queue = append(s.queue, engine.Entry{Offset: s.last, Message: own(m), Delivery: d})
		if s.handle != nil {
			s.handle.sink.Wake()
		}
	} else if s.handle != nil {
		s.handle.sink.Deliver(m, d)
	}
}

func own(m *engine.Message) *engine.Message {
	k := *m
	k.Payload, k.Properties = bytes.Clone(m.Payload), m.Properties.Clone()
	return &k
}

func (e *memory) Retained(_ context.Context, org auth.OrgID, f topic.Filter) iter.Seq2[*engine.Message, error] {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*engine.Message
	for _, name := range slices.Sorted(maps.Keys(e.retained[org])) {
		if m := e.retained[org][name]; f.Match(m.Topic) && (m.Expires.IsZero() || time.Now().Before(m.Expires)) {
			found = append(found, m)
		}
	}
	return func(yield func(*engine.Message, error) bool) {
		for _, m := range found {
			if !yield(m, nil) {
				return
			}
		}
	}
}

func (e *memory) Wills(context.Context) iter.Seq2[*engine.Will, error] {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*engine.Will
	for _, s := range e.sessions {
		if s.handle == nil && s.will != nil {
			w := *s.will
			w.Delay = min(w.Delay, s.expiry)
			found = append(found, &w)
		}
	}
	return func(yield func(*engine.Will, error) bool) {
		for _, w := range found {
			if !yield(w, nil) {
				return
			}
		}
	}
}

func (e *memory) DropWill(_ context.Context, id engine.SessionID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s := e.sessions[id]; s != nil && s.handle == nil {
		s.will = nil
	}
	return nil
}

func (e *memory) Drop(_ context.Context, owner auth.Principal) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, s := range e.sessions {
		if owner.Covers(id.Owner) {
			delete(e.sessions, id)
			if s.handle != nil {
				s.handle.sink.Lost(engine.ErrDropped)
			}
		}
	}
	return nil
}

func (e *memory) Limit(org auth.OrgID, l quota.Limits) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.limits == nil {
		e.limits = map[auth.OrgID]quota.Limits{}
	}
	e.limits[org] = l
}

func (e *memory) Stats(context.Context, auth.OrgID) (engine.Stats, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return engine.Stats{Sessions: int64(len(e.sessions))}, nil
}

// crash lets go of all sessions as a crash would: nobody is told.
func (e *memory) crash() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sessions {
		s.handle = nil
	}
}

func (h *memHandle) lock() (func(), error) {
	h.s.e.mu.Lock()
	if h.s.handle != h || h.s.e.sessions[h.s.id] != h.s {
		h.s.e.mu.Unlock()
		return nil, engine.ErrLost
	}
	return h.s.e.mu.Unlock, nil
}

func (h *memHandle) Subscribe(_ context.Context, subs []engine.Subscription) ([]engine.Subscribed, error) {
	unlock, err := h.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	became := make([]engine.Subscribed, len(subs))
	for i, sub := range subs {
		when := sub.Retained
		sub.Retained = engine.RetainedNever
		at := slices.IndexFunc(h.s.subs, func(s engine.Subscription) bool { return s.Filter == sub.Filter && s.Group == sub.Group })
		if became[i].Existed = at >= 0; became[i].Existed {
			h.s.subs[at] = sub
		} else {
			h.s.subs = append(h.s.subs, sub)
		}
		wanted := when == engine.RetainedAlways || when == engine.RetainedIfNew && at < 0
		if wanted && h.s.expiry > 0 && sub.QoS > 0 && sub.Group == "" {
			h.s.queueRetained(&sub, &became[i])
		}
	}
	return became, nil
}

func (s *memSession) queueRetained(sub *engine.Subscription, r *engine.Subscribed) {
	r.Queued = true
	org := s.e.retained[s.id.Owner.Org]
	for _, name := range slices.Sorted(maps.Keys(org)) {
		m := org[name]
		d := engine.Delivery{QoS: min(m.QoS, sub.QoS), Retain: true}
		if sub.ID != 0 {
			d.IDs = []uint32{sub.ID}
		}
		switch {
		case !sub.Filter.Match(m.Topic) || !m.Expires.IsZero() && !time.Now().Before(m.Expires):
		case d.QoS == 0:
			r.Direct++
		case s.limit > 0 && len(s.queue) >= s.limit:
			r.LeftOut++
		default:
			s.deliver(m, d)
			r.Last = s.last
		}
	}
}

func (h *memHandle) Unsubscribe(_ context.Context, f topic.Filter, group string) (bool, error) {
	unlock, err := h.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	n := len(h.s.subs)
	h.s.subs = slices.DeleteFunc(h.s.subs, func(s engine.Subscription) bool { return s.Filter == f && s.Group == group })
	return len(h.s.subs) < n, nil
}

func (h *memHandle) Publish(_ context.Context, m *engine.Message, id uint16, done func(error)) {
	h.s.e.publish(h.s, m, id, done)
}

func (h *memHandle) Forget(id uint16, done func(error)) {
	unlock, err := h.lock()
	if err == nil {
		delete(h.s.received, id)
		unlock()
	}
	done(err)
}

func (h *memHandle) Read(_ context.Context, after engine.Offset, dst []engine.Entry) ([]engine.Entry, error) {
	unlock, err := h.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	for i := range h.s.queue {
		if q := &h.s.queue[i]; q.Offset > after && len(dst) < cap(dst) {
			dst = append(dst, *q)
			q.Sent = true
		}
	}
	return dst, nil
}

func (h *memHandle) Ack(o engine.Offset) {
	if unlock, err := h.lock(); err == nil {
		h.s.queue = slices.DeleteFunc(h.s.queue, func(q engine.Entry) bool { return q.Offset == o })
		unlock()
	}
}

func (h *memHandle) Release(o engine.Offset, done func(error)) {
	unlock, err := h.lock()
	if err == nil {
		for i := range h.s.queue {
			if q := &h.s.queue[i]; q.Offset == o {
				q.Released, q.Message = true, nil
			}
		}
		unlock()
	}
	done(err)
}

func (h *memHandle) Close(_ context.Context, k engine.Close) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	h.s.handle, h.s.expiry = nil, k.Expiry
	if !k.KeepWill {
		h.s.will = nil
	}
	if k.Expiry == 0 {
		delete(h.s.e.sessions, h.s.id)
	}
	return nil
}

// queued counts the entries of all queues.
func (e *memory) queued() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sessions {
		n += len(s.queue)
	}
	return n
}

// hang has publishing complete no more, until goOn is called.
func (e *memory) hang() (goOn func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	gate := make(chan struct{})
	e.stall = gate
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.stall = nil
		close(gate)
	}
}

func engineOffset(n uint64) engine.Offset { return engine.Offset(n) }

// wills counts the wills that are kept for sessions that nobody holds.
func (e *memory) wills() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sessions {
		if s.handle == nil && s.will != nil {
			n++
		}
	}
	return n
}
