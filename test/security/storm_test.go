package security

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A source opens connections from one loopback address.
type source struct {
	t  testing.TB
	s  *site
	ip net.IP
}

func (s *site) source(t testing.TB, last byte) source {
	return source{t, s, net.IPv4(127, 0, 0, last)}
}

// dial connects without TLS.
func (o source) dial() (*net.TCPConn, error) {
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: o.ip}}
	nc, err := d.Dial("tcp", o.s.address())
	if err != nil {
		return nil, err
	}
	return nc.(*net.TCPConn), nil
}

// A codeError is a CONNACK that says no.
type codeError mqtt.ReasonCode

func (e codeError) Error() string { return "refused: " + mqtt.ReasonCode(e).String() }

// login connects as a client and returns when it has been let in.
func (o source) login(conf *tls.Config, l login) (net.Conn, error) {
	raw, err := o.dial()
	if err != nil {
		return nil, err
	}
	nc := tls.Client(raw, conf)
	_ = nc.SetDeadline(time.Now().Add(patience))
	_, err = nc.Write(l.packet().Append(nil, mqtt.V5))
	if err == nil {
		var p mqtt.Packet
		p, err = mqtt.NewReader(nc, 1<<16).Packet(mqtt.V5)
		if ack, ok := p.(*mqtt.Connack); err == nil && (!ok || ack.Code != mqtt.Success) {
			err = errors.New("no CONNACK")
			if ok {
				err = codeError(ack.Code)
			}
		}
	}
	if err != nil {
		raw.Close()
		return nil, err
	}
	return nc, nil
}

// helloHead begins a ClientHello that never ends.
var helloHead = []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}

// A flood is an attacker on one address. It holds connections that say nothing,
// that begin a handshake, and that go on with it a byte at a time, and opens new
// ones as fast as it can.
type flood struct {
	opened atomic.Int64
	stop   chan struct{}
	wg     sync.WaitGroup
}

func (o source) flood(silent, half, slow, fresh int) *flood {
	f := &flood{stop: make(chan struct{})}
	hold := func(n int, then func(nc *net.TCPConn)) {
		for range n {
			nc, err := o.dial()
			if err != nil {
				o.t.Error(err)
				return
			}
			o.t.Cleanup(func() { nc.Close() })
			then(nc)
		}
	}
	hold(silent, func(*net.TCPConn) {})
	hold(half, func(nc *net.TCPConn) { _, _ = nc.Write(helloHead) })
	var drip []*net.TCPConn
	hold(slow, func(nc *net.TCPConn) { drip = append(drip, nc) })
	f.wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		hello := append(helloHead, make([]byte, 500)...)
		for i := range hello {
			for _, nc := range drip {
				_, _ = nc.Write(hello[i : i+1])
			}
			select {
			case <-tick.C:
			case <-f.stop:
				return
			}
		}
	})
	const writers = 4
	for range writers {
		f.wg.Go(func() {
			ring := make([]*net.TCPConn, fresh/writers)
			defer func() {
				for _, nc := range ring {
					if nc != nil {
						nc.Close()
					}
				}
			}()
			for i := 0; ; i++ {
				select {
				case <-f.stop:
					return
				default:
				}
				nc, err := o.dial()
				if err != nil {
					continue // its own time-out bounds the loop
				}
				f.opened.Add(1)
				_ = nc.SetLinger(0)
				_, _ = nc.Write(helloHead)
				at := &ring[i%len(ring)]
				if *at != nil {
					(*at).Close()
				}
				*at = nc
			}
		})
	}
	return f
}

func (f *flood) end() {
	close(f.stop)
	f.wg.Wait()
}

// come has clients of a known fleet connect at once, each with a few attempts, and
// cuts them all off when the last one is in.
func (o source) come(conf *tls.Config, size int) time.Duration {
	o.t.Helper()
	began := time.Now()
	var wg sync.WaitGroup
	var attempts atomic.Int64
	conns := make([]net.Conn, size)
	for i := range conns {
		wg.Go(func() {
			l := login{fmt.Sprintf("a:%s:fleet%d", o.s.ours.id, i), o.s.ours.key, o.s.ours.token}
			for range 3 {
				attempts.Add(1)
				if nc, err := o.login(conf, l); err == nil {
					conns[i] = nc
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	in := 0
	for _, nc := range conns {
		if nc != nil {
			in++
			raw := nc.(*tls.Conn).NetConn().(*net.TCPConn)
			_ = raw.SetLinger(0)
			raw.Close()
		}
	}
	o.t.Logf("%d of %d came within %v, in %d attempts", in, size, took, attempts.Load())
	if in < size {
		o.t.Errorf("%d of %d are still out after %v", size-in, size, took)
	}
	return took
}

// A fleet that is known comes back while an attacker on another address opens
// connections by the thousand, more than the server may have; so does a client
// that nobody has seen before.
func TestKnownFleetReconnectsDuringFlood(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keepmq.yaml")
	if err := os.WriteFile(file, []byte("mqtt: {max_connections: 1000}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--config", file)
	conf := s.TLS()
	crowd(t, 0) // raises the limit of files
	const size = 500
	home := s.source(t, 3)
	calm := home.come(conf, size)
	before := s.memory(t)
	f := s.source(t, 2).flood(2000, 500, 100, 1000)
	defer f.end()
	eventually(t, "the flood has risen", func() bool { return f.opened.Load() > 2000 })
	stormy := home.come(conf, size)
	began := time.Now()
	for attempt := 0; ; attempt++ {
		nc, err := s.source(t, 5).login(conf, login{"a:" + s.ours.id + ":newcomer", s.ours.key, s.ours.token})
		if err == nil {
			nc.Close()
			break
		}
		if attempt == 100 || time.Since(began) > time.Minute {
			t.Errorf("a client from an unknown address: %v", err)
			break
		}
	}
	t.Logf("a known fleet of %d: %v in calm, %v in a flood of %d new connections; an unknown client: %v; %d KiB more memory",
		size, calm, stormy, f.opened.Load(), time.Since(began), (s.memory(t)-before)>>10)
}

// Who guesses is slowed down, and in the end is not even listened to. Neither a
// client that was there before, behind the same address, nor other addresses
// notice.
func TestGuessingSlowsDownTheGuesser(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keepmq.yaml")
	if err := os.WriteFile(file, []byte("mqtt: {address: {failure_rate: 1, failure_burst: 10}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "--config", file)
	conf := s.TLS()
	nat, other := s.source(t, 2), s.source(t, 3)
	good := login{"a:" + s.ours.id + ":good", s.ours.key, s.ours.token}
	let := func(o source, l login) {
		t.Helper()
		began := time.Now()
		nc, err := o.login(conf, l)
		if err != nil {
			t.Errorf("%s: %v", l.client, err)
			return
		}
		t.Logf("%s is in after %v", l.client, time.Since(began))
		nc.Close()
	}
	let(nat, good)
	const guesses = 100
	var refused, unheard atomic.Int64
	var wg sync.WaitGroup
	for i := range guesses {
		wg.Go(func() {
			_, err := nat.login(conf, login{"a:" + s.ours.id + ":guess" + strconv.Itoa(i), s.ours.key, "wrong" + strconv.Itoa(i)})
			switch code := new(codeError); {
			case !errors.As(err, code):
				t.Errorf("guess %d: %v", i, err)
			case mqtt.ReasonCode(*code) == mqtt.BadUserNameOrPassword:
				refused.Add(1)
			case mqtt.ReasonCode(*code) == mqtt.QuotaExceeded:
				unheard.Add(1)
			default:
				t.Errorf("guess %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	t.Logf("of %d guesses %d were checked", guesses, refused.Load())
	if refused.Load() < 10 || unheard.Load() < guesses/4 {
		t.Errorf("of %d guesses %d were checked and %d were not", guesses, refused.Load(), unheard.Load())
	}
	let(nat, good)
	let(other, login{"a:" + s.ours.id + ":other", s.ours.key, s.ours.token})
}
