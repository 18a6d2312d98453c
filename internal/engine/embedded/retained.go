package embedded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

// Retained yields the retained messages that match f.
func (e *Engine) Retained(ctx context.Context, id auth.OrgID, f topic.Filter) iter.Seq2[*engine.Message, error] {
	return func(yield func(*engine.Message, error) bool) {
		o, err := e.org(id)
		if err != nil {
			yield(nil, err)
			return
		}
		done, err := e.read()
		if err != nil {
			yield(nil, err)
			return
		}
		defer done()
		// What is not committed yet comes first: once it is, the disk has it.
		pending := o.pendingRetained(f)
		if err := o.scanRetained(ctx, f, pending, yield); err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
}

var errStopped = errors.New("stopped")

// pendingRetained returns what is to become of the topics that match f; a
// message without payload is to be removed.
func (o *org) pendingRetained(f topic.Filter) map[string]*engine.Message {
	o.retained.Lock()
	defer o.retained.Unlock()
	if len(o.retained.pending) == 0 {
		return nil
	}
	found := map[string]*engine.Message{}
	for name, p := range o.retained.pending {
		if f.Match(p.message.Topic) {
			found[name] = p.message
		}
	}
	return found
}

func (o *org) scanRetained(ctx context.Context, f topic.Filter, pending map[string]*engine.Message, yield func(*engine.Message, error) bool) error {
	now := o.e.now()
	for _, m := range pending {
		if len(m.Payload) > 0 && !expired(m.Expires, now) && !yield(m, nil) {
			return errStopped
		}
	}
	return o.walkRetained(ctx, f, pending, millis(now), func(_ sealedRecord, m *engine.Message) error {
		if !yield(m, nil) {
			return errStopped
		}
		return nil
	})
}

// walkRetained visits the stored retained messages that match f, in the order
// of their topics, but for those of the topics in pending. What is sealed in a
// record is valid only during the visit.
func (o *org) walkRetained(ctx context.Context, f topic.Filter, pending map[string]*engine.Message, now int64, visit func(sealedRecord, *engine.Message) error) (err error) {
	lower, upper := retainedRange(o.id, f)
	it, err := o.e.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return fmt.Errorf("read retained messages: %w", err)
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("read retained messages: %w", cerr)
		}
	}()
	for it.First(); it.Valid(); it.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, m, err := o.readRetained(ctx, it, f, pending, now)
		if err != nil {
			return fmt.Errorf("read retained messages: %w", err)
		}
		if m == nil {
			continue
		}
		if err := visit(r, m); err != nil {
			return err
		}
	}
	return nil
}

// readRetained returns the message at the iterator, or nil if it is not wanted.
func (o *org) readRetained(ctx context.Context, it *pebble.Iterator, f topic.Filter, pending map[string]*engine.Message, now int64) (r sealedRecord, m *engine.Message, err error) {
	k, err := parseKey(it.Key())
	if err != nil {
		return r, nil, err
	}
	name, err := topic.ParseName(string(k.rest))
	if err != nil {
		return r, nil, err
	}
	if _, newer := pending[name.String()]; newer || !f.Match(name) {
		return r, nil, nil
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return r, nil, err
	}
	r, err = parseSealed(v)
	if err != nil || r.expires != 0 && r.expires <= now {
		return r, nil, err
	}
	m, err = o.unseal(ctx, r.message, r.sealed)
	if err == nil && m.Topic != name {
		err = fmt.Errorf("%w: it is stored under another topic", errRecord)
	}
	return r, m, err
}

// retainedRange returns the keys among which the topics that f matches are.
func retainedRange(id auth.OrgID, f topic.Filter) (lower, upper []byte) {
	s := f.String()
	i := strings.IndexAny(s, "+#")
	if i < 0 {
		lower = retainedKey(nil, id, s)
		return lower, append(lower[:len(lower):len(lower)], 0)
	}
	prefix := retainedKey(nil, id, s[:i])
	if s[i] == '#' && i > 0 {
		// "a/#" matches "a" too [4.7.1.2].
		return prefix[:len(prefix)-1], prefixEnd(prefix)
	}
	return prefix, prefixEnd(prefix)
}

func expired(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }
