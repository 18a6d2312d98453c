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
	seen  bool   // somebody sees to them
	begun uint64 // how many were seen to so far
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

// stuck reports whether somebody stands here and nobody was seen to since before
// was the number of those who were. It returns the number now.
func (d *departures) stuck(before uint64) (yes bool, now uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns) > 0 && d.begun == before, d.begun
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
		d.begun++
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
