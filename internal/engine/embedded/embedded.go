// Package embedded is the engine of a single node: one Pebble store, written by
// one committer.
//
// What it promises is what package engine promises. A callback with nil means
// that one write-ahead log sync covers everything it stands for. Whoever waits
// while a sync is under way is served by the next one, all together; there are
// no timers, so a lone publisher waits for exactly one sync.
//
// How it is built. Everything that must be kept passes, in order, through one
// goroutine, the loop. It alone changes sessions, subscriptions and queues, it
// numbers queue entries, and it writes all of that into the batch being built.
// A second goroutine, the writer, commits batches one after the other; when one
// is durable the loop makes it visible: entries become readable, callbacks are
// called, sinks are woken. Publishing matches and seals in the publisher's
// goroutine, without a lock, and reaches the loop only with what must be kept.
// Opening a store feeds what it finds to the same code.
//
// Lock order: org.retained or session.mu, then loop.mu. Nothing waits for the
// disk under any of them.
//
// What it does not do: share its folder with another process, or ask who may do
// what. Nor does it notice every damage done to its files from outside: Pebble
// takes a damaged record of its manifest, or at the end of its log, for the end
// of what was written before a crash, and what came after it is then missing.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
)

// Options say where an Engine keeps its data and with what.
type Options struct {
	Dir string
	FS  vfs.FS // nil: the disk

	// Sealer returns what encrypts the messages of an organisation. An error is
	// a refusal of whatever needs it. It is asked once per organisation, and
	// again after the organisation was dropped.
	Sealer func(ctx context.Context, org auth.OrgID) (Sealer, error)

	Log      *slog.Logger
	LimitLog *quota.Log       // nil: nobody looks which sessions reached a limit
	Now      func() time.Time // nil: time.Now

	// Ended is told of a session that nobody holds and that has ended before its
	// time, with a will that is due now. nil: nobody is. It must return at once.
	Ended func(engine.SessionID)

	Limits Limits
}

// Limits bound what an Engine uses. A zero stands for the default.
type Limits struct {
	Queue      int   // messages a session's queue may hold if its Claim does not say; 10,000
	QueueBytes int64 // bytes a session's queue may hold if its Claim does not say; 64 MiB
	Pending    int   // bytes waiting to be committed before Publish blocks, shared by all organisations; 32 MiB
	Cache      int64 // bytes of the store's block cache; 64 MiB
	Recent     int64 // bytes of messages kept in memory for sessions that keep up; 64 MiB
	Reserve    int64 // bytes of disk that are left free; 128 MiB
}

func (l Limits) orDefault() Limits {
	set := func(v *int64, def int64) {
		if *v <= 0 {
			*v = def
		}
	}
	if l.Queue <= 0 {
		l.Queue = 10_000
	}
	if l.Pending <= 0 {
		l.Pending = 32 << 20
	}
	set(&l.QueueBytes, 64<<20)
	set(&l.Cache, 64<<20)
	set(&l.Recent, 64<<20)
	set(&l.Reserve, 128<<20)
	return l
}

// An Engine is the embedded engine.
type Engine struct {
	sealer   func(ctx context.Context, org auth.OrgID) (Sealer, error)
	dir      string
	fs       vfs.FS
	log      *slog.Logger
	limitLog *quota.Log
	now      func() time.Time
	ended    func(engine.SessionID)
	limits   Limits
	defaults quota.Limits // of an organisation that Limit was not called for

	db      *pebble.DB
	loop    *loop
	sweeper *sweeper
	health  *health

	orgs    sync.Map // auth.OrgID → *org
	numbers atomic.Uint64
	recent  atomic.Int64 // bytes in all tails

	readers readers

	closing sync.Once
	closed  error
}

var _ engine.Engine = (*Engine)(nil)

// Open opens the store in o.Dir, or makes one. It fails if another process has
// it open, or if a newer version of the format is in it.
func Open(ctx context.Context, o Options) (*Engine, error) {
	if o.Sealer == nil || o.Log == nil || o.Dir == "" {
		return nil, errors.New("open message store: a folder, a sealer and a log are needed")
	}
	e := &Engine{sealer: o.Sealer, dir: o.Dir, fs: o.FS, log: o.Log, limitLog: o.LimitLog, now: o.Now, ended: o.Ended,
		limits: o.Limits.orDefault(), defaults: quota.Defaults()}
	if e.fs == nil {
		e.fs = vfs.Default
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.health = newHealth(e.log)
	e.sweeper = newSweeper(e)
	if err := e.openStore(); err != nil {
		return nil, fmt.Errorf("open message store in %s: %w", o.Dir, err)
	}
	e.loop = newLoop(e)
	if err := e.load(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open message store in %s: %w", o.Dir, err), e.closeStore())
	}
	e.loop.start()
	e.sweeper.start()
	return e, nil
}

// Close lets go of every session, commits what is waiting and closes the store.
// Nothing may be called any more; what still is gets ErrClosed.
func (e *Engine) Close() error {
	e.closing.Do(func() {
		e.sweeper.stop()
		e.loop.stop()
		e.readers.stop(e.health.failing())
		e.closed = e.closeStore()
	})
	return e.closed
}

// Health returns nil, or why the engine refuses to keep anything now: an error
// that is ErrDiskFull or ErrFailed.
func (e *Engine) Health() error { return e.health.refusal() }

// read begins reading the store, which is not closed until done is called.
func (e *Engine) read() (done func(), err error) {
	if err := e.health.failure(); err != nil {
		return nil, err
	}
	if !e.readers.enter() {
		return nil, errClosed()
	}
	return e.readers.leave, nil
}

// readers counts who is reading the store. One reader may begin another read:
// so this is not a lock.
type readers struct {
	mu     sync.Mutex // guards what follows
	n      int
	closed bool
	idle   chan struct{} // closed when the last one leaves; nil: nobody waits
}

func (r *readers) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.n++
	return true
}

func (r *readers) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n--; r.n == 0 && r.idle != nil {
		close(r.idle)
	}
}

// stop lets nobody else in, and waits for those who are, unless the store has
// failed and may hold them for ever.
func (r *readers) stop(failing <-chan struct{}) {
	r.mu.Lock()
	r.closed = true
	if r.n > 0 {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mu.Unlock()
	if idle != nil {
		select {
		case <-idle:
		case <-failing:
		}
	}
}

// number returns a number that no session or message had or will have.
func (e *Engine) number() uint64 { return e.numbers.Add(1) }

// org returns the state of an organisation, which is made when first needed.
func (e *Engine) org(id auth.OrgID) (*org, error) {
	if o, ok := e.orgs.Load(id); ok {
		return o.(*org), nil
	}
	if id == "" || len(id) > 255 {
		return nil, errs.E(errs.Invalid, "organisation id must have 1 to 255 bytes")
	}
	o, _ := e.orgs.LoadOrStore(id, newOrg(e, id))
	return o.(*org), nil
}
