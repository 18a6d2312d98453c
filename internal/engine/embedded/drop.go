package embedded

import (
	"context"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
)

// drop is what Drop does.
type drop struct {
	waiter
	o     *org
	owner auth.Principal
}

// Drop ends every session of owner.
func (e *Engine) Drop(ctx context.Context, owner auth.Principal) error {
	o, err := e.org(owner.Org)
	if err != nil {
		return err
	}
	op := &drop{waiter: newWaiter(), o: o, owner: owner}
	return e.loop.do(ctx, op, op.waiter)
}

// run ends the sessions at once, whether or not that can be kept: after a
// failure the caller learns that a restart may bring them back.
func (d *drop) run(l *loop) {
	if d.owner.Kind == auth.AnyKind {
		for _, s := range d.o.sessions {
			l.drop(s)
		}
		d.all(l)
	} else {
		for s := d.o.owners[d.owner]; s != nil; s = d.o.owners[d.owner] {
			l.drop(s)
		}
		for id := range d.o.wills {
			if id.Owner == d.owner {
				l.dropWill(d.o, id)
			}
		}
	}
	l.wait(d)
}

// all removes what else the organisation has.
func (d *drop) all(l *loop) {
	for id := range d.o.wills {
		l.dropWill(d.o, id)
	}
	for _, kind := range orgKinds {
		l.building.deletePrefix(orgKey(nil, kind, d.o.id))
	}
	l.refs.forget(d.o.id)
	d.o.sealer.Store(nil) // the key may be gone
	d.o.drops.Add(1)      // after that, for who sees the new number seals with a new key
	l.dropRetained(d.o)
}

func (d *drop) finish(l *loop, err error) {
	if d.owner.Kind == auth.AnyKind {
		d.o.droppedRetained()
	}
	d.waiter.finish(l, err)
}

// drop ends a session and tells its holder.
func (l *loop) drop(s *session) {
	if h := s.holder.Swap(nil); h != nil {
		s.o.held.Add(-1)
		h.sink.Lost(engine.ErrDropped)
	}
	l.end(s)
}

// forget forgets all counts of an organisation, whose messages are removed.
func (r *refs) forget(id auth.OrgID) {
	for k := range r.counts {
		if k.org == id {
			delete(r.counts, k)
		}
	}
	kept := r.changed[:0]
	for _, k := range r.changed {
		if k.org != id {
			kept = append(kept, k)
		}
	}
	r.changed = kept
}
