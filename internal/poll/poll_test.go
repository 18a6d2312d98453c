//go:build linux

package poll

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A handler serves one connection of a test.
type handler struct {
	c    *Conn
	got  func(b []byte, w *Worker)
	over chan error // what Read ended with
}

func (h *handler) Ready(w *Worker) bool {
	var b [1000]byte
	for {
		n, err := h.c.Read(b[:])
		if n > 0 && h.got != nil {
			h.got(b[:n], w)
		}
		if errors.Is(err, ErrAgain) {
			return true
		}
		if err != nil {
			h.over <- err
			return false
		}
	}
}

// pair returns the two ends of a connection, of which one can be polled.
func pair(t testing.TB, p *Poller) (*Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := p.Wrap(nc).(*Conn)
	t.Cleanup(func() { c.Close(); client.Close() })
	return c, client
}

func open(t testing.TB) *Poller {
	t.Helper()
	p, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func start(t testing.TB, c *Conn, got func([]byte, *Worker)) *handler {
	t.Helper()
	h := &handler{c: c, got: got, over: make(chan error, 1)}
	if err := c.Start(h); err != nil {
		t.Fatal(err)
	}
	return h
}

// echo writes back what it reads.
func echo(c *Conn) func([]byte, *Worker) {
	return func(b []byte, _ *Worker) {
		c.Inline(true)
		_, _ = c.Write(b) // the client notices
		c.Inline(false)
	}
}

func ask(c net.Conn, q string) error {
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(q)); err != nil {
		return err
	}
	b := make([]byte, len(q))
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	if string(b) != q {
		return fmt.Errorf("got %q, want %q", b, q)
	}
	return nil
}

func TestManyAtOnce(t *testing.T) {
	p := open(t)
	var wg sync.WaitGroup
	for i := range 200 {
		c, client := pair(t, p)
		start(t, c, echo(c))
		wg.Go(func() {
			for k := range 50 {
				if err := ask(client, fmt.Sprintf("%d says %d, and %s", i, k, bytes.Repeat([]byte("x"), k*k))); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// What was there before Start is read, too.
func TestThereBefore(t *testing.T) {
	p := open(t)
	c, client := pair(t, p)
	got := make(chan string, 1)
	if _, err := client.Write([]byte("early")); err != nil {
		t.Fatal(err)
	}
	start(t, c, func(b []byte, _ *Worker) { got <- string(b) })
	if s := <-got; s != "early" {
		t.Errorf("got %q", s)
	}
}

// The end of a connection is noticed, also when it comes with the last data.
func TestEndWithData(t *testing.T) {
	p := open(t)
	for i := range 300 {
		c, client := pair(t, p)
		var n atomic.Int64
		if i%2 == 0 {
			if _, err := client.Write([]byte("last words")); err != nil {
				t.Fatal(err)
			}
			client.Close()
		}
		h := start(t, c, func(b []byte, _ *Worker) { n.Add(int64(len(b))) })
		if i%2 == 1 {
			if _, err := client.Write([]byte("last words")); err != nil {
				t.Fatal(err)
			}
			client.Close()
		}
		select {
		case err := <-h.over:
			if !errors.Is(err, io.EOF) || n.Load() != 10 {
				t.Fatalf("connection %d: %d bytes, then %v", i, n.Load(), err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("connection %d: its end is not noticed after %d bytes", i, n.Load())
		}
	}
}

// A write does not wait for a peer that reads nothing; Drain does, and no byte is lost.
func TestSlowReader(t *testing.T) {
	p := open(t)
	c, client := pair(t, p)
	// Else the system may find room for more while it is asked to take it.
	if err := errors.Join(client.(*net.TCPConn).SetReadBuffer(16<<10), c.Conn.(*net.TCPConn).SetWriteBuffer(16<<10)); err != nil {
		t.Fatal(err)
	}
	start(t, c, nil)
	piece := make([]byte, 32<<10)
	c.Inline(true)
	for i := 0; !c.Pending(); i++ {
		if i > 10000 {
			t.Fatal("the system takes everything")
		}
		for k := range piece {
			piece[k] = byte(i + k)
		}
		if n, err := c.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	for range 100 { // whoever goes on is stopped
		if _, err := c.Write(piece); err != nil {
			if !errors.Is(err, errRest) {
				t.Fatalf("write: %v", err)
			}
			break
		}
	}
	if len(c.rest) > maxRest {
		t.Fatalf("%d bytes are kept", len(c.rest))
	}
	c.Inline(false)
	if err := c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := c.Drain(); err == nil {
		t.Fatal("drained though nobody reads")
	}
	client.Close()

	c, client = pair(t, p)
	start(t, c, nil)
	c.Inline(true)
	var sent bytes.Buffer
	for !c.Pending() {
		if _, err := c.Write(piece); err != nil {
			t.Fatal(err)
		}
		sent.Write(piece)
	}
	c.Inline(false)
	drained := make(chan error, 1)
	go func() { drained <- c.Drain() }()
	got := make([]byte, sent.Len())
	_ = client.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, sent.Bytes()) {
		t.Errorf("not what was sent: %v", err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}

// Connections whose handlers wait do not keep others from being served, whether
// they say so or not. Those that do not say so come one by one: a worker that was
// told of two would wait with the first and not see the second.
func TestWaiting(t *testing.T) {
	for _, says := range []bool{true, false} {
		t.Run(fmt.Sprintf("says so %v", says), func(t *testing.T) {
			p := open(t)
			release := make(chan struct{})
			n := 3 * runtime.GOMAXPROCS(0)
			if says {
				n = 50
			}
			waiting := make(chan struct{}, n)
			for range n {
				c, client := pair(t, p)
				start(t, c, func(_ []byte, w *Worker) {
					if says {
						w.Block()
					}
					waiting <- struct{}{}
					<-release
				})
				if _, err := client.Write([]byte("wait")); err != nil {
					t.Fatal(err)
				}
				if !says {
					<-waiting
				}
			}
			for range n {
				if says {
					<-waiting
				}
			}
			c, client := pair(t, p)
			start(t, c, echo(c))
			if err := ask(client, "still there?"); err != nil {
				t.Error(err)
			}
			close(release)
		})
	}
}

// A task is done once, whoever asks for it and whenever.
func TestLater(t *testing.T) {
	p := open(t)
	const each, askers = 5000, 8
	tasks := make([]counter, each*askers)
	var wg sync.WaitGroup
	for a := range askers {
		wg.Go(func() {
			for i := range each {
				p.Later(&tasks[a*each+i])
				if i%500 == 0 {
					time.Sleep(time.Millisecond) // the others have rest between
				}
			}
		})
	}
	wg.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for i := range tasks {
		for tasks[i].n.Load() == 0 && time.Now().Before(deadline) {
			runtime.Gosched()
		}
		if n := tasks[i].n.Load(); n != 1 {
			t.Fatalf("task %d was done %d times", i, n)
		}
	}
}

type counter struct{ n atomic.Int32 }

func (c *counter) Flush() { c.n.Add(1) }

// Kick has the handler look though nothing came.
func TestKick(t *testing.T) {
	p := open(t)
	c, _ := pair(t, p)
	h := start(t, c, nil)
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	c.Kick()
	select {
	case err := <-h.over:
		if ne := net.Error(nil); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody looked")
	}
	c.Kick() // it has ended: nothing happens
}

// A handler notices that another has closed its connection, though the system tells
// nobody, and does not read again what it has read before.
func TestClosed(t *testing.T) {
	p := open(t)
	c, client := pair(t, p)
	var n atomic.Int64
	came := make(chan struct{}, 1)
	h := start(t, c, func(b []byte, _ *Worker) {
		n.Add(int64(len(b)))
		select {
		case came <- struct{}{}:
		default:
		}
	})
	if _, err := client.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	<-came
	c.Close()
	select {
	case err := <-h.over:
		if !errors.Is(err, net.ErrClosed) || n.Load() != 10 {
			t.Errorf("it ended with %v after %d bytes", err, n.Load())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody noticed")
	}
}

// Reading and writing what is there allocates nothing.
func TestNoAllocation(t *testing.T) {
	p := open(t)
	c, client := pair(t, p)
	var b [100]byte
	h := &handler{c: c, over: make(chan error, 1)}
	c.handler, c.reading.call, c.writing.call = h, c.readNow, c.writeNow
	c.polled.Store(true) // without workers: this is the one that reads
	c.Inline(true)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := client.Write(b[:]); err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := c.Read(b[:]); err == nil {
				break
			}
			runtime.Gosched()
		}
		if _, err := c.Write(b[:]); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// When very many go at one moment, all of them are served, also when some of them
// wait, and who stays is served meanwhile.
func TestDepartures(t *testing.T) {
	p := open(t)
	const many, waiting = 400, 20
	var clients []net.Conn
	var all []*handler
	hold := make(chan struct{})
	for i := range many {
		c, client := pair(t, p)
		all = append(all, start(t, c, func(_ []byte, w *Worker) {
			if i < waiting {
				w.Block()
				<-hold
			}
		}))
		clients = append(clients, client)
	}
	c, stays := pair(t, p)
	start(t, c, echo(c))
	for _, client := range clients {
		if _, err := client.Write([]byte("last words")); err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	if err := ask(stays, "still here"); err != nil {
		t.Error(err)
	}
	late := time.After(20 * time.Second)
	gone := func(all []*handler) {
		for i, h := range all {
			select {
			case err := <-h.over:
				if err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("connection %d ended with %v", i, err)
				}
			case <-late:
				t.Fatalf("connection %d of %d was not seen off", i, len(all))
			}
		}
	}
	gone(all[waiting:]) // none of them waits for those who hold
	close(hold)
	gone(all[:waiting])
	if err := ask(stays, "and still"); err != nil {
		t.Error(err)
	}
}

// A stuck handler waits without saying so when it is called a second time.
type stuck struct {
	calls   atomic.Int32
	waits   chan struct{}
	release chan struct{}
}

func (s *stuck) Ready(*Worker) bool {
	if s.calls.Add(1) == 2 {
		close(s.waits)
		<-s.release
	}
	return true
}

// Who departs behind one that waits without saying so is seen off all the same,
// and whoever is kicked does not wait for those before it.
func TestStuckDeparture(t *testing.T) {
	p := open(t)
	c, _ := pair(t, p)
	s := &stuck{waits: make(chan struct{}), release: make(chan struct{})}
	if err := c.Start(s); err != nil {
		t.Fatal(err)
	}
	for s.calls.Load() == 0 || c.state.Load() != idle {
		time.Sleep(time.Millisecond)
	}
	p.depart(c)
	<-s.waits
	var all []*handler
	for range 3 {
		c, client := pair(t, p)
		h := start(t, c, nil)
		for c.state.Load() != idle {
			time.Sleep(time.Millisecond)
		}
		client.Close()
		p.depart(c)
		all = append(all, h)
	}
	all[2].c.Kick()
	for _, h := range all {
		<-h.over
	}
	close(s.release)
}
