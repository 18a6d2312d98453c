package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/nettest"
)

// What the clock decides is tested in bubbles of testing/synctest: the whole
// broker with its listener, its TLS and its engine runs inside, and so do the
// clients. Its time stands still while anybody has something to do, and jumps
// when everybody waits. So every time here is exact.

// bubble runs a test with a broker on the engine of memory_test.go.
func bubble(t *testing.T, f func(*Config), run func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t)
		w.mem = newMemory()
		w.eng = w.mem
		t.Cleanup(w.mem.waiting.Wait)
		w.serve(f)
		run(t, w)
	})
}

func newBubble(t *testing.T) *world {
	w := &world{t: t, dir: newDirectory(), pki: sharedPKI(), ln: nettest.Listen()}
	for _, n := range []string{"u", "v"} {
		w.dir.add(testOrg, n, nil)
		w.dir.add("other1", n, nil)
	}
	return w
}

// A stable is a broker on the embedded engine, on a disk in memory.
type stable struct {
	*world
	fs     *vfs.MemFS
	seal   testSealer
	open   *embedded.Engine
	config func(*Config)
}

// durably runs a test with a broker on the embedded engine.
func durably(t *testing.T, f func(*Config), run func(t *testing.T, s *stable)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stable{world: newBubble(t), fs: vfs.NewCrashableMem(), seal: newTestSealer(), config: f}
		s.begin()
		run(t, s)
	})
}

func (s *stable) begin() {
	s.t.Helper()
	e, err := embedded.Open(context.Background(), embedded.Options{
		Dir: "data", FS: s.fs, Log: slog.New(slog.DiscardHandler),
		Sealer: func(context.Context, auth.OrgID) (embedded.Sealer, error) { return s.seal, nil },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { e.Close() })
	s.open, s.eng = e, e
	s.serve(s.config)
	synctest.Wait() // it accepts
}

// restart stops broker and engine, lets time pass, and starts them again.
func (s *stable) restart(away time.Duration) {
	s.t.Helper()
	s.shutdown()
	if err := s.open.Close(); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(away)
	s.begin()
}

// crash is restart without a goodbye: what the disk has at this moment is what
// the next run finds.
func (s *stable) crash(away time.Duration) {
	s.t.Helper()
	synctest.Wait()
	left := s.fs.CrashClone(vfs.CrashCloneCfg{})
	s.shutdown()
	if err := s.open.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.fs = left
	time.Sleep(away)
	s.begin()
}

// dialMemory opens a TLS connection to a broker in the same bubble.
func (w *world) dialMemory(conf *tls.Config) (*tls.Conn, error) {
	nc, err := w.ln.Dial()
	if err != nil {
		return nil, err
	}
	tc := tls.Client(nc, conf)
	if err := tc.Handshake(); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

// heard is what a client has read, and when.
type heard struct {
	p   mqtt.Packet
	err error
	at  time.Time
}

// listen has a client in a bubble read all that comes as soon as it comes.
// A client that does not listen reads nothing.
func (c *client) listen() {
	c.heard = make(chan heard, 1<<14)
	go func() {
		for {
			p, err := c.r.Packet(c.v)
			if q, ok := p.(*mqtt.Publish); ok {
				p = q.Clone()
			}
			c.heard <- heard{p, err, time.Now()}
			if err != nil {
				return
			}
		}
	}()
}

// hear is packet in a bubble. It waits for as long as it takes.
func (c *client) hear() (mqtt.Packet, error) {
	late := time.NewTimer(100 * 365 * 24 * time.Hour)
	defer late.Stop()
	select {
	case h := <-c.heard:
		if h.err != nil {
			c.heard <- h // it stays so
		}
		c.at = h.at
		return h.p, h.err
	case <-late.C:
		return nil, &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	}
}

// silent requires that nothing has come, and that the connection is open.
func (c *client) silent() {
	c.t.Helper()
	synctest.Wait()
	select {
	case h := <-c.heard:
		c.t.Fatalf("expected nothing, got %T %+v %v, %v ago", h.p, h.p, h.err, time.Since(h.at))
	default:
	}
}

// came requires that the last packet came at that time.
func (c *client) came(want time.Time) {
	c.t.Helper()
	if !c.at.Equal(want) {
		c.t.Errorf("it came %v too late", c.at.Sub(want))
	}
}

// endsAt requires that the server ends the connection at that time, and says why
// where the version can.
func (c *client) endsAt(want time.Time, code mqtt.ReasonCode) {
	c.t.Helper()
	if got := c.closed(); c.v == mqtt.V5 && got != code {
		c.t.Errorf("ended with %v, want %v", got, code)
	}
	c.came(want)
}

// gone requires that the connection ends at that time, without a word.
func (c *client) gone(want time.Time) {
	c.t.Helper()
	p, err := c.packet()
	if err == nil {
		c.t.Errorf("got %T %+v", p, p)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("it never ends")
	}
	c.came(want)
}
