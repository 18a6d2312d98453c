package broker

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// renewTimeout bounds one question to the Verifier after a change: a check that
// is not made in time is a refusal.
const renewTimeout = 500 * time.Millisecond

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
		pause = min(max(2*pause, 10*time.Millisecond), time.Second)
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
	for id, w := range b.wills {
		if p.Covers(id.Owner) {
			w.timer.Stop()
			delete(b.wills, id)
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

func (b *Broker) renew(conns []*conn) {
	var wg sync.WaitGroup
	work := make(chan *conn)
	for range min(renewers, len(conns)) {
		wg.Go(func() {
			for c := range work {
				c.renew()
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
// and that is asked for.
func (c *conn) renew() {
	const attempts = 10
	for range attempts {
		seen := c.b.changes.Load()
		old := c.grant.Load()
		ctx, cancel := context.WithTimeout(c.b.life, renewTimeout)
		grant, err := c.b.cfg.Verifier.Renew(ctx, old.Ref())
		cancel()
		if err != nil {
			if c.grant.Load() != old {
				continue
			}
			c.end(revoked(err))
			return
		}
		if !sameClient(old, grant) {
			c.end(ending{code: mqtt.AdministrativeAction, msg: "the client's identity has changed", urgent: true})
			return
		}
		if c.swapGrant(old, grant, seen) && c.b.changes.Load() == seen { // from here on it decides
			c.renewed()
			return
		}
	}
	c.end(ending{code: mqtt.AdministrativeAction, msg: "the client authenticates too often", urgent: true})
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
	for k, s := range c.subs {
		if grant.AllowFilter(s.Filter) == nil {
			continue
		}
		if _, err := c.sess.Unsubscribe(c.ctx, s.Filter, s.Group); err != nil {
			return err
		}
		delete(c.subs, k)
		c.log.Info("subscription withdrawn", "topic", s.Filter.String())
	}
	return nil
}
