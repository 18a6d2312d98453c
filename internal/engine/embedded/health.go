package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
)

// health says whether the store can keep anything.
type health struct {
	log  *slog.Logger
	full atomic.Bool
	err  atomic.Pointer[error]
	once sync.Once
	down chan struct{}
}

func newHealth(log *slog.Logger) *health {
	return &health{log: log, down: make(chan struct{})}
}

// fail puts the engine into its failed state, for good.
func (h *health) fail(cause error) {
	h.once.Do(func() {
		err := errs.Wrap(errs.Unavailable, fmt.Errorf("%w: %w", engine.ErrFailed, cause),
			"the message store has failed; nothing can be kept until the server is restarted")
		h.err.Store(&err)
		h.log.Error("the message store has failed: nothing is kept or acknowledged any more; "+
			"look after the disk, then restart", "err", cause)
		close(h.down)
	})
}

// failure returns why the engine has failed, or nil.
func (h *health) failure() error {
	if p := h.err.Load(); p != nil {
		return *p
	}
	return nil
}

// failing is closed when the engine fails.
func (h *health) failing() <-chan struct{} { return h.down }

// refusal returns why nothing more may be kept now, or nil.
func (h *health) refusal() error {
	if err := h.failure(); err != nil {
		return err
	}
	if h.full.Load() {
		return errs.Wrap(errs.Unavailable, engine.ErrDiskFull, "the disk of the message store is almost full; free some room")
	}
	return nil
}

// setFull says whether there is room on the disk. It reports whether that is new.
func (h *health) setFull(full bool, free uint64) bool {
	if h.full.Swap(full) == full {
		return false
	}
	if full {
		h.log.Error("the disk of the message store is almost full: nothing more is kept until there is room", "free", free)
	} else {
		h.log.Info("the disk of the message store has room again", "free", free)
	}
	return true
}

// background takes an error of a flush or compaction. The store tries again
// after one; a full disk may have room by then, anything else is not trusted to
// heal.
func (h *health) background(err error) {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		h.setFull(true, 0)
		return
	}
	h.fail(fmt.Errorf("in the background: %w", err))
}

// pebbleLogger takes what the store logs. Where the store would end the
// process, the engine fails instead; the store's own state may be anything
// then, so it is not written to again.
type pebbleLogger struct{ h *health }

var _ pebble.Logger = pebbleLogger{}

func (l pebbleLogger) Infof(string, ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.h.log.Warn("message store: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.h.fail(fmt.Errorf(format, args...))
}
