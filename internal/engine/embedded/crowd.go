package embedded

import (
	"fmt"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
)

// crowd looks again for room in the sessions that had none, and ends those that
// have none still. It refuses the publication, and ends nobody, if it comes upon
// a session that would rather refuse it by now.
//
// The end is in the batch that keeps the message for the others, and whose
// commit the publisher waits for: a crash leaves either a session that has
// ended, or a message that was not acknowledged, and never a gap in a queue.
func (p *publication) crowd(l *loop) error {
	if len(p.crowded) == 0 {
		return nil
	}
	full := make([]fullness, len(p.crowded))
	for i, t := range p.crowded {
		if t.s.gone {
			continue
		}
		full[i] = t.s.reserve(p.size)
		if full[i] != fullNot {
			if !t.s.endWhenFull.Load() {
				return t.s.refuse(full[i])
			}
			continue
		}
		if err := p.o.reserve(1, p.size); err != nil {
			t.s.unreserve(p.size)
			return err
		}
		p.kept = append(p.kept[:len(p.kept):len(p.kept)], t)
	}
	for i, t := range p.crowded {
		if full[i] != fullNot && !t.s.gone {
			l.endFull(t.s, full[i])
		}
	}
	return nil
}

// endFull ends a session whose queue is full, with all it holds but its will.
func (l *loop) endFull(s *session, why fullness) {
	s.note(why, quota.Ended, 1)
	if h := s.holder.Load(); h != nil {
		// First it hears why: then nothing it calls tells it less.
		limit, value := s.limitOf(why)
		h.sink.Lost(errs.Wrap(errs.Exhausted, fmt.Errorf("%w: %w", engine.ErrEnded, quota.Exceeded(limit, value)),
			"the queue of the session is full"))
		s.holder.Store(nil)
		s.o.held.Add(-1)
		l.closeWill(s.id, true, l.e.now())
	} else if _, ok := s.o.wills[s.id]; ok && l.e.ended != nil {
		l.e.ended(s.id)
	}
	l.end(s)
}
