package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/keepmq/keepmq/internal/secret"
)

// A Peer is a broker that can be measured. Start runs a fresh one that keeps
// all it writes in dir, an empty folder, and returns when clients may connect.
type Peer interface {
	Name() string
	// About says in a few words what was measured and how it is set.
	About(ctx context.Context) string
	// Queues reports whether the broker keeps messages for sessions without a
	// connection.
	Queues() bool
	Start(ctx context.Context, dir string) (*Broker, error)
}

// A Broker is a running peer.
type Broker struct {
	Peer     Peer
	Addr     string
	TLS      *tls.Config // how clients connect
	Username string
	Password secret.String
	api      *api   // of KeepMQ only
	org      string // of KeepMQ: the organisation of the load
	proc     *process
	again    func(ctx context.Context) error                   // starts it on the data of the process before, which has ended; nil: it cannot
	rootFile string                                            // with the certificate of its authority
	devices  func(ctx context.Context, n int) ([]login, error) // that connect with a certificate; nil: there are none
}

// Usage is what the broker has used so far.
func (b *Broker) Usage() (usage, error) { return readUsage(b.proc.cmd.Process.Pid) }

// startTimeout bounds how long a peer may take until it accepts clients;
// stopTimeout, how long it may take to end when it is asked to.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
)

// clientTLS is the same for all peers: TLS 1.3, one key exchange that all of
// them have, and no session cache, so that every handshake is a full one.
func clientTLS(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.MinVersion = tls.VersionTLS13
	c.CurvePreferences = []tls.CurveID{tls.X25519}
	c.ServerName = "localhost"
	return c
}

// A process is a child of this one.
type process struct {
	cmd  *exec.Cmd
	log  *tail
	done chan struct{} // closed after the process has ended and err is set
	err  error
}

// launch starts a program. Its standard error, and its standard output unless
// cmd has one, are kept for error messages.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: &tail{}, done: make(chan struct{})}
	cmd.Stderr = p.log
	if cmd.Stdout == nil {
		cmd.Stdout = p.log
	}
	// A signal from the terminal is for the bench, which ends its children in
	// order. If the bench is killed, the system ends them: when the thread ends
	// that started them, to which main has locked itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	go func() { // ends with the process; stop waits for it
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Stop ends the process and waits for it.
func (b *Broker) Stop() { b.proc.stop() }

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// kill ends the process without a word.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails if it has ended
	<-p.done
}

// await polls until ready succeeds. If it does not, the process is ended.
func (p *process) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		attempt, end := context.WithTimeout(ctx, time.Second)
		err := ready(attempt)
		end()
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.done:
			return fmt.Errorf("%s ended at once: %w: %s", filepath.Base(p.cmd.Path), errors.Join(p.err, err), p.log)
		case <-ctx.Done():
			p.stop()
			return fmt.Errorf("%s is not ready: %w: %s", filepath.Base(p.cmd.Path), err, p.log)
		}
	}
}

// accepts reports whether clients can connect to b.
func (b *Broker) accepts(ctx context.Context) error {
	c, err := b.dial(ctx, 0, "ready", true)
	if err != nil {
		return err
	}
	return c.leave()
}

// A tail keeps the end of what a process writes.
type tail struct {
	mu sync.Mutex // guards b
	b  []byte
}

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b = append(t.b, b...); len(t.b) > 2*tailSize {
		t.b = append([]byte(nil), t.b[len(t.b)-tailSize:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}

// firstLine returns a writer for a process's standard output, and a function
// that waits for its first line. What follows the line is dropped.
func firstLine() (io.Writer, func(context.Context) ([]byte, error)) {
	l := &line{full: make(chan struct{})}
	return l, func(ctx context.Context) ([]byte, error) {
		select {
		case <-l.full:
			return l.b, nil
		case <-ctx.Done():
			return nil, errors.New("no line on its standard output")
		}
	}
}

// A line keeps the first line written to it. Only the writer touches b until
// full is closed, and nobody does after it.
type line struct {
	b    []byte
	done bool
	full chan struct{}
}

func (l *line) Write(b []byte) (int, error) {
	if l.done {
		return len(b), nil
	}
	head, _, found := bytes.Cut(b, []byte("\n"))
	if l.b = append(l.b, head...); found || len(l.b) > 1<<20 {
		l.done = true
		close(l.full)
	}
	return len(b), nil
}

// tempDir makes a folder for one peer and a function that removes it.
func tempDir(name string) (string, func(), error) {
	dir, err := os.MkdirTemp("", "keepmq-bench-"+name+"-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder: %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}
