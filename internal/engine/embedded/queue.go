package embedded

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/engine"
)

// Read appends queued entries. A session that keeps up is served from memory.
func (h *handle) Read(ctx context.Context, after engine.Offset, dst []engine.Entry) ([]engine.Entry, error) {
	s := h.s
	from := after + 1
	s.mu.Lock()
	defer s.mu.Unlock()
	if !h.held() {
		return dst, engine.ErrLost
	}
	for len(dst) < cap(dst) {
		from = max(from, s.low)
		if from > s.durable {
			break
		}
		if len(s.tail) > 0 && s.tail[0].offset <= from {
			dst, from = s.readTail(from, dst)
			continue
		}
		upto := s.durable
		if len(s.tail) > 0 {
			upto = s.tail[0].offset - 1
		}
		sent := s.sent
		s.mu.Unlock()
		found, next, err := s.readDisk(ctx, from, upto, sent, cap(dst)-len(dst))
		s.mu.Lock()
		if err != nil {
			return dst, err
		}
		if !h.held() {
			return dst, engine.ErrLost
		}
		for _, r := range found {
			dst = append(dst, s.read(r))
		}
		from = next
	}
	return dst, nil
}

// A stored entry is one as it was found.
type stored struct {
	recent
	released bool
}

// read notes that an entry is going out. The caller holds mu.
func (s *session) read(r stored) engine.Entry {
	if s.inflight == nil {
		s.inflight = map[engine.Offset]meta{}
	}
	s.inflight[r.offset] = r.meta
	e := engine.Entry{
		Offset: r.offset, Message: r.message, Delivery: r.delivery,
		Sent: r.offset <= s.sent, Released: r.released,
	}
	s.sent = max(s.sent, r.offset)
	return e
}

// readTail reads from memory. The caller holds mu.
func (s *session) readTail(from engine.Offset, dst []engine.Entry) ([]engine.Entry, engine.Offset) {
	now := millis(s.o.e.now())
	i := int(from - s.tail[0].offset)
	for ; i < len(s.tail) && len(dst) < cap(dst); i++ {
		r := &s.tail[i]
		from = r.offset + 1
		if r.meta.expires != 0 && r.meta.expires <= now && r.offset > s.sent {
			s.o.e.loop.enqueue(&removal{s: s, offset: r.offset, meta: r.meta})
			continue
		}
		dst = append(dst, s.read(stored{recent: *r}))
	}
	var size int64
	for k := range i {
		size += s.tail[k].meta.size
		s.tail[k] = recent{}
	}
	s.tail = s.tail[i:]
	s.tailSize -= size
	s.o.e.recent.Add(-size)
	if len(s.tail) == 0 {
		s.tail = nil
	}
	return dst, from
}

// readDisk reads at most n entries. It returns where to go on.
func (s *session) readDisk(ctx context.Context, from, upto, sent engine.Offset, n int) (found []stored, next engine.Offset, err error) {
	e := s.o.e
	done, err := e.read()
	if err != nil {
		return nil, from, err
	}
	defer done()
	// One state for entries and messages: they may be removed meanwhile.
	snapshot := e.db.NewSnapshot()
	defer snapshot.Close()
	it, err := snapshot.NewIterWithContext(ctx, &pebble.IterOptions{
		LowerBound: queueKey(nil, s.o.id, s.number, from),
		UpperBound: queueKey(nil, s.o.id, s.number, upto+1),
	})
	if err != nil {
		return nil, from, fmt.Errorf("read queue: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("read queue: %w", cerr)
		}
	}()
	now := millis(e.now())
	for it.First(); it.Valid() && len(found) < n; it.Next() {
		if err := ctx.Err(); err != nil {
			return nil, from, err
		}
		offset, r, err := parseQueued(it)
		if err != nil {
			return nil, from, err
		}
		from = offset + 1
		if r.expires != 0 && r.expires <= now && offset > sent && !r.released {
			e.loop.enqueue(&removal{s: s, offset: offset, meta: r.meta})
			continue
		}
		entry := stored{recent: recent{offset: offset, meta: r.meta}, released: r.released}
		entry.delivery = engine.Delivery{QoS: r.qos, Retain: r.retain, IDs: r.ids}
		if !r.released {
			if entry.message, err = s.o.open(ctx, snapshot, &r); err != nil {
				return nil, from, fmt.Errorf("read queue: entry %d: %w", offset, err)
			}
		}
		found = append(found, entry)
	}
	if len(found) < n {
		from = upto + 1
	}
	return found, from, nil
}

// parseQueued reads the entry at an iterator. It is a view.
func parseQueued(it *pebble.Iterator) (engine.Offset, entryRecord, error) {
	k, err := parseKey(it.Key())
	if err != nil {
		return 0, entryRecord{}, err
	}
	o := reader{b: k.rest}
	offset := engine.Offset(o.uint64())
	if err := o.end(); err != nil {
		return 0, entryRecord{}, err
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return 0, entryRecord{}, fmt.Errorf("read queue: %w", err)
	}
	r, err := parseEntry(v)
	return offset, r, err
}

// open returns the message of an entry.
func (o *org) open(ctx context.Context, from pebble.Reader, r *entryRecord) (*engine.Message, error) {
	sealed := r.sealed
	if !r.inline {
		v, closer, err := from.Get(numberKey(nil, keyMessage, o.id, r.message))
		if err != nil {
			return nil, fmt.Errorf("read message: %w", err)
		}
		defer closer.Close()
		rec, err := parseSealed(v)
		if err != nil {
			return nil, err
		}
		sealed = rec.sealed
	}
	return o.unseal(ctx, r.message, sealed)
}

// unseal opens a sealed message.
func (o *org) unseal(ctx context.Context, number uint64, sealed []byte) (*engine.Message, error) {
	s, err := o.seal(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := s.Open(nil, sealed, additional(sealMessage, o.id, number))
	if err != nil {
		return nil, fmt.Errorf("open sealed message: %w", err)
	}
	return parseMessage(o.id, plain)
}

// Ack removes an entry that was read and not acknowledged yet.
func (h *handle) Ack(o engine.Offset) {
	if m, ok := h.take(o, false); ok {
		h.s.o.e.loop.enqueue(&removal{s: h.s, h: h, offset: o, meta: m})
	}
}

// Release records that PUBREC was received.
func (h *handle) Release(o engine.Offset, done func(error)) {
	m, ok := h.take(o, true)
	switch {
	case !h.held():
		tell(done, engine.ErrLost)
	case !ok:
		h.s.o.e.loop.barrier(done) // it is released, or was never there
	case !h.s.o.e.loop.enqueue(&release{h: h, offset: o, meta: m, done: done}):
		tell(done, errClosed())
	}
}

// take returns what is known of an entry in flight, and forgets it or, if it is
// to be released, its message.
func (h *handle) take(o engine.Offset, release bool) (meta, bool) {
	s := h.s
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.inflight[o]
	if !ok || !h.held() {
		return m, false
	}
	if !release {
		delete(s.inflight, o)
		return m, true
	}
	if m.message == 0 {
		return m, false
	}
	s.inflight[o] = meta{}
	return m, true
}

// A removal removes an entry that was acknowledged, or that Read passed over
// because it had expired and was never sent. Nobody waits for it.
type removal struct {
	s      *session
	h      *handle // nil: it was passed over
	offset engine.Offset
	meta   meta
}

func (r *removal) run(l *loop) {
	if r.h != nil && !r.h.held() {
		return
	}
	l.remove(r.s, r.offset, r.meta)
}

// isSent reports whether an entry may have been sent: then it is the receiver's
// to end it, even if it expires [MQTT-3.3.2-5].
func (s *session) isSent(o engine.Offset) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return o <= s.sent
}

// remove takes an entry out of its queue, unless that was done before.
func (l *loop) remove(s *session, o engine.Offset, m meta) {
	if _, done := s.removed[o]; done || s.gone || o < s.cursor.low || o >= s.cursor.next {
		return
	}
	l.key = queueKey(l.key[:0], s.o.id, s.number, o)
	l.building.delete(l.key)
	l.unkeep(s, l.key, m)
	s.cursor.count--
	s.count.Add(-1)
	s.o.queued.Add(-1)
	if s.removed == nil {
		s.removed = map[engine.Offset]struct{}{}
	}
	s.removed[o] = struct{}{}
	s.advance(l)
	l.touch(s)
}

// unkeep gives up what an entry keeps of its message.
func (l *loop) unkeep(s *session, key []byte, m meta) {
	if m.message == 0 {
		return
	}
	if m.expires != 0 {
		l.key2 = expiryKey(l.key2[:0], m.expires, key)
		l.building.delete(l.key2)
	}
	if !m.inline {
		l.refs.drop(l.building, refKey{s.o.id, m.message})
	}
	s.cursor.bytes -= m.size
	s.bytes.Add(-m.size)
	s.o.queuedBytes.Add(-m.size)
}

// release is what Release does.
type release struct {
	h      *handle
	offset engine.Offset
	meta   meta
	done   func(error)
}

func (r *release) run(l *loop) {
	s := r.h.s
	if !r.h.held() {
		l.after(&told{r.done, engine.ErrLost})
		return
	}
	if _, gone := s.removed[r.offset]; !gone && r.offset >= s.cursor.low {
		l.key = queueKey(l.key[:0], s.o.id, s.number, r.offset)
		l.unkeep(s, l.key, r.meta)
		e := entryRecord{released: true, qos: 2}
		l.value = e.append(l.value[:0])
		l.building.set(l.key, l.value)
		l.touch(s)
	}
	l.wait(r)
}

func (r *release) finish(_ *loop, err error) { tell(r.done, err) }

// advance moves the low end of the queue over what was removed, so that reading
// from the beginning does not walk over it.
func (s *session) advance(l *loop) {
	c := &s.cursor
	if c.count == 0 {
		c.low, s.removed, s.nextSeek = c.next, nil, 0
	}
	for {
		if _, ok := s.removed[c.low]; !ok {
			break
		}
		delete(s.removed, c.low)
		c.low++
	}
	if len(s.removed) > max(s.nextSeek, 1024) {
		// Entries below may be gone since before the store was opened.
		c.low = l.seek(s)
		for o := range s.removed {
			if o < c.low {
				delete(s.removed, o)
			}
		}
		s.nextSeek = 2 * len(s.removed)
	}
	s.mu.Lock()
	s.low = c.low
	s.mu.Unlock()
}

// seek returns the offset of the first entry that is not removed.
func (l *loop) seek(s *session) engine.Offset {
	low := s.cursor.low
	if l.failed() != nil {
		return low
	}
	it, err := l.e.db.NewIter(&pebble.IterOptions{
		LowerBound: queueKey(nil, s.o.id, s.number, low),
		UpperBound: queueKey(nil, s.o.id, s.number, s.durable+1),
	})
	if err != nil {
		return low
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		o, _, err := parseQueued(it)
		if err != nil {
			return low
		}
		if _, gone := s.removed[o]; !gone {
			return o
		}
	}
	if it.Error() != nil {
		return low
	}
	return s.durable + 1
}
