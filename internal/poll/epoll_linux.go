package poll

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A waiter waits for events. Its epoll instance is itself polled by Go's runtime,
// so that who waits is parked and holds no thread.
type waiter struct {
	fd   int
	file *os.File
	raw  syscall.RawConn
}

func (p *waiter) open() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("poll: %w", os.NewSyscallError("epoll_create1", err))
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return fmt.Errorf("poll: %w", err)
	}
	p.fd, p.file = fd, os.NewFile(uintptr(fd), "epoll")
	p.raw, err = p.file.SyscallConn()
	if err != nil {
		p.file.Close()
		return fmt.Errorf("poll: %w", err)
	}
	return nil
}

func (p *waiter) close() { p.file.Close() }

// wait waits until w has events, or the waiter is closed.
func (p *waiter) wait(w *Worker) error { return p.raw.Read(w.gather) }

type events struct {
	n   int
	all [batch]unix.EpollEvent
}

// at returns the descriptor that an event is of, and whether the peer sends no more.
func (e *events) at(i int) (fd int, over bool) {
	const end = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR
	return int(e.all[i].Fd), e.all[i].Events&end != 0
}

// gatherOnce asks which connections are ready, and reports whether there are any.
func (w *Worker) gatherOnce(fd uintptr) bool {
	n, err := unix.EpollWait(int(fd), w.events.all[:], 0)
	w.events.n = max(n, 0)
	return n > 0 || err != nil && err != unix.EINTR
}

// add has the system tell when c can be read.
func (p *Poller) add(c *Conn) error {
	var err error
	ctl := c.raw.Control(func(fd uintptr) {
		p.conns.set(int(fd), c)
		err = unix.EpollCtl(p.wait.fd, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{
			Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd),
		})
	})
	if ctl != nil {
		return ctl
	}
	if err != nil {
		p.conns.remove(c)
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// readNow reads what is there. It is called with the descriptor held open.
func (c *Conn) readNow(fd uintptr) bool {
	t := &c.reading
	for {
		t.n, t.err = unix.Read(int(fd), t.b)
		switch {
		case t.err == unix.EINTR:
			continue
		case t.err == unix.EAGAIN:
			t.err = ErrAgain
		case t.err != nil:
			t.err = os.NewSyscallError("read", t.err)
		case t.n == 0 && len(t.b) > 0:
			t.err = io.EOF
		default:
			t.dry = t.n < len(t.b)
		}
		t.n = max(t.n, 0)
		return true
	}
}

// writeNow writes what the system takes. It is called with the descriptor held open.
func (c *Conn) writeNow(fd uintptr) bool {
	t := &c.writing
	for {
		t.n, t.err = unix.Write(int(fd), t.b)
		switch {
		case t.err == unix.EINTR:
			continue
		case t.err == unix.EAGAIN:
			t.err = ErrAgain
		case t.err != nil:
			t.err = os.NewSyscallError("write", t.err)
		}
		t.n = max(t.n, 0)
		return true
	}
}

// A table finds connections by their descriptor. What it finds may be another
// one than the one that an event was of, if that was closed meanwhile: it looks
// and finds nothing.
type table struct {
	pages [1 << 12]atomic.Pointer[page]
	mu    sync.Mutex // held by who adds a page
}

const pageSize = 1 << 10

type page [pageSize]atomic.Pointer[Conn]

func (t *table) get(fd int) *Conn {
	if p := t.pages[fd/pageSize].Load(); p != nil {
		return p[fd%pageSize].Load()
	}
	return nil
}

func (t *table) set(fd int, c *Conn) {
	at := &t.pages[fd/pageSize]
	p := at.Load()
	if p == nil {
		t.mu.Lock()
		if p = at.Load(); p == nil {
			p = new(page)
			at.Store(p)
		}
		t.mu.Unlock()
	}
	p[fd%pageSize].Store(c)
}

// remove forgets c, before its descriptor is closed and may become another's.
func (t *table) remove(c *Conn) {
	_ = c.raw.Control(func(fd uintptr) { // fails if it is closed
		if p := t.pages[int(fd)/pageSize].Load(); p != nil {
			p[int(fd)%pageSize].CompareAndSwap(c, nil)
		}
	})
}
