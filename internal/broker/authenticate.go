package broker

import (
	"errors"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/secret"
)

// maxSteps bounds one exchange of AUTH packets.
const maxSteps = 8

// An enhanced is the enhanced authentication (4.12) that a client asked for in
// CONNECT. With it the client may authenticate again at any time.
type enhanced struct {
	method      string
	credentials auth.Credentials // what CONNECT said beside the method
	last        []byte           // of the exchange: it goes out with CONNACK
	who         string           // how the door knows the client

	mu       sync.Mutex // guards the fields below
	open     bool       // the client is authenticating again
	busy     bool       // the Verifier is at work on its last message
	attempts uint64     // how often it has begun to
	steps    int        // of this attempt
	exchange auth.Exchange
	patience *time.Timer // for this attempt
}

// authenticate finds out who the client is: from CONNECT alone or, if that names
// an authentication method, in an exchange of AUTH packets before CONNACK. The
// exchange is bounded by maxSteps, by preConnect and by the time for CONNECT. who is
// how the door knows the client.
func (c *conn) authenticate(p *mqtt.Connect, client, who string) (*auth.Grant, error) {
	username, hasUsername := p.Username.Get()
	cr := auth.Credentials{
		ClientID: client, HasUsername: hasUsername, Username: username,
		HasPassword: p.Password != nil, Password: secret.New(string(p.Password)),
		Certificate: c.peer.cert, ServerName: c.peer.name, Remote: c.peer.remote,
	}
	method, ok := p.Properties.AuthMethod.Get()
	if !ok {
		return c.b.cfg.Verifier.Verify(c.ctx, cr)
	}
	x, err := c.b.cfg.Verifier.Begin(c.ctx, cr, method)
	if err != nil {
		return nil, err
	}
	c.enhanced = &enhanced{method: method, credentials: cr, who: who}
	data := []byte(p.Properties.AuthData)
	for range maxSteps {
		reply, grant, err := x.Step(c.ctx, data)
		if err != nil {
			return nil, err
		}
		if grant != nil {
			c.enhanced.last = reply
			return grant, nil
		}
		if err := c.challenge(reply); err != nil {
			return nil, err
		}
		if data, err = c.answer(); err != nil {
			return nil, err
		}
	}
	return nil, errTooManySteps
}

var errTooManySteps = errs.E(errs.Unauthenticated, "the authentication takes too many steps")

// answer returns what the client answers to AUTH before CONNACK.
func (c *conn) answer() ([]byte, error) {
	h, body, err := c.next(preConnect)
	if err != nil {
		if !errors.As(err, new(*mqtt.Error)) {
			c.stop(err) // it is gone: there is nobody to answer
			return nil, errEnded
		}
		return nil, err
	}
	switch h.Type {
	case mqtt.AUTH:
		p, err := c.decodeAuth(body)
		if err != nil {
			return nil, err
		}
		if p.Code != mqtt.ContinueAuthentication {
			return nil, protocolError(mqtt.ProtocolError, "auth: must continue the authentication [MQTT-4.12.0-3]")
		}
		return p.Properties.AuthData, nil
	case mqtt.DISCONNECT:
		if _, err := mqtt.DecodeDisconnect(body, c.version); err != nil {
			return nil, err
		}
		c.stop(nil)
		return nil, errEnded
	}
	return nil, protocolError(mqtt.ProtocolError, "only AUTH or DISCONNECT may follow before CONNACK [MQTT-3.1.2-30]")
}

// decodeAuth reads an AUTH, whose method must be that of CONNECT.
func (c *conn) decodeAuth(body []byte) (*mqtt.Auth, error) {
	p, err := mqtt.DecodeAuth(body, c.version)
	if err != nil {
		return nil, err
	}
	if c.enhanced == nil {
		return nil, protocolError(mqtt.ProtocolError, "auth: no authentication method was agreed on in CONNECT [MQTT-4.12.0-7]")
	}
	if method, ok := p.Properties.AuthMethod.Get(); !ok || method != c.enhanced.method {
		return nil, protocolError(mqtt.ProtocolError, "auth: the method must be that of CONNECT [MQTT-4.12.0-5]")
	}
	return p, nil
}

// challenge sends AUTH before CONNACK [MQTT-4.12.0-2]. Nothing else is written so
// early, and the flusher may not look at a connection that is still being made.
func (c *conn) challenge(data []byte) error {
	b, err := c.appendAuth(nil, mqtt.ContinueAuthentication, data)
	if err != nil {
		return err
	}
	if err := c.write(b, time.Time{}); err != nil {
		c.stop(err)
		return errEnded
	}
	return nil
}

// sendAuth sends AUTH after CONNACK.
func (c *conn) sendAuth(code mqtt.ReasonCode, data []byte) error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.end != nil {
		return errEnded
	}
	b, err := c.appendAuth(c.out.take(), code, data)
	if c.out.buf = b; err != nil {
		return err
	}
	c.flushLocked()
	return nil
}

// appendAuth appends AUTH. A client that accepts no packet of that size cannot
// authenticate so.
func (c *conn) appendAuth(dst []byte, code mqtt.ReasonCode, data []byte) ([]byte, error) {
	p := &mqtt.Auth{Code: code}
	p.Properties.AuthMethod = mqtt.Some(c.enhanced.method)
	if len(data) > 0 {
		p.Properties.AuthData = data
	}
	dst, ok := mqtt.AppendWithin(dst, p, c.version, c.clientMax)
	if !ok {
		return dst, protocolError(mqtt.PacketTooLarge, "auth: the client accepts no packet of this size [MQTT-3.1.2-24]")
	}
	return dst, nil
}
