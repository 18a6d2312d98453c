package embedded

import (
	"container/heap"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

// deadlines are the sessions that will expire, the next one first. It is a
// container/heap, and of the loop.
type deadlines []*session

func (d deadlines) at(i int) time.Time { return d[i].closed.Add(d[i].expiry) }

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d.at(i).Before(d.at(j)) }

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].deadline, d[j].deadline = i, j
}

// Push is for container/heap.
func (d *deadlines) Push(v any) {
	s := v.(*session)
	s.deadline = len(*d)
	*d = append(*d, s)
}

// Pop is for container/heap.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	s := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	s.deadline = -1
	return s
}

func (d *deadlines) remove(s *session) {
	if s.deadline >= 0 {
		heap.Remove(d, s.deadline)
	}
}

// expire has a session that was let go end when its time has come.
func (l *loop) expire(s *session) {
	if s.expiry == engine.Forever {
		return
	}
	heap.Push(&l.deadlines, s)
	if s.deadline == 0 {
		l.setTimer()
	}
}

// setTimer sets the timer for the next deadline.
func (l *loop) setTimer() {
	if l.timer != nil && len(l.deadlines) > 0 {
		l.timer.Reset(l.deadlines.at(0).Sub(l.e.now()))
	}
}

// expireSessions ends the sessions whose time has come. Nobody waits for it: if
// it is not kept, they expire again after the crash.
func (l *loop) expireSessions() {
	now := l.e.now()
	for len(l.deadlines) > 0 && !l.deadlines.at(0).After(now) {
		l.end(l.deadlines[0]) // which takes it off the heap
	}
	l.setTimer()
}
