package embedded

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
)

// A session is what is known of a session in memory. Its queue is on disk; only
// the most recent entries of a session that keeps up are here too.
type session struct {
	id         engine.SessionID
	o          *org
	number     uint64
	persistent bool

	holder atomic.Pointer[handle] // written by the loop; nil: nobody

	// What the queue holds, with what publishers have reserved.
	count, bytes    atomic.Int64
	most, mostBytes atomic.Int64
	endWhenFull     atomic.Bool // no message is refused for want of room: the session ends
	refused         refusals

	// Of the loop.
	uid        string // of the owner that claimed it
	expiry     time.Duration
	closed     time.Time
	subs       subSet
	received   map[uint16]struct{}
	cursor     cursor
	removed    map[engine.Offset]struct{} // of those from cursor.low on
	scans      []*scan                    // for retained messages, under way
	nextSeek   int                        // size of removed at which low is looked up
	gone       bool
	waking     bool // it is among those to be woken
	dirty      bool // the cursor is to be written with the batch
	next, prev *session
	deadline   int // place in the heap of deadlines; -1: none

	mu       sync.Mutex // guards what follows
	durable  engine.Offset
	sent     engine.Offset // Read has returned entries up to here
	tail     []recent      // without gaps, up to durable; not read yet
	tailSize int64
	inflight map[engine.Offset]meta // read by the holder and not acknowledged
	low      engine.Offset          // a copy of cursor.low
}

// A recent entry is one that is durable and still in memory.
type recent struct {
	offset   engine.Offset
	message  *engine.Message
	delivery engine.Delivery
	meta     meta
}

// maxTail bounds the recent entries of one session.
const (
	maxTail      = 256
	maxTailBytes = 256 << 10
)

func newSession(o *org, id engine.SessionID, number uint64, persistent bool) *session {
	return &session{id: id, o: o, number: number, persistent: persistent, deadline: -1, cursor: cursor{next: 1, low: 1}, low: 1}
}

// limit sets what the queue may hold.
func (s *session) limit(messages, bytes int64, endWhenFull bool) {
	s.most.Store(messages)
	s.mostBytes.Store(bytes)
	s.endWhenFull.Store(endWhenFull)
}

// reserve makes room in the queue, or reports why there is none.
func (s *session) reserve(size int64) fullness {
	return full(&s.count, &s.bytes, 1, size, s.most.Load(), s.mostBytes.Load())
}

// unreserve gives room back.
func (s *session) unreserve(size int64) {
	s.count.Add(-1)
	s.bytes.Add(-size)
}

// hasRoom reserves room for one message, in the session and its organisation.
func (s *session) hasRoom(size int64) bool {
	if s.reserve(size) != fullNot {
		return false
	}
	if s.o.reserve(1, size) != nil {
		s.unreserve(size)
		return false
	}
	return true
}

// visible makes an entry, which is durable now, readable.
func (s *session) visible(r recent, held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = r.offset
	if !held || r.message == nil || s.holder.Load() == nil {
		s.dropTail()
		return
	}
	if n := len(s.tail); n > 0 && s.tail[n-1].offset+1 != r.offset {
		s.dropTail()
	}
	if len(s.tail) >= maxTail || s.tailSize+r.meta.size > maxTailBytes || s.o.e.recent.Load() > s.o.e.limits.Recent {
		s.dropTail()
		return
	}
	s.tail = append(s.tail, r)
	s.tailSize += r.meta.size
	s.o.e.recent.Add(r.meta.size)
}

// dropTail forgets the recent entries: they are read from disk. The caller
// holds mu.
func (s *session) dropTail() {
	s.o.e.recent.Add(-s.tailSize)
	s.tail, s.tailSize = nil, 0
}

// release forgets what is in memory for the holder.
func (s *session) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropTail()
	s.inflight = nil
}

// A handle is a held session.
type handle struct {
	s    *session
	sink engine.Sink

	mayWait func() // nil: nobody wants to know

	// Of the goroutine that publishes.
	received map[uint16]struct{}
	matches  map[string]*match
	last     *match

	refused refusedIDs
}

// refusedIDs are packet identifiers that the loop refused messages with, and
// that the goroutine that publishes takes for received still.
type refusedIDs struct {
	some atomic.Bool
	mu   sync.Mutex // guards ids
	ids  []uint16
}

func (r *refusedIDs) add(id uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, id)
	r.some.Store(true)
}

// take returns the identifiers, and forgets them.
func (r *refusedIDs) take() []uint16 {
	if !r.some.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	ids := r.ids
	r.ids = nil
	r.some.Store(false)
	return ids
}

var _ engine.Session = (*handle)(nil)

// held reports whether h still has its session.
func (h *handle) held() bool { return h.s.holder.Load() == h }
