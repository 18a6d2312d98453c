package broker

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// A Registrar makes known what a client speaks for and is not known yet.
type Registrar interface {
	// Register makes known what stands in a topic, or a filter, of the organisation.
	// With nil the client of ref has another grant.
	Register(ctx context.Context, ref auth.Ref, inTopic string) error
}

// registerPause is how long what was refused to be registered is not asked for
// again on one connection.
const registerPause = 10 * time.Second

// mayRegister reports whether err is the refusal of a topic that the client may
// use once what stands in it is known.
func (b *Broker) mayRegister(grant *auth.Grant, n topic.Name, err error) bool {
	return b.cfg.Registrar != nil && errs.CodeOf(err) == errs.Denied && grant.Registers(n)
}

// register has what stands in the topic of n registered, and resolves it again.
// The caller has paid for it.
func (c *conn) register(n named, name []byte) named {
	now := time.Now()
	if now.UnixNano() < n.notBefore {
		return n
	}
	c.block()
	grant := c.grant.Load()
	if err := c.b.cfg.Registrar.Register(c.ctx, grant.Ref(), n.name.String()); err != nil {
		n.err, n.notBefore = err, now.Add(registerPause).UnixNano()
		if k := c.known; k != nil && k.grant == grant && len(name) <= maxName {
			k.names[string(name)] = n
		}
		return n
	}
	c.log().Info("device registered", "topic", topic.Clip(n.name.String()))
	c.renew(c.ctx)
	return c.resolve(c.grant.Load(), c.limits.Load(), name)
}

// registerFilters registers what a client subscribes for, as far as it may.
func (c *conn) registerFilters(p *mqtt.Subscribe) {
	grant := c.grant.Load()
	if c.b.cfg.Registrar == nil || !grant.Registrar() {
		return
	}
	renew := false
	for i := range p.Subscriptions {
		f, err := topic.ParseFilter(p.Subscriptions[i].Filter)
		if err != nil || !grant.RegistersFilter(f) {
			continue
		}
		c.block()
		if err := c.b.cfg.Registrar.Register(c.ctx, grant.Ref(), f.String()); err == nil {
			renew = true
		}
	}
	if renew {
		c.renew(c.ctx)
	}
}

// postRegistered returns the grant of a client without a connection, and what its
// topic stands for, after what stands in it was registered; err is why that was
// refused before.
func (b *Broker) postRegistered(ctx context.Context, grant *auth.Grant, limits *quota.Limits, s string, err error) (*auth.Grant, error) {
	n, bad := topic.ParseName(s)
	if bad != nil || !b.mayRegister(grant, n, err) {
		return nil, err
	}
	if err := b.cfg.Registrar.Register(ctx, grant.Ref(), s); err != nil {
		return nil, err
	}
	if grant, err = b.cfg.Verifier.Renew(ctx, grant.Ref()); err != nil {
		return nil, err
	}
	_, err = publishName(grant, limits, s)
	return grant, err
}
