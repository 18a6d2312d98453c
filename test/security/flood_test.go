package security

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// from dials from one of several loopback addresses, to have ports enough.
func from(t testing.TB, s *site, port, i int) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}}
	nc, err := d.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// crowd is how many connections a flood has: want, or what KEEPMQ_CROWD says.
func crowd(t testing.TB, want int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(os.Getenv("KEEPMQ_CROWD")); err == nil {
		want = n
	}
	return min(want, int(limit.Max)/2)
}

// Connections that never begin their handshake, and such that go on a byte at a
// time before and after it, keep nobody out and are closed.
func TestStalledHandshakesDoNotStarve(t *testing.T) {
	t.Parallel()
	s := start(t)
	before, files := s.memory(t), s.files(t)
	n := crowd(t, 3000)
	stalled := make([]net.Conn, n)
	for i := range stalled {
		stalled[i] = from(t, s, s.MQTTPort, i)
		if i%3 == 0 { // the head of a ClientHello
			_, _ = stalled[i].Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3})
		}
	}
	began := time.Now()
	s.healthy(t)
	t.Logf("%d stalled handshakes: a reading took %v, %d KiB more memory", n, time.Since(began), (s.memory(t)-before)>>10)
	for i := range 300 {
		nc := tls.Client(from(t, s, s.MQTTPort, i), s.TLS())
		if err := nc.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte{0x10})
		stalled = append(stalled, nc)
	}
	began = time.Now()
	s.healthy(t)
	t.Logf("with 300 stalled CONNECTs: %v", time.Since(began))
	if more := s.memory(t) - before; more > 400<<20 {
		t.Errorf("the server grew by %d MiB", more>>20)
	}
	closed := time.Now()
	eventually(t, "the server closes them", func() bool { return s.files(t) < files+50 })
	t.Logf("closed %v later", time.Since(closed))
}

// Idle clients are served, and nothing of them is left when they vanish at once.
func TestIdleClientsLeaveNothing(t *testing.T) {
	s := start(t)
	s.healthy(t)
	before, files := s.memory(t), s.files(t)
	n := crowd(t, 1500)
	conns := make([]net.Conn, n)
	conf := s.TLS()
	var wg sync.WaitGroup
	var failed sync.Map
	next := make(chan int)
	for range 32 {
		wg.Go(func() {
			for i := range next {
				nc := tls.Client(conns[i], conf)
				p := login{fmt.Sprintf("a:%s:idle%d", s.ours.id, i), s.ours.key, s.ours.token}.packet()
				_ = nc.SetDeadline(time.Now().Add(time.Minute))
				if _, err := nc.Write(p.Append(nil, mqtt.V5)); err != nil {
					failed.Store(i, err)
					continue
				}
				if a, err := mqtt.NewReader(nc, 1<<16).Packet(mqtt.V5); err != nil {
					failed.Store(i, err)
				} else if ack, ok := a.(*mqtt.Connack); !ok || ack.Code != mqtt.Success {
					failed.Store(i, fmt.Errorf("%+v", a))
				}
			}
		})
	}
	for i := range conns {
		conns[i] = from(t, s, s.MQTTPort, i)
		next <- i
	}
	close(next)
	wg.Wait()
	bad := 0
	failed.Range(func(_, v any) bool {
		if bad++; bad < 4 {
			t.Error(v)
		}
		return true
	})
	each := (s.memory(t) - before) / int64(n)
	t.Logf("%d idle connections, %d failed, %d bytes each", n, bad, each)
	if each > 150<<10 {
		t.Errorf("an idle connection costs %d bytes", each)
	}
	for _, nc := range conns {
		_ = nc.(*net.TCPConn).SetLinger(0)
		nc.Close()
	}
	eventually(t, "all files closed", func() bool { return s.files(t) < files+20 })
	s.healthy(t)
	s.Stop() // it waits for every goroutine
}

// A subscriber that does not read costs the server a bounded amount of memory,
// and its neighbours nothing.
func TestSlowReaderBoundsMemory(t *testing.T) {
	s := start(t)
	for _, tt := range []struct {
		name       string
		qos        byte
		persistent bool
	}{{"QoS 0", 0, false}, {"QoS 1 volatile", 1, false}, {"QoS 1 persistent", 1, true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := login{"a:" + s.ours.id + ":slow", s.ours.key, s.ours.token}.packet()
			if tt.persistent {
				p.Properties.SessionExpiry = mqtt.Some(uint32(60))
			}
			slow := s.connect(t, p)
			_ = slow.nc.NetConn().(*net.TCPConn).SetReadBuffer(4096)
			const filter = "iot-2/type/sensor/id/one/evt/flood/fmt/bin"
			slow.subscribe(tt.qos, filter)
			good := s.connect(t, login{"a:" + s.ours.id + ":good", s.ours.key, s.ours.token}.packet())
			good.subscribe(0, filter)
			d := s.connect(t, s.ours.asDevice().packet())
			payload := bytes.Repeat([]byte{1}, 64<<10)
			before := s.memory(t)
			const count = 1500 // about 100 MiB
			got, acked := 0, 0
			for i := range count {
				m := &mqtt.Publish{Topic: []byte("iot-2/evt/flood/fmt/bin"), Payload: payload, QoS: tt.qos}
				if tt.qos > 0 {
					m.PacketID = uint16(i + 1)
				}
				d.send(m)
				if tt.qos > 0 {
					if a, ok := d.next().(*mqtt.Ack); ok && !a.Code.IsError() {
						acked++
					}
				}
				if i%5 == 4 { // the neighbour keeps up
					d.ping()
					got += len(good.ping())
				}
			}
			want := count
			if tt.persistent {
				want = acked // the rest was refused: the queue was full
			}
			more := s.memory(t) - before
			t.Logf("the neighbour received %d of %d, %d were acknowledged, the server grew by %d MiB", got, count, acked, more>>20)
			if more > 300<<20 {
				t.Errorf("the server grew by %d MiB", more>>20)
			}
			if got < want || want == 0 {
				t.Errorf("the neighbour received %d of %d", got, want)
			}
			if tt.qos == 1 && !tt.persistent && acked < count {
				t.Errorf("%d of %d were acknowledged", acked, count)
			}
			s.healthy(t)
			slow.nc.NetConn().Close()
		})
	}
}

// The HTTPS port is under the same pressure and stays within its share of files.
func TestHTTPSConnectionsAreBounded(t *testing.T) {
	s := start(t)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	n := crowd(t, int(limit.Max)/5)
	for i := range n {
		from(t, s, s.HTTPSPort, i)
	}
	most := 0
	end := time.Now().Add(2 * time.Second)
	for time.Now().Before(end) {
		most = max(most, s.files(t))
	}
	t.Logf("%d connections, %d files open", n, most)
	if most > n*3/4 {
		t.Errorf("%d files are open after %d connections to the HTTPS port", most, n)
	}
	s.healthy(t)
	eventually(t, "HTTPS answers again", func() bool { return s.api.Do(http.MethodGet, "/me", nil, nil) == nil })
}
