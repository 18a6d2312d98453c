package model

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A pipe is one direction of a connection in memory: unlike net.Pipe it has a
// buffer, as a socket has.
type pipe struct {
	mu     sync.Mutex // guards what follows
	moved  *sync.Cond
	buf    []byte
	closed bool // by the writer: what is in buf can still be read
	broken bool // by the reader: nobody will read
	frozen bool // what is written is lost, and the writer does not notice
	silent bool // nor does the reader: it waits
	read   deadline
	write  deadline
}

// pipeSize is how much a writer may be ahead of its reader.
const pipeSize = 1 << 20

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func newPipe() *pipe {
	p := &pipe{}
	p.moved = sync.NewCond(&p.mu)
	return p
}

func (p *pipe) set(d *deadline, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), p.moved.Broadcast)
	}
	p.moved.Broadcast()
}

func (p *pipe) take(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.broken:
			return 0, net.ErrClosed
		case p.read.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p.buf) > 0:
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			p.moved.Broadcast()
			return n, nil
		case p.silent:
		case p.closed || p.frozen:
			return 0, io.EOF
		}
		p.moved.Wait()
	}
}

var errReset = errors.New("connection reset")

func (p *pipe) put(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.closed:
			return 0, net.ErrClosed
		case p.write.passed():
			return 0, os.ErrDeadlineExceeded
		case p.frozen:
			return len(b), nil
		case p.broken:
			return 0, errReset
		case len(p.buf) < pipeSize:
			p.buf = append(p.buf, b...)
			p.moved.Broadcast()
			return len(b), nil
		}
		p.moved.Wait()
	}
}

func (p *pipe) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	p.moved.Broadcast()
}

// A wire is one end of a connection in memory.
type wire struct {
	in, out *pipe
	name    net.Addr
	peer    net.Addr
}

func newWire(client, server net.Addr) (near, far *wire) {
	up, down := newPipe(), newPipe()
	return &wire{in: down, out: up, name: client, peer: server}, &wire{in: up, out: down, name: server, peer: client}
}

func (w *wire) Read(b []byte) (int, error)  { return w.in.take(b) }
func (w *wire) Write(b []byte) (int, error) { return w.out.put(b) }

func (w *wire) Close() error {
	w.out.change(func() { w.out.closed = true })
	w.in.change(func() { w.in.broken = true })
	return nil
}

// freeze ends the connection as the server's power cut does, seen from the
// client: what the server wrote before can be read, nothing else comes. The
// server has no time to notice anything.
func (w *wire) freeze() {
	w.in.change(func() { w.in.frozen = true })
	w.out.change(func() { w.out.frozen, w.out.silent, w.out.buf = true, true, nil })
}

func (w *wire) LocalAddr() net.Addr  { return w.name }
func (w *wire) RemoteAddr() net.Addr { return w.peer }

func (w *wire) SetDeadline(t time.Time) error {
	w.SetReadDeadline(t)
	return w.SetWriteDeadline(t)
}

func (w *wire) SetReadDeadline(t time.Time) error {
	w.in.set(&w.in.read, t)
	return nil
}

func (w *wire) SetWriteDeadline(t time.Time) error {
	w.out.set(&w.out.write, t)
	return nil
}

// A listener hands out the far ends of wires.
type listener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn, 64), done: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *listener) Addr() net.Addr { return serverAddr }

var serverAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8883}

// dial returns the client's end of a new connection.
func (l *listener) dial(n int) *wire {
	near, far := newWire(&net.TCPAddr{IP: net.IPv4(127, 0, byte(1+n/250), byte(1+n%250)), Port: 40000}, serverAddr)
	l.conns <- far
	return near
}
