package broker

import (
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/refusal"
)

// refused notes that the client may not do what it asked for with a topic, and
// returns err with the number under which its owner learns why. Other errors it
// returns as they are.
func (c *conn) refused(a auth.Action, topic string, err error) error {
	if err == nil || c.b.cfg.Refusals == nil || errs.CodeOf(err) != errs.Denied {
		return err
	}
	id := c.b.cfg.Refusals.Note(refusal.Refusal{
		Org: string(c.id.Owner.Org), Principal: c.id.Owner.String(), Client: c.name, Action: a.String(), Topic: topic, Reason: errs.Message(err),
	})
	return errs.Wrap(errs.Denied, err, errs.Message(err)+" (refusal "+id+")")
}
