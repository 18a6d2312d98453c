package embedded

import (
	"container/heap"
	"context"
	"sync"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
)

// A pool is what may wait to be committed, of all organisations. One alone may
// have all of it. While there is none left, publishers stand in line, each
// organisation in its own, and the organisation that has least of the pool is the
// next: so nobody waits for what stands in the line of another organisation, only
// for what that has in the pool already. All of this is guarded by loop.mu.
type pool struct {
	bytes    int    // that are not finished
	lines    lines  // in which somebody stands; then bytes is more than there may be
	admitted uint64 // publishers so far

	spare sync.Pool // of *arrival; not guarded
}

// A line is where the publishers of one organisation stand, and what it has of
// the pool. Guarded by loop.mu.
type line struct {
	held        int
	admitted    uint64 // the number of its publisher that was admitted last
	first, last *arrival
	place       int // in pool.lines, if somebody stands here
}

// An arrival is a publisher that stands in line.
type arrival struct {
	n          int
	next, prev *arrival
	inLine     bool
	turn       chan error // nil: it is admitted; sent once it is out of the line
}

// admit waits until n more bytes of an organisation may wait to be committed.
// This is what slows publishers down to the speed of the disk. p, which may be nil, is told
// before it waits.
func (l *loop) admit(ctx context.Context, o *org, n int, p *publication) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed()
	}
	if l.pool.bytes <= l.e.limits.Pending {
		l.pool.take(o, n)
		l.mu.Unlock()
		return nil
	}
	a := l.pool.arrive(o, n)
	l.mu.Unlock()
	p.mayWait()
	select {
	case err := <-a.turn:
		l.pool.spare.Put(a)
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	left := a.inLine
	if left {
		l.pool.leave(o, a)
	}
	l.mu.Unlock()
	err := ctx.Err()
	if !left {
		err = <-a.turn // its turn came first
	}
	l.pool.spare.Put(a)
	return err
}

func errClosed() error {
	return errs.Wrap(errs.Unavailable, engine.ErrClosed, "the server is shutting down")
}

// readmit gives n bytes of an organisation back.
func (l *loop) readmit(o *org, n int) {
	l.mu.Lock()
	l.pool.give(o, n)
	next := l.pool.next(l.e.limits.Pending)
	l.mu.Unlock()
	next.tell(nil)
}

// readmitBatch gives back what a batch had of each organisation.
func (l *loop) readmitBatch(b *batch) {
	if len(b.charges) == 0 {
		return
	}
	l.mu.Lock()
	for _, c := range b.charges {
		l.pool.give(c.o, c.n)
	}
	next := l.pool.next(l.e.limits.Pending)
	l.mu.Unlock()
	next.tell(nil)
}

func (p *pool) take(o *org, n int) {
	p.bytes += n
	o.line.held += n
	p.admitted++
	o.line.admitted = p.admitted
}

func (p *pool) give(o *org, n int) {
	p.bytes -= n
	o.line.held -= n
	if o.line.first != nil {
		heap.Fix(&p.lines, o.line.place)
	}
}

// arrive puts a publisher at the end of its line.
func (p *pool) arrive(o *org, n int) *arrival {
	a, _ := p.spare.Get().(*arrival)
	if a == nil {
		a = &arrival{turn: make(chan error, 1)}
	}
	a.n, a.inLine, a.next, a.prev = n, true, nil, o.line.last
	if o.line.last = a; a.prev != nil {
		a.prev.next = a
		return a
	}
	o.line.first = a
	heap.Push(&p.lines, o)
	return a
}

// leave takes a publisher out of its line.
func (p *pool) leave(o *org, a *arrival) {
	if a.next != nil {
		a.next.prev = a.prev
	} else {
		o.line.last = a.prev
	}
	if a.prev != nil {
		a.prev.next = a.next
	} else {
		o.line.first = a.next
	}
	a.next, a.prev, a.inLine = nil, nil, false
	if o.line.first == nil {
		heap.Remove(&p.lines, o.line.place)
	} else {
		heap.Fix(&p.lines, o.line.place)
	}
}

// next admits those whose turn it is, and returns them to be told.
func (p *pool) next(most int) (admitted called) {
	for p.bytes <= most && len(p.lines) > 0 {
		o := p.lines[0]
		a := o.line.first
		p.take(o, a.n)
		p.leave(o, a)
		admitted.add(a)
	}
	return admitted
}

// empty takes everybody out of all lines, and returns them to be told.
func (p *pool) empty() (all called) {
	for len(p.lines) > 0 {
		o := p.lines[0]
		a := o.line.first
		p.leave(o, a)
		all.add(a)
	}
	return all
}

// called are those who are out of the line and wait to be told, in order.
type called struct{ first, last *arrival }

func (c *called) add(a *arrival) {
	if c.first == nil {
		c.first = a
	} else {
		c.last.next = a
	}
	c.last = a
}

// tell tells them. It is called without the lock: they may be many.
func (c called) tell(err error) {
	for a := c.first; a != nil; {
		next := a.next // before a is another's
		a.turn <- err
		a = next
	}
}

// lines are those in which somebody stands, the next one first. It is a
// container/heap.
type lines []*org

func (s lines) Len() int { return len(s) }

// Less has the one go first that has least, and of equals the one that went last
// before. What an organisation has goes to 0 while it waits, so each has its turn.
func (s lines) Less(i, j int) bool {
	a, b := &s[i].line, &s[j].line
	if a.held != b.held {
		return a.held < b.held
	}
	return a.admitted < b.admitted
}

func (s lines) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].line.place, s[j].line.place = i, j
}

// Push is for container/heap.
func (s *lines) Push(v any) {
	o := v.(*org)
	o.line.place = len(*s)
	*s = append(*s, o)
}

// Pop is for container/heap.
func (s *lines) Pop() any {
	last := len(*s) - 1
	o := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return o
}
