package embedded

import (
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// The writer is the goroutine that commits batches, one after the other.
type writer struct {
	e         *Engine
	batches   chan writes
	results   chan error
	done      chan struct{}
	abandoned sync.Once
	left      chan struct{}
	looked    time.Time // at the room on the disk
}

func newWriter(e *Engine) *writer {
	return &writer{e: e, batches: make(chan writes, 1), results: make(chan error), done: make(chan struct{}), left: make(chan struct{})}
}

// writes are what the writer gets of a batch. The rest of that is the loop's,
// which may give up waiting.
type writes struct {
	*pebble.Batch
	sync bool
}

func (w *writer) start() { go w.main() }

// stop waits for the writer, unless it was abandoned.
func (w *writer) stop() {
	close(w.batches)
	select {
	case <-w.done:
	case <-w.left:
	}
}

// abandon has nobody wait for the writer any more: the store has failed and may
// hold it for ever.
func (w *writer) abandon() { w.abandoned.Do(func() { close(w.left) }) }

func (w *writer) main() {
	defer close(w.done)
	for b := range w.batches {
		err := w.commit(b)
		select {
		case w.results <- err:
		case <-w.left:
			return
		}
	}
}

// commit writes one batch. When it returns nil the batch survives a crash, if
// it was to be synced. After any error nobody knows what is on disk, so the
// engine fails.
func (w *writer) commit(b writes) (err error) {
	defer func() {
		// The store panics where it cannot go on, for example when it cannot
		// start a new log file.
		if p := recover(); p != nil {
			w.e.log.Error("message store", "err", p, "stack", string(debug.Stack()))
			w.e.health.fail(fmt.Errorf("commit: %v", p))
		}
		err = w.e.health.failure()
	}()
	if now := time.Now(); now.Sub(w.looked) >= spaceCheck {
		w.looked = now
		w.e.checkSpace()
	}
	o := pebble.NoSync
	if b.sync {
		o = pebble.Sync
	}
	if err := w.e.db.Apply(b.Batch, o); err != nil {
		w.e.health.fail(fmt.Errorf("commit: %w", err))
		return nil // the deferred function returns it
	}
	if err := b.Close(); err != nil {
		w.e.health.fail(fmt.Errorf("commit: %w", err))
	}
	return nil
}
