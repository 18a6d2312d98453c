package registry

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/keepmq/keepmq/internal/auth"
)

// errMissed ends the changes of a reader that did not keep up.
var errMissed = errors.New("changes were missed: verify everyone again")

// changeBuffer is how many changes a reader may be behind.
const changeBuffer = 4096

// changes tells readers, after a commit, whose grants may have changed.
type changes struct {
	mu      sync.Mutex // guards the fields below; a reader's channel is closed under it
	readers map[*reader]struct{}
}

// A reader is one reader of the changes. Its channel is closed when it is
// dropped because it fell behind; its first change lost is its last.
type reader struct{ ch chan auth.Change }

// subscribe returns a reader that hears every change from now on.
func (c *changes) subscribe() *reader {
	r := &reader{ch: make(chan auth.Change, changeBuffer)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers == nil {
		c.readers = map[*reader]struct{}{}
	}
	c.readers[r] = struct{}{}
	return r
}

func (c *changes) unsubscribe(r *reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, r)
}

// tell hands ps to every reader without waiting for any.
func (c *changes) tell(ps []auth.Principal) {
	all := make([]auth.Change, 0, len(ps))
	for _, p := range ps {
		all = append(all, auth.Change{Principal: p})
	}
	c.tellChanges(all)
}

// tellLimits says that the limits of an organisation, or of a device type of
// it, have changed.
func (c *changes) tellLimits(k limitKey) {
	c.tellChanges([]auth.Change{{Principal: auth.Principal{Org: k.org}, Limits: true, Type: k.typ}})
}

func (c *changes) tellChanges(all []auth.Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.readers {
		for _, ch := range all {
			select {
			case r.ch <- ch:
				continue
			default:
			}
			c.drop(r)
			break
		}
	}
}

// tellEveryone makes every reader verify everyone again.
func (c *changes) tellEveryone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.readers {
		c.drop(r)
	}
}

// drop ends r. The caller holds mu.
func (c *changes) drop(r *reader) {
	delete(c.readers, r)
	close(r.ch)
}

// Changes implements auth.Verifier. It listens from the call on, not only from
// the first step of the iteration, so that nothing is missed between the two.
// The sequence is for one loop; it ends with ctx.
func (r *Registry) Changes(ctx context.Context) iter.Seq2[auth.Change, error] {
	rd := r.changes.subscribe()
	stop := context.AfterFunc(ctx, func() { r.changes.unsubscribe(rd) })
	return func(yield func(auth.Change, error) bool) {
		defer stop()
		defer r.changes.unsubscribe(rd)
		for {
			select {
			case <-ctx.Done():
				return
			case p, ok := <-rd.ch:
				if !ok {
					yield(auth.Change{}, errMissed)
					return
				}
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}
