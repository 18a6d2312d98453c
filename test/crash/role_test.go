package crash

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A role is a client and what it does while the server lives.
type role struct {
	*client
	rng *rand.Rand

	streams  []*stream
	topic    func(*stream) string // to publish a stream to
	retained []*retained
	churn    []string // filters to be subscribed and unsubscribed

	online float64 // how often it is there
	quits  float64 // how often, at a step, it leaves or breaks off
	lazy   bool    // it holds back acknowledgements now and then
	clean  float64 // how often, when it has left, it discards its session

	changing map[*retained]bool
	told     bool // it has published its last messages

	settled atomic.Bool            // nothing of it is under way
	waits   atomic.Pointer[string] // for what, if not
}

// step is the time between two things a role does.
const step = 2 * time.Millisecond

// live does the role's part in one life of the server.
func (r *role) live(l *life) {
	for l.ctx.Err() == nil && l.phase.Load() != over {
		if err := r.connect(l.ctx); err != nil {
			if errors.Is(err, errRefused) && !l.stopping.Load() {
				r.fault("%v", err)
			}
			r.say("to be let in: %v", err)
			select {
			case <-l.ctx.Done():
			case <-time.After(5 * step):
			}
			continue
		}
		r.ended.alive()
		r.talk(l)
		r.cut()
		r.ended.cut()
	}
}

// talk serves a connection until it ends.
func (r *role) talk(l *life) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	for r.w != nil {
		select {
		case p, ok := <-r.w.packets:
			if !ok {
				return
			}
			r.handle(p)
			r.ended.alive()
		case <-tick.C:
			r.step(l)
		}
	}
}

// step does what comes to the role's mind.
func (r *role) step(l *life) {
	phase := l.phase.Load()
	switch {
	case phase == over:
		r.leave()
		return
	case phase == loading && r.rng.Float64() < r.quits:
		r.quit()
		return
	case phase == loading:
		r.load()
	case phase == last && !r.told:
		r.told = true
		for _, s := range r.streams {
			r.send(s)
		}
	}
	if phase != loading {
		r.held = false
		r.acknowledge()
	}
	settled := r.idle() && len(r.in)+len(r.due) == 0 && (phase != last || r.told)
	if !settled && phase != loading {
		r.say("%d answers to messages, %d to requests; %d acknowledgements unsent; messages unfinished: %s", len(r.out), len(r.asked), len(r.due), r.unfinished())
	}
	r.settled.Store(settled)
}

// say notes what the role is waiting for.
func (r *role) say(format string, args ...any) {
	s := fmt.Sprintf("connection %d: ", r.conn) + fmt.Sprintf(format, args...)
	r.waits.Store(&s)
}

// unfinished describes the messages that are not done with: for each its
// identifier, the connection it came on, and the state it is in.
func (r *role) unfinished() string {
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(r.in)) {
		in := r.in[id]
		fmt.Fprintf(&b, " [%d of connection %d, %.40q, PUBREC sent: %v]", id, in.conn, in.text, in.taken)
	}
	return fmt.Sprint(len(r.in), b.String())
}

func (r *role) quit() {
	if r.rng.IntN(2) == 0 {
		r.leave()
	} else {
		r.cut()
	}
	r.discard = r.rng.Float64() < r.clean
}

// load is what makes work for the server.
func (r *role) load() {
	for range r.rng.IntN(6) {
		if len(r.streams) > 0 && len(r.out) < r.window {
			r.send(r.streams[r.rng.IntN(len(r.streams))])
		}
	}
	if len(r.retained) > 0 {
		r.change(r.retained[r.rng.IntN(len(r.retained))])
	}
	if len(r.churn) > 0 && r.rng.IntN(4) == 0 {
		r.toggle(r.churn[r.rng.IntN(len(r.churn))])
	}
	if r.lazy && r.rng.IntN(12) == 0 {
		r.held = !r.held
		r.acknowledge()
	}
}

// send publishes the next message of a stream.
func (r *role) send(s *stream) {
	n := r.h.send(s)
	r.publish(r.topic(s), text(s, n), s.qos, false, func() { r.h.ack(s, n) }, func() {})
}

// change sets or clears a retained message, unless a change is under way.
func (r *role) change(x *retained) {
	if r.changing[x] {
		return
	}
	r.changing[x] = true
	clear := r.rng.IntN(4) == 0
	n := r.h.change(x, clear)
	payload := ""
	if !clear {
		payload = x.text(n)
	}
	r.publish(x.topic, payload, x.qos, true, func() {
		r.h.changed(x, n)
		delete(r.changing, x)
	}, func() { delete(r.changing, x) })
}

// toggle subscribes a filter, or unsubscribes it, unless that is under way.
func (r *role) toggle(filter string) {
	for _, f := range r.asked {
		if f == filter {
			return
		}
	}
	if r.subs[filter] == nil {
		r.subscribe(filter)
	} else {
		r.unsubscribe(filter)
	}
}

// A presenceClock tells whether a session that expires may have done so.
type presenceClock struct {
	expiry time.Duration // zero: it never expires
	seen   time.Time     // it surely had a connection then
	closed time.Time     // it surely had none any more, and the server had noted that; zero: not yet
}

func (c *presenceClock) alive() { c.seen, c.closed = time.Now(), time.Time{} }
func (c *presenceClock) cut()   { c.closed = time.Time{} }

// restarted says that the server was ready at that time, without the client,
// and wrote to its disk later.
func (c *presenceClock) restarted(ready time.Time) {
	if c.closed.IsZero() && ready.After(c.seen) {
		c.closed = ready
	}
}

// judge tells what a CONNECT, which began at that time and is answered now,
// must find.
func (c *presenceClock) judge(p presence, began time.Time) presence {
	const slack = time.Second
	switch {
	case p != present || c.expiry == 0:
		return p
	case time.Since(c.seen) < c.expiry:
		return present
	case !c.closed.IsZero() && began.After(c.closed.Add(c.expiry+slack)):
		return absent
	}
	return either
}
