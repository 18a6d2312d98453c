// Package poll serves many connections with a few goroutines.
//
// A connection that waits for its peer needs a goroutine, with a stack, and when
// something arrives the scheduler wakes it, and after it whoever writes what
// follows from that. Here the system tells which connections can be read (epoll),
// and the goroutine that hears of it reads them one after the other, writes what
// came of it, and waits again. Of these workers one waits and the others rest; it
// hands on the waiting when it has much to do.
//
// A connection stays one of the net package, with its deadlines and its Close. What
// has to wait is done as elsewhere: by a goroutine that waits. A worker that is
// about to wait says so, and another takes its place.
//
// Where the system has no epoll, or the connection is of another kind, there is no
// Poller and every connection has its goroutine.
package poll

import (
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrAgain is what Read returns when nothing is there now: Ready will be called
// when there is. It is a net.Error, and temporary, so that TLS goes on after it.
var ErrAgain net.Error = notYet{}

type notYet struct{}

func (notYet) Error() string   { return "nothing to read now" }
func (notYet) Timeout() bool   { return true }
func (notYet) Temporary() bool { return true }

// A Handler serves a connection that is polled.
type Handler interface {
	// Ready is called when there may be something to read, by one worker at a time.
	// It reads until it gets ErrAgain, and reports whether to go on. It must not
	// wait for anything unless it has called w.Block.
	Ready(w *Worker) bool
}

// A Task is something to do when the workers have read what is there.
type Task interface {
	// Flush must not wait.
	Flush()
}

// share is from how many connections, or tasks, on a worker lets another wait for
// what comes meanwhile; spread is from how many tasks on others help with them.
const (
	share  = 4
	spread = 128
)

// batch is how many connections, or tasks, are taken at a time.
const batch = 64

// A Poller has the workers and knows the connections.
type Poller struct {
	wait   waiter
	conns  table
	lead   chan struct{} // the right to wait
	wg     sync.WaitGroup
	closed chan struct{}
	once   sync.Once // closes

	waits   atomic.Uint64 // how often somebody began to wait
	waiting atomic.Int32  // who does now
	active  atomic.Int32  // workers and helpers that will look at tasks before they rest
	helpers atomic.Int32

	mu    sync.Mutex // guards tasks
	tasks []Task
	spare []Task

	leaving departures
}

// Open starts as many workers as there are processors. Where there is no epoll it
// fails with errors.ErrUnsupported.
func Open() (*Poller, error) {
	p := &Poller{lead: make(chan struct{}, 1), closed: make(chan struct{})}
	if err := p.wait.open(); err != nil {
		return nil, err
	}
	p.lead <- struct{}{}
	for range max(2, runtime.GOMAXPROCS(0)) {
		p.start(&Worker{p: p})
	}
	p.wg.Go(p.watch)
	return p, nil
}

// Close ends the workers, when no connection is polled any more, and waits for
// them. A nil Poller has none.
func (p *Poller) Close() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		close(p.closed)
		p.wait.close()
	})
	p.wg.Wait()
}

func (p *Poller) start(w *Worker) {
	w.gather = w.gatherOnce
	p.wg.Go(w.work)
}

// Later has t done soon: by a worker, when it has read what is there. It may be
// called by anybody.
func (p *Poller) Later(t Task) {
	p.mu.Lock()
	p.tasks = append(p.tasks, t)
	p.mu.Unlock()
	if p.active.Load() == 0 {
		p.help()
	}
}

// help has somebody look at the tasks who is no worker.
func (p *Poller) help() {
	p.active.Add(1)
	p.helpers.Add(1)
	go func() { // ends when there is nothing to do
		p.flush(nil)
		p.helpers.Add(-1)
		p.rest()
	}()
}

// rest says that the caller looks at tasks no more. What came in between is seen
// to: whoever added it may have relied on the caller.
func (p *Poller) rest() {
	if p.active.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	left := len(p.tasks) > 0
	p.mu.Unlock()
	if left {
		p.help()
	}
}

// flush does the tasks. w is nil if the caller is no worker.
func (p *Poller) flush(w *Worker) {
	var some [batch]Task
	for {
		n, left := p.take(some[:])
		if n == 0 {
			return
		}
		if w != nil && n >= share {
			w.handOn()
		}
		if left > spread && int(p.helpers.Load()) < runtime.GOMAXPROCS(0)-1 {
			p.help()
		}
		for i := range some[:n] {
			some[i].Flush()
			some[i] = nil
		}
	}
}

// take takes tasks off the list, the oldest first.
func (p *Poller) take(some []Task) (n, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = copy(some, p.tasks)
	left = len(p.tasks) - n
	switch {
	case n == 0:
	case left == 0:
		clear(p.tasks)
		p.tasks = p.tasks[:0]
		if p.spare != nil {
			p.tasks, p.spare = p.spare, nil
		}
	default:
		clear(p.tasks[:n])
		if p.spare == nil { // its beginning would be lost
			p.spare = p.tasks[:0]
		}
		p.tasks = p.tasks[n:]
	}
	return n, left
}

// watch lets another wait when nobody has for a while, and another see to those
// who depart: whoever did must have been held up by something that nobody expected.
func (p *Poller) watch() {
	const pause = 20 * time.Millisecond
	t := time.NewTicker(pause)
	defer t.Stop()
	last, begun := p.waits.Load(), uint64(0)
	for {
		select {
		case <-p.closed:
			return
		case <-t.C:
		}
		now := p.waits.Load()
		if now == last && p.waiting.Load() == 0 {
			p.start(&Worker{p: p, leading: true, extra: true})
		}
		last = now
		var stuck bool
		if stuck, begun = p.leaving.stuck(begun); stuck {
			p.wg.Go(p.seeOff)
		}
	}
}

// A Worker serves connections that can be read.
type Worker struct {
	p       *Poller
	leading bool // it may wait
	extra   bool // watch has started it, and it goes when another waits
	busy    bool // it counts as active
	blocked bool // another has taken its place
	departs bool // it sees to departures only
	events  events
	next    int
	gather  func(uintptr) bool
}

// Block says that the caller may have to wait. It may from then on: another worker
// goes on with the other connections.
func (w *Worker) Block() {
	if w.blocked {
		return
	}
	w.blocked = true
	if w.departs {
		w.p.wg.Go(w.p.seeOff)
		return
	}
	next := &Worker{p: w.p, leading: w.leading, extra: w.extra, busy: w.busy, events: w.events, next: w.next}
	w.p.start(next)
}

// Blocked reports whether Block was called: another worker goes on, and the caller
// may wait.
func (w *Worker) Blocked() bool { return w.blocked }

// handOn lets another worker wait.
func (w *Worker) handOn() {
	if !w.leading {
		return
	}
	w.leading = false
	select {
	case w.p.lead <- struct{}{}:
	default: // there is one too many, since watch made one
	}
}

func (w *Worker) work() {
	p := w.p
	for {
		if !w.busy {
			if !w.leading {
				<-p.lead
				w.leading = true
			}
			if w.extra && p.waiting.Load() > 0 {
				return
			}
			p.waits.Add(1)
			p.waiting.Add(1)
			w.next = 0
			err := p.wait.wait(w)
			p.waiting.Add(-1)
			if err != nil {
				w.handOn() // the next one ends likewise
				return
			}
			p.active.Add(1)
			w.busy = true
			if w.events.n >= share {
				w.handOn()
			}
		}
		for w.next < w.events.n {
			w.next++
			fd, over := w.events.at(w.next - 1)
			switch c := p.conns.get(fd); {
			case c == nil:
			case !over:
				c.run(w)
			default:
				c.over.Store(true)
				if w.events.n < share {
					c.run(w)
				} else {
					p.depart(c)
				}
			}
			if w.blocked {
				return
			}
		}
		p.flush(w)
		w.busy = false
		p.rest()
	}
}

// States of a connection.
const (
	idle    = iota
	running // somebody reads it
	again   // and has to look again
	ended
)

// A Conn is a connection that can be polled. It lies below TLS, if there is any.
// Until Start it is like the one it was made of.
type Conn struct {
	net.Conn
	p       *Poller
	raw     syscall.RawConn
	handler Handler
	state   atomic.Int32
	polled  atomic.Bool // Read does not wait
	inline  atomic.Bool // Write does not wait
	over    atomic.Bool // the peer sends no more: after what is there comes the end

	// What a call below has to tell, for it must not allocate.
	reading transfer
	ahead   *[]byte    // of who reads: what was read and not asked for yet is in it; nil: nothing
	left    []byte     // of ahead
	mu      sync.Mutex // guards the fields below
	writing transfer
	rest    []byte // written, and not taken by the system yet
}

// A transfer is one call of the system.
type transfer struct {
	call func(uintptr) bool // made once
	b    []byte
	n    int
	err  error
	dry  bool // less was there than there was room for
}

// Wrap makes nc a connection that can be polled, if it is of a kind that can.
func (p *Poller) Wrap(nc net.Conn) net.Conn {
	sc, ok := nc.(syscall.Conn)
	if !ok || p == nil {
		return nc
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nc // it is closed, as will be seen
	}
	return &Conn{Conn: nc, p: p, raw: raw}
}

// Start has h read the connection from now on, also what is there already. Nobody
// else may be reading.
func (c *Conn) Start(h Handler) error {
	c.handler = h
	c.reading.call = c.readNow
	c.writing.call = c.writeNow
	c.polled.Store(true)
	if err := c.p.add(c); err != nil {
		c.polled.Store(false)
		return err
	}
	c.Kick() // TLS may have read it
	return nil
}

// Polled reports whether Start was called: a Handler reads the connection.
func (c *Conn) Polled() bool { return c.polled.Load() }

// Kick has Ready called, whether there is something to read or not.
func (c *Conn) Kick() {
	if c.polled.Load() && c.claim() {
		w := &Worker{p: c.p, blocked: true}
		go c.serve(w) // the handler waits for it before it calls the connection gone
	}
}

// claim reports whether the caller is the one to serve c. If not, whoever does
// will look again.
func (c *Conn) claim() bool {
	for {
		switch s := c.state.Load(); s {
		case idle:
			if c.state.CompareAndSwap(idle, running) {
				return true
			}
		case running:
			if c.state.CompareAndSwap(running, again) {
				return false
			}
		default:
			return false
		}
	}
}

// run serves c if nobody does.
func (c *Conn) run(w *Worker) {
	if c.claim() {
		c.serve(w)
	}
}

func (c *Conn) serve(w *Worker) {
	for {
		c.state.Store(running)
		if !c.handler.Ready(w) {
			c.state.Store(ended)
			return
		}
		if c.state.CompareAndSwap(running, idle) {
			return
		}
	}
}

// Read is net.Conn's. After Start it returns ErrAgain rather than wait.
func (c *Conn) Read(b []byte) (int, error) {
	if !c.polled.Load() {
		return c.Conn.Read(b)
	}
	t := &c.reading
	if c.ahead != nil {
		return c.takeAhead(b), nil
	}
	if t.dry && !c.over.Load() { // what comes after that makes the connection ready again
		t.dry = false
		return 0, ErrAgain
	}
	*t = transfer{call: t.call, b: b} // a call that is refused leaves it as it is
	var lent *[]byte
	if len(b) < aheadSize {
		lent = aheads.Get().(*[]byte)
		t.b = *lent
	}
	err := c.raw.Read(t.call)
	t.b = nil
	if err == nil {
		err = t.err
	}
	if lent == nil {
		return t.n, err
	}
	if c.ahead, c.left = lent, (*lent)[:t.n]; t.n == 0 {
		c.dropAhead()
		return 0, err
	}
	return c.takeAhead(b), nil // an error comes again
}

// TLS reads a record's first bytes and then some more. What a client has sent in
// many records is read with one call, into a buffer that is lent until it is empty.
const aheadSize = 16 << 10

var aheads = sync.Pool{New: func() any { b := make([]byte, aheadSize); return &b }}

// takeAhead takes of what was read ahead.
func (c *Conn) takeAhead(b []byte) int {
	n := copy(b, c.left)
	if c.left = c.left[n:]; len(c.left) == 0 {
		c.dropAhead()
	}
	return n
}

func (c *Conn) dropAhead() {
	aheads.Put(c.ahead)
	c.ahead, c.left = nil, nil
}

// Later has t done soon, as Poller.Later.
func (c *Conn) Later(t Task) { c.p.Later(t) }

// Inline says whether Write may return before the system has taken everything: it
// then keeps the rest, which Drain writes.
func (c *Conn) Inline(yes bool) { c.inline.Store(yes) }

// Pending reports whether a rest is kept.
func (c *Conn) Pending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.rest) > 0
}

// maxRest bounds the rest that is kept. Whoever goes on writing beyond it pays no
// heed to Pending.
const maxRest = 256 << 10

var errRest = errors.New("poll: too much is written that the peer does not read")

// Write is net.Conn's, but see Inline.
func (c *Conn) Write(b []byte) (int, error) {
	if !c.polled.Load() {
		return c.Conn.Write(b)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inline.Load() {
		if err := c.drain(); err != nil {
			return 0, err
		}
		return c.Conn.Write(b)
	}
	done := 0
	for done < len(b) && len(c.rest) == 0 {
		t := &c.writing
		*t = transfer{call: t.call, b: b[done:]}
		err := c.raw.Write(t.call)
		t.b = nil
		if err == nil {
			err = t.err
		}
		if errors.Is(err, ErrAgain) {
			break
		}
		if err != nil {
			return done, err
		}
		done += t.n
	}
	if len(c.rest)+len(b)-done > maxRest {
		return done, errRest
	}
	c.rest = append(c.rest, b[done:]...)
	return len(b), nil
}

// Drain writes the rest that is kept, within the write deadline.
func (c *Conn) Drain() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drain()
}

func (c *Conn) drain() error {
	if len(c.rest) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.rest)
	c.rest = nil
	return err
}

// Close closes the connection. Its handler finds that out, whoever calls.
func (c *Conn) Close() error {
	if c.polled.Load() {
		c.p.conns.remove(c)
	}
	err := c.Conn.Close()
	c.Kick()
	return err
}
