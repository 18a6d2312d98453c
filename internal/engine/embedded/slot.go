package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/quota"
)

// overlay holds what is not committed yet of the retained messages of an
// organisation, and how much room they take.
type overlay struct {
	sync.Mutex // guards what follows, and the order in which publications of retained messages reach the loop
	pending    map[string]*publication
	slots      map[string]*slot
	dropping   int // drops of the whole organisation that are not committed: what the disk still has is not there

	// What is stored, and what may be once all that is on its way is.
	count, bytes int64
}

// A slot is the room of one topic's retained message. It is there while
// something that changes that message is on its way, so that how much is stored
// need not be looked up twice, and so that whoever publishes knows whether there
// is room before anybody gets the message. Guarded by overlay.
type slot struct {
	users int           // that are not finished
	ready chan struct{} // closed when what follows is known, or err says why not
	known bool
	err   error

	stored   int64 // bytes of the message, or 0; as the loop left it
	expires  int64 // of it, if it was written since the slot is there
	written  bool  // it was: what the disk has may be older
	reserved int64 // the most of stored and of what is on its way
}

// retainedSize is what a retained message counts against the limit: its topic
// and what is sealed.
func retainedSize(topic string, sealed []byte) int64 { return int64(len(topic) + len(sealed)) }

// enter returns the slot of a topic. Each is left once.
func (o *org) enter(ctx context.Context, topic string) (*slot, error) {
	r := &o.retained
	r.Lock()
	if s := r.slots[topic]; s != nil {
		s.users++
		r.Unlock()
		err := s.wait(ctx, o.e)
		if err != nil {
			o.leave(topic, s)
		}
		return s, err
	}
	s := &slot{users: 1, ready: make(chan struct{})}
	if r.dropping > 0 {
		s.known, s.written = true, true
	}
	r.slots[topic] = s
	r.Unlock()
	size, err := o.storedSize(topic)
	r.Lock()
	if !s.known && err == nil {
		s.known, s.stored, s.reserved = true, size, size
	}
	if !s.known {
		s.err = err
		delete(r.slots, topic) // the next one tries again
	}
	close(s.ready)
	err = s.err
	r.Unlock()
	return s, err
}

func (s *slot) wait(ctx context.Context, e *Engine) error {
	select {
	case <-s.ready:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	case <-e.health.failing():
		return e.health.failure()
	}
}

// storedSize looks up how much the retained message of a topic takes.
func (o *org) storedSize(topic string) (int64, error) {
	done, err := o.e.read()
	if err != nil {
		return 0, err
	}
	defer done()
	v, closer, err := o.e.db.Get(retainedKey(nil, o.id, topic))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read retained message: %w", err)
	}
	defer closer.Close()
	rec, err := parseSealed(v)
	return retainedSize(topic, rec.sealed), err
}

// reserve makes room for one more message on its way, or tells which limit of
// the organisation leaves none. There is always room for what is not larger.
func (o *org) reserveRetained(s *slot, size int64) error {
	r := &o.retained
	r.Lock()
	defer r.Unlock()
	if size <= s.reserved {
		return nil
	}
	limits := o.limits.Load()
	if most := limits.Get(quota.OrgRetained); s.reserved == 0 && r.count >= most {
		return quota.Exceeded(quota.OrgRetained, most)
	}
	if most := limits.Get(quota.OrgRetainedBytes); r.bytes+size-s.reserved > most {
		return quota.Exceeded(quota.OrgRetainedBytes, most)
	}
	if s.reserved == 0 {
		r.count++
	}
	r.bytes += size - s.reserved
	s.reserved = size
	return nil
}

// leave says that a user of the slot is finished.
func (o *org) leave(topic string, s *slot) {
	o.retained.Lock()
	defer o.retained.Unlock()
	o.retained.leave(topic, s)
}

// leave gives back what was reserved and is not stored, with the last user.
func (r *overlay) leave(topic string, s *slot) {
	if s.users--; s.users > 0 || r.slots[topic] != s {
		return
	}
	delete(r.slots, topic)
	r.bytes -= s.reserved - s.stored
	if s.reserved > 0 && s.stored == 0 {
		r.count--
	}
}

// store notes that a message of that size takes the place of what is stored; 0:
// none does. It is called by the loop.
func (l *loop) storeRetained(o *org, s *slot, size, expires int64) {
	o.retained.Lock()
	old := s.stored
	s.stored, s.expires, s.written = size, expires, true
	o.retained.Unlock()
	l.countRetained(o, old, size)
}

// countRetained counts what is stored, where size takes the place of old.
func (l *loop) countRetained(o *org, old, size int64) {
	o.retainedBytes.Add(size - old)
	switch {
	case old == 0 && size > 0:
		o.retainedCount.Add(1)
	case old > 0 && size == 0:
		o.retainedCount.Add(-1)
	}
	l.touchOrg(o)
}

// expireRetained removes the retained message of a topic if it has expired. It
// returns a slot, to be left when that is durable, or nil. It is called by the
// loop.
func (l *loop) expireRetained(o *org, topic string, key []byte) *slot {
	r := &o.retained
	r.Lock()
	s := r.slots[topic]
	gone := s == nil && r.dropping > 0
	var size, expires int64
	written := s != nil && s.written
	if written {
		size, expires = s.stored, s.expires
	}
	r.Unlock()
	if gone || l.failed() != nil {
		return nil
	}
	if !written {
		size, expires = l.lookRetained(topic, key)
	}
	if size == 0 || expires == 0 || expires > millis(l.e.now()) {
		return nil
	}
	l.building.delete(key)
	r.Lock()
	// Only the loop writes, so what was found is still there; but the slot may
	// have come or gone.
	if s = r.slots[topic]; s == nil {
		s = &slot{ready: make(chan struct{}), known: true, stored: size, reserved: size}
		close(s.ready)
		r.slots[topic] = s
	}
	if !s.known {
		s.known, s.reserved = true, size
	}
	s.users++
	s.stored, s.expires, s.written = 0, 0, true
	r.Unlock()
	l.countRetained(o, size, 0)
	return s
}

// lookRetained returns size and expiry of a stored retained message, or zeros.
func (l *loop) lookRetained(topic string, key []byte) (size, expires int64) {
	v, closer, err := l.e.db.Get(key)
	if err != nil {
		return 0, 0
	}
	defer closer.Close()
	rec, err := parseSealed(v)
	if err != nil {
		return 0, 0
	}
	return retainedSize(topic, rec.sealed), rec.expires
}

// dropRetained empties the organisation, whose retained messages the batch being
// built removes. It is called by the loop; dropped is due when that is durable.
func (l *loop) dropRetained(o *org) {
	r := &o.retained
	r.Lock()
	clear(r.pending)
	r.dropping++
	r.count, r.bytes = 0, 0
	for _, s := range r.slots {
		s.known, s.written, s.stored, s.expires = true, true, 0, 0
		if s.reserved > 0 {
			r.count++
			r.bytes += s.reserved
		}
	}
	r.Unlock()
	o.retainedCount.Store(0)
	o.retainedBytes.Store(0)
	l.touchOrg(o)
}

func (o *org) droppedRetained() {
	o.retained.Lock()
	defer o.retained.Unlock()
	o.retained.dropping--
}
