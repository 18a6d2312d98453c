package edge

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

func payloads(from, to int) []string {
	var out []string
	for _, r := range batchOf(from, to-from+1) {
		out = append(out, string(r.payload))
	}
	return out
}

func reload(t *testing.T, d disk) position {
	_, p := openTestSpool(t, d, 1<<20)
	return p
}

func wantDelivered(t *testing.T, got []string, n int) {
	t.Helper()
	if want := payloads(1, n); !slices.Equal(got, want) {
		t.Errorf("delivered %v, want 1..%d", got, n)
	}
}

func TestUplink(t *testing.T) {
	b, d := newBroker(t), newMemDisk()
	s, p := openTestSpool(t, d, 1<<20)
	put(t, s, batchOf(1, 10))
	stop := b.start(s, p)
	b.waitFor(10)
	put(t, s, batchOf(11, 2000))
	got := b.waitFor(2010)
	u := stop()
	wantDelivered(t, got, 2010)
	if _, topics := b.seen(); topics[0] != "iot-2/evt/cpu/fmt/json" {
		t.Errorf("topic is %s", topics[0])
	}
	for _, p := range []position{u.position, reload(t, d)} { // the last PUBCOMPs may still be on their way
		if p.Completed+uint64(len(p.Received)) != 2010 {
			t.Errorf("position is %+v", p)
		}
	}
}

// TestCutEverywhere cuts the first connection at every border between two
// packets, and with it now and then the power of the device: the server must
// see each reading once and in order.
func TestCutEverywhere(t *testing.T) {
	const n = 12
	for _, power := range []bool{false, true} {
		r := rand.New(rand.NewPCG(3, 4))
		for at := 1; ; at++ {
			b, d := newBroker(t), newMemDisk()
			cut := make(chan struct{})
			b.set(func() {
				b.cutAt = func(connect int) int {
					if connect == 2 {
						close(cut)
					}
					return map[int]int{1: at}[connect]
				}
			})
			s, p := openTestSpool(t, d, 1<<20)
			put(t, s, batchOf(1, n))
			stop := b.start(s, p)
			whole := false
			select {
			case <-cut:
			case <-waiting(b, n):
				whole = true
			}
			if power && !whole {
				d = pullPlug(d, stop, r)
				s, p = openTestSpool(t, d, 1<<20)
				stop = b.start(s, p)
			}
			got := b.waitFor(n)
			stop()
			wantDelivered(t, got, n)
			if t.Failed() {
				t.Fatalf("cut at %d, power %v", at, power)
			}
			if whole {
				if at < 3*2*n {
					t.Fatalf("only %d borders were tried", at)
				}
				break
			}
		}
	}
}

// waiting is closed when n readings have been delivered and released.
func waiting(b *testBroker, n int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.waitFor(n)
	}()
	return done
}

// pullPlug ends the uplink without letting it write, and returns what is left.
func pullPlug(d *memDisk, stop func() *uplink, r *rand.Rand) *memDisk {
	d.mu.Lock()
	d.fail = func(int, string) error { return errKilled }
	d.mu.Unlock()
	stop()
	return d.crash(r)
}

// TestCutAtRandom cuts connection after connection and pulls the plug between.
func TestCutAtRandom(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 5))
		b, d := newBroker(t), newMemDisk()
		b.set(func() {
			b.cutAt = func(connect int) int {
				if connect > 40 {
					return 0
				}
				return 1 + int(seed*7919+uint64(connect)*104729)%40
			}
		})
		// The packet ids run over their end.
		first := position{Completed: mqtt.MaxPacketID - 20}
		s, _ := openTestSpool(t, d, 1<<20)
		if err := s.savePosition(first); err != nil {
			t.Fatal(err)
		}
		put0 := 0
		for range 6 {
			s, p := openTestSpool(t, d, 1<<20)
			put(t, s, batchOf(put0+1, 20))
			put0 += 20
			stop := b.start(s, p)
			target := 1 + r.IntN(put0)
			b.wait(func() bool { return len(b.delivered) >= target })
			d = pullPlug(d, stop, r)
		}
		s, p := openTestSpool(t, d, 1<<20)
		stop := b.start(s, p)
		got := b.waitFor(put0)
		stop()
		if wantDelivered(t, got, put0); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestSessionLost: the server forgets the session. What it had taken, and the
// device knows, is not published again; nothing is lost.
func TestSessionLost(t *testing.T) {
	const n = 30
	for at := 4; at < 100; at += 3 {
		b, d := newBroker(t), newMemDisk()
		b.set(func() {
			b.loseAt = 2
			b.cutAt = func(connect int) int { return map[int]int{1: at}[connect] }
		})
		s, p := openTestSpool(t, d, 1<<20)
		put(t, s, batchOf(1, n))
		stop := b.start(s, p)
		b.wait(func() bool { return b.connects > 1 && b.released[payloads(n, n)[0]] && len(b.held) == 0 })
		stop()
		seen := map[string]int{}
		delivered, _ := b.seen()
		for _, payload := range delivered {
			seen[payload]++
		}
		twice := 0
		for _, payload := range payloads(1, n) {
			switch {
			case seen[payload] == 0:
				t.Errorf("cut at %d: %s is lost", at, payload)
			case seen[payload] > 1:
				twice++
			}
		}
		if twice > int(b.receiveMax) {
			t.Errorf("cut at %d: %d twice, more than were unknown to the device", at, twice)
		}
	}
}

// TestReceivedIsNotPublishedAgain: what the position says the server has taken
// is released, or with a lost session simply done.
func TestReceivedIsNotPublishedAgain(t *testing.T) {
	for _, present := range []bool{true, false} {
		b, d := newBroker(t), newMemDisk()
		b.set(func() { b.present = present })
		s, _ := openTestSpool(t, d, 1<<20)
		put(t, s, batchOf(1, 8))
		if err := s.savePosition(position{Completed: 2, Received: []uint64{3, 5}}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []uint16{3, 5} {
			b.set(func() { b.held[id], b.payloads[id] = present, payloads(int(id), int(id))[0] })
		}
		s, p := openTestSpool(t, d, 1<<20)
		stop := b.start(s, p)
		got := b.waitFor(4)
		u := stop()
		if want := append(payloads(4, 4), payloads(6, 8)...); !slices.Equal(got, want) {
			t.Errorf("present %v: published %v", present, got)
		}
		if p := u.position; p.Completed < 3 || p.Completed+uint64(len(p.Received)) != 8 {
			t.Errorf("present %v: position is %+v", present, u.position)
		}
	}
}

func TestRejectedReading(t *testing.T) {
	b, d := newBroker(t), newMemDisk()
	b.set(func() {
		b.refuse = func(payload string) mqtt.ReasonCode {
			if payload == `{"n":3}` {
				return mqtt.PayloadFormatInvalid
			}
			return mqtt.Success
		}
	})
	s, p := openTestSpool(t, d, 1<<20)
	put(t, s, batchOf(1, 5))
	stop := b.start(s, p)
	b.waitFor(4)
	put(t, s, batchOf(6, 1))
	got := b.waitFor(6)
	stop()
	want := append(payloads(1, 2), payloads(4, 5)...)
	if !slices.Equal(got[:4], want) || !strings.Contains(got[4], `"count":1,"reason":"rejected by the server"`) || got[5] != `{"n":6}` {
		t.Errorf("delivered %v", got)
	}
}

// TestRefusedForNow: over quota, the reading waits and comes later, once.
func TestRefusedForNow(t *testing.T) {
	b, d := newBroker(t), newMemDisk()
	tries := 0
	b.set(func() {
		b.refuse = func(payload string) mqtt.ReasonCode {
			if payload == `{"n":3}` {
				if tries++; tries < 4 {
					return mqtt.QuotaExceeded
				}
			}
			return mqtt.Success
		}
	})
	s, p := openTestSpool(t, d, 1<<20)
	put(t, s, batchOf(1, 5))
	stop := b.start(s, p)
	got := b.waitFor(5)
	stop()
	slices.Sort(got)
	wantDelivered(t, got, 5)
	if b.mu.Lock(); tries != 4 {
		t.Errorf("tried %d times", tries)
	}
	b.mu.Unlock()
}

// TestUplinkAfterLoss: the server was away until the spool overflowed. What is
// left comes in order, the loss among it.
func TestUplinkAfterLoss(t *testing.T) {
	const n = 5000
	b, d := newBroker(t), newMemDisk()
	b.set(func() { b.receiveMax = 100 })
	s, _ := openTestSpool(t, d, 64<<10)
	for i := 1; i <= n; i += 10 {
		put(t, s, batchOf(i, 10))
	}
	want := numbers(t, s)
	s, p := openTestSpool(t, d, 64<<10)
	stop := b.start(s, p)
	b.waitFor(len(want))
	stop()
	var got []string
	delivered, _ := b.seen()
	for _, payload := range delivered {
		got = append(got, content(t, []byte(payload)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("delivered %d, want %d", len(got), len(want))
	}
	if len(want) == n {
		t.Error("nothing was lost")
	}
}

// TestPositionOnFullDisk: no PUBREL goes out before the disk takes the
// position, and the uplink goes on when it does.
func TestPositionOnFullDisk(t *testing.T) {
	b, d := newBroker(t), newMemDisk()
	s, p := openTestSpool(t, d, 1<<20)
	put(t, s, batchOf(1, 3))
	d.limit = d.used() + 1
	stop := b.start(s, p)
	b.wait(func() bool { return len(b.delivered) == 3 })
	refused := make(chan struct{}, 1)
	d.mu.Lock()
	d.fail = func(_ int, what string) error {
		if strings.HasPrefix(what, "remove "+positionFile) {
			select {
			case refused <- struct{}{}:
			default:
			}
		}
		return nil
	}
	d.mu.Unlock()
	<-refused // a save has failed since all was delivered
	b.mu.Lock()
	if len(b.released) != 0 {
		t.Errorf("released %v", b.released)
	}
	b.mu.Unlock()
	d.mu.Lock()
	d.limit = 0
	d.mu.Unlock()
	got := b.waitFor(3)
	stop()
	wantDelivered(t, got, 3)
}

func TestBackoff(t *testing.T) {
	b := backoff{least: time.Second, most: time.Minute}
	most := time.Duration(0)
	for i := range 20 {
		limit := min(time.Second<<i, time.Minute)
		d := b.next()
		if d < limit/2 || d > limit {
			t.Errorf("pause %d is %v, want %v..%v", i, d, limit/2, limit)
		}
		most = max(most, d)
	}
	if b.reset(); b.next() > time.Second {
		t.Error("reset does not")
	}
}

func TestPacketID(t *testing.T) {
	for _, test := range []struct {
		seq  uint64
		want uint16
	}{{1, 1}, {65535, 65535}, {65536, 1}, {131070, 65535}, {131071, 1}} {
		if got := packetID(test.seq); got != test.want {
			t.Errorf("packetID(%d) = %d, want %d", test.seq, got, test.want)
		}
	}
}
