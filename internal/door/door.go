// Package door bounds what a peer may cost before anybody knows who it is.
//
// Every connection passes through it on its way to CONNECT. It counts, per
// address (IPv4 /32, IPv6 /64) and in all, lets handshakes begin in a fair
// order, and closes whoever keeps it waiting when others want in. Only the time
// in which the peer is the one to act counts against the peer; what it waits for
// us is bounded apart.
//
// A connection goes through these stages, and costs the more the further it is:
//
//	silent    has not sent a byte: a parked goroutine, no TLS state, no buffer
//	waiting   has sent one, and waits for its turn: the same
//	inside    has a place: its handshake is under way, or its CONNECT, or its authentication
//	outside   has gone through that, or speaks HTTP: others bound it
//	welcome   has authenticated: its address is known from then on
//
// Measured, heap and stacks of the broker (TestCostBeforeConnect): a silent peer
// takes 3 KiB, 2 of them the stack of its goroutine. That is why there is no
// event loop for the silent: it would save a part of what the system keeps for a
// socket anyway. With one byte or half a ClientHello it is 10 KiB, with a whole
// one and no more 28 KiB, with a handshake and no CONNECT 11 KiB; MaxHandshakes
// bounds how many of these there are, at 28 MiB by default; a large CONNECT, which
// its reader bounds, comes on top of that as far as it has arrived.
//
// The limits, with their defaults and what happens at each:
//
//	Config.MaxConnections        all open connections         newcomer takes the room of a peer that stalls, from the
//	                                                          address that has most of them; else it is closed
//	Config.MaxHandshakes   1024  peers inside                 newcomers wait; peers that stalled for a second make room
//	Config.MaxTurns  cores - 1   handshakes that compute      all others wait for their turn
//	Config.ConnectTimeout  10 s  time a peer takes, in all    it is closed
//	Config.QueueTimeout    30 s  one wait for a turn          it is closed
//	maxHandshakeBytes    64 KiB  received before TLS is done  it is closed
//	Address.MaxConnections  3/4  of all, from one address     a peer of it that stalls makes room; else newcomer is closed
//	Address.MaxPending      3/4  of all, not yet welcome      the same
//	Address.Rate, Burst          handshakes per second        they wait in the address's queue
//	  1000/s, 10,000
//	Address.FailureRate, Burst   refused credentials          each further attempt waits, longer and longer, up to 5 s;
//	  10/s, 1000                                              then it is refused unchecked (Quota exceeded)
//
// Connections are closed before TLS unless they are inside. All of it is
// counted, and logged once a second and address at most.
//
// Turns go round over the addresses that have somebody waiting, and within an
// address in order of arrival. Addresses from which somebody authenticated in
// the last day get three turns of four while both kinds wait, so that a fleet
// comes back through a flood of strangers, and strangers always get the fourth.
// Whoever fails costs its address more, up to ten connections each; whoever
// authenticates gets its own back.
//
// Clients behind one address share its fate as far as nobody can tell them apart:
// before CONNECT an attacker among them may fill their queue and make them wait.
// With CONNECT they are told apart: a client that authenticated before from
// the same address is never slowed down by what others fail to do. What is left
// to the attacker is to slow down those that come for the first time, and, for
// one refused attempt each, those whose client identifier it knows.
//
// What is kept about addresses is bounded: those with open connections, and at
// most maxIdle others, of which the least interesting go first.
package door

import (
	"cmp"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"
)

// A Config is what a Door is made of. Zero stands for the default, never for
// "no limit".
type Config struct {
	MaxConnections int           // open at one time; a million
	MaxHandshakes  int           // peers inside, which have TLS state; 1024
	MaxTurns       int           // handshakes that compute at one time; one less than there are processors, so that what is established finds one
	ConnectTimeout time.Duration // how long a peer may keep us waiting until CONNECT, in all; 10 s
	QueueTimeout   time.Duration // how long it may wait for its turn; 30 s
	Address        Address
	Log            *slog.Logger // nil: no log
}

// Address bounds what one address may have.
type Address struct {
	MaxConnections int // open at one time; three quarters of all
	MaxPending     int // of them, not authenticated yet; three quarters of all
	Rate           int // handshakes per second; 1000
	Burst          int // handshakes at once; 10,000
	FailureRate    int // refused credentials per second; 10
	FailureBurst   int // refused credentials at once; 1000
}

const (
	// grace is how long a peer may keep us waiting, in all, before its place may
	// go to another.
	grace = time.Second
	// maxHandshakeBytes is what a peer may send before TLS is done, certificates
	// included.
	maxHandshakeBytes = 64 << 10
	// knownFor is how long an address is known after somebody authenticated.
	knownFor = 24 * time.Hour
	// share is of how many turns one goes to the unknown, or to who has no place yet.
	share = 4
	// sample is how many are looked at to find somebody who may go.
	sample = 16
)

// ErrBusy says that credentials are not looked at now.
var ErrBusy = errors.New("too many credentials from this address were refused")

// Why a guest was closed.
var (
	errQueue   = errors.New("waited too long for a turn")
	errTimeout = errors.New("did not say anything in time")
	errLong    = errors.New("handshake is too long")
	errNotTLS  = errors.New("does not speak TLS")
	errRoom    = errors.New("kept the server waiting, and made room for others")
	errClosed  = errors.New("server is shutting down")
)

// A Door is where connections arrive. Make one with New.
type Door struct {
	cfg  Config
	seen seen

	mu        sync.Mutex // guards the fields below, and those of addresses and guests
	counts    Counts
	table     table
	crowd     []*address // those with strangers
	rings     [2]fifo[address]
	resumed   fifo[Guest] // have a place, and wait for a turn
	inside    map[*Guest]struct{}
	turns     int    // free
	given     uint64 // turns, to share them out between begun and new
	admitted  uint64 // places, to share them out between known and unknown
	closed    bool
	retry     *time.Timer // asks again for room
	retrying  bool
	doomed    []net.Conn // to be closed when mu is free
	logSecond int64      // in which logLines were written
	logLines  int
}

// Counts are a Door's numbers at one moment. Open, Pending, Waiting and Inside
// go up and down, the others only grow.
type Counts struct {
	Open, Pending, Waiting, Inside int64
	Accepted                       uint64 // all that came
	RefusedFull                    uint64 // closed: all connections are taken
	RefusedAddress                 uint64 // closed: the address has too many
	Evicted                        uint64 // closed: stalled, and others wanted in
	QueueTimeout                   uint64 // closed: no turn in time
	Failed                         uint64 // ended before they were welcome, by their own doing
	Slowed                         uint64 // attempts that had to wait for earlier failures of their address
	Busy                           uint64 // attempts that were refused unchecked
}

// New returns a Door.
func New(cfg Config) *Door {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.MaxConnections = atLeast(cfg.MaxConnections, 1_000_000)
	cfg.MaxHandshakes = atLeast(cfg.MaxHandshakes, 1024)
	cfg.MaxTurns = atLeast(cfg.MaxTurns, max(1, runtime.GOMAXPROCS(0)-1))
	cfg.ConnectTimeout = max(cmp.Or(cfg.ConnectTimeout, 10*time.Second), time.Millisecond)
	cfg.QueueTimeout = max(cmp.Or(cfg.QueueTimeout, 30*time.Second), time.Millisecond)
	a := &cfg.Address
	most := max(cfg.MaxConnections/4*3, 1)
	a.MaxConnections = atLeast(a.MaxConnections, most)
	a.MaxPending = atLeast(a.MaxPending, most)
	a.Rate = atLeast(a.Rate, 1000)
	a.Burst = atLeast(a.Burst, 10_000)
	a.FailureRate = atLeast(a.FailureRate, 10)
	a.FailureBurst = atLeast(a.FailureBurst, 1000)
	return &Door{
		cfg: cfg, seen: newSeen(), table: newTable(),
		inside: map[*Guest]struct{}{}, turns: cfg.MaxTurns,
	}
}

// atLeast returns n, or def if n says nothing.
func atLeast(n, def int) int {
	if n <= 0 {
		return def
	}
	return n
}

// Counts returns the numbers.
func (d *Door) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Inside = int64(len(d.inside))
	return c
}

// Arrive takes in a connection, or closes it and returns nil.
func (d *Door) Arrive(nc net.Conn) *Guest {
	now := time.Now()
	d.mu.Lock()
	d.counts.Accepted++
	a := d.table.get(KeyOf(nc.RemoteAddr()), now)
	var refused string
	lim := &d.cfg.Address
	switch {
	case d.closed:
		refused = "closed"
	case (a.open >= lim.MaxConnections || a.pending >= lim.MaxPending) && !d.evict(a, now, grace):
		d.counts.RefusedAddress++
		refused = "the address has too many connections"
	case d.counts.Open >= int64(d.cfg.MaxConnections) && !d.makeWay(a, now):
		d.counts.RefusedFull++
		refused = "all connections are taken"
	}
	if refused != "" {
		report := !d.closed && d.mayLog(a, now)
		unlogged := a.unlogged
		if report {
			a.unlogged = 0
		}
		d.table.settle(a, now)
		d.unlock()
		nc.Close()
		if report {
			d.cfg.Log.Warn("connection refused before TLS", "address", a.key, "reason", refused, "more", unlogged)
		}
		return nil
	}
	g := &Guest{Conn: nc, door: d, addr: a, since: now}
	a.open++
	a.pending++
	d.counts.Open++
	d.counts.Pending++
	d.addStranger(g)
	d.unlock()
	return g
}

// mayLog reports whether a line about an address may be written: one a second,
// and ten for all addresses together.
func (d *Door) mayLog(a *address, now time.Time) bool {
	second := now.Unix()
	if d.logSecond != second {
		d.logSecond, d.logLines = second, 0
	}
	if a.logged == second || d.logLines >= 10 {
		a.unlogged++
		return false
	}
	a.logged = second
	d.logLines++
	return true
}

// Report logs the end of a connection that did not come to CONNECT, unless one
// of the same address was logged just now.
func (g *Guest) Report(msg string, err error) {
	if g == nil {
		return
	}
	d := g.door
	d.mu.Lock()
	ok, unlogged := d.mayLog(g.addr, time.Now()), g.addr.unlogged
	if ok {
		g.addr.unlogged = 0
	}
	d.mu.Unlock()
	if ok {
		d.cfg.Log.Info(msg, "client", g.RemoteAddr().String(), "err", err, "more", unlogged)
	}
}

// Close closes every connection that has not come to CONNECT, and lets no more in.
func (d *Door) Close() {
	d.mu.Lock()
	d.closed = true
	for _, a := range d.crowd {
		for g := a.strangers.front; g != nil; g = g.after[byArrival] {
			g.ended = errClosed
			g.wake()
			d.doomed = append(d.doomed, g.Conn)
		}
	}
	if d.retry != nil {
		d.retry.Stop()
	}
	d.table.stop()
	d.unlock()
}

// unlock frees mu and then closes who has to go: no I/O under a lock.
func (d *Door) unlock() {
	doomed := d.doomed
	d.doomed = nil
	d.mu.Unlock()
	for _, nc := range doomed {
		nc.Close()
	}
}

// Delay returns how long earlier refusals of credentials from the same address
// demand to wait before those of client are looked at, and reserves that time. It
// returns ErrBusy if it would be too long. The attempt counts as refused until
// Welcome or Excuse say otherwise, so that many at one time are not too many.
func (g *Guest) Delay(client string) (time.Duration, error) {
	if g == nil {
		return 0, nil
	}
	d := g.door
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	a := g.addr
	delay := a.failures.delay(&d.cfg.Address, now)
	if d.seen.has(a.key, client) {
		return 0, nil
	}
	a.failures.add(&d.cfg.Address, now)
	if delay > MaxDelay {
		d.counts.Busy++
		return 0, ErrBusy
	}
	g.charged = true
	if delay == 0 {
		return 0, nil
	}
	a.failures.next = now.Add(delay)
	d.counts.Slowed++
	return delay, nil
}
