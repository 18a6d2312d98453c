package crash

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/test/server"
)

// castSmall adds those that a damaged or full disk concerns.
func (w *world) castSmall(size int) {
	for _, p := range []*role{
		w.publisher("one5", mqtt.V5, 1, "load", 1),
		w.publisher("one4", mqtt.V311, 1, "load", 1),
		w.publisher("two5", mqtt.V5, 2, "load", 1),
	} {
		p.tolerant = true
		for _, s := range p.streams {
			s.size = size
		}
	}
	w.subscriber("two5", mqtt.V5, 2, "load/#")
	w.subscriber("one4", mqtt.V311, 1, "load/#")
	w.subscriber("away5", mqtt.V5, 2, "load/#").online = 0
}

// gather has everybody come, and get what is due, in a life without load.
func (w *world) gather() {
	w.t.Helper()
	w.all = true
	l, wait := w.begin(0)
	l.phase.Store(draining)
	w.until(l, 3*patience, w.settled)
	l.kill()
	wait()
	w.bury(l.process)
	w.all = false
}

// More durable messages are refused while too little room is left, and what
// needs no room goes on. With room, everything does.
func TestFullDisk(t *testing.T) {
	if !root(t) {
		return
	}
	w := newWorld(t, ramDisk(t, 400), seed(t))
	w.castSmall(0)
	w.gather()
	l, wait := w.begin(0)
	l.stopping.Store(true) // connections may be refused
	w.until(l, patience, l.more(300))
	free := fill(t, w.dir, 64<<20)
	w.until(l, patience, func() error {
		if w.refused.Load() < 5 {
			return errors.New("nothing is refused on a full disk")
		}
		return nil
	})
	if !strings.Contains(l.log.String(), "almost full") {
		t.Errorf("the log does not say that the disk is full:\n%s", l.tail())
	}
	w.checkFull(l)
	if code := w.readiness(); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz answers %d on a full disk", code)
	}
	free()
	w.until(l, patience, l.more(300))
	if code := w.readiness(); code != http.StatusOK {
		t.Errorf("/readyz answers %d when there is room again", code)
	}
	l.kill()
	wait()
	w.check(l)
	w.finish()
	w.report(1)
}

// readiness returns the status of /readyz.
func (w *world) readiness() int {
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: w.tls.Clone(), DisableKeepAlives: true}, Timeout: patience}
	res, err := c.Get("https://" + strings.Replace(w.https, "127.0.0.1", "localhost", 1) + "/readyz")
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// checkFull checks what a full disk must and must not stop.
func (w *world) checkFull(l *life) {
	t := w.t
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		c, ack := w.raw(w.someone("volatile"), v, true, 0)
		if ack == nil || ack.Code != mqtt.Success {
			t.Fatalf("%v: a volatile session on a full disk: %+v", v, ack)
		}
		c.write(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "free/#", QoS: 1}}})
		if _, ok := c.next().(*mqtt.Suback); !ok {
			t.Fatalf("%v: no SUBACK on a full disk", v)
		}
		for qos := range byte(2) {
			c.write(&mqtt.Publish{PacketID: uint16(qos) * 7, QoS: qos, Topic: []byte("free/x"), Payload: []byte("x")})
			if !c.gets("free/x") {
				t.Errorf("%v: volatile traffic of QoS %d is stopped by a full disk", v, qos)
			}
		}
		c.write(&mqtt.Publish{PacketID: 8, QoS: 1, Topic: []byte("load/x"), Payload: []byte("x")})
		switch p := c.acknowledgement(); {
		case v < mqtt.V5 && p != nil:
			t.Errorf("%v: a durable message was answered by %+v on a full disk", v, p)
		case v >= mqtt.V5 && (p == nil || p.Code != mqtt.QuotaExceeded || p.ReasonString.Or("") == ""):
			t.Errorf("%v: a durable message was answered by %+v on a full disk", v, p)
		}
		c.close()
		c, ack = w.raw(w.someone("newcomer"), v, false, 1000)
		if c.close(); ack == nil || ack.Code == mqtt.Success {
			t.Errorf("%v: a new persistent session on a full disk: %+v", v, ack)
		}
	}
	select {
	case <-l.exited:
		t.Fatalf("the server ended: %v\n%s", l.err, l.tail())
	default:
	}
	c, ack := w.raw(w.someone("sub-away5"), mqtt.V5, false, mqtt.SessionNeverExpires)
	if ack == nil || !ack.SessionPresent {
		t.Errorf("a session that was there, on a full disk: %+v", ack)
	}
	c.close()
}

// A disk that is smaller than what is kept free serves what needs no disk, and
// says so.
func TestTinyDisk(t *testing.T) {
	if !root(t) {
		return
	}
	s := server.Start(t, ramDisk(t, 64))
	if !strings.Contains(s.Log(), "almost full") {
		t.Errorf("the log does not say that the disk is full:\n%s", s.Log())
	}
	s.SignIn().Call(http.MethodGet, "/orgs", nil, nil)
}

// A disk that fills up before the server notices stops it from keeping more,
// and loses nothing.
func TestDiskFillsAtOnce(t *testing.T) {
	if !root(t) {
		return
	}
	w := newWorld(t, ramDisk(t, 400), seed(t))
	w.castSmall(16 << 10)
	w.gather()
	for range 3 {
		l, wait := w.begin(0)
		l.stopping.Store(true)
		b := w.bystander()
		w.until(l, patience, l.more(100+w.rng.Int64N(300)))
		free := fill(t, w.dir, 0)
		w.until(l, patience, func() error {
			if log := l.log.String(); !strings.Contains(log, "has failed") && !strings.Contains(log, "almost full") {
				return errors.New("the log does not say that the disk is full")
			}
			return nil
		})
		b.check(l)
		l.kill()
		wait()
		free()
		w.check(l)
	}
	w.finish()
	w.report(3)
}

// A bystander has a session that needs no disk.
type bystander struct {
	w *world
	c *wire
}

func (w *world) bystander() bystander {
	w.t.Helper()
	c, ack := w.raw(w.someone("bystander"), mqtt.V311, true, 0)
	if ack == nil || ack.Code != mqtt.Success {
		w.t.Fatalf("a volatile session: %+v", ack)
	}
	c.write(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "free"}}})
	if _, ok := c.next().(*mqtt.Suback); !ok {
		w.t.Fatal("a volatile session: no SUBACK")
	}
	return bystander{w, c}
}

// check checks that what needs no disk goes on.
func (b bystander) check(l *life) {
	b.w.t.Helper()
	defer b.c.close()
	b.c.write(&mqtt.Publish{Topic: []byte("free")})
	if !b.c.gets("free") {
		b.w.t.Errorf("volatile traffic is stopped by the disk:\n%s", l.tail())
	}
	c, ack := b.w.raw(b.w.someone("newcomer"), mqtt.V5, true, 0)
	defer c.close()
	if ack == nil || ack.Code != mqtt.Success {
		b.w.t.Errorf("a new volatile session: %+v", ack)
	}
}

// check looks for a panic in the log of a server whose errors are expected.
func (w *world) check(l *life) {
	w.t.Helper()
	if strings.Contains(l.log.String(), "goroutine ") {
		w.t.Errorf("the server panicked:\n%s", l.tail())
	}
	w.verdict()
}

// A disk that turns read-only stops the server from keeping more, and loses
// nothing.
func TestDiskTurnsReadOnly(t *testing.T) {
	if !root(t) {
		return
	}
	d := newDisk(t, 400)
	w := newWorld(t, d.data(), seed(t))
	w.castSmall(0)
	w.gather()
	for range 2 {
		l, wait := w.begin(0)
		l.stopping.Store(true)
		b := w.bystander()
		w.until(l, patience, l.more(100+w.rng.Int64N(300)))
		// Nothing may be under way: the kernel says that a sync succeeded if the
		// journal is aborted at the wrong moment, which no program can help.
		l.phase.Store(draining)
		w.until(l, patience, w.quiet)
		run(t, "mount", "-o", "remount,abort", d.path) // what ext4 does after an error of the disk
		l.phase.Store(loading)
		w.until(l, patience, func() error {
			if !strings.Contains(l.log.String(), "has failed") {
				return errors.New("the log does not say that the disk has failed")
			}
			return nil
		})
		b.check(l)
		l.kill()
		wait()
		w.check(l)
		d.again()
	}
	w.finish()
	w.report(2)
}

// Writes that fail, whatever the reason, are not acknowledged. This needs no
// rights: a limit on the size of files makes them fail.
func TestWritesFail(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "data"), seed(t))
	w.castSmall(4 << 10)
	w.gather()
	for range 3 {
		l, wait := w.begin(0)
		l.stopping.Store(true)
		b := w.bystander()
		w.until(l, patience, l.more(100+w.rng.Int64N(300)))
		limit := unix.Rlimit{Cur: 128 << 10, Max: unix.RLIM_INFINITY}
		if err := unix.Prlimit(l.cmd.Process.Pid, unix.RLIMIT_FSIZE, &limit, nil); err != nil {
			t.Fatal(err)
		}
		w.until(l, patience, func() error {
			if !strings.Contains(l.log.String(), "has failed") {
				return errors.New("the log does not say that the store has failed")
			}
			return nil
		})
		b.check(l)
		l.kill()
		wait()
		w.check(l)
	}
	w.finish()
	w.report(3)
}

// more returns a condition: n more acknowledgements.
func (l *life) more(n int64) func() error {
	n += l.acks.Load()
	return func() error {
		if have := l.acks.Load(); have < n {
			return fmt.Errorf("%d acknowledgements, want %d", have, n)
		}
		return nil
	}
}
