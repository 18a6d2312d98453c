package broker

import (
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// A named is what a topic name of the client stands for under one grant.
type named struct {
	name    topic.Name
	err     error // it may not publish there
	guarded bool  // each message is looked at too

	registers bool  // err would be nil if what stands in the topic were known
	notBefore int64 // then: when to ask for that again, in Unix nanoseconds
}

// A known is what a connection knows of the names that it publishes to, for one
// grant and under some limits.
type known struct {
	names  map[string]named
	grant  *auth.Grant
	limits *quota.Limits
}

// The bounds of the names that a connection remembers.
const (
	maxNames = 64
	maxName  = 1 << 10 // bytes of one: longer ones are looked at every time
)

// publish serves PUBLISH: resolve, authorise, charge the quota, store,
// acknowledge, and never in another order.
func (c *conn) publish(h mqtt.Header, body []byte) error {
	p := &c.work.pub
	if err := p.Decode(h.Flags, body, c.version); err != nil {
		return err
	}
	if len(p.SubscriptionIDs) > 0 {
		return protocolError(mqtt.ProtocolError, "publish: a client must not send a subscription identifier [MQTT-3.3.4-6]")
	}
	if p.TopicAlias != 0 {
		if err := c.resolveAlias(p); err != nil {
			return err
		}
	}
	grant := c.grant.Load()
	if p.Retain && !grant.Retain() {
		if c.version >= mqtt.V5 {
			return protocolError(mqtt.RetainNotSupported, "publish: retain is not available to this client [MQTT-3.2.2-14]")
		}
		p.Retain = false
	}
	c.b.metrics.in[p.QoS].Add(1)
	c.sent.Add(1)
	if p.QoS == 0 {
		return c.publishAtMostOnce(grant, p, h.Size())
	}
	r, again, err := c.accept(p)
	if err != nil {
		return err
	}
	if again {
		if err := c.slow(1, h.Size()); err != nil {
			return err
		}
		r.done(nil) // [MQTT-4.3.3-10]
		return nil
	}
	handed, err := c.message(grant, p, h.Size())
	if err != nil {
		r.done(err)
		return nil
	}
	id := p.PacketID
	if p.QoS < 2 || !c.persistent {
		id = 0
	}
	c.takeTurn()
	// Commit point: r.done(nil) means that the message survives a crash.
	c.sess.Publish(c.ctx, &c.work.message, id, r.done)
	c.turn.Unlock()
	handed()
	return nil
}

// publishAtMostOnce passes on a message that nobody is to acknowledge. MQTT 5 has
// no word for its refusal. Before, silence would be a lie: the connection ends.
func (c *conn) publishAtMostOnce(grant *auth.Grant, p *mqtt.Publish, size int) error {
	handed, err := c.message(grant, p, size)
	if err != nil {
		c.messageLost(err)
		if c.version < mqtt.V5 {
			return err
		}
		return nil
	}
	if c.passed == nil {
		c.passed = c.passedOn
	}
	defer handed()
	if int(c.replies.flying.Add(1)) > c.quota {
		if err := c.flyers(c.quota, c.ctx.Done()); err != nil {
			return err
		}
	}
	c.takeTurn()
	c.sess.Publish(c.ctx, &c.work.message, 0, c.passed)
	c.turn.Unlock()
	return nil
}

// takeTurn has the session take the reader's call next.
func (c *conn) takeTurn() {
	if !c.turn.TryLock() {
		c.block()
		c.turn.Lock()
	}
}

var replyTo = [...]mqtt.Type{0, mqtt.PUBACK, mqtt.PUBREC}

// resolveAlias replaces a topic alias by the name, or notes what it stands for
// from now on.
func (c *conn) resolveAlias(p *mqtt.Publish) error {
	if int(p.TopicAlias) > c.b.cfg.TopicAliases {
		return protocolError(mqtt.TopicAliasInvalid, "topic alias: above the Topic Alias Maximum [MQTT-3.3.2-9]")
	}
	if len(p.Topic) > 0 {
		if c.aliases == nil {
			c.aliases = map[uint16]string{}
		}
		if c.aliases[p.TopicAlias] != string(p.Topic) {
			c.aliases[p.TopicAlias] = string(p.Topic)
		}
		return nil
	}
	name, ok := c.aliases[p.TopicAlias]
	if !ok {
		return protocolError(mqtt.ProtocolError, "topic alias: stands for nothing on this connection (3.3.2.3.4)")
	}
	p.Topic = append(p.Topic, name...)
	return nil
}

// accept waits until the engine has caught up with this client, so that what is
// under way is bounded, and charges our Receive Maximum. It returns the answer that
// the client will get, and whether it is a QoS 2 message that was received before.
func (c *conn) accept(p *mqtt.Publish) (r *reply, again bool, err error) {
	q := &c.replies
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.calls >= c.quota || q.bytes > 2*int(c.maxPacket) {
		settled := q.progress()
		q.mu.Unlock()
		c.block()
		select {
		case <-settled:
		case <-c.ctx.Done():
			err = errEnded
		}
		q.mu.Lock()
		if err != nil {
			return nil, false, err
		}
	}
	if p.QoS == 2 {
		switch q.received[p.PacketID] {
		case receiptSent, receiptOld:
			return c.expectLocked(mqtt.PUBREC, p.PacketID, len(p.Payload)), true, nil
		case receiptPending:
			return nil, false, protocolError(mqtt.ProtocolError, "publish: sent twice on one connection [MQTT-4.4.0-1]")
		}
		q.note(p.PacketID, receiptPending)
	}
	if q.quota++; c.version >= mqtt.V5 && q.quota > c.quota {
		return nil, false, protocolError(mqtt.ReceiveMaximumExceeded, "publish: more unacknowledged messages than the Receive Maximum allows [MQTT-3.3.4-7]")
	}
	return c.expectLocked(replyTo[p.QoS], p.PacketID, len(p.Payload)), false, nil
}

// message turns a PUBLISH that is allowed into a message of the organisation, in
// work. handed is to be called when the engine has been given it.
func (c *conn) message(grant *auth.Grant, p *mqtt.Publish, size int) (handed func(), err error) {
	limits := c.limits.Load()
	n := c.resolve(grant, limits, p.Topic)
	c.compose(&n, p)
	if n.err == nil && n.guarded {
		c.block()
		n.err = c.b.check(c.ctx, &c.work.message)
	}
	if n.err != nil {
		if err := c.slow(1, size); err != nil {
			return nil, err
		}
		if n.registers {
			n = c.register(n, p.Topic)
			grant, limits = c.grant.Load(), c.limits.Load()
			c.compose(&n, p)
		}
		if n.err != nil {
			return nil, c.refused(auth.Publish, string(p.Topic), n.err)
		}
	}
	if most := limits.Get(quota.ClientPayload); int64(len(p.Payload)) > most {
		return nil, quota.Exceeded(quota.ClientPayload, most)
	}
	if err := c.charge(limits, size); err != nil {
		return nil, err
	}
	if now := c.grant.Load(); now != grant { // it may have been slowed down for seconds
		if n = c.resolve(now, c.limits.Load(), p.Topic); n.err != nil {
			return nil, c.refused(auth.Publish, string(p.Topic), n.err)
		}
		if p.Retain && !now.Retain() {
			return nil, errs.E(errs.Denied, "retain is not available to this client")
		}
		grant = now
		c.compose(&n, p)
	}
	if s, ok := p.Expiry.Get(); ok {
		c.work.message.Expires = time.Now().Add(time.Duration(s) * time.Second)
	}
	if !n.guarded {
		return nothing, nil
	}
	c.block()
	return c.b.admit(c.ctx, grant, &c.work.message)
}

// compose makes the message in work.
func (c *conn) compose(n *named, p *mqtt.Publish) {
	c.work.message = engine.Message{
		Org: c.id.Owner.Org, Topic: n.name, Payload: p.Payload, Properties: p.Carried,
		QoS: p.QoS, Retain: p.Retain, From: c.id.Owner,
	}
}

// resolve returns the organisation's name for a topic name of the client, and
// whether it may publish there. Neither a grant nor limits ever change, so the
// answer holds as long as they do.
func (c *conn) resolve(grant *auth.Grant, limits *quota.Limits, name []byte) named {
	k := c.known
	if k == nil || k.grant != grant || k.limits != limits || len(k.names) >= maxNames {
		k = &known{map[string]named{}, grant, limits}
		c.known = k
	}
	if n, ok := k.names[string(name)]; ok {
		return n
	}
	var n named
	s := string(name)
	if n.name, n.err = publishName(grant, limits, s); n.err == nil {
		n.guarded = grant.Guarded(n.name)
	} else {
		n.registers = c.b.mayRegister(grant, n.name, n.err)
	}
	if len(s) <= maxName {
		k.names[s] = n
	}
	return n
}

// publishName returns the organisation's name for the client's s, if the grant
// allows to publish there.
func publishName(grant *auth.Grant, limits *quota.Limits, s string) (topic.Name, error) {
	if err := checkLevels(limits, s); err != nil {
		return topic.Name{}, err
	}
	n, err := topic.ParseName(s)
	if err != nil {
		return n, err
	}
	if n, err = grant.Resolve(n); err != nil {
		return n, err
	}
	return n, grant.Allow(auth.Publish, n)
}

// logRefusal logs why a message or a subscription of this client was refused,
// once a second at most: a client must not be able to fill the disk with the
// log. The metrics count all of them.
func (c *conn) logRefusal(what string, code mqtt.ReasonCode, err error, more ...any) {
	now, last := time.Now().Unix(), c.refusalLogged.Load()
	if now == last || !c.refusalLogged.CompareAndSwap(last, now) {
		c.refusalsUnlogged.Add(1)
		return
	}
	c.log().Info(what, append(more, "code", fmt.Sprintf("0x%02X", byte(code)), "err", err, "more_before", c.refusalsUnlogged.Swap(0))...)
}
