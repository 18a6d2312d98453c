package door

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// from is a connection from an address.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

func tcp(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

// A caller is a peer and the guest it is at the door.
type caller struct {
	t    *testing.T
	name string
	*Guest
	far net.Conn
}

// call arrives at the door; its Guest is nil if it was sent away.
func call(t *testing.T, d *Door, ip, name string) *caller {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { far.Close() })
	return &caller{t: t, name: name, Guest: d.Arrive(from{near, tcp(ip)}), far: far}
}

// knock sends the first byte and is told of admittance through done.
func (c *caller) knock(done func(name string, err error)) {
	go c.far.Write([]byte{22})
	go func() { done(c.name, c.Admit()) }()
	synctest.Wait()
}

// must is knock for somebody who gets in at once.
func (c *caller) must() *caller {
	c.t.Helper()
	in := make(chan error, 1)
	c.knock(func(_ string, err error) { in <- err })
	select {
	case err := <-in:
		if err != nil {
			c.t.Fatalf("%s: %v", c.name, err)
		}
	default:
		c.t.Fatalf("%s waits", c.name)
	}
	return c
}

// cut reports whether the guest's connection was closed.
func (c *caller) cut() bool {
	c.far.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.far.Read(make([]byte, 1))
	return errors.Is(err, io.EOF)
}

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestKeyOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "2001:db8:1:2::9": "2001:db8:1:2::", "::1": "::",
	} {
		if got := KeyOf(tcp(in)); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %v, want %v", in, got, want)
		}
	}
	if KeyOf(nil).IsValid() || KeyOf(&net.UnixAddr{Name: "x"}).IsValid() {
		t.Error("an address out of nothing")
	}
}

// order has many callers knock while the only turn is taken, then gives it to one
// after the other and returns in which order they came in.
func order(t *testing.T, d *Door, callers []*caller) []string {
	t.Helper()
	holder := call(t, d, "192.0.2.254", "holder").must()
	in := make(chan string, len(callers))
	for _, c := range callers {
		c.knock(func(name string, err error) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			in <- name
		})
	}
	holder.Close()
	byName := map[string]*caller{}
	for _, c := range callers {
		byName[c.name] = c
	}
	var got []string
	for range callers {
		synctest.Wait()
		name := <-in
		got = append(got, name)
		byName[name].Close()
	}
	return got
}

// Turns go round over addresses, and within one in order of arrival.
func TestTurnsGoRound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 1})
		var all []*caller
		for i := range 5 {
			all = append(all, call(t, d, "192.0.2.1", fmt.Sprintf("a%d", i)))
		}
		for i := range 2 {
			all = append(all, call(t, d, "192.0.2.2", fmt.Sprintf("b%d", i)))
		}
		all = append(all, call(t, d, "192.0.2.3", "c0"))
		got := strings.Join(order(t, d, all), " ")
		if want := "a0 b0 c0 a1 b1 a2 a3 a4"; got != want {
			t.Errorf("order %s, want %s", got, want)
		}
		if n := d.Counts(); n.Open != 0 || n.Pending != 0 || n.Waiting != 0 || n.Inside != 0 {
			t.Errorf("left behind: %+v", n)
		}
	})
}

// Known addresses come first, and the unknown get their share all the same.
func TestKnownComeFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 1})
		fleet := call(t, d, "198.51.100.1", "fleet").must()
		fleet.Welcome("c")
		fleet.Close()
		var all []*caller
		for i := range 40 { // as many addresses
			all = append(all, call(t, d, fmt.Sprintf("192.0.2.%d", i+1), "stranger"+fmt.Sprint(i)))
		}
		for i := range 12 {
			all = append(all, call(t, d, "198.51.100.1", "known"+fmt.Sprint(i)))
		}
		got := order(t, d, all)
		places := []int{}
		for i, name := range got {
			if strings.HasPrefix(name, "known") {
				places = append(places, i)
			}
		}
		if last := places[len(places)-1]; last > 16 || last < 14 {
			t.Errorf("the known came in at %v, want three of four", places)
		}
	})
}

// An address is known for a day.
func TestKnownForADay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 4})
		c := call(t, d, "192.0.2.1", "c").must()
		c.Welcome("c")
		c.Close()
		a := d.table.all[KeyOf(tcp("192.0.2.1"))]
		time.Sleep(knownFor - time.Second)
		if a.class(time.Now()) != known {
			t.Error("forgotten too early")
		}
		time.Sleep(2 * time.Second)
		if a.class(time.Now()) != unknown {
			t.Error("known for too long")
		}
	})
}

// Whoever authenticates costs its address nothing.
func TestWelcomeIsFree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 4, QueueTimeout: time.Minute, Address: Address{Rate: 10, Burst: 5}})
		began := time.Now()
		in := make(chan time.Duration, 25)
		for i := range 25 {
			c := call(t, d, "192.0.2.1", fmt.Sprint(i))
			c.knock(func(_ string, err error) {
				if err != nil {
					t.Error(err)
				}
				in <- time.Since(began)
				c.Welcome("") // gets its token back
				c.Gone()
			})
		}
		other := call(t, d, "192.0.2.2", "other").must() // at once
		other.Close()
		time.Sleep(time.Minute)
		var times []time.Duration
		for range 25 {
			times = append(times, <-in)
		}
		slices.Sort(times)
		if times[24] != 0 {
			t.Errorf("the last one waited %v", times[24])
		}
	})
}

// What is too fast is delayed until the rate is kept, and nobody is sent away.
func TestRateIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 100, QueueTimeout: time.Minute, Address: Address{Rate: 10, Burst: 5}})
		var in atomic.Int64
		for i := range 25 {
			call(t, d, "192.0.2.1", fmt.Sprint(i)).knock(func(_ string, err error) {
				if err == nil {
					in.Add(1)
				}
			})
		}
		for _, want := range []int64{5, 15, 25} {
			if n := in.Load(); n < want-1 || n > want+1 {
				t.Errorf("%d are in, want %d", n, want)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		d.Close()
	})
}

// Connections that fail cost more and more, up to a bound.
func TestFailureCosts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 4, QueueTimeout: time.Minute, Address: Address{Rate: 10, Burst: 100, FailureRate: 1}})
		var in atomic.Int64
		last := int64(0)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for range 10_000 {
				c := call(t, d, "192.0.2.1", "bad")
				if c.Guest == nil {
					return
				}
				go c.far.Write([]byte{22})
				if c.Admit() != nil {
					c.Close()
					return
				}
				in.Add(1)
				c.Close()
			}
		}()
		var rates []int64
		for range 6 {
			time.Sleep(10 * time.Second)
			synctest.Wait()
			n := in.Load()
			rates = append(rates, n-last)
			last = n
		}
		if rates[5] > 15 || rates[5] < 8 { // 100 tokens in ten seconds, ten each
			t.Errorf("in each ten seconds %v came in, want about 10 in the end", rates)
		}
		// Who shares the address waits for a bounded time.
		began := time.Now()
		c := call(t, d, "192.0.2.1", "good")
		got := make(chan error, 1)
		c.knock(func(_ string, err error) { got <- err })
		if err := <-got; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*MaxDelay {
			t.Errorf("let in after %v", took)
		}
		d.Close()
		<-ended
	})
}

// Peers that keep their places without using them make room, silent ones have none,
// and those that wait for us are not blamed for it.
func TestStalledMakeRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxHandshakes: 2, MaxTurns: 10, ConnectTimeout: time.Minute})
		for range 3 {
			c := call(t, d, "192.0.2.1", "silent")
			go c.Admit()
		}
		slow := []*caller{call(t, d, "192.0.2.1", "slow").must(), call(t, d, "192.0.2.1", "slow").must()}
		for _, c := range slow {
			go func() {
				for {
					if _, err := c.Read(make([]byte, 100)); err != nil {
						c.Close()
						return
					}
				}
			}()
			go c.far.Write([]byte{3, 1})
		}
		got := make(chan error, 1)
		began := time.Now()
		next := call(t, d, "192.0.2.2", "next")
		next.knock(func(_ string, err error) { got <- err })
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > grace+50*time.Millisecond || took < grace/2 {
			t.Errorf("let in after %v", took)
		}
		if n := d.Counts(); n.Evicted != 1 || n.Inside != 2 {
			t.Errorf("%+v, want one closed", n)
		}
		if left := next.Left(); left < time.Minute-time.Millisecond {
			t.Errorf("waiting for us took %v of its time", time.Minute-left)
		}
		d.Close()
	})
}

// A guest that reads gives its turn back, and takes its time from the guest.
func TestTurnIsGivenBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 1, ConnectTimeout: 5 * time.Second})
		a := call(t, d, "192.0.2.1", "a").must()
		read := make(chan error, 1)
		go func() {
			b := make([]byte, 10)
			a.Read(b) // the first byte again
			_, err := a.Read(b)
			read <- err
		}()
		synctest.Wait()
		b := call(t, d, "192.0.2.2", "b").must()
		go a.far.Write([]byte{1})
		synctest.Wait()
		select {
		case <-read:
			t.Error("two turns at one time")
		default:
		}
		time.Sleep(3 * time.Second) // ours
		b.Seat()
		if err := <-read; err != nil {
			t.Error(err)
		}
		if left := a.Left(); left != 5*time.Second {
			t.Errorf("%v are left", left)
		}
		began := time.Now()
		for range 2 { // its time is for all it reads
			time.AfterFunc(2*time.Second, func() { a.far.Write([]byte{1}) })
			if _, err := a.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		_, err := a.Read(make([]byte, 1))
		if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() || time.Since(began) != 5*time.Second {
			t.Errorf("a silent guest: %v after %v", err, time.Since(began))
		}
		b.Leave()
		b.Welcome("b")
		a.Close()
		b.Close()
	})
}

// Nobody waits for ever, nor sends without end.
func TestQueueTimeoutAndBytes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 1, QueueTimeout: 3 * time.Second})
		a := call(t, d, "192.0.2.1", "a").must()
		b := call(t, d, "192.0.2.2", "b")
		got := make(chan error, 1)
		b.knock(func(_ string, err error) { got <- err })
		began := time.Now()
		if err := <-got; !errors.Is(err, errQueue) || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b.Close()
		go a.far.Write(make([]byte, maxHandshakeBytes+1))
		n, err := 0, error(nil)
		for buf := make([]byte, 4096); err == nil; {
			var k int
			k, err = a.Read(buf)
			n += k
		}
		if !errors.Is(err, errLong) || n > maxHandshakeBytes {
			t.Errorf("%d bytes were read, then %v", n, err)
		}
		a.Close()
		c := call(t, d, "192.0.2.1", "c")
		go c.far.Write([]byte("G"))
		if err := c.Admit(); !errors.Is(err, errNotTLS) {
			t.Errorf("not TLS: %v", err)
		}
		c.Close()
		if n := d.Counts(); n.QueueTimeout != 1 || n.Failed != 1 || n.Open != 0 {
			t.Errorf("%+v", n)
		}
	})
}

// One address has a number of connections; one of it that stalls makes room.
func TestAddressIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 4, Address: Address{MaxConnections: 5, MaxPending: 3}})
		var first []*caller
		for range 3 {
			c := call(t, d, "2001:db8::1", "first")
			go func() { c.Admit(); c.Close() }()
			first = append(first, c)
		}
		synctest.Wait()
		if c := call(t, d, "2001:db8::2", "fourth"); c.Guest != nil || !c.cut() {
			t.Error("a fourth stranger was let in at once")
		}
		if c := call(t, d, "2001:db8:0:1::1", "neighbour"); c.Guest == nil {
			t.Error("another network was not let in")
		}
		time.Sleep(grace)
		if c := call(t, d, "2001:db8::2", "fifth"); c.Guest == nil || !first[0].cut() {
			t.Error("a stranger that stalls did not make room")
		}
		for range 2 {
			c := call(t, d, "192.0.2.1", "good").must()
			c.Welcome("")
		}
		for range 3 {
			call(t, d, "192.0.2.1", "good").must().Leave()
		}
		if c := call(t, d, "192.0.2.1", "good"); c.Guest != nil {
			t.Error("six connections of one address")
		}
		if n := d.Counts(); n.RefusedAddress != 2 || n.Evicted != 1 {
			t.Errorf("%+v", n)
		}
		d.Close()
	})
}

// When all connections are taken, strangers that stall make way, of the address
// with most of them; for the known even if they do not.
func TestFullMakesWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 4, MaxConnections: 12, Address: Address{MaxConnections: 10, MaxPending: 10}})
		call(t, d, "192.0.2.3", "served").must().Welcome("")
		for i := range 11 {
			c := call(t, d, fmt.Sprintf("192.0.2.%d", 1+i/9), "silent") // nine of one, two of another
			go func() { c.Admit(); c.Close() }()
		}
		synctest.Wait()
		if c := call(t, d, "192.0.2.4", "new"); c.Guest != nil {
			t.Error("a stranger was let in though nobody stalls")
		}
		if c := call(t, d, "192.0.2.3", "known"); c.Guest == nil {
			t.Error("a known one was not let in")
		}
		synctest.Wait()
		time.Sleep(grace)
		for range 3 {
			if c := call(t, d, "192.0.2.4", "new"); c.Guest == nil {
				t.Error("nobody made way")
			}
			synctest.Wait()
		}
		if a := d.table.all[KeyOf(tcp("192.0.2.1"))]; a.open != 5 {
			t.Errorf("the crowd has %d left, want 5", a.open)
		}
		if n := d.Counts(); n.Open != 12 || n.RefusedFull != 1 || n.Evicted != 4 {
			t.Errorf("%+v", n)
		}
		d.Close()
	})
}

// Guessing is slowed down, more and more, and those who were there before are not.
func TestGuessing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 4, Address: Address{FailureRate: 10, FailureBurst: 20}})
		good := call(t, d, "192.0.2.1", "good").must()
		good.Welcome("good")
		bad := call(t, d, "192.0.2.1", "bad").must()
		took := func(client string) (time.Duration, error) {
			w, err := bad.Delay(client)
			time.Sleep(w)
			return w, err
		}
		more := func(n int) {
			d.mu.Lock()
			defer d.mu.Unlock()
			for range n {
				bad.addr.failures.add(&d.cfg.Address, time.Now())
			}
		}
		for i := range 20 {
			if w, err := took("bad"); w != 0 || err != nil {
				t.Fatalf("guess %d: %v, %v", i, w, err)
			}
			bad.Refused("bad")
		}
		var waits []time.Duration
		for range 30 {
			more(4)
			w, err := took("bad")
			if err != nil {
				t.Fatal(err)
			}
			waits = append(waits, w)
		}
		if waits[0] < 90*time.Millisecond || waits[29] < 2*waits[0] || waits[29] > MaxDelay {
			t.Errorf("waits: %v", waits)
		}
		if w, err := took("good"); w != 0 || err != nil {
			t.Errorf("who was there before: %v, %v", w, err)
		}
		// At one time, only as many as can be served within the bound.
		busy, served := 0, 0
		last := time.Duration(0)
		for range 100 {
			w, err := bad.Delay("bad")
			if errors.Is(err, ErrBusy) {
				busy++
				continue
			}
			served++
			if w <= last || w > MaxDelay {
				t.Errorf("wait %v after one of %v", w, last)
			}
			last = w
		}
		if served == 0 || served > 50 || busy != 100-served {
			t.Errorf("%d were served, %d sent away", served, busy)
		}
		other := call(t, d, "192.0.2.2", "other").must()
		if w, err := other.Delay("bad"); err != nil || w != 0 {
			t.Error("another address was slowed down")
		}
		more(40)
		bad.Refused("good")
		if w, err := took("good"); w == 0 && err == nil {
			t.Error("a client whose credentials were refused is still trusted")
		}
		time.Sleep(20 * time.Second)
		if w, _ := took("bad"); w != 0 {
			t.Errorf("still slowed down by %v", w)
		}
		d.Close()
	})
}

// What is remembered is bounded, and the known are remembered longest.
func TestTableIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := New(Config{MaxTurns: 4})
		c := call(t, d, "198.51.100.1", "known").must()
		c.Welcome("")
		c.Close()
		for i := range maxIdle + 20_000 {
			a := d.table.get(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i >> 16), byte(i >> 8), byte(i)}), time.Now())
			a.fail(&d.cfg.Address, time.Now())
			d.table.settle(a, time.Now())
		}
		if n := len(d.table.all); n > maxIdle {
			t.Errorf("%d addresses are remembered", n)
		}
		if d.table.all[KeyOf(tcp("198.51.100.1"))] == nil {
			t.Error("the known address was forgotten")
		}
		for i := range 1000 { // nothing is remembered of who did nothing
			call(t, d, fmt.Sprintf("203.0.113.%d", i%250), "").Close()
		}
		for key := range d.table.all {
			if key.Is4() && key != netip.MustParseAddr("198.51.100.1") {
				t.Fatalf("%v is remembered", key)
			}
		}
	})
}
