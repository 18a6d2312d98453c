package embedded

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
)

// refusals are how often a session had no room, as far as the limit log does not
// know yet: publishers may come upon a full queue very often.
type refusals struct {
	count, bytes atomic.Int64 // by the limit that was reached
	noted        atomic.Int64 // when the limit log was told last, in seconds
}

// refuse notes that a message found no room in the queue of s, and returns what
// its publisher is told.
func (s *session) refuse(why fullness) error {
	r := &s.refused
	l, value := s.limitOf(why)
	if why == fullCount {
		r.count.Add(1)
	} else {
		r.bytes.Add(1)
	}
	now := time.Now().Unix()
	if last := r.noted.Load(); last != now && r.noted.CompareAndSwap(last, now) {
		s.noteRefusals()
	}
	return errs.Wrap(errs.Exhausted, fmt.Errorf("%w: %w", engine.ErrQueueFull, quota.Exceeded(l, value)),
		"the queue of a receiver is full")
}

// limitOf returns the limit of the session that was reached, and its value.
func (s *session) limitOf(why fullness) (quota.Limit, int64) {
	if why == fullCount {
		return quota.ClientQueue, s.most.Load()
	}
	return quota.ClientQueueBytes, s.mostBytes.Load()
}

// noteRefusals tells the limit log what it does not know yet.
func (s *session) noteRefusals() {
	s.note(fullCount, quota.Refused, s.refused.count.Swap(0))
	s.note(fullBytes, quota.Refused, s.refused.bytes.Swap(0))
}

// note lets the owner of the session see that its queue was full.
func (s *session) note(why fullness, o quota.Outcome, n int64) {
	if n == 0 {
		return
	}
	l, value := s.limitOf(why)
	s.o.e.limitLog.Add(quota.Event{
		Org: string(s.o.id), Principal: s.id.Owner.String(), Client: s.id.Client,
		Limit: l, Value: value, Outcome: o, Count: n,
	})
}
