package broker

import (
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// endUnproved ends who began to authenticate again and did not finish.
var endUnproved = ending{code: mqtt.NotAuthorized, msg: "the authentication took too long", urgent: true}

// reauthenticate serves AUTH after CONNACK: the client proves again who it is
// (4.12.1). Its other packets are served meanwhile, under the grant it has; the
// Verifier is asked in another goroutine. What the client may do changes only
// with success. Every other end of the exchange ends the connection
// [MQTT-4.12.1-2].
func (c *conn) reauthenticate(body []byte) error {
	p, err := c.decodeAuth(body)
	if err != nil {
		return err
	}
	if err := c.slow(1, len(body)); err != nil {
		return err
	}
	e := c.enhanced
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.busy:
		return protocolError(mqtt.ProtocolError, "auth: the one before has not been answered (4.12)")
	case p.Code == mqtt.Reauthenticate && !e.open:
		e.open, e.steps, e.exchange = true, 0, nil
		e.attempts++
		attempt := e.attempts
		e.patience = time.AfterFunc(c.b.cfg.ConnectTimeout, func() { c.unproved(attempt) })
	case p.Code == mqtt.ContinueAuthentication && e.open:
	default:
		return protocolError(mqtt.ProtocolError, "auth: out of order (4.12)")
	}
	if e.steps++; e.steps > maxSteps {
		return errTooManySteps
	}
	e.busy = true
	x, data := e.exchange, []byte(p.Properties.AuthData)
	c.wg.Go(func() {
		if err := c.prove(x, data); err != nil {
			c.peer.judge(e.who, err) // it may have guessed
			why := endingOf(err)
			why.urgent = true
			c.end(why)
		}
	})
	return nil
}

// unproved ends the connection if that attempt is still under way.
func (c *conn) unproved(attempt uint64) {
	e := c.enhanced
	e.mu.Lock()
	late := e.open && e.attempts == attempt
	e.mu.Unlock()
	if late {
		c.end(endUnproved)
	}
}

// prove takes one step of an exchange, which begins if it is nil.
func (c *conn) prove(x auth.Exchange, data []byte) (err error) {
	e := c.enhanced
	if x == nil {
		if x, err = c.b.cfg.Verifier.Begin(c.ctx, e.credentials, e.method); err != nil {
			return err
		}
	}
	seen := c.b.changes.Load()
	reply, grant, err := x.Step(c.ctx, data)
	if err != nil {
		return err
	}
	code := mqtt.ContinueAuthentication
	if grant != nil {
		if err := c.replaceGrant(grant, seen); err != nil {
			return err
		}
		code, x = mqtt.Success, nil
	}
	e.mu.Lock()
	e.exchange, e.open = x, x != nil
	e.busy = false // before the client can know: its next AUTH may be here at once
	if !e.open {
		e.patience.Stop()
	}
	e.mu.Unlock()
	return c.sendAuth(code, reply)
}

// replaceGrant puts the grant of a client that has authenticated again in the
// place of the one before. seen is how many changes were known before the
// Verifier was asked.
func (c *conn) replaceGrant(grant *auth.Grant, seen uint64) error {
	old := c.grant.Load()
	if end := grant.Ref().Expires; !end.IsZero() && !time.Now().Before(end) {
		return errs.E(errs.Unauthenticated, "the credential has expired")
	}
	if !sameClient(old, grant) || old.Ref().UID != grant.Ref().UID {
		return errs.E(errs.Unauthenticated, "the client must stay who it is")
	}
	c.setGrant(grant, seen) // from here on it decides
	if c.will != nil {
		c.will.Ref = grant.Ref() // finish reads it when this goroutine is done
	}
	if c.b.changes.Load() != seen {
		// A change that came before the store asked for the grant before.
		c.renew(c.b.life)
	}
	return c.adopt()
}

// sameClient reports whether a connection may go on with another grant.
func sameClient(old, grant *auth.Grant) bool {
	return grant.Principal() == old.Principal() && grant.Shared() == old.Shared() &&
		grant.Separate() == old.Separate() && grant.Ref().Client == old.Ref().Client
}

// stopAuthenticating stops the clock of an exchange that was not finished.
func (c *conn) stopAuthenticating() {
	if c.enhanced == nil {
		return
	}
	c.enhanced.mu.Lock()
	defer c.enhanced.mu.Unlock()
	stopTimer(c.enhanced.patience)
	c.enhanced.open, c.enhanced.exchange = false, nil
}
