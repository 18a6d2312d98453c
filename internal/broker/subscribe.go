package broker

import (
	"iter"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// A subKey names a subscription of a session.
type subKey struct{ filter, group string }

func keyOf(s *engine.Subscription) subKey { return subKey{s.Filter.String(), s.Group} }

// A subscriptions is what a session subscribes to.
type subscriptions struct {
	of    map[subKey]engine.Subscription
	bytes int // of their names
}

func (s *subscriptions) put(sub engine.Subscription) {
	k := keyOf(&sub)
	if _, known := s.of[k]; !known {
		s.bytes += k.size()
	}
	if s.of == nil {
		s.of = map[subKey]engine.Subscription{}
	}
	s.of[k] = sub
}

func (s *subscriptions) remove(k subKey) {
	if _, known := s.of[k]; known {
		s.bytes -= k.size()
		delete(s.of, k)
	}
}

func (k subKey) size() int { return len(k.filter) + len(k.group) }

// The names of a session's subscriptions may have so many bytes for each one that
// it may have, or leastNames if it may have few.
const (
	bytesOfName = 256
	leastNames  = 128 << 10
)

// A retainedJob is a subscription whose retained messages are to be sent.
type retainedJob struct {
	sub    engine.Subscription
	queued bool            // those with a QoS above 0 are in the session's queue
	first  *engine.Message // valid until next is called
	next   func() (*engine.Message, error, bool)
	stop   func() // must be called; nil: they were not looked at yet
}

// The bounds of what waits for retained messages on one connection.
const (
	// maxOpened bounds the retained messages that are looked at before SUBACK:
	// each subscription keeps a view of the store open until its messages are out.
	maxOpened = 16
	// maxJobs is how many subscriptions may wait above client.subscriptions: who
	// subscribes again to the same waits twice.
	maxJobs = 1000
)

// subscribe serves SUBSCRIBE.
func (c *conn) subscribe(body []byte) error {
	p, err := mqtt.DecodeSubscribe(body, c.version)
	if err != nil {
		return err
	}
	if err := c.slow(len(p.Subscriptions), len(body)); err != nil {
		return err
	}
	c.registerFilters(p)
	// Live messages wait until the retained ones are out, so that an old
	// retained message never follows a newer one.
	c.out.mu.Lock()
	c.out.hold++
	c.out.mu.Unlock()
	ack := &mqtt.Suback{PacketID: p.PacketID, Codes: make([]mqtt.ReasonCode, len(p.Subscriptions))}
	jobs, err := c.subscribeAll(p, ack)
	if err != nil {
		return err // the connection ends: nobody waits for the hold
	}
	if err := c.mayWait(len(jobs)); err != nil {
		return err
	}
	jobs, err = c.openRetained(jobs)
	if err != nil {
		return err
	}
	if !c.answerSubscribe(ack, jobs) {
		stopAll(jobs)
	}
	return nil
}

// answerSubscribe sends SUBACK and sees to it that the retained messages follow.
// It reports false if they do not.
func (c *conn) answerSubscribe(ack *mqtt.Suback, jobs []retainedJob) bool {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	c.sendLocked(ack)
	switch {
	case len(jobs) == 0 || o.end != nil:
		c.releaseLocked()
		return false
	case o.retaining:
		o.hold-- // the one at work holds already
	default:
		o.retaining = true
		c.wg.Go(c.sendRetained)
	}
	o.jobs = append(o.jobs, jobs...)
	for i := range jobs {
		if jobs[i].stop != nil {
			o.opened++
		}
	}
	return true
}

// mayWait checks that n more subscriptions may wait for their retained messages.
func (c *conn) mayWait(n int) error {
	limits := c.limits.Load()
	c.out.mu.Lock()
	have := len(c.out.jobs)
	c.out.mu.Unlock()
	most := limits.Get(quota.ClientSubscriptions)
	if int64(have+n) <= most+maxJobs {
		return nil
	}
	c.noteLimit(quota.ClientSubscriptions, most, quota.Ended, 1)
	return protocolError(mqtt.QuotaExceeded, "the retained messages of too many subscriptions wait to be read")
}

// subscribeAll makes the subscriptions that are allowed and writes the answer.
func (c *conn) subscribeAll(p *mqtt.Subscribe, ack *mqtt.Suback) ([]retainedJob, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	grant := c.grant.Load() // under turn: whoever adopts a narrower one comes before or after
	limits := c.limits.Load()
	most := limits.Get(quota.ClientSubscriptions)
	var subs []engine.Subscription
	var at []int
	fresh, bytes := map[subKey]bool{}, c.subs.bytes
	mostBytes := max(most*bytesOfName, leastNames)
	for i := range p.Subscriptions {
		s, err := subscription(grant, limits, &p.Subscriptions[i], p.SubscriptionID)
		k := keyOf(&s)
		if _, known := c.subs.of[k]; err == nil && !known && !fresh[k] {
			if int64(len(c.subs.of)+len(fresh)) >= most || int64(bytes+k.size()) > mostBytes {
				err = quota.Exceeded(quota.ClientSubscriptions, most)
			} else {
				fresh[k] = true
				bytes += k.size()
			}
		}
		if err != nil {
			c.refuseFilter(p.Subscriptions[i].Filter, c.refused(auth.Subscribe, p.Subscriptions[i].Filter, err), i, ack)
			continue
		}
		s.Retained = retainedWhen(p.Subscriptions[i].RetainHandling)
		subs, at = append(subs, s), append(at, i)
	}
	if len(subs) == 0 {
		return nil, nil
	}
	became, err := c.sess.Subscribe(c.ctx, subs)
	if _, _, full := quota.ExceededBy(err); full {
		if subs, at = c.refuseNew(p, ack, subs, at, err); len(subs) == 0 {
			return nil, nil
		}
		became, err = c.sess.Subscribe(c.ctx, subs)
	}
	if err != nil {
		if c.ctx.Err() != nil {
			return nil, errEnded
		}
		if became != nil {
			return nil, err // it must not look as if there were no retained messages
		}
		for _, i := range at {
			c.refuseFilter(p.Subscriptions[i].Filter, c.refused(auth.Subscribe, p.Subscriptions[i].Filter, err), i, ack)
		}
		return nil, nil
	}
	var jobs []retainedJob
	c.awaitRetained(became)
	for k, s := range subs {
		i := at[k]
		ack.Codes[i] = mqtt.ReasonCode(s.QoS)
		when, r := s.Retained, &became[k]
		s.Retained = engine.RetainedNever
		c.subs.put(s)
		if r.LeftOut > 0 {
			c.b.metrics.retainedLeftOut.Add(uint64(r.LeftOut))
			c.log().Info("the queue has no room for retained messages", "topic", topic.Clip(s.Filter.String()), "count", r.LeftOut)
		}
		wanted := when == engine.RetainedAlways || when == engine.RetainedIfNew && !r.Existed
		if s.Group == "" && wanted && (!r.Queued || r.Direct > 0) {
			jobs = append(jobs, retainedJob{sub: s, queued: r.Queued})
		}
	}
	return jobs, nil
}

// refuseNew refuses the subscriptions that are not there yet, and returns the
// others: those may be replaced though the organisation may have no more.
func (c *conn) refuseNew(p *mqtt.Subscribe, ack *mqtt.Suback, subs []engine.Subscription, at []int, err error) (known []engine.Subscription, places []int) {
	for k, i := range at {
		if _, ok := c.subs.of[keyOf(&subs[k])]; ok {
			known, places = append(known, subs[k]), append(places, i)
		} else {
			c.refuseFilter(p.Subscriptions[i].Filter, c.refused(auth.Subscribe, p.Subscriptions[i].Filter, err), i, ack)
		}
	}
	return known, places
}

// awaitRetained has live messages wait for the retained ones that were queued.
func (c *conn) awaitRetained(became []engine.Subscribed) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range became {
		if last := became[i].Last; last > o.cursor {
			o.retained = max(o.retained, last)
		}
	}
}

// retainedWhen returns what the engine is asked for by a Retain Handling.
func retainedWhen(handling byte) engine.RetainedWhen {
	switch handling {
	case mqtt.RetainSend:
		return engine.RetainedAlways
	case mqtt.RetainSendIfNew:
		return engine.RetainedIfNew
	}
	return engine.RetainedNever
}

func (c *conn) refuseFilter(filter string, err error, i int, ack *mqtt.Suback) {
	ack.Codes[i] = subscribeCode(err)
	if msg := errs.Message(err); msg != "" && c.problemInfo {
		ack.ReasonString = reason(msg)
	}
	c.b.metrics.subscribeRefused.Add(1)
	c.noteRefusal(err)
	c.logRefusal("subscription refused", ack.Codes[i], err, "topic", topic.Clip(filter))
}

// subscription turns one entry of a SUBSCRIBE into a subscription that the
// grant allows.
func subscription(grant *auth.Grant, limits *quota.Limits, s *mqtt.Subscription, id uint32) (engine.Subscription, error) {
	if err := checkLevels(limits, s.Filter); err != nil {
		return engine.Subscription{}, err
	}
	f, group, err := clientFilter(grant, s.Filter)
	if err != nil {
		return engine.Subscription{}, err
	}
	if err := grant.AllowFilter(f); err != nil {
		return engine.Subscription{}, err
	}
	return engine.Subscription{
		Filter: f, Group: group, QoS: s.QoS, NoLocal: s.NoLocal && group == "",
		RetainAsPublished: s.RetainAsPublished, ID: id,
	}, nil
}

// clientFilter returns the organisation's filter and the group for a filter as
// the client writes it. Clients that share all subscriptions have one group.
func clientFilter(grant *auth.Grant, s string) (f topic.Filter, group string, err error) {
	group, f, _, err = topic.ParseShared(s)
	if err != nil {
		return f, "", err
	}
	if g := grant.Shared(); g != "" {
		group = g
	}
	f, err = grant.ResolveFilter(f)
	return f, group, err
}

// unsubscribe serves UNSUBSCRIBE.
func (c *conn) unsubscribe(body []byte) error {
	p, err := mqtt.DecodeUnsubscribe(body, c.version)
	if err != nil {
		return err
	}
	if err := c.slow(len(p.Filters), len(body)); err != nil {
		return err
	}
	ack := &mqtt.Unsuback{PacketID: p.PacketID, Codes: make([]mqtt.ReasonCode, len(p.Filters))}
	for i, s := range p.Filters {
		f, group, err := clientFilter(c.grant.Load(), s)
		if err != nil {
			ack.Codes[i] = mqtt.TopicFilterInvalid
			continue
		}
		existed, err := c.withdraw(f, group)
		switch {
		case err != nil && c.version < mqtt.V5:
			return err // an UNSUBACK would say that it is gone
		case err != nil:
			ack.Codes[i] = mqtt.UnspecifiedError
		case !existed:
			ack.Codes[i] = mqtt.NoSubscriptionExisted
		}
	}
	c.send(ack)
	return nil
}

// withdraw ends one subscription.
func (c *conn) withdraw(f topic.Filter, group string) (existed bool, err error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	existed, err = c.sess.Unsubscribe(c.ctx, f, group)
	if err == nil {
		c.subs.remove(subKey{f.String(), group})
	}
	return existed, err
}

// subscribed reports whether a subscription is still there.
func (c *conn) subscribed(s *engine.Subscription) bool {
	c.turn.Lock()
	defer c.turn.Unlock()
	_, ok := c.subs.of[keyOf(s)]
	return ok
}

// openRetained looks at the retained messages of new subscriptions, so that what
// is published after SUBACK is not among them: it arrives live, and only so.
// What it returns has messages, or was not looked at.
func (c *conn) openRetained(jobs []retainedJob) ([]retainedJob, error) {
	some := jobs[:0]
	c.out.mu.Lock()
	opened := c.out.opened // nobody else adds to them
	c.out.mu.Unlock()
	for _, job := range jobs {
		if opened < maxOpened {
			next, stop := iter.Pull2(c.b.cfg.Engine.Retained(c.ctx, c.id.Owner.Org, job.sub.Filter))
			m, err, ok := next()
			if !ok || err != nil {
				stop()
				if c.ctx.Err() != nil {
					err = errEnded
				}
				if err != nil {
					stopAll(some)
					return nil, err // it must not look as if there were none
				}
				continue
			}
			job.first, job.next, job.stop = m, next, stop
			opened++
		}
		some = append(some, job)
	}
	return some, nil
}

func stopAll(jobs []retainedJob) {
	for i := range jobs {
		if jobs[i].stop != nil {
			jobs[i].stop()
		}
	}
}

// sendRetained sends the retained messages of new subscriptions, as fast as the
// client takes them, and then lets live ones pass again.
func (c *conn) sendRetained() {
	o := &c.out
	for {
		o.mu.Lock()
		if len(o.jobs) == 0 || o.end != nil {
			left := o.jobs
			o.jobs = nil
			o.retaining = false
			c.releaseLocked()
			o.mu.Unlock()
			stopAll(left)
			return
		}
		job := o.jobs[0]
		o.jobs = o.jobs[1:]
		if job.stop != nil {
			o.opened--
		}
		o.mu.Unlock()
		if job.stop == nil {
			job.next, job.stop = iter.Pull2(c.b.cfg.Engine.Retained(c.ctx, c.id.Owner.Org, job.sub.Filter))
		}
		c.sendRetainedOf(&job)
		job.stop()
	}
}

// sendRetainedOf sends the retained messages of one subscription.
func (c *conn) sendRetainedOf(job *retainedJob) {
	if !c.subscribed(&job.sub) {
		return
	}
	if job.first != nil && !c.sendOneRetained(job.first, job) {
		return
	}
	for {
		m, err, ok := job.next()
		if err != nil {
			c.end(endingOf(err)) // it must not look as if there were none
			return
		}
		if !ok || !c.sendOneRetained(m, job) {
			return
		}
	}
}

// sendOneRetained sends one retained message, unless it is queued, when there is
// room for it. It reports false if the connection ends.
func (c *conn) sendOneRetained(m *engine.Message, job *retainedJob) bool {
	d := engine.Delivery{QoS: min(m.QoS, job.sub.QoS), Retain: true} // [MQTT-3.3.1-8]
	if job.queued && d.QoS > 0 {
		return true
	}
	if job.sub.ID != 0 {
		d.IDs = []uint32{job.sub.ID}
	}
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	blocked := func() bool {
		return o.backlog() >= c.maxOutbound() || d.QoS > 0 && (o.inflight.len() >= c.window || len(o.pending) > 0)
	}
	if o.end == nil && blocked() {
		t := time.AfterFunc(c.b.cfg.WriteTimeout, func() {
			c.end(ending{code: mqtt.QuotaExceeded, msg: "retained messages were not acknowledged in time", urgent: true})
		})
		for o.end == nil && blocked() {
			o.room.Wait()
		}
		t.Stop()
	}
	if o.end != nil {
		return false
	}
	if d.QoS == 0 {
		c.writeLocked(m, &d, 0, false)
	} else {
		c.sendVolatileLocked(m, &d)
	}
	return true
}

// releaseLocked takes back one hold; with the last, what waited goes out.
func (c *conn) releaseLocked() {
	o := &c.out
	if o.hold--; o.hold > 0 || o.end != nil {
		return
	}
	c.releaseHeldLocked()
	c.kickLocked()
}

// releaseHeldLocked sends what waited, if nothing is in its way any more.
func (c *conn) releaseHeldLocked() {
	o := &c.out
	if o.hold > 0 || o.retained > 0 {
		return
	}
	held := o.held
	o.held = nil
	for i := range held {
		o.waiting -= held[i].size()
		c.deliverLocked(&held[i].m, held[i].d)
	}
}
