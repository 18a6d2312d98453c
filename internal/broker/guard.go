package broker

import (
	"context"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
)

// A Guard decides about messages on guarded topics, which a grant allows as far as
// the topic goes. It may wait for the engine.
type Guard interface {
	// Check reports whether m may be published as things are.
	Check(ctx context.Context, m *engine.Message) error
	// Admit is Check when m is published at once. handed is to be called when the
	// engine has been given m; until then nobody else is admitted whom it concerns.
	Admit(ctx context.Context, m *engine.Message) (handed func(), err error)
}

var errUnguarded = errs.E(errs.Denied, "messages on this topic cannot be looked at")

// check asks the Guard about m, where permission is asked.
func (b *Broker) check(ctx context.Context, m *engine.Message) error {
	if b.cfg.Guard == nil {
		return errUnguarded
	}
	return b.cfg.Guard.Check(ctx, m)
}

func nothing() {}

// admit asks the Guard about m, which is published next, if grant says so.
func (b *Broker) admit(ctx context.Context, grant *auth.Grant, m *engine.Message) (handed func(), err error) {
	switch {
	case !grant.Guarded(m.Topic):
		return nothing, nil
	case b.cfg.Guard == nil:
		return nil, errUnguarded
	}
	return b.cfg.Guard.Admit(ctx, m)
}
