package door

import (
	"slices"
	"time"
)

// classes of addresses, in rings of their own.
const (
	unknown = iota
	known
)

// wait puts g, which has no place, into the queue of its address. mu is held.
func (d *Door) wait(g *Guest) {
	a := g.addr
	d.queue(&a.waiting, g)
	d.enlist(a)
}

func (d *Door) queue(q *fifo[Guest], g *Guest) {
	push(q, byTurn, g)
	g.queued = q
	d.counts.Waiting++
}

// leaveQueue takes g out of the queue it waits in, if it does.
func (d *Door) leaveQueue(g *Guest) {
	if g.queued == nil {
		return
	}
	remove(g.queued, byTurn, g)
	g.queued = nil
	d.counts.Waiting--
	if a := g.addr; a.waiting.n == 0 {
		d.delist(a)
	}
}

// enlist puts an address with somebody waiting into the ring of its class, unless
// it is there, or has to wait until its rate allows more.
func (d *Door) enlist(a *address) {
	if a.ring == nil && !a.delayed && a.waiting.n > 0 {
		a.ring = &d.rings[a.class(time.Now())]
		push(a.ring, 0, a)
	}
}

func (d *Door) delist(a *address) {
	if a.ring != nil {
		remove(a.ring, 0, a)
		a.ring = nil
	}
}

// dispatch gives free turns to who waits. mu is held.
func (d *Door) dispatch() {
	for d.turns > 0 && !d.closed {
		g := d.next()
		if g == nil {
			return
		}
		d.given++
		d.turns--
		g.turn, g.gotTurn = true, true
		g.wake()
	}
}

// next takes the next guest to have a turn out of its queue: what was begun is
// finished first, but for one turn in a few.
func (d *Door) next() *Guest {
	if d.given%share != 0 {
		if g := d.nextResumed(); g != nil {
			return g
		}
	}
	if g := d.nextWaiting(); g != nil {
		return g
	}
	return d.nextResumed()
}

func (d *Door) nextResumed() *Guest {
	g := d.resumed.front
	if g != nil {
		d.leaveQueue(g)
	}
	return g
}

// nextWaiting gives a place to the next guest that waits for one.
func (d *Door) nextWaiting() *Guest {
	first := known
	if d.admitted%share == 0 {
		first = unknown
	}
	for _, class := range []int{first, 1 - first} {
		ring := &d.rings[class]
		for ring.front != nil {
			a := ring.front
			now := time.Now()
			if wait := a.tokens.wait(&d.cfg.Address, now); wait > 0 {
				d.delay(a, wait)
				continue
			}
			if len(d.inside) >= d.cfg.MaxHandshakes && !d.makeRoom(now) {
				return nil
			}
			a.tokens.add(&d.cfg.Address, now, -1)
			g := a.waiting.front
			d.delist(a) // to the back, if others wait
			d.leaveQueue(g)
			d.enlist(a)
			d.admitted++
			d.inside[g] = struct{}{}
			g.stage.Store(int32(handshaking))
			return g
		}
	}
	return nil
}

// delay takes an address out of its ring until its rate allows more.
func (d *Door) delay(a *address, wait time.Duration) {
	d.delist(a)
	a.delayed = true
	a.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.unlock()
		a.delayed = false
		a.timer = nil
		d.enlist(a)
		d.dispatch()
	})
}

// pause gives the turn of g back, if it has one. mu is held.
func (d *Door) pause(g *Guest) {
	if g.turn {
		g.turn = false
		d.turns++
		d.dispatch()
	}
}

// leave takes g out of everything that strangers are in. mu is held.
func (d *Door) leave(g *Guest) {
	d.leaveQueue(g)
	if stage(g.stage.Load()) != outside {
		g.stage.Store(int32(outside))
		d.removeStranger(g)
	}
	if _, ok := d.inside[g]; ok {
		delete(d.inside, g)
		if !g.turn {
			d.dispatch()
		}
	}
	d.pause(g)
}

// makeRoom closes guests that have places and have kept us waiting too long, as
// many as are waited for, and reports whether there is a place now. If there is
// none it asks again when there may be.
func (d *Door) makeRoom(now time.Time) bool {
	if d.retrying {
		return false // nobody had stalled, and it is not time to look again
	}
	var stalled []*Guest
	longest := time.Duration(0)
	for g := range d.inside {
		w := g.waited(now)
		longest = max(longest, w)
		if w >= grace {
			stalled = append(stalled, g)
		}
	}
	if len(stalled) == 0 {
		d.askAgain(max(grace-longest, 10*time.Millisecond))
		return false
	}
	slices.SortFunc(stalled, func(a, b *Guest) int { return int(b.waited(now) - a.waited(now)) })
	wanted := max(int(d.counts.Waiting)-d.resumed.n, 1)
	for _, g := range stalled[:min(wanted, len(stalled))] {
		d.cut(g)
	}
	return true
}

// cut closes the connection of a stranger, and frees what it holds. Its goroutine
// learns of it and ends.
func (d *Door) cut(g *Guest) {
	d.counts.Evicted++
	g.ended = errRoom
	d.leaveQueue(g)
	delete(d.inside, g)
	d.removeStranger(g)
	g.wake()
	d.doomed = append(d.doomed, g.Conn)
}

func (d *Door) askAgain(after time.Duration) {
	if d.retrying {
		return
	}
	d.retrying = true
	d.retry = time.AfterFunc(after, func() {
		d.mu.Lock()
		defer d.unlock()
		d.retrying = false
		d.dispatch()
	})
}
