package embedded

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/engine"
)

// load reads what must be in memory: sessions, subscriptions, packet
// identifiers and where queues begin and end. Queues stay where they are.
func (e *Engine) load(ctx context.Context) error {
	l := e.loop
	steps := []struct {
		kind byte
		load func(k parsedKey, v []byte) error
	}{
		{keyTotals, l.loadTotals},
		{keySession, l.loadSession},
		{keyCursor, l.loadCursor},
		{keySub, l.loadSub},
		{keyReceived, l.loadReceived},
		{keyWill, l.loadWill},
		{keyClosed, l.loadClosed},
	}
	for _, s := range steps {
		if err := e.each(ctx, s.kind, s.load); err != nil {
			return err
		}
	}
	e.orgs.Range(func(_, v any) bool {
		for _, s := range v.(*org).numbered {
			l.resume(s)
		}
		return true
	})
	return nil
}

// each calls fn with every key and value of a kind.
func (e *Engine) each(ctx context.Context, kind byte, fn func(k parsedKey, v []byte) error) (err error) {
	prefix := kindKey(nil, kind)
	it, err := e.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	for it.First(); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := parseKey(it.Key())
		if err != nil {
			return fmt.Errorf("key %x: %w", it.Key(), err)
		}
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(k, v); err != nil {
			return fmt.Errorf("key %x: %w", it.Key(), err)
		}
	}
	return nil
}

func (l *loop) loadTotals(k parsedKey, v []byte) error {
	o, err := l.e.org(k.org)
	if err != nil {
		return err
	}
	t, err := parseTotals(v)
	o.retainedCount.Store(t.count)
	o.retainedBytes.Store(t.bytes)
	o.retained.count, o.retained.bytes = t.count, t.bytes
	return err
}

func (l *loop) loadSession(k parsedKey, v []byte) error {
	r, err := parseSession(v)
	if err != nil {
		return err
	}
	o, err := l.e.org(k.org)
	if err != nil {
		return err
	}
	if r.id.Owner.Org != k.org || o.sessions[r.id] != nil {
		return fmt.Errorf("%w: the session is another's", errRecord)
	}
	s := newSession(o, r.id, k.number, true)
	s.uid, s.expiry, s.closed, s.sent = r.uid, r.expiry, r.closed, r.sent
	if r.queueBytes == 0 {
		r.queueBytes = l.e.limits.QueueBytes // written before it was the session's
	}
	s.limit(r.queue, r.queueBytes, r.endWhenFull)
	if r.held {
		// It was cut by the crash. Whatever is in its queue may have been sent.
		s.closed, s.sent = l.e.now(), ^engine.Offset(0)
	}
	l.add(s)
	return nil
}

// find returns the session that a key belongs to. One without its session is
// what is left of it, which is not to be: it would have gone in the same batch.
func (l *loop) find(k parsedKey) (*session, error) {
	o, err := l.e.org(k.org)
	if err != nil {
		return nil, err
	}
	if s := o.numbered[k.number]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: its session is not there", errRecord)
}

func (l *loop) loadCursor(k parsedKey, v []byte) error {
	s, err := l.find(k)
	if err != nil {
		return err
	}
	s.cursor, err = parseCursor(v)
	return err
}

func (l *loop) loadSub(k parsedKey, v []byte) error {
	s, err := l.find(k)
	if err != nil {
		return err
	}
	in, err := parseSub(k.rest, v)
	if err != nil {
		return err
	}
	l.enter(s, in, nil)
	return nil
}

func (l *loop) loadReceived(k parsedKey, _ []byte) error {
	s, err := l.find(k)
	if err != nil {
		return err
	}
	if len(k.rest) != 2 {
		return fmt.Errorf("%w: not a packet identifier", errRecord)
	}
	if s.received == nil {
		s.received = map[uint16]struct{}{}
	}
	s.received[binary.BigEndian.Uint16(k.rest)] = struct{}{}
	return nil
}

func (l *loop) loadWill(k parsedKey, _ []byte) error {
	id, err := parseWillID(k)
	if err != nil {
		return err
	}
	o, err := l.e.org(k.org)
	if err != nil {
		return err
	}
	o.wills[id] = will{}
	return nil
}

func (l *loop) loadClosed(k parsedKey, v []byte) error {
	id, err := parseWillID(k)
	if err != nil {
		return err
	}
	o, err := l.e.org(k.org)
	if err != nil {
		return err
	}
	ms, err := parseNumber(v)
	if _, ok := o.wills[id]; ok && err == nil {
		o.wills[id] = will{closed: fromMillis(int64(ms))}
	}
	return err
}

// resume lets a loaded session go on, or end if its connection was all it had.
func (l *loop) resume(s *session) {
	cut := s.sent == ^engine.Offset(0)
	s.durable = s.cursor.next - 1
	s.sent = min(s.sent, s.durable)
	s.low = s.cursor.low
	s.count.Store(s.cursor.count)
	s.bytes.Store(s.cursor.bytes)
	s.o.queued.Add(s.cursor.count)
	s.o.queuedBytes.Add(s.cursor.bytes)
	if s.expiry == 0 {
		l.end(s)
		return
	}
	if cut {
		l.store(s)
		l.building.sync = true // so that another crash does not begin the count again
	}
	l.expire(s)
}
