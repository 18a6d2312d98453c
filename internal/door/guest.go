package door

import (
	"net"
	"sync/atomic"
	"time"
)

// A stage is how far a guest has come.
type stage int32

const (
	silent stage = iota
	waiting
	handshaking
	seated // its handshake is done, its authentication is not
	outside
)

// The lists a guest may be in.
const (
	byArrival = iota // strangers of its address
	byTurn           // waiting for a turn
	lists
)

// A Guest is a connection below TLS, from Arrive to Close. A nil Guest stands
// for a connection that came through no door.
type Guest struct {
	net.Conn
	door *Door
	addr *address

	stage    atomic.Int32 // changed with door.mu held
	first    byte         // the first byte, to be read again
	unread   bool         // it has not been
	gotTurn  bool         // guarded, like all below, by door.mu
	turn     bool         // holds a turn
	queued   *fifo[Guest] // that it waits in
	welcome  bool         // has authenticated
	charged  bool         // with an attempt that was refused, unless it turns out otherwise
	excused  bool         // what went wrong was not its doing
	stranger bool         // in the list of its address
	gone     bool
	bytes    int       // received before TLS was done
	since    time.Time // when we began to wait for it; zero: we do not
	total    time.Duration
	ready    chan struct{} // is told of a turn
	ended    error         // why we closed it

	before, after [lists]*Guest
}

func (g *Guest) links(which int) (before, after **Guest) { return &g.before[which], &g.after[which] }

// waited returns how long the guest has kept us waiting.
func (g *Guest) waited(now time.Time) time.Duration {
	if g.since.IsZero() {
		return g.total
	}
	return g.total + now.Sub(g.since)
}

// Left returns how long the guest may still take to come to CONNECT.
func (g *Guest) Left() time.Duration {
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	return max(g.door.cfg.ConnectTimeout-g.waited(time.Now()), time.Millisecond)
}

// heard notes that we wait no more. mu is held.
func (g *Guest) heard(now time.Time) {
	if !g.since.IsZero() {
		g.total += now.Sub(g.since)
		g.since = time.Time{}
	}
}

// Admit waits for the first byte, and then for a place and a turn. With nil the
// handshake may begin.
func (g *Guest) Admit() error {
	d := g.door
	g.Conn.SetReadDeadline(time.Now().Add(d.cfg.ConnectTimeout))
	var first [1]byte
	n, err := g.Conn.Read(first[:])
	d.mu.Lock()
	g.heard(time.Now())
	switch {
	case g.ended != nil:
		err = g.ended
	case n == 0 && err == nil:
		err = errTimeout
	case n == 0:
	case first[0] != 22: // a handshake record (RFC 8446 §5.1)
		err = errNotTLS
	default:
		err = nil
	}
	if err != nil {
		d.mu.Unlock()
		return err
	}
	g.first, g.unread = first[0], true
	g.bytes = 1
	g.stage.Store(int32(waiting))
	d.wait(g)
	return d.await(g)
}

// await waits for the turn of g, which is in a queue. mu is held, and freed.
func (d *Door) await(g *Guest) error {
	d.dispatch()
	if g.gotTurn || g.ended != nil {
		return d.take(g)
	}
	if g.ready == nil {
		g.ready = make(chan struct{}, 1)
	}
	d.unlock()
	t := time.NewTimer(d.cfg.QueueTimeout)
	defer t.Stop()
	select {
	case <-g.ready:
		d.mu.Lock()
	case <-t.C:
		d.mu.Lock()
		if !g.gotTurn && g.ended == nil {
			d.leaveQueue(g)
			d.counts.QueueTimeout++
			g.excused, g.ended = true, errQueue
		}
	}
	return d.take(g)
}

// take takes up the turn that g was given, or returns why it got none. mu is
// held, and freed.
func (d *Door) take(g *Guest) error {
	g.gotTurn = false
	select { // a word of it that came late
	case <-g.ready:
	default:
	}
	err := g.ended
	d.unlock()
	return err
}

// wake tells g that it was given a turn, or will get none.
func (g *Guest) wake() {
	if g.ready != nil {
		select {
		case g.ready <- struct{}{}:
		default:
		}
	}
}

// Read notes how long the guest keeps us waiting. During the handshake it gives
// the turn back meanwhile, and bounds the time and the bytes.
func (g *Guest) Read(b []byte) (int, error) {
	s := stage(g.stage.Load())
	if s == outside {
		return g.Conn.Read(b)
	}
	if g.unread {
		b[0], g.unread = g.first, false
		return 1, nil
	}
	d := g.door
	now := time.Now()
	d.mu.Lock()
	g.since = now
	left := d.cfg.ConnectTimeout - g.total
	d.pause(g)
	d.unlock()
	if s == handshaking {
		g.Conn.SetReadDeadline(now.Add(left))
	}
	n, err := g.Conn.Read(b)
	d.mu.Lock()
	g.heard(time.Now())
	g.bytes += n
	switch {
	case g.ended != nil && err != nil:
		err = g.ended // what the guest closed for
	case s != handshaking:
	case g.bytes > maxHandshakeBytes:
		n, err = 0, errLong
	case err == nil:
		d.queue(&d.resumed, g)
		return n, d.await(g)
	}
	d.unlock()
	return n, err
}

// Write gives the turn back: what is written during a handshake is followed by
// a read.
func (g *Guest) Write(b []byte) (int, error) {
	if stage(g.stage.Load()) == handshaking {
		d := g.door
		d.mu.Lock()
		left := d.cfg.ConnectTimeout - g.total
		d.pause(g)
		d.unlock()
		g.Conn.SetWriteDeadline(time.Now().Add(max(left, time.Second)))
	}
	return g.Conn.Write(b)
}

// Seat says that the handshake is done. The guest keeps its place until Leave.
func (g *Guest) Seat() {
	d := g.door
	d.mu.Lock()
	d.pause(g)
	if stage(g.stage.Load()) == handshaking {
		g.stage.Store(int32(seated))
	}
	g.ready = nil // it takes no more turns
	d.unlock()
	g.Conn.SetDeadline(time.Time{})
}

// Leave gives the place back: the guest has authenticated or failed to, or others
// see to it that it does not stay for nothing.
func (g *Guest) Leave() {
	if g == nil || stage(g.stage.Load()) == outside {
		return
	}
	d := g.door
	d.mu.Lock()
	g.heard(time.Now())
	d.leave(g)
	d.unlock()
}

// Welcome says that client has authenticated on this connection.
func (g *Guest) Welcome(client string) {
	if g == nil {
		return
	}
	g.Leave()
	d := g.door
	d.mu.Lock()
	defer d.unlock()
	now := time.Now()
	d.seen.add(g.addr.key, client)
	g.forgive(now)
	if g.welcome || g.gone {
		return
	}
	g.welcome = true
	a := g.addr
	a.pending--
	d.counts.Pending--
	a.tokens.add(&d.cfg.Address, now, 1)
	d.makeKnown(a, now)
}

// IsWelcome reports whether somebody has authenticated on this connection.
func (g *Guest) IsWelcome() bool {
	if g == nil {
		return true
	}
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	return g.welcome
}

// forgive takes back the charge for an attempt. door.mu is held.
func (g *Guest) forgive(now time.Time) {
	if g.charged {
		g.charged = false
		g.addr.failures.forgive(&g.door.cfg.Address, now)
	}
}

// Refused says that credentials of client were refused.
func (g *Guest) Refused(client string) {
	if g == nil {
		return
	}
	d := g.door
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen.remove(g.addr.key, client) {
		g.addr.failures.add(&d.cfg.Address, time.Now()) // it was not charged
	}
	g.charged = false
}

// Excuse says that the client was not refused for what it presented, but for a
// reason of our own.
func (g *Guest) Excuse() {
	if g == nil {
		return
	}
	g.door.mu.Lock()
	g.excused = true
	g.forgive(time.Now())
	g.door.mu.Unlock()
}

// Gone says that the connection is closed.
func (g *Guest) Gone() {
	if g == nil {
		return
	}
	d := g.door
	d.mu.Lock()
	defer d.unlock()
	if g.gone {
		return
	}
	g.gone = true
	now := time.Now()
	paid := stage(g.stage.Load()) > waiting
	d.leave(g)
	a := g.addr
	a.open--
	d.counts.Open--
	if !g.welcome {
		a.pending--
		d.counts.Pending--
		if paid && !g.excused && !d.closed {
			d.counts.Failed++
			a.fail(&d.cfg.Address, now)
		}
	}
	d.table.settle(a, now)
}

// Close closes the connection.
func (g *Guest) Close() error {
	err := g.Conn.Close()
	g.Gone()
	return err
}
