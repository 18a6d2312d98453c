package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/engine"
)

// The sweeper is the goroutine that removes what has expired, and the queues of
// sessions that have ended. It reads; what it finds the loop removes.
type sweeper struct {
	e      *Engine
	kick   chan struct{}
	next   atomic.Int64 // when it wakes, in milliseconds; 0: when it is kicked
	cancel context.CancelFunc
	ctx    context.Context
	done   chan struct{}
}

const (
	sweepChunk = 512             // entries removed at a time
	sweepRetry = 5 * time.Second // after an error
	spaceCheck = time.Second     // between looks at a full disk
)

func newSweeper(e *Engine) *sweeper {
	s := &sweeper{e: e, kick: make(chan struct{}, 1), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *sweeper) start() { go s.main() }

// stop waits for the sweeper, unless the store has failed and may hold it for ever.
func (s *sweeper) stop() {
	s.cancel()
	select {
	case <-s.done:
	case <-s.e.health.failing():
	}
}

// due says that something expires at that time.
func (s *sweeper) due(at int64) {
	if next := s.next.Load(); next == 0 || at < next {
		s.collect()
	}
}

// collect says that there is something to do.
func (s *sweeper) collect() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *sweeper) main() {
	defer close(s.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.e.health.failing():
			return
		case <-s.kick:
		case <-timer.C:
		}
		wait, err := s.sweep()
		if err != nil {
			if s.ctx.Err() != nil || s.e.health.failure() != nil {
				// What was sent to the loop may still be done: looking again
				// would find it once more.
				return
			}
			s.e.log.Warn("sweep expired messages", "err", err)
			wait = sweepRetry
		}
		if s.e.health.full.Load() {
			s.e.checkSpace()
			if wait == 0 || wait > spaceCheck {
				wait = spaceCheck
			}
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
	}
}

// sweep removes what is to be removed now, and returns how long to wait for the
// next time, or 0: until it is kicked.
func (s *sweeper) sweep() (time.Duration, error) {
	s.next.Store(0)
	if err := s.garbage(); err != nil {
		return 0, err
	}
	for {
		now := millis(s.e.now())
		found, next, err := s.expired(now)
		if err != nil {
			return 0, err
		}
		if len(found) > 0 {
			op := &sweep{waiter: newWaiter(), found: found}
			if err := s.e.loop.do(s.ctx, op, op.waiter); err != nil {
				return 0, err
			}
			continue
		}
		if next == 0 {
			return 0, nil
		}
		s.next.Store(next)
		return max(time.Duration(next-now)*time.Millisecond, time.Millisecond), nil
	}
}

// A candidate is something that an expiry key is about.
type candidate struct {
	expiry []byte // the key in the index
	about  []byte // the key it is about
	key    parsedKey
	offset engine.Offset
	meta   meta
	there  bool
}

// expired returns a chunk of what has expired, or when the next will.
func (s *sweeper) expired(now int64) (found []candidate, next int64, err error) {
	prefix := kindKey(nil, keyExpiry)
	it, err := s.e.db.NewIterWithContext(s.ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return nil, 0, fmt.Errorf("read expiry index: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("read expiry index: %w", cerr)
		}
	}()
	for it.First(); it.Valid() && len(found) < sweepChunk; it.Next() {
		at, about, err := parseExpiryKey(it.Key())
		if err != nil {
			return nil, 0, err
		}
		if at > now {
			return found, at, nil
		}
		c := candidate{expiry: append([]byte(nil), it.Key()...), about: about}
		if err := c.look(s.e, now); err != nil {
			return nil, 0, err
		}
		found = append(found, c)
	}
	return found, 0, nil
}

// look finds what the candidate is about, if that has expired.
func (c *candidate) look(e *Engine, now int64) error {
	var err error
	if c.key, err = parseKey(c.about); err != nil {
		return err
	}
	if c.key.kind != keyQueue {
		return nil
	}
	o := reader{b: c.key.rest}
	c.offset = engine.Offset(o.uint64())
	v, closer, err := e.db.Get(c.about)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read expired entry: %w", err)
	}
	defer closer.Close()
	r, err := parseEntry(v)
	c.meta = r.meta
	c.there = err == nil && !r.released && r.expires != 0 && r.expires <= now
	return err
}

// sweep removes candidates.
type sweep struct {
	waiter
	found []candidate
	slots []usedSlot // of the retained messages among them
}

type usedSlot struct {
	o     *org
	topic string
	slot  *slot
}

func (c *sweep) run(l *loop) {
	for i := range c.found {
		f := &c.found[i]
		l.building.delete(f.expiry)
		v, ok := l.e.orgs.Load(f.key.org)
		if !ok {
			continue
		}
		o := v.(*org)
		if f.key.kind == keyRetained {
			topic := string(f.key.rest)
			if s := l.expireRetained(o, topic, f.about); s != nil {
				c.slots = append(c.slots, usedSlot{o, topic, s})
			}
			continue
		}
		if s := o.numbered[f.key.number]; s != nil && f.there && !s.isSent(f.offset) {
			l.remove(s, f.offset, f.meta)
		}
	}
	l.after(c)
}

// finish leaves the slots of what was removed: the disk has it no longer.
func (c *sweep) finish(l *loop, err error) {
	for _, s := range c.slots {
		s.o.leave(s.topic, s.slot)
	}
	c.waiter.finish(l, err)
}

// garbage removes the queues of sessions that have ended.
func (s *sweeper) garbage() error {
	for {
		key, err := s.firstGarbage()
		if err != nil || key == nil {
			return err
		}
		k, err := parseKey(key)
		if err != nil {
			return err
		}
		o, err := s.e.org(k.org)
		if err != nil {
			return err
		}
		drops := o.drops.Load()
		found, err := s.entries(k)
		if err != nil {
			return err
		}
		op := &bury{waiter: newWaiter(), o: o, drops: drops, key: key, found: found}
		if err := s.e.loop.do(s.ctx, op, op.waiter); err != nil {
			return err
		}
	}
}

func (s *sweeper) firstGarbage() (key []byte, err error) {
	prefix := kindKey(nil, keyGarbage)
	it, err := s.e.db.NewIterWithContext(s.ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return nil, fmt.Errorf("look for ended sessions: %w", err)
	}
	if it.First() {
		key = append(key, it.Key()...)
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("look for ended sessions: %w", err)
	}
	return key, nil
}

// entries returns a chunk of the queue of an ended session.
func (s *sweeper) entries(k parsedKey) (found []candidate, err error) {
	prefix := numberKey(nil, keyQueue, k.org, k.number)
	it, err := s.e.db.NewIterWithContext(s.ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return nil, fmt.Errorf("read queue of ended session: %w", err)
	}
	for it.First(); it.Valid() && len(found) < sweepChunk; it.Next() {
		c := candidate{about: append([]byte(nil), it.Key()...), key: k}
		// A damaged entry is removed like any other.
		if _, r, err := parseQueued(it); err == nil {
			c.meta = r.meta
		}
		found = append(found, c)
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("read queue of ended session: %w", err)
	}
	return found, nil
}

// bury removes a chunk of the queue of an ended session.
type bury struct {
	waiter
	o     *org
	drops int64 // of the organisation, before found was read
	key   []byte
	found []candidate
}

func (c *bury) run(l *loop) {
	if c.drops != c.o.drops.Load() {
		c.result <- nil // all of it was removed in the meantime
		return
	}
	for i := range c.found {
		f := &c.found[i]
		l.building.delete(f.about)
		if f.meta.expires != 0 {
			l.key2 = expiryKey(l.key2[:0], f.meta.expires, f.about)
			l.building.delete(l.key2)
		}
		if f.meta.message != 0 && !f.meta.inline {
			l.refs.drop(l.building, refKey{c.o.id, f.meta.message})
		}
	}
	if len(c.found) < sweepChunk {
		l.building.delete(c.key)
	}
	l.after(c)
}
