package crash

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

// An ending says when and how a life of the server ends.
type ending struct {
	starting time.Duration // killed so long after its start, ready or not; 0: not then
	after    time.Duration // the load began
	acks     int64         // and before, at this acknowledgement; 0: not at one
	term     bool          // SIGTERM first
	grace    time.Duration // until SIGKILL
}

// Phases of a life.
const (
	loading int32 = iota
	draining
	last // every stream gets one more message
	over
)

// A life is one process of the server.
type life struct {
	*process
	ctx      context.Context // done when the process has ended
	phase    atomic.Int32
	stopping atomic.Bool
	acks     atomic.Int64
	limit    int64
	reached  chan struct{}
	ready    time.Time
}

// acked counts an acknowledgement.
func (l *life) acked() {
	if l.acks.Add(1) == l.limit {
		close(l.reached)
	}
}

// A process is a server that runs, or tries to.
type process struct {
	cmd    *exec.Cmd
	log    *lockedBuffer
	line   chan []byte
	exited chan struct{}
	err    error // set before exited is closed
}

// spawn starts the server, whether it comes up or not.
func (w *world) spawn(args ...string) *process {
	w.t.Helper()
	p := &process{log: new(lockedBuffer), line: make(chan []byte, 1), exited: make(chan struct{})}
	p.cmd = exec.Command(server.Program(w.t), append([]string{
		"serve", "--json", "--data", w.dir, "--mqtt", w.mqtt, "--https", w.https}, args...)...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		r := bufio.NewReader(out)
		if b, err := r.ReadBytes('\n'); err == nil {
			p.line <- b
		}
		_, _ = io.Copy(io.Discard, r)
		p.err = p.cmd.Wait()
	}()
	w.processes = append(w.processes, p)
	return p
}

// wait waits until the server is ready.
func (p *process) wait() error {
	select {
	case <-p.line:
		return nil
	case <-p.exited:
		return fmt.Errorf("keepmq serve ended (%w):\n%s", p.err, p.tail())
	case <-time.After(server.StartTime):
		p.kill()
		return fmt.Errorf("keepmq serve is not ready after %v:\n%s", server.StartTime, p.tail())
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// alarm finds lines of the log that no crash excuses.
var alarm = regexp.MustCompile(`(?m)^(panic|fatal error|runtime error).*|^.*level=ERROR.*$|^goroutine \d+ .*`)

// start starts a server and waits until it is ready.
func (w *world) start() *process {
	w.t.Helper()
	late := time.Now().Add(patience)
	for {
		p := w.spawn()
		err := p.wait()
		if err == nil {
			return p
		}
		if !strings.Contains(err.Error(), "another program") || time.Now().After(late) {
			w.t.Fatalf("start after %d lives: %v", w.lives, err)
		}
	}
}

// live is one life of the server under load.
func (w *world) live(e ending) {
	w.t.Helper()
	w.lives++
	if e.starting > 0 {
		p := w.spawn()
		select {
		case <-p.exited:
			w.t.Fatalf("life %d: keepmq serve ended (%v):\n%s", w.lives, p.err, p.tail())
		case <-time.After(e.starting):
		}
		p.kill()
		w.bury(p)
		return
	}
	l, wait := w.begin(e.acks)
	select {
	case <-l.exited:
		w.t.Errorf("life %d: the server ended by itself (%v):\n%s", w.lives, l.err, l.tail())
	case <-l.reached:
	case <-time.After(e.after):
	}
	if e.term {
		l.stopping.Store(true) // connections may be refused
		_ = l.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-l.exited:
			if l.err != nil {
				w.h.fault("life %d: stopped with %v", w.lives, l.err)
			}
		case <-time.After(e.grace):
		}
	}
	l.kill()
	wait()
	w.bury(l.process)
	w.acks += l.acks.Load()
	for _, r := range w.roles {
		if l.acks.Load() > 0 {
			r.ended.restarted(l.ready)
		}
	}
}

// begin starts a server and everybody's part in its life. wait waits for them:
// after the server's end, or the phase over.
func (w *world) begin(limit int64) (l *life, wait func()) {
	ctx, cancel := context.WithCancel(context.Background())
	l = &life{process: w.start(), ctx: ctx, limit: limit, reached: make(chan struct{}), ready: time.Now()}
	var parts sync.WaitGroup
	for _, r := range w.roles {
		r.settled.Store(false)
		if w.all || r.rng.Float64() < r.online {
			r.onAck = l.acked
			parts.Go(func() { r.live(l) })
		} else {
			r.settled.Store(true)
		}
	}
	if len(w.h.retained) > 0 {
		looks := w.lives
		parts.Go(func() { w.look(l, looks) })
	}
	go func() {
		<-l.exited
		cancel()
	}()
	return l, func() { parts.Wait() }
}

// bury looks through the log of a server that has ended.
func (w *world) bury(p *process) {
	for _, line := range alarm.FindAllString(p.log.String(), 5) {
		w.h.fault("life %d: log: %s", w.lives, line)
	}
	w.between()
	w.verdict()
}

// verdict fails the test if anything is wrong already.
func (w *world) verdict() {
	w.h.mu.Lock()
	faults := w.h.faults
	w.h.mu.Unlock()
	if len(faults) == 0 {
		return
	}
	w.t.Errorf("after %d lives:\n%s", w.lives, strings.Join(faults[:min(len(faults), 20)], "\n"))
	for _, r := range w.h.receivers {
		n, _ := w.h.missing(r)
		w.t.Logf("%s has %d messages to come", r.name, n)
	}
}

// finish lets the server live on, and everybody get what is due.
func (w *world) finish() {
	w.t.Helper()
	if w.t.Failed() {
		return
	}
	w.lives++
	w.all = true
	l, wait := w.begin(0)
	<-time.After(10 * step)
	w.settle(l, wait)
}

// settle ends the load of a life, lets everybody get what is due, and checks
// the whole history.
func (w *world) settle(l *life, wait func()) {
	w.t.Helper()
	for _, phase := range []int32{draining, last} {
		l.phase.Store(phase)
		w.until(l, 3*patience, w.settled)
	}
	l.phase.Store(over)
	wait()
	l.stopping.Store(true)
	_ = l.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-l.exited:
	case <-time.After(patience):
		w.h.fault("the server does not stop")
	}
	l.kill()
	w.acks += l.acks.Load()
	if bad := w.h.check(); len(bad) > 0 {
		w.t.Errorf("%d faults after %d lives:\n%s", len(bad), w.lives, strings.Join(bad[:min(len(bad), 40)], "\n"))
	}
	if w.t.Failed() {
		w.t.Logf("log of the last server:\n%s", l.tail())
	}
}

// quiet returns who waits for an answer, or nil.
func (w *world) quiet() error {
	for _, r := range w.roles {
		if !r.settled.Load() {
			if why := r.waits.Load(); why != nil {
				return fmt.Errorf("%s waits, %s", r.id, *why)
			}
			return errors.New(r.id + " waits")
		}
	}
	return nil
}

// settled returns why the load is not over, or nil.
func (w *world) settled() error {
	if err := w.quiet(); err != nil {
		return err
	}
	for _, r := range w.roles {
		if r.r == nil {
			continue
		}
		if n, example := w.h.missing(r.r); n > 0 {
			return fmt.Errorf("%s misses %d messages, for example %s", r.id, n, example)
		}
	}
	return nil
}

// until waits until f returns nil.
func (w *world) until(l *life, d time.Duration, f func() error) {
	w.t.Helper()
	for late := time.Now().Add(d); ; {
		<-time.After(20 * step)
		err := f()
		switch {
		case err == nil:
			return
		case time.Now().After(late):
			w.t.Errorf("after %v: %v", d, err)
			return
		}
		select {
		case <-l.exited:
			w.t.Errorf("the server ended (%v):\n%s", l.err, l.tail())
			return
		default:
		}
	}
}

// tail returns the end of the log, which may be long.
func (p *process) tail() string {
	log := p.log.String()
	return log[max(0, len(log)-3000):]
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
