package auth

import (
	"context"
	"crypto/x509"
	"iter"
	"net/netip"

	"github.com/keepmq/keepmq/internal/secret"
)

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

// A Verifier answers who a client is and what it may do. Its refusals carry
// errs.Unauthenticated or errs.Denied; any other error is a check that could not
// be made, which is a refusal too.
type Verifier interface {
	// Verify checks the credentials. The cost of a refusal does not tell why.
	Verify(ctx context.Context, c Credentials) (*Grant, error)

	// Renew returns the present grant of a client that was verified before, or
	// a refusal if that principal or that credential is no longer good. The
	// refusal carries errs.NotFound if, and only if, the principal does not exist
	// any more: then what is kept for it must go. With a Ref that has nothing but
	// a principal, Renew is asked that alone and always refuses; a principal of
	// AnyKind stands for its organisation.
	Renew(ctx context.Context, r Ref) (*Grant, error)

	// Changes yields each principal whose grants may have changed, from the call
	// on, not only from the first step of the loop. An error is the last it
	// yields: changes may have been missed. Call again, then renew everyone. The
	// sequence is for one loop and ends with ctx.
	Changes(ctx context.Context) iter.Seq2[Principal, error]
}
