package embedded

import (
	"context"
	"sync/atomic"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/quota"
)

// totals are what an organisation has now. The loop writes them, but for what
// is queued: there, whatever a publisher has reserved room for counts already.
type totals struct {
	total, persistent, held, subs atomic.Int64 // sessions, and subscriptions
	retainedCount, retainedBytes  atomic.Int64 // as stored

	_                   [64]byte // publishers write what follows and read what surrounds it
	queued, queuedBytes atomic.Int64
	_                   [64]byte
}

// reserve makes room for n messages of one size in the queues of an
// organisation, or tells which of its limits leaves none.
func (o *org) reserve(n, size int64) error {
	limits := o.limits.Load()
	most, mostBytes := limits.Get(quota.OrgQueue), limits.Get(quota.OrgQueueBytes)
	switch full(&o.queued, &o.queuedBytes, n, n*size, most, mostBytes) {
	case fullCount:
		return quota.Exceeded(quota.OrgQueue, most)
	case fullBytes:
		return quota.Exceeded(quota.OrgQueueBytes, mostBytes)
	}
	return nil
}

// unreserve gives room back.
func (o *org) unreserve(n, size int64) {
	o.queued.Add(-n)
	o.queuedBytes.Add(-n * size)
}

// Why there is no room.
type fullness byte

const (
	fullNot fullness = iota
	fullCount
	fullBytes
)

// full adds to a count and a number of bytes, unless one would be more than it
// may be. It looks first: what is too large must not leave too little room for
// others even for a moment.
func full(count, bytes *atomic.Int64, n, size, most, mostBytes int64) fullness {
	if count.Load()+n > most {
		return fullCount
	}
	if bytes.Load()+size > mostBytes {
		return fullBytes
	}
	var f fullness
	switch c, b := count.Add(n), bytes.Add(size); {
	case c > most:
		f = fullCount
	case b > mostBytes:
		f = fullBytes
	default:
		return fullNot
	}
	count.Add(-n)
	bytes.Add(-size)
	return f
}

// Limit sets what an organisation may have.
func (e *Engine) Limit(id auth.OrgID, l quota.Limits) {
	if o, err := e.org(id); err == nil {
		l = l.Over(e.defaults)
		o.limits.Store(&l)
	}
}

// Stats counts what an organisation has now; "" stands for all of them.
func (e *Engine) Stats(_ context.Context, id auth.OrgID) (engine.Stats, error) {
	s := engine.Stats{Err: e.Health()}
	if id != "" {
		if o, ok := e.orgs.Load(id); ok {
			o.(*org).count(&s)
		}
		return s, nil
	}
	e.orgs.Range(func(_, o any) bool {
		o.(*org).count(&s)
		return true
	})
	return s, nil
}

// count adds what the organisation has.
func (o *org) count(s *engine.Stats) {
	s.Sessions += o.total.Load()
	s.Persistent += o.persistent.Load()
	s.Held += o.held.Load()
	s.Subscriptions += o.subs.Load()
	s.Queued += o.queued.Load()
	s.QueuedBytes += o.queuedBytes.Load()
	s.Retained += o.retainedCount.Load()
	s.RetainedBytes += o.retainedBytes.Load()
}
