package broker

import (
	"context"
	"errors"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// A delayedWill is a will that waits for its time.
type delayedWill struct {
	will  *engine.Will
	timer *time.Timer
}

// willTimeout bounds the publication of one will.
const willTimeout = 10 * time.Second

// A will's message lives for a time from its publication on, which is not known
// before. Until then its Expires holds that time, counted from the Unix epoch.
func willLifetime(expiry mqtt.Opt[uint32]) time.Time {
	s, ok := expiry.Get()
	if !ok {
		return time.Time{}
	}
	return time.Unix(int64(s), 0)
}

// letGo lets go of the session of a connection that has ended, and sees to its will.
func (c *conn) letGo(e ending) {
	if e.lost && !c.ended.Load() {
		return // whoever has the session now has the will too
	}
	ctx, cancel := context.WithTimeout(c.b.life, willTimeout)
	defer cancel()
	will := c.will
	if e.clean || !c.wasAccepted() {
		will = nil // [MQTT-3.14.4-3]; and whoever is not let in has none
	}
	keep := false
	if will != nil {
		will.Closed = time.Now()
		will.Delay = min(will.Delay, c.expiry) // the session's end is the latest [MQTT-3.1.3-9]
		if c.ended.Load() {
			will.Delay = 0
		}
		c.lastWords(ctx)
		keep = will.Delay > 0 || !c.b.publishWillOnce(ctx, will)
	}
	err := c.sess.Close(ctx, engine.Close{Expiry: c.expiry, KeepWill: keep})
	if c.ended.Load() {
		c.settleWill(ctx, will, keep)
		return
	}
	if err != nil {
		if !errors.Is(err, engine.ErrLost) {
			c.log().Error("session was not let go", "err", err)
		}
		return
	}
	if keep {
		c.b.scheduleWill(will)
	}
}

// settleWill sees to the will of a session that the engine has ended. Nobody
// else knows of it, and the engine keeps it until it is dropped.
func (c *conn) settleWill(ctx context.Context, will *engine.Will, due bool) {
	switch {
	case c.will == nil:
	case due:
		c.b.publishWill(ctx, will)
	default: // it was published, or is not to be
		c.b.dropWill(ctx, c.id)
	}
}

// SessionEnded is to be called when a session that nobody holds has ended before
// its time: its will is due. It returns at once.
func (b *Broker) SessionEnded(id engine.SessionID) {
	b.spawn(func() {
		w := b.withdrawWill(id)
		if w == nil {
			return
		}
		ctx, cancel := context.WithTimeout(b.life, willTimeout)
		defer cancel()
		b.publishWill(ctx, w)
	})
}

// lastWords waits until the engine has done with what the client has sent: a
// QoS 2 message is delivered when it is recorded, and the will comes after it.
func (c *conn) lastWords(ctx context.Context) {
	q := &c.replies
	if c.flyers(0, ctx.Done()) != nil {
		return
	}
	for {
		q.mu.Lock()
		busy, settled := q.calls > 0, q.progress()
		q.mu.Unlock()
		if !busy {
			return
		}
		select {
		case <-settled:
		case <-ctx.Done():
			return
		}
	}
}

// publishWillOnce publishes a will if it is still allowed. It reports false if
// it should be tried again; one that goes beyond a limit should not.
func (b *Broker) publishWillOnce(ctx context.Context, w *engine.Will) bool {
	log := b.log.With("org", w.Message.Org, "session", w.Session.Client, "topic", topic.Clip(w.Message.Topic.String()))
	m, handed := w.Message, nothing
	seen := b.changes.Load()
	grant, err := b.cfg.Verifier.Renew(ctx, w.Ref)
	if err == nil {
		// After a start nobody of the organisation may have been here yet.
		tenant, _ := b.tenantOf(grant.Principal())
		b.limitOrg(tenant, grant.OrgLimits(b.cfg.Limits), seen)
		if err = allowWill(grant, w); err == nil {
			handed, err = b.admit(ctx, grant, &m)
		}
	}
	if err != nil {
		// In doubt, no. A check that could not be made may be made later.
		log.Info("will is not published", "code", connectCode(err).String(), "err", err)
		code := errs.CodeOf(err)
		return code != errs.Unavailable && code != errs.Internal
	}
	if !m.Expires.IsZero() {
		m.Expires = time.Now().Add(m.Expires.Sub(time.Unix(0, 0)))
	}
	done := make(chan error, 1)
	b.cfg.Engine.Publish(ctx, &m, func(err error) { done <- err })
	handed()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if l, value, ok := quota.ExceededBy(err); ok {
		// It was refused as any message would be, and nobody tries it again.
		log.Info("will is not published", "code", publishCode(err).String(), "err", err)
		if !errors.Is(err, engine.ErrQueueFull) {
			b.cfg.LimitLog.Add(quota.Event{
				Org: string(m.Org), Principal: w.Ref.Principal.String(), Client: w.Ref.Client,
				Limit: l, Value: value, Outcome: quota.Refused,
			})
		}
		return true
	}
	if err != nil {
		log.Error("will is not published", "err", err)
		return false
	}
	b.metrics.wills.Add(1)
	return true
}

// allowWill checks that the principal may publish the will now.
func allowWill(grant *auth.Grant, w *engine.Will) error {
	if w.Message.Retain && !grant.Retain() {
		return errs.E(errs.Denied, "retain is not available to this client")
	}
	return grant.Allow(auth.Publish, w.Message.Topic)
}

// publishWill publishes a will that is due and has the engine forget it.
func (b *Broker) publishWill(ctx context.Context, w *engine.Will) {
	if !b.publishWillOnce(ctx, w) {
		return // it stays in the engine, for the next start
	}
	b.dropWill(ctx, w.Session)
}

// dropWill has the engine forget a will that is settled.
func (b *Broker) dropWill(ctx context.Context, id engine.SessionID) {
	if err := b.cfg.Engine.DropWill(ctx, id); err != nil {
		b.log.Error("will is settled but not forgotten", "session", id.Client, "err", err)
	}
}

// recoverWills schedules the wills of connections that an earlier run of the
// server left behind.
func (b *Broker) recoverWills(ctx context.Context) error {
	for w, err := range b.cfg.Engine.Wills(ctx) {
		switch {
		case err == nil:
			own := *w
			b.scheduleWill(&own)
		case w == nil || ctx.Err() != nil:
			return err
		default:
			b.unreadableWill(ctx, w.Session, err)
		}
	}
	return nil
}

// unreadableWill sees to a will that cannot be read. If its organisation is gone,
// and the key with it, an earlier run ended before the engine heard of that.
// Otherwise it stays in the engine, for the next start.
func (b *Broker) unreadableWill(ctx context.Context, id engine.SessionID, why error) {
	org := auth.Principal{Org: id.Owner.Org, Kind: auth.AnyKind}
	_, err := b.cfg.Verifier.Renew(ctx, auth.Ref{Principal: org})
	if err != nil && errs.CodeOf(err) == errs.NotFound {
		b.drop(org)
		return
	}
	b.log.Error("will cannot be read and is not published", "org", id.Owner.Org, "session", id.Client, "err", why)
}

// scheduleWill has a will published when its delay is over. If the connection
// was cut by a crash, the delay begins now.
func (b *Broker) scheduleWill(w *engine.Will) {
	delay := w.Delay
	if !w.Closed.IsZero() {
		delay -= time.Since(w.Closed)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining {
		return // the engine has it, for the next start
	}
	b.removeWill(w.Session)
	d := &delayedWill{will: w}
	b.wills[w.Session] = d
	b.tenant(w.Session.Owner.Org).willBytes += willSize(w)
	d.timer = time.AfterFunc(max(delay, 0), func() { b.spawn(func() { b.willDue(d) }) })
}

// willDue publishes a will whose time has come, unless its session went on.
func (b *Broker) willDue(d *delayedWill) {
	b.mu.Lock()
	due := b.wills[d.will.Session] == d
	if due {
		b.removeWill(d.will.Session)
	}
	b.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(b.life, willTimeout)
	defer cancel()
	b.publishWill(ctx, d.will)
}

// withdrawWill takes back the will of a session that waits for its time, or
// returns nil.
func (b *Broker) withdrawWill(id engine.SessionID) *engine.Will {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.wills[id]
	if d == nil {
		return nil
	}
	b.removeWill(id)
	return d.will
}

// removeWill takes a will that waits out of those that do. b.mu is held.
func (b *Broker) removeWill(id engine.SessionID) {
	d := b.wills[id]
	if d == nil {
		return
	}
	d.timer.Stop()
	delete(b.wills, id)
	b.tenant(id.Owner.Org).willBytes -= willSize(d.will)
}

// willSize returns how many bytes a will costs that waits.
func willSize(w *engine.Will) int64 {
	m := &w.Message
	return int64(len(m.Payload) + len(m.Properties) + len(m.Topic.String()) + len(w.Session.Client))
}

// mayLeave checks that another will of an organisation may wait for its time.
func (b *Broker) mayLeave(w *engine.Will, limits *quota.Limits) error {
	most := limits.Get(quota.OrgWillBytes)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tenant(w.Session.Owner.Org).willBytes+willSize(w) > most {
		return quota.Exceeded(quota.OrgWillBytes, most)
	}
	return nil
}
