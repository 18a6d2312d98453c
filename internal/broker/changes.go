package broker

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/topic"
)

// renewTimeout bounds one question to the Verifier after a change: a check that
// is not made in time is a refusal.
const renewTimeout = 500 * time.Millisecond

// changesPause is the longest pause before listening to changes again. What
// changes meanwhile is heard after it, and decided within a second of it.
const changesPause = 400 * time.Millisecond

// renewers is the number of questions asked at one time.
const renewers = 16

// watchChanges follows the changes of grants, of which the first are in seq.
func (b *Broker) watchChanges(seq iter.Seq2[auth.Change, error]) {
	var pause time.Duration
	for {
		for ch, err := range seq {
			b.changes.Add(1)
			if b.watch.Err() != nil {
				return
			}
			if err != nil {
				b.log.Error("changes of grants may have been missed: asking for all of them", "err", err)
				break
			}
			pause = 0
			b.changed(ch)
		}
		if b.watch.Err() != nil {
			return
		}
		// Listen first, then ask: what happens in between is heard.
		seq = b.cfg.Verifier.Changes(b.watch)
		b.changes.Add(1)
		b.renewAll()
		if !wait(b.watch, pause) {
			return
		}
		pause = min(max(2*pause, 10*time.Millisecond), changesPause)
	}
}

// changed renews everything that a change concerns.
func (b *Broker) changed(ch auth.Change) {
	if ch.Limits {
		b.limitsChanged(ch)
		return
	}
	p := ch.Principal
	b.renew(b.covered(p))
	// The principal may be gone together with the sessions that nobody holds now.
	ctx, cancel := context.WithTimeout(b.life, renewTimeout)
	defer cancel()
	_, err := b.cfg.Verifier.Renew(ctx, auth.Ref{Principal: p})
	if err != nil && errs.CodeOf(err) == errs.NotFound {
		b.drop(p)
	}
}

// drop ends everything that the engine keeps of a principal that is gone.
func (b *Broker) drop(p auth.Principal) {
	b.mu.Lock()
	for id := range b.wills {
		if p.Covers(id.Owner) {
			b.removeWill(id)
		}
	}
	b.mu.Unlock()
	if p.Kind == auth.AnyKind {
		b.cfg.LimitLog.Forget(string(p.Org))
	}
	ctx, cancel := context.WithTimeout(b.life, 10*time.Second)
	defer cancel()
	if err := b.cfg.Engine.Drop(ctx, p); err != nil {
		b.log.Error("sessions were not dropped", "principal", p.String(), "err", err)
	}
}

// renewAll renews every connection.
func (b *Broker) renewAll() {
	b.mu.Lock()
	all := make([]*conn, 0, len(b.sessions))
	for _, c := range b.sessions {
		all = append(all, c)
	}
	b.mu.Unlock()
	b.renew(all)
}

// renew renews connections, as many at a time as there are renewers. A Verifier
// that answers none of them in time is not asked about the rest: they would have
// to wait, and nobody may who is revoked.
func (b *Broker) renew(conns []*conn) {
	ctx, cancel := context.WithCancel(b.life)
	defer cancel()
	var wg sync.WaitGroup
	work := make(chan *conn)
	n := min(renewers, len(conns))
	var unanswered atomic.Int64 // one after the other
	for range n {
		wg.Go(func() {
			for c := range work {
				if c.renew(ctx) {
					unanswered.Store(0)
				} else if unanswered.Add(1) >= int64(n) {
					cancel()
				}
			}
		})
	}
	for _, c := range conns {
		work <- c
	}
	close(work)
	wg.Wait()
}

// renew replaces the grant of a connection by the present one, or ends it. If
// the client authenticates again meanwhile, it is the newer grant that counts,
// and that is asked for. It reports whether the Verifier answered in time.
func (c *conn) renew(ctx context.Context) (answered bool) {
	const attempts = 10
	for range attempts {
		seen := c.b.changes.Load()
		old := c.grant.Load()
		within, cancel := context.WithTimeout(ctx, renewTimeout)
		grant, err := c.b.cfg.Verifier.Renew(within, old.Ref())
		answered = err == nil || within.Err() == nil
		cancel()
		if err != nil {
			if c.grant.Load() != old {
				continue
			}
			c.end(revoked(err))
			return answered
		}
		if !sameClient(old, grant) {
			c.end(ending{code: mqtt.AdministrativeAction, msg: "the client's identity has changed", urgent: true})
			return answered
		}
		if c.swapGrant(old, grant, seen) && c.b.changes.Load() == seen { // from here on it decides
			c.renewed()
			return answered
		}
	}
	c.end(ending{code: mqtt.AdministrativeAction, msg: "the client authenticates too often", urgent: true})
	return answered
}

// renewed has the connection adopt a grant that was renewed.
func (c *conn) renewed() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.end != nil || !c.accepted {
		return // begin will look at the present grant
	}
	c.adoptLater()
}

// adoptLater adopts the grant without keeping the caller waiting. out.mu is held.
func (c *conn) adoptLater() {
	c.wg.Go(func() {
		if err := c.adopt(); err != nil && !errors.Is(err, context.Canceled) {
			c.end(endingOf(err))
		}
	})
}

// revoked says why a connection ends whose grant is not renewed.
func revoked(err error) ending {
	e := ending{code: mqtt.AdministrativeAction, err: err, msg: errs.Message(err), urgent: true}
	if errs.CodeOf(err) == errs.Unauthenticated {
		e.code = mqtt.NotAuthorized
	}
	return e
}

// adopt brings the connection in line with its grant: it ends when the credential
// does, and loses the subscriptions that the grant does not allow.
func (c *conn) adopt() error {
	c.turn.Lock()
	defer c.turn.Unlock()
	grant := c.grant.Load() // the newest, in whatever order adopters come
	c.limitLife(grant.Ref().Expires)
	for k, s := range c.subs.of {
		if grant.AllowFilter(s.Filter) == nil {
			continue
		}
		if _, err := c.sess.Unsubscribe(c.ctx, s.Filter, s.Group); err != nil {
			return err
		}
		c.subs.remove(k)
		c.log().Info("subscription withdrawn", "topic", topic.Clip(s.Filter.String()))
	}
	return nil
}
