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
	name topic.Name
	err  error // it may not publish there
}

// The bounds of the names that a connection remembers.
const (
	maxNames = 64
	maxName  = 1 << 10 // bytes of one: longer ones are looked at every time
)

// publish serves PUBLISH: resolve, authorise, charge the quota, store,
// acknowledge, and never in another order.
func (c *conn) publish(h mqtt.Header, body []byte) error {
	p := &c.pub
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
	if err := c.settle(); err != nil {
		return err
	}
	again, err := c.admit(p)
	if err != nil {
		return err
	}
	if again {
		if err := c.slow(1, h.Size()); err != nil {
			return err
		}
	}
	c.b.metrics.in[p.QoS].Add(1)
	r := c.expect(replyTo[p.QoS], p.PacketID, len(p.Payload))
	if again {
		r.done(nil) // [MQTT-4.3.3-10]
		return nil
	}
	m, err := c.message(grant, p, h.Size())
	if err != nil {
		return c.refuse(r, p, err)
	}
	id := p.PacketID
	if p.QoS < 2 || !c.persistent {
		id = 0
	}
	if !c.turn.TryLock() {
		c.block()
		c.turn.Lock()
	}
	// Commit point: r.done(nil) means that the message survives a crash.
	c.sess.Publish(c.ctx, &m, id, r.done)
	c.turn.Unlock()
	return nil
}

var replyTo = [...]mqtt.Type{0, mqtt.PUBACK, mqtt.PUBREC}

// refuse answers a PUBLISH that is not passed on. MQTT 5 says so in the
// acknowledgement, and has no word for it with QoS 0. Before, an
// acknowledgement would be a lie: the connection ends.
func (c *conn) refuse(r *reply, p *mqtt.Publish, err error) error {
	r.done(err)
	if p.QoS == 0 && c.version < mqtt.V5 {
		return err
	}
	return nil
}

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

// settle waits until the engine has caught up with this client, so that what
// is under way is bounded.
func (c *conn) settle() error {
	q := &c.replies
	for {
		q.mu.Lock()
		busy := q.calls >= c.quota || q.bytes > 2*int(c.maxPacket)
		q.mu.Unlock()
		if !busy {
			return nil
		}
		c.block()
		select {
		case <-q.settled:
		case <-c.ctx.Done():
			return errEnded
		}
	}
}

// admit charges our Receive Maximum, and tells whether a QoS 2 message was
// received before.
func (c *conn) admit(p *mqtt.Publish) (again bool, err error) {
	if p.QoS == 0 {
		return false, nil
	}
	q := &c.replies
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.QoS == 2 {
		switch q.received[p.PacketID] {
		case receiptSent, receiptOld:
			return true, nil
		case receiptPending:
			return false, protocolError(mqtt.ProtocolError, "publish: sent twice on one connection [MQTT-4.4.0-1]")
		}
		q.received[p.PacketID] = receiptPending
	}
	if q.quota++; c.version >= mqtt.V5 && q.quota > c.quota {
		return false, protocolError(mqtt.ReceiveMaximumExceeded, "publish: more unacknowledged messages than the Receive Maximum allows [MQTT-3.3.4-7]")
	}
	return false, nil
}

// message turns a PUBLISH that is allowed into a message of the organisation.
func (c *conn) message(grant *auth.Grant, p *mqtt.Publish, size int) (engine.Message, error) {
	limits := c.limits.Load()
	n := c.resolve(grant, limits, p.Topic)
	if n.err != nil {
		if err := c.slow(1, size); err != nil {
			return engine.Message{}, err
		}
		return engine.Message{}, n.err
	}
	if most := limits.Get(quota.ClientPayload); int64(len(p.Payload)) > most {
		return engine.Message{}, quota.Exceeded(quota.ClientPayload, most)
	}
	if err := c.charge(limits, size); err != nil {
		return engine.Message{}, err
	}
	if now := c.grant.Load(); now != grant { // it may have been slowed down for seconds
		if n = c.resolve(now, c.limits.Load(), p.Topic); n.err != nil {
			return engine.Message{}, n.err
		}
		if p.Retain && !now.Retain() {
			return engine.Message{}, errs.E(errs.Denied, "retain is not available to this client")
		}
	}
	m := engine.Message{
		Org: c.id.Owner.Org, Topic: n.name, Payload: p.Payload, Properties: p.Carried,
		QoS: p.QoS, Retain: p.Retain, From: c.id.Owner,
	}
	if s, ok := p.Expiry.Get(); ok {
		m.Expires = time.Now().Add(time.Duration(s) * time.Second)
	}
	return m, nil
}

// resolve returns the organisation's name for a topic name of the client, and
// whether it may publish there. Neither a grant nor limits ever change, so the
// answer holds as long as they do.
func (c *conn) resolve(grant *auth.Grant, limits *quota.Limits, name []byte) named {
	if c.namesFor != grant || c.namesUnder != limits || len(c.names) >= maxNames {
		c.names, c.namesFor, c.namesUnder = map[string]named{}, grant, limits
	}
	if n, ok := c.names[string(name)]; ok {
		return n
	}
	var n named
	s := string(name)
	n.name, n.err = publishName(grant, limits, s)
	if len(s) <= maxName {
		c.names[s] = n
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
	c.log.Info(what, append(more, "code", fmt.Sprintf("0x%02X", byte(code)), "err", err, "more_before", c.refusalsUnlogged.Swap(0))...)
}
