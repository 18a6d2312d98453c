package broker

import (
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
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

// A Refused is a CONNECT that the broker itself refused.
type Refused struct {
	Who     auth.Principal // zero: it is not known
	Client  string         // the client identifier, as far as it was read
	Address string
	Reason  RefusedReason
}

// A RefusedReason is why the broker refused a CONNECT.
type RefusedReason uint8

// The reasons.
const (
	RefusedMalformed RefusedReason = iota // it is none, or breaks a rule of MQTT
	RefusedLimit                          // a limit is reached
	RefusedAttempts                       // too many credentials from the address were refused
)

// tellRefused tells of a CONNECT that was refused for another reason than those
// that the Verifier gives. It must not wait.
func (c *conn) tellRefused(err error, code mqtt.ReasonCode) {
	if c.b.cfg.Refused == nil {
		return
	}
	r := Refused{Who: c.id.Owner, Client: c.name, Address: c.peer.remote.Addr().Unmap().String()}
	switch {
	case code == mqtt.QuotaExceeded && c.tenant != nil:
		r.Reason = RefusedLimit
	case code == mqtt.QuotaExceeded:
		r.Reason = RefusedAttempts
	case code == mqtt.ServerBusy, code == mqtt.ServerUnavailable, errs.CodeOf(err) == errs.Unauthenticated, errs.CodeOf(err) == errs.Denied,
		errs.CodeOf(err) == errs.NotFound:
		return
	default:
		r.Reason = RefusedMalformed
	}
	c.b.cfg.Refused(r)
}
