package door

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// KeyOf returns what stands for an address: an IPv4 address itself, of an IPv6
// address the network (/64), for whoever has one address of it has them all.
func KeyOf(a net.Addr) netip.Addr {
	var ip netip.Addr
	switch a := a.(type) {
	case *net.TCPAddr:
		ip, _ = netip.AddrFromSlice(a.IP)
	case nil:
	default:
		ap, _ := netip.ParseAddrPort(a.String())
		ip = ap.Addr()
	}
	if ip = ip.Unmap(); ip.Is6() {
		p, _ := ip.Prefix(64) // 64 fits in every IPv6 address
		return p.Addr()
	}
	return ip
}

// An address is what is known about one. Its fields are guarded by door.mu.
type address struct {
	key           netip.Addr
	open, pending int
	known         time.Time   // until when
	strangers     fifo[Guest] // that have not come to CONNECT, oldest first
	waiting       fifo[Guest] // of them, those without a place
	tokens        tokens      // handshakes it may have
	streak        leak        // connections that failed
	failures      failures    // credentials that were refused

	ring    *fifo[address] // it waits in for a turn
	delayed bool           // until its rate allows more
	timer   *time.Timer    // which ends that

	crowdAt, idleAt int // where it stands in crowd and idle, plus one
	used            time.Time
	logged          int64 // the second of the last line
	unlogged        int

	before, after *address
}

func (a *address) links(int) (before, after **address) { return &a.before, &a.after }

func (a *address) class(now time.Time) int {
	if now.Before(a.known) {
		return known
	}
	return unknown
}

// makeKnown notes that somebody authenticated.
func (d *Door) makeKnown(a *address, now time.Time) {
	a.known = now.Add(knownFor)
	a.streak.add(-1, maxStreak, d.cfg.Address.FailureRate, now)
	if a.ring != nil {
		d.delist(a)
		d.enlist(a)
	}
}

// maxStreak bounds what a failed connection costs beside its own handshake.
const maxStreak = 9

// fail lets a connection that failed cost more the more of them there were.
func (a *address) fail(l *Address, now time.Time) {
	a.streak.add(1, maxStreak, l.FailureRate, now)
	a.tokens.add(l, now, 1-a.streak.n)
}

// tokens are handshakes that an address may have.
type tokens struct {
	n  float64
	at time.Time // when n was true; zero: full
}

func (t *tokens) refill(l *Address, now time.Time) {
	if t.at.IsZero() {
		t.n = float64(l.Burst)
	}
	t.n = min(float64(l.Burst), t.n+float64(l.Rate)*now.Sub(t.at).Seconds())
	t.at = now
}

// add gives some, or takes some away. Debts are bounded: an address that did
// its worst is served again after MaxDelay.
func (t *tokens) add(l *Address, now time.Time, n float64) {
	t.refill(l, now)
	t.n = min(float64(l.Burst), max(t.n+n, 1-MaxDelay.Seconds()*float64(l.Rate)))
}

// wait returns how long it takes until there is one.
func (t *tokens) wait(l *Address, now time.Time) time.Duration {
	t.refill(l, now)
	if t.n >= 1 {
		return 0
	}
	return max(time.Duration((1-t.n)/float64(l.Rate)*float64(time.Second)), time.Millisecond)
}

// A leak is a count that goes down by itself.
type leak struct {
	n  float64
	at time.Time
}

func (k *leak) add(n, most float64, rate int, now time.Time) {
	if !k.at.IsZero() {
		k.n = max(0, k.n-float64(rate)*now.Sub(k.at).Seconds())
	}
	k.n = max(0, min(most, k.n+n))
	k.at = now
}

// MaxDelay bounds how long anybody is held up for what others of its address did.
const MaxDelay = 5 * time.Second

// failures are credentials that were refused.
type failures struct {
	leak
	next time.Time // when the attempts that wait will all have been made
}

func (f *failures) add(l *Address, now time.Time) {
	f.leak.add(1, 2*float64(l.FailureBurst), l.FailureRate, now)
}

func (f *failures) forgive(l *Address, now time.Time) {
	f.leak.add(-1, 2*float64(l.FailureBurst), l.FailureRate, now)
}

// delay returns how long an attempt has to wait: not at all while there were few
// failures, then so that their rate is kept, then up to five times as long.
func (f *failures) delay(l *Address, now time.Time) time.Duration {
	f.leak.add(0, 2*float64(l.FailureBurst), l.FailureRate, now)
	burst := float64(l.FailureBurst)
	if f.n <= burst {
		return 0
	}
	interval := (1 + 4*(f.n-burst)/burst) / float64(l.FailureRate)
	from := now
	if f.next.After(now) {
		from = f.next
	}
	return from.Add(time.Duration(interval * float64(time.Second))).Sub(now)
}

// A table holds the addresses: those with open connections, and some others
// that are worth remembering.
type table struct {
	all  map[netip.Addr]*address
	idle []*address // without connections
}

// maxIdle bounds the addresses that are remembered without connections.
const maxIdle = 16384

func newTable() table { return table{all: map[netip.Addr]*address{}} }

// get returns an address, which is in use until settle.
func (t *table) get(key netip.Addr, now time.Time) *address {
	a := t.all[key]
	if a == nil {
		a = &address{key: key}
		t.all[key] = a
	}
	t.unidle(a)
	a.used = now
	return a
}

func (t *table) unidle(a *address) {
	if a.idleAt > 0 {
		last := t.idle[len(t.idle)-1]
		t.idle[a.idleAt-1], last.idleAt = last, a.idleAt
		t.idle[len(t.idle)-1] = nil
		t.idle, a.idleAt = t.idle[:len(t.idle)-1], 0
	}
}

// settle forgets an address without connections, unless it is worth remembering.
func (t *table) settle(a *address, now time.Time) {
	if a.open > 0 || a.idleAt > 0 {
		return
	}
	if a.class(now) == unknown && a.failures.n == 0 && a.streak.n == 0 {
		delete(t.all, a.key)
		return
	}
	a.used = now
	t.idle = append(t.idle, a)
	a.idleAt = len(t.idle)
	if len(t.idle) <= maxIdle {
		return
	}
	least := a
	for range sample {
		if b := t.idle[rand.IntN(len(t.idle))]; b.lessThan(least, now) {
			least = b
		}
	}
	t.unidle(least)
	delete(t.all, least.key)
}

// lessThan reports whether a is less interesting than b: known ones are most, and
// then those that failed most.
func (a *address) lessThan(b *address, now time.Time) bool {
	if x, y := a.class(now), b.class(now); x != y {
		return x < y
	}
	if x, y := a.failures.n+a.streak.n, b.failures.n+b.streak.n; x != y {
		return x < y
	}
	return a.used.Before(b.used)
}

func (t *table) stop() {
	for _, a := range t.all {
		if a.timer != nil {
			a.timer.Stop()
		}
	}
}

// addStranger and removeStranger keep the lists of who has not come to CONNECT.
func (d *Door) addStranger(g *Guest) {
	a := g.addr
	push(&a.strangers, byArrival, g)
	g.stranger = true
	if a.strangers.n == 1 {
		d.crowd = append(d.crowd, a)
		a.crowdAt = len(d.crowd)
	}
}

func (d *Door) removeStranger(g *Guest) {
	if !g.stranger {
		return
	}
	g.stranger = false
	a := g.addr
	remove(&a.strangers, byArrival, g)
	if a.strangers.n == 0 {
		last := d.crowd[len(d.crowd)-1]
		d.crowd[a.crowdAt-1], last.crowdAt = last, a.crowdAt
		d.crowd[len(d.crowd)-1] = nil
		d.crowd, a.crowdAt = d.crowd[:len(d.crowd)-1], 0
	}
}

// evict closes a stranger of a that has kept us waiting for that long, and
// reports whether there was one.
func (d *Door) evict(a *address, now time.Time, patience time.Duration) bool {
	g := a.strangers.front
	for i := 0; g != nil && i < sample; i++ {
		if g.waited(now) >= patience {
			d.cut(g)
			return true
		}
		g = g.after[byArrival]
	}
	return false
}

// makeWay closes a stranger so that a newcomer of a may come in, and reports
// whether it found one. It looks at a few addresses, for the one that is unknown
// and has most strangers, and closes who stalls. For one that is known an unknown
// stranger goes even if it does not stall.
func (d *Door) makeWay(a *address, now time.Time) bool {
	worst := a
	for i := range min(sample, len(d.crowd)) {
		b := d.crowd[i]
		if len(d.crowd) > sample {
			b = d.crowd[rand.IntN(len(d.crowd))]
		}
		if worse(b, worst, now) {
			worst = b
		}
	}
	if d.evict(worst, now, grace) {
		return true
	}
	return a.class(now) == known && worst.class(now) == unknown && d.evict(worst, now, 0)
}

// worse reports whether a's strangers have to go before those of b.
func worse(a, b *address, now time.Time) bool {
	if x, y := a.class(now), b.class(now); x != y && a.strangers.n > 0 && b.strangers.n > 0 {
		return x < y
	}
	return a.strangers.n > b.strangers.n
}
