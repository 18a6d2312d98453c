package embedded

import (
	"context"
	"sync"
	"time"
)

// An op is something the loop does. It changes what is in memory at once, adds
// what must be kept to the batch being built, and may ask to be told when that
// batch is durable. After a failure it gets a batch that keeps nothing.
type op interface {
	run(l *loop)
}

// A finisher is told what became of the batch it was added to: nil means that
// all of it is durable.
type finisher interface {
	finish(l *loop, err error)
}

// The loop is the goroutine that owns the state of an Engine.
type loop struct {
	e      *Engine
	writer *writer
	done   chan struct{}
	wake   chan struct{}

	mu     sync.Mutex // guards what follows
	queue  []op
	pool   pool
	closed bool

	// Of the goroutine.
	spare     []op
	building  *batch
	committed *batch // with the writer; nil: none
	finishing *batch // whose finishers are being told; nil: none
	reuse     *batch
	sequence  uint64
	refs      refs
	deadlines deadlines
	timer     *time.Timer
	stopping  bool
	key, key2 []byte // scratch
	value     []byte // scratch
}

func newLoop(e *Engine) *loop {
	l := &loop{
		e: e, writer: newWriter(e), done: make(chan struct{}),
		wake: make(chan struct{}, 1),
	}
	l.refs.init(e)
	l.begin()
	return l
}

func (l *loop) start() {
	l.writer.start()
	go l.main()
}

// stop lets the loop finish what is waiting, and waits for it.
func (l *loop) stop() {
	l.enqueue(&stopOp{})
	<-l.done
	l.writer.stop()
}

// enqueue gives the loop an op. It reports false if the loop takes no more.
func (l *loop) enqueue(o op) bool {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return false
	}
	l.queue = append(l.queue, o)
	first := len(l.queue) == 1
	l.mu.Unlock()
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (l *loop) main() {
	defer close(l.done)
	l.timer = time.NewTimer(0)
	defer l.timer.Stop()
	failing := l.e.health.failing()
	for !l.stopping || !l.idle() {
		select {
		case <-l.wake:
			l.take()
		case err := <-l.writer.results:
			l.complete(err)
		case <-failing:
			failing = nil
			if l.committed != nil {
				// The writer may be stuck in the store for ever: do not wait for it.
				l.writer.abandon()
				l.complete(l.e.health.refusal())
			}
		case <-l.timer.C:
			l.expireSessions()
		}
		l.dispatch()
	}
}

// idle reports whether nothing is left to be done.
func (l *loop) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0 && l.committed == nil && l.building.empty()
}

// take runs what is waiting.
func (l *loop) take() {
	l.mu.Lock()
	ops := l.queue
	l.queue = l.spare[:0]
	l.mu.Unlock()
	for i, o := range ops {
		o.run(l)
		ops[i] = nil
	}
	l.spare = ops
	if cap(ops) > 1<<16 {
		l.spare = nil
	}
}

// dispatch hands the batch being built to the writer if that is free.
func (l *loop) dispatch() {
	for l.committed == nil && !l.building.empty() {
		b := l.building
		l.seal(b)
		l.committed = b
		l.begin()
		if b.writes == nil || b.writes.Empty() {
			// Nothing to write: all before it is done, so this is, too. Or it
			// must not be written.
			l.complete(l.e.health.failure())
			continue
		}
		l.writer.batches <- writes{b.writes, b.sync}
	}
}

// complete tells everyone who is waiting for the batch at the writer.
// Commit point: with nil, from here on all of it survives a crash.
func (l *loop) complete(err error) {
	b := l.committed
	if b == nil {
		return
	}
	l.committed, l.finishing = nil, b
	if err == nil {
		for _, s := range b.ended {
			s.buried(l)
		}
	} else {
		l.refuse(l.building)
	}
	for i, f := range b.finishers {
		f.finish(l, err)
		b.finishers[i] = nil
	}
	for i, s := range b.woken {
		if h := s.holder.Load(); h != nil && err == nil {
			h.sink.Wake()
		}
		s.waking = false
		b.woken[i] = nil
	}
	l.finishing = nil
	l.readmitBatch(b)
	l.refs.committed(b.sequence)
	if b.expiry != 0 && err == nil {
		l.e.sweeper.due(b.expiry)
	}
	b.reset()
	l.reuse = b
}

// wait adds a finisher to the batch being built, which is to be synced.
func (l *loop) wait(f finisher) {
	l.building.sync = true
	l.building.finishers = append(l.building.finishers, f)
}

// after adds a finisher to the batch being built, which need not be synced for it.
func (l *loop) after(f finisher) {
	l.building.finishers = append(l.building.finishers, f)
}

// stopOp ends the loop.
type stopOp struct{}

func (*stopOp) run(l *loop) {
	l.mu.Lock()
	l.closed = true
	waiting := l.pool.empty()
	l.mu.Unlock()
	waiting.tell(errClosed())
	l.stopping = true
	l.letGo()
}

// A waiter is an op whose caller waits in its own goroutine.
type waiter struct{ result chan error }

func newWaiter() waiter { return waiter{make(chan error, 1)} }

func (w waiter) finish(_ *loop, err error) { w.result <- err }

// do runs an op and waits for its result.
func (l *loop) do(ctx context.Context, o op, w waiter) error {
	if !l.enqueue(o) {
		return errClosed()
	}
	select {
	case err := <-w.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
