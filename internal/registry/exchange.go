package registry

import (
	"context"
	"errors"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/sasl"
)

// Why an exchange is refused. These go to the log only.
var (
	errOver       = errors.New("the exchange is over")
	errLong       = errors.New("the message is too long")
	errOtherUser  = errors.New("CONNECT and the authentication method name two users")
	errActAs      = errors.New("the client asks to act as somebody else")
	errStrayToken = errors.New("a password does not go with an authentication method")
)

// An exchange is an auth.Exchange.
type exchange struct {
	r           *Registry
	credentials auth.Credentials
	next        step // nil: it is over
	asked       bool // the client was asked to begin
}

// A step takes one message of the client and sets next if it expects another.
type step func(ctx context.Context, data []byte) ([]byte, *auth.Grant, error)

// Begin implements auth.Verifier.
func (r *Registry) Begin(ctx context.Context, c auth.Credentials, method string) (auth.Exchange, error) {
	e := &exchange{r: r, credentials: c}
	switch method {
	case auth.MethodSCRAM:
		e.next = e.scramFirst
	case auth.MethodBearer:
		e.next = e.bearer
	default:
		r.log.InfoContext(ctx, "client refused: unknown authentication method", "client", clip(c.ClientID))
		return nil, auth.ErrMethod
	}
	return e, nil
}

// Step implements auth.Exchange.
func (e *exchange) Step(ctx context.Context, data []byte) ([]byte, *auth.Grant, error) {
	next := e.next
	switch {
	case next == nil:
		return nil, nil, e.malformed(ctx, errOver)
	case len(data) > sasl.MaxMessage:
		e.next = nil
		return nil, nil, e.malformed(ctx, errLong)
	case len(data) == 0 && !e.asked:
		e.asked = true // both methods begin with the client (RFC 4422, 3.3)
		return nil, nil, nil
	}
	e.next, e.asked = nil, true
	return next(ctx, data)
}

// malformed refuses what can be refused without asking who the client is.
func (e *exchange) malformed(ctx context.Context, reason error) error {
	cl, _ := parseClaim(e.credentials) // as far as it says anything
	return e.r.refuseMalformed(ctx, e.credentials, cl.principal, reason)
}

// claim returns who the client says it is: its client identifier and the name
// of the method say it, as client identifier and User Name do without one. name
// may be empty if CONNECT has a User Name.
func (e *exchange) claim(ctx context.Context, name, actAs string) (claim, error) {
	c := e.credentials
	switch {
	case c.HasPassword:
		return claim{}, errStrayToken
	case name == "":
		name = actAs
	case actAs != "" && actAs != name:
		return claim{}, errActAs
	}
	if name != "" {
		if c.HasUsername && c.Username != name {
			return claim{}, errOtherUser
		}
		c.Username, c.HasUsername = name, true
	}
	if !c.HasUsername {
		c.Username, c.HasUsername = userDeviceToken, true // a device needs none: its client identifier says it all
	}
	c.HasPassword = true // the method proves what a password would
	cl, err := e.r.readClaim(ctx, c)
	if err == nil && cl.principal.Kind == auth.Person {
		err = errNoClientKey // people have access tokens, and sign in elsewhere
	}
	return cl, err
}
