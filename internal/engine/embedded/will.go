package embedded

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/engine"
)

// A will is what is known of a will in memory; of the loop.
type will struct {
	held   bool      // its connection is there
	closed time.Time // when that ended; zero: it was cut by a crash
}

// sealWill seals the will of a claim.
func (c *claim) sealWill(ctx context.Context) error {
	s, err := c.o.seal(ctx)
	if err != nil {
		return err
	}
	w := *c.Will
	w.Delay = max(w.Delay, 0)
	c.will.message = c.o.e.number()
	c.will.sealed = s.Seal(nil, appendWill(nil, &w), additional(sealWill, c.o.id, c.will.message))
	return nil
}

// keepWill keeps the will of a claim, in place of a former one. Nobody waits
// for it: it matters only if the connection outlives the commit.
func (c *claim) keepWill(l *loop) {
	l.dropWill(c.o, c.ID)
	if c.Will == nil {
		return
	}
	l.key = willKey(l.key[:0], keyWill, c.ID)
	l.value = c.will.append(l.value[:0])
	l.building.set(l.key, l.value)
	c.o.wills[c.ID] = will{held: true}
}

// closeWill keeps the will of a session that is let go, or drops it. It reports
// whether there is one and it is kept.
func (l *loop) closeWill(id engine.SessionID, keep bool, now time.Time) bool {
	o, err := l.e.org(id.Owner.Org)
	if err != nil {
		return false
	}
	if _, ok := o.wills[id]; !ok {
		return false
	}
	if !keep {
		l.dropWill(o, id)
		return false
	}
	o.wills[id] = will{closed: now}
	l.key = willKey(l.key[:0], keyClosed, id)
	l.value = appendNumber(l.value[:0], uint64(millis(now)))
	l.building.set(l.key, l.value)
	return true
}

// dropWill forgets a will, if there is one.
func (l *loop) dropWill(o *org, id engine.SessionID) {
	if _, ok := o.wills[id]; !ok {
		return
	}
	delete(o.wills, id)
	for _, kind := range [...]byte{keyWill, keyClosed} {
		l.key = willKey(l.key[:0], kind, id)
		l.building.delete(l.key)
	}
}

// dropWillOp is what DropWill does.
type dropWillOp struct {
	waiter
	o  *org
	id engine.SessionID
}

// DropWill forgets the will of a session that nobody holds.
func (e *Engine) DropWill(ctx context.Context, id engine.SessionID) error {
	o, err := e.org(id.Owner.Org)
	if err != nil {
		return err
	}
	op := &dropWillOp{waiter: newWaiter(), o: o, id: id}
	return e.loop.do(ctx, op, op.waiter)
}

func (c *dropWillOp) run(l *loop) {
	if !c.o.wills[c.id].held {
		l.dropWill(c.o, c.id)
	}
	l.wait(c)
}

// listWills lists the wills of sessions that nobody holds.
type listWills struct {
	waiter
	found []foundWill
}

type foundWill struct {
	o  *org
	id engine.SessionID
	will
	most time.Duration // that the delay may be
}

func (c *listWills) run(l *loop) {
	l.e.orgs.Range(func(_, v any) bool {
		o := v.(*org)
		for id, w := range o.wills {
			if w.held {
				continue
			}
			f := foundWill{o: o, id: id, will: w}
			if s := o.sessions[id]; s != nil {
				f.most = s.expiry
			}
			c.found = append(c.found, f)
		}
		return true
	})
	l.after(c) // then they are where they can be read
}

// Wills yields the wills of sessions that nobody holds.
func (e *Engine) Wills(ctx context.Context) iter.Seq2[*engine.Will, error] {
	return func(yield func(*engine.Will, error) bool) {
		op := &listWills{waiter: newWaiter()}
		if err := e.loop.do(ctx, op, op.waiter); err != nil {
			yield(nil, err)
			return
		}
		for _, f := range op.found {
			w, err := f.read(ctx)
			if errors.Is(err, pebble.ErrNotFound) {
				continue // dropped in the meantime
			}
			if err != nil {
				w = &engine.Will{Session: f.id}
			}
			if !yield(w, err) {
				return
			}
		}
	}
}

func (f *foundWill) read(ctx context.Context) (*engine.Will, error) {
	done, err := f.o.e.read()
	if err != nil {
		return nil, err
	}
	defer done()
	v, closer, err := f.o.e.db.Get(willKey(nil, keyWill, f.id))
	if err != nil {
		return nil, fmt.Errorf("read will: %w", err)
	}
	defer closer.Close()
	rec, err := parseSealed(v)
	if err != nil {
		return nil, err
	}
	s, err := f.o.seal(ctx)
	if err != nil {
		return nil, err
	}
	plain, err := s.Open(nil, rec.sealed, additional(sealWill, f.o.id, rec.message))
	if err != nil {
		return nil, fmt.Errorf("open sealed will: %w", err)
	}
	w, err := parseWill(f.id, plain)
	if err != nil {
		return nil, err
	}
	w.Closed, w.Delay = f.closed, min(w.Delay, f.most)
	return w, nil
}
