package auth

import (
	"context"
	"crypto/x509"
	"iter"
	"net/netip"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/secret"
)

// The authentication methods of MQTT 5 (4.12) that a Verifier may know.
const (
	MethodSCRAM  = "SCRAM-SHA-256" // RFC 7677: the password is proved and not sent
	MethodBearer = "OAUTHBEARER"   // RFC 7628: a token that somebody else has signed
)

// ErrMethod is how Begin refuses a method that it does not know.
var ErrMethod = errs.E(errs.Unauthenticated, "this authentication method is not supported")

// Credentials are what a client presents at CONNECT. Nothing in them is true
// until a Verifier says so.
type Credentials struct {
	ClientID    string
	HasUsername bool
	Username    string
	HasPassword bool
	Password    secret.String
	Certificate *x509.Certificate // the client's, verified by TLS against our authorities; nil: none
	ServerName  string            // TLS server name indication, or ""
	Remote      netip.AddrPort
}

// An Exchange is a client that is proving who it is, in as many steps as its
// method takes: few, and each bounded. It is not for use by two at a time, holds
// nothing that has to be given back, and is of no use after its end.
type Exchange interface {
	// Step takes the client's next message; data may be empty if the client had
	// none to begin with. A grant ends the exchange: then reply is the last
	// message to the client, and may be empty. A refusal ends it too, with the
	// codes and the silence of Verify: neither its form, nor its cost, nor the
	// step at which it comes tells whether the client exists. Without either,
	// reply goes to the client and Step is called with its answer.
	Step(ctx context.Context, data []byte) (reply []byte, g *Grant, err error)
}

// A Change says whose grants may have changed: the principal's or, if that is of
// AnyKind, those of its organisation.
type Change struct {
	Principal
	// Limits says that the change is one of limits and of nothing else: of those
	// of the organisation or, unless Type is empty, of one device type of it. The
	// principal is of AnyKind then, and Limits of the Verifier tells the rest.
	Limits bool
	Type   string
}

// A Verifier answers who a client is and what it may do. Its refusals carry
// errs.Unauthenticated or errs.Denied; any other error is a check that could not
// be made, which is a refusal too.
type Verifier interface {
	// Verify checks the credentials. The cost of a refusal does not tell why.
	Verify(ctx context.Context, c Credentials) (*Grant, error)

	// Begin begins an exchange of an authentication method, with what the client
	// said of itself beside it. It refuses an unknown method with ErrMethod, and
	// nothing else: whether the client is known turns out at the end.
	Begin(ctx context.Context, c Credentials, method string) (Exchange, error)

	// Renew returns the present grant of a client that was verified before, or
	// a refusal if that principal or that credential is no longer good. The
	// refusal carries errs.NotFound if, and only if, the principal does not exist
	// any more: then what is kept for it must go. With a Ref that has nothing but
	// a principal, Renew is asked that alone and always refuses; a principal of
	// AnyKind stands for its organisation.
	Renew(ctx context.Context, r Ref) (*Grant, error)

	// Limits returns what is set for an organisation or, unless typ is empty, for
	// that device type of it, as grants carry it; nothing for what does not exist.
	Limits(ctx context.Context, org OrgID, typ string) (quota.Limits, error)

	// Changes yields whose grants may have changed, from the call on, not only
	// from the first step of the loop. An error is the last it yields: changes may
	// have been missed. Call again, then renew everyone. The sequence is for one
	// loop and ends with ctx.
	Changes(ctx context.Context) iter.Seq2[Change, error]
}
