package poll

import (
	"runtime"
	"sync"
	"time"
)

// Departures are connections whose peers send no more. When a network loses
// thousands of them at one moment, they stand here and not before those who are
// still there.
type departures struct {
	mu    sync.Mutex // guards the fields below
	conns []*Conn
	seen  bool // somebody sees to them
}

// depart has c served after those who are still there.
func (p *Poller) depart(c *Conn) {
	d := &p.leaving
	d.mu.Lock()
	d.conns = append(d.conns, c)
	seen := d.seen
	d.seen = true
	d.mu.Unlock()
	if !seen {
		p.wg.Go(p.seeOff)
	}
}

// seeOff serves who departs, and lets others run in between: when there are very
// many, it leaves them most of the time.
func (p *Poller) seeOff() {
	const some, many, pause = 4, 64, time.Millisecond
	w := &Worker{p: p, departs: true}
	d := &p.leaving
	for n := 1; ; n++ {
		d.mu.Lock()
		if len(d.conns) == 0 {
			d.conns, d.seen = nil, false
			d.mu.Unlock()
			return
		}
		c := d.conns[0]
		d.conns[0] = nil
		d.conns = d.conns[1:]
		crowd := len(d.conns) > many
		d.mu.Unlock()
		c.run(w)
		if w.blocked {
			return // another goes on
		}
		switch {
		case n%some > 0:
		case crowd:
			time.Sleep(pause)
		default:
			runtime.Gosched()
		}
	}
}
