// Package nettest is a network in memory, for tests under a fake clock.
//
// Whoever waits on one of its connections waits so that testing/synctest knows
// it: in a bubble, time goes on. A connection has a buffer of a fixed size in
// each direction, as the kernel's have one: who does not read makes the other
// end wait, and two ends that both write first do not wait for each other.
// Deadlines are those of net.Conn. It loses, delays and reorders nothing.
package nettest

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Buffer is how many bytes may wait in one direction of a connection.
const Buffer = 64 << 10

// A Listener accepts the connections that Dial makes.
type Listener struct {
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once
	ports   atomic.Int32
}

// Listen returns a Listener of an address that nothing else can reach.
func Listen() *Listener {
	return &Listener{waiting: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *Listener) address(port int) net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
}

// Dial connects to the listener, and returns when it has accepted.
func (l *Listener) Dial() (net.Conn, error) {
	client, server := Pipe()
	client.local = l.address(int(10000 + l.ports.Add(1)))
	client.remote = l.Addr()
	server.local, server.remote = client.remote, client.local
	select {
	case l.waiting <- server:
		return client, nil
	case <-l.closed:
		return nil, l.failed("dial", syscall.ECONNREFUSED)
	}
}

// Accept is part of net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.waiting:
		return c, nil
	case <-l.closed:
		return nil, l.failed("accept", net.ErrClosed)
	}
}

// Close is part of net.Listener. Connections stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is part of net.Listener.
func (l *Listener) Addr() net.Addr { return l.address(8883) }

func (l *Listener) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "memory", Addr: l.Addr(), Err: err}
}

// A Conn is one end of a connection.
type Conn struct {
	in, out       *lane
	local, remote net.Addr
}

// Pipe returns the two ends of a connection.
func Pipe() (*Conn, *Conn) {
	a, b := newLane(), newLane()
	nowhere := &net.TCPAddr{}
	return &Conn{in: a, out: b, local: nowhere, remote: nowhere}, &Conn{in: b, out: a, local: nowhere, remote: nowhere}
}

// Read is part of net.Conn.
func (c *Conn) Read(b []byte) (int, error) { return c.in.read(b) }

// Write is part of net.Conn.
func (c *Conn) Write(b []byte) (int, error) { return c.out.write(b) }

// Close is part of net.Conn. What was written before can still be read.
func (c *Conn) Close() error {
	c.in.close(func(l *lane) { l.deaf = true })
	c.out.close(func(l *lane) { l.ended = true })
	return nil
}

// LocalAddr is part of net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is part of net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline is part of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	c.in.until(&c.in.reading, t)
	c.out.until(&c.out.writing, t)
	return nil
}

// SetReadDeadline is part of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.until(&c.in.reading, t)
	return nil
}

// SetWriteDeadline is part of net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.until(&c.out.writing, t)
	return nil
}

// SetReadBuffer sets how many bytes may wait to be read. What waits already stays.
func (c *Conn) SetReadBuffer(n int) error {
	c.in.close(func(l *lane) { l.size = n })
	return nil
}

// A lane is one direction of a connection.
type lane struct {
	mu      sync.Mutex // guards the fields below
	changed *sync.Cond
	buf     []byte
	size    int
	ended   bool     // the writing end is closed
	deaf    bool     // the reading end is closed
	reading deadline // of the reading end
	writing deadline // of the writing end
}

type deadline struct {
	timer  *time.Timer
	passed bool
}

func newLane() *lane {
	l := &lane{size: Buffer}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// close changes the lane and tells whoever waits.
func (l *lane) close(change func(*lane)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
	l.changed.Broadcast()
}

func (l *lane) until(d *deadline, t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	left := time.Until(t)
	d.passed = !t.IsZero() && left <= 0
	if !t.IsZero() && left > 0 {
		var timer *time.Timer
		timer = time.AfterFunc(left, func() {
			l.close(func(*lane) { d.passed = d.passed || d.timer == timer })
		})
		d.timer = timer
	}
	l.changed.Broadcast()
}

func (l *lane) read(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.deaf:
			return 0, net.ErrClosed
		case l.reading.passed:
			return 0, os.ErrDeadlineExceeded
		case len(l.buf) > 0:
			n := copy(b, l.buf)
			l.buf = l.buf[n:]
			l.changed.Broadcast()
			return n, nil
		case l.ended:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		l.changed.Wait()
	}
}

func (l *lane) write(b []byte) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch room := l.size - len(l.buf); {
		case l.ended:
			return n, net.ErrClosed
		case l.deaf:
			return n, &net.OpError{Op: "write", Net: "memory", Err: syscall.EPIPE}
		case l.writing.passed:
			return n, os.ErrDeadlineExceeded
		case n == len(b):
			return n, nil
		case room > 0:
			k := min(room, len(b)-n)
			l.buf = append(l.buf, b[n:n+k]...)
			n += k
			l.changed.Broadcast()
			continue
		}
		l.changed.Wait()
	}
}
