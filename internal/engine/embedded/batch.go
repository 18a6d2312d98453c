package embedded

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/auth"
)

// A batch is what is committed together.
type batch struct {
	writes    *pebble.Batch // nil after a failure: nothing is kept any more
	sync      bool          // somebody waits for it
	sequence  uint64
	finishers []finisher
	dirty     []*session // whose cursors are to be written
	orgs      []*org     // whose retained messages are to be counted
	woken     []*session
	ended     []*session // whose queues are garbage when it is durable
	charges   []charge   // what it has of the pool, of each organisation once
	expiry    int64      // the earliest in it, in milliseconds; 0: none
}

func (b *batch) empty() bool {
	return len(b.finishers) == 0 && (b.writes == nil || b.writes.Empty()) && len(b.dirty) == 0 && len(b.charges) == 0
}

func (b *batch) reset() {
	clear(b.dirty)
	clear(b.orgs)
	clear(b.ended)
	clear(b.charges)
	*b = batch{
		finishers: b.finishers[:0], dirty: b.dirty[:0], orgs: b.orgs[:0], woken: b.woken[:0], ended: b.ended[:0],
		charges: b.charges[:0],
	}
	if cap(b.finishers) > 1<<16 {
		b.finishers = nil
	}
}

// A charge is what an organisation has of the pool.
type charge struct {
	o *org
	n int
}

// charge notes that n bytes of an organisation are finished with the batch. It
// is for the batch being built only.
func (b *batch) charge(o *org, n int) {
	if i := o.charge; i < len(b.charges) && b.charges[i].o == o {
		b.charges[i].n += n
		return
	}
	o.charge = len(b.charges)
	b.charges = append(b.charges, charge{o, n})
}

func (b *batch) set(key, value []byte) {
	if b.writes != nil {
		_ = b.writes.Set(key, value, nil) // fails on a closed batch only
	}
}

func (b *batch) delete(key []byte) {
	if b.writes != nil {
		_ = b.writes.Delete(key, nil)
	}
}

// deletePrefix removes every key that begins with prefix.
func (b *batch) deletePrefix(prefix []byte) {
	if b.writes != nil {
		_ = b.writes.DeleteRange(prefix, prefixEnd(prefix), nil)
	}
}

// begin makes the next batch to be built.
func (l *loop) begin() {
	b := l.reuse
	if l.reuse = nil; b == nil {
		b = &batch{}
	}
	l.sequence++
	b.sequence = l.sequence
	if l.e.health.failure() == nil {
		b.writes = l.e.db.NewBatch()
	}
	l.building = b
}

// refuse makes sure that nothing of b is kept.
func (l *loop) refuse(b *batch) {
	if b.writes != nil {
		_ = b.writes.Close()
		b.writes = nil
	}
}

// failed reports whether nothing can be kept any more.
func (l *loop) failed() error { return l.e.health.failure() }

// seal writes what stands for the whole batch: where its queues end now, how
// much is retained, and how often its messages are needed.
func (l *loop) seal(b *batch) {
	if l.failed() != nil {
		l.refuse(b)
	}
	for _, s := range b.dirty {
		s.dirty = false
		if s.gone {
			continue
		}
		l.key = numberKey(l.key[:0], keyCursor, s.o.id, s.number)
		l.value = s.cursor.append(l.value[:0])
		b.set(l.key, l.value)
	}
	for _, o := range b.orgs {
		o.dirty = false
		l.key = orgKey(l.key[:0], keyTotals, o.id)
		t := retainedTotals{o.retainedCount.Load(), o.retainedBytes.Load()}
		if t == (retainedTotals{}) {
			b.delete(l.key)
			continue
		}
		l.value = t.append(l.value[:0])
		b.set(l.key, l.value)
	}
	l.refs.seal(b)
}

// touchOrg has what o retains counted with the batch being built.
func (l *loop) touchOrg(o *org) {
	if !o.dirty {
		o.dirty = true
		l.building.orgs = append(l.building.orgs, o)
	}
}

// touch has the cursor of s written with the batch being built.
func (l *loop) touch(s *session) {
	if !s.dirty && !s.gone {
		s.dirty = true
		l.building.dirty = append(l.building.dirty, s)
	}
}

// A refKey names a message that several entries need.
type refKey struct {
	org     auth.OrgID
	message uint64
}

type ref struct {
	count    uint64
	sequence uint64 // of the batch that changed it last
}

// refs counts the entries that need a message. Counts are read from disk when
// they are needed and not here; a count that is being changed is always here.
type refs struct {
	e       *Engine
	counts  map[refKey]*ref
	changed []refKey
	key     []byte
	value   []byte
}

// maxRefs bounds the counts that are kept after their commit.
const maxRefs = 1 << 16

func (r *refs) init(e *Engine) {
	r.e, r.counts = e, map[refKey]*ref{}
}

// add counts n entries for a new message.
func (r *refs) add(b *batch, k refKey, n int) {
	r.counts[k] = &ref{uint64(n), b.sequence}
	r.changed = append(r.changed, k)
}

// drop takes one entry away; the message goes with the last.
func (r *refs) drop(b *batch, k refKey) {
	c := r.counts[k]
	if c == nil {
		c = &ref{count: r.read(k)}
		r.counts[k] = c
	}
	if c.count > 0 {
		c.count--
	}
	if c.sequence != b.sequence {
		c.sequence = b.sequence
		r.changed = append(r.changed, k)
	}
}

// read returns a stored count. One that cannot be read stays too high: the
// message is kept for too long rather than not long enough.
func (r *refs) read(k refKey) uint64 {
	const unknown = 1 << 32
	if r.e.health.failure() != nil {
		return unknown
	}
	v, closer, err := r.e.db.Get(numberKey(nil, keyRefs, k.org, k.message))
	if err == pebble.ErrNotFound {
		return 0
	}
	if err != nil {
		// Wrapped, for by itself it is written with pages of stack.
		r.e.log.Error("cannot read how often a message is needed", "org", k.org, "err", fmt.Errorf("read count: %w", err))
		return unknown
	}
	n, err := parseNumber(v)
	_ = closer.Close()
	if err != nil {
		r.e.log.Error("cannot read how often a message is needed", "org", k.org, "err", err)
		return unknown
	}
	return n
}

// seal writes the counts that the batch changed.
func (r *refs) seal(b *batch) {
	for _, k := range r.changed {
		c := r.counts[k]
		r.key = numberKey(r.key[:0], keyRefs, k.org, k.message)
		if c != nil && c.count > 0 {
			r.value = appendNumber(r.value[:0], c.count)
			b.set(r.key, r.value)
			continue
		}
		b.delete(r.key)
		r.key = numberKey(r.key[:0], keyMessage, k.org, k.message)
		b.delete(r.key)
	}
	r.changed = r.changed[:0]
}

// committed forgets counts that can be read from disk now, if there are many.
func (r *refs) committed(sequence uint64) {
	if len(r.counts) < maxRefs {
		return
	}
	for k, c := range r.counts {
		if c.sequence <= sequence {
			delete(r.counts, k)
		}
	}
}
