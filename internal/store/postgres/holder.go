package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	lockKey      = 0x6b6565706d71 // "keepmq"; a lock is of one database
	takeWait     = 15 * time.Second
	pauseBetween = time.Second // between two looks at the connection
	lookTimeout  = 5 * time.Second
)

// A holder is this process's claim on the database: an advisory lock, held by one
// connection, and the epoch that began when it was taken. The lock keeps others
// out; the epoch, which every transaction confirms, stops whoever lost the lock
// without knowing it. While the lock is not held, nothing is read or written.
type holder struct {
	config *pgx.ConnConfig
	lost   chan struct{} // closed when another process has taken the database
	stop   context.CancelFunc
	done   chan struct{} // closed when watch has ended; nil: it was not begun
	conn   *pgx.Conn     // that of watch, once it was begun
	epoch  int64         // set by begin

	mu   sync.Mutex // guards the fields below
	held bool
	gone bool // lost is closed
}

var (
	errNotHeld = errs.E(errs.Unavailable, "the connection to the database is lost; nothing is answered until it is back")
	errTaken   = errs.E(errs.Unavailable, "another KeepMQ has taken the database; this one must be stopped")
	// A mistake of ours. What saw nothing instead could take that for "no locks".
	errNoScope = errors.New("a transaction was begun without saying whose it is")
	errInUse   = errs.E(errs.Unavailable, "another KeepMQ uses the database; stop that one first")
)

func newHolder(c *pgx.ConnConfig) *holder {
	c = c.Copy()
	c.RuntimeParams["idle_session_timeout"] = "0"
	return &holder{config: c, lost: make(chan struct{})}
}

// take takes the lock. Another process may be about to end, or its connection
// about to be found dead, so it is tried for some time.
func (h *holder) take(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, takeWait)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, h.config)
	if err != nil {
		return err
	}
	h.conn = conn
	for {
		locked, err := lock(ctx, conn)
		if err != nil {
			return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
		}
		if locked {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(errInUse, conn.Close(context.WithoutCancel(ctx)))
		case <-time.After(pauseBetween):
		}
	}
}

// lock tries to take the lock for a connection.
func lock(ctx context.Context, conn *pgx.Conn) (locked bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(lockKey)).Scan(&locked)
	return locked, err
}

// begin begins an epoch, which waits for the transactions of the one before, and
// from then on watches the connection.
func (h *holder) begin(ctx context.Context) error {
	var epoch int64
	err := h.conn.QueryRow(ctx, `UPDATE store_holder SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch`).Scan(&epoch)
	if err != nil {
		return fmt.Errorf("take the database: %w", err)
	}
	h.epoch = epoch
	h.set(true)
	watching, stop := context.WithCancel(context.Background())
	h.stop, h.done = stop, make(chan struct{})
	go h.watch(watching)
	return nil
}

// watch looks at the connection until the holder is closed.
func (h *holder) watch(ctx context.Context) {
	defer close(h.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pauseBetween):
		}
		switch err := h.look(ctx); {
		case errors.Is(h.state(), errTaken):
			return
		case ctx.Err() == nil && (err != nil || h.state() != nil):
			h.set(false)
			h.regain(ctx)
		}
	}
}

func (h *holder) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return h.conn.Ping(ctx)
}

// regain tries once to hold the database again. If another process has held it
// meanwhile, or does so now, it never does.
func (h *holder) regain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_ = h.conn.Close(ctx) // it is broken, or has no lock
	conn, err := pgx.ConnectConfig(ctx, h.config)
	if err != nil {
		return
	}
	h.conn = conn
	locked, err := lock(ctx, conn)
	if err != nil {
		return
	}
	var epoch int64 // read after the lock: only its holder begins another
	if err := conn.QueryRow(ctx, `SELECT epoch FROM store_holder WHERE id = 1`).Scan(&epoch); err != nil {
		return
	}
	switch {
	case epoch != h.epoch:
		h.lose()
		_ = conn.Close(ctx) // and the lock is free
	case locked:
		h.set(true)
	}
}

func (h *holder) set(held bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = held && !h.gone
}

// lose says that another process has the database.
func (h *holder) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = false
	if !h.gone {
		h.gone = true
		close(h.lost)
	}
}

func (h *holder) state() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.gone:
		return errTaken
	case !h.held:
		return errNotHeld
	}
	return nil
}

// confirm begins every transaction: it is one of the present holder, and reaches
// what the scope of ctx says. One that changes something keeps the next holder
// waiting until it has ended.
func (h *holder) confirm(ctx context.Context, tx *store.Tx, change bool) error {
	if err := h.state(); err != nil {
		return err
	}
	scope := setting(ctx)
	if scope == "" {
		return errNoScope
	}
	q := `SELECT epoch, set_config('keepmq.org', $1, TRUE) FROM store_holder WHERE id = 1`
	if change {
		q += ` FOR SHARE`
	}
	var epoch int64
	var set string
	if err := tx.QueryRowContext(ctx, q, scope).Scan(&epoch, &set); err != nil {
		return fmt.Errorf("confirm who holds the database: %w", err)
	}
	if epoch != h.epoch {
		h.lose()
		return errTaken
	}
	return nil
}

// everything is the scope of the installation, as the policies know it. No
// organisation is called that.
const everything = "*"

// setting returns the scope of ctx as the policies know it; "" reaches nothing.
func setting(ctx context.Context) string {
	org, all := store.Scope(ctx)
	switch {
	case all:
		return everything
	case org == everything:
		return ""
	}
	return org
}

// close gives the database free.
func (h *holder) close() error {
	if h.done != nil {
		h.stop()
		<-h.done
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	if h.conn.IsClosed() {
		return nil
	}
	return h.conn.Close(ctx)
}
