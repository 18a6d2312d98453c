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
	// a refusal if that principal or that credential is no longer good.
	Renew(ctx context.Context, r Ref) (*Grant, error)

	// Changes yields each principal whose grants may have changed, from now on.
	// On an error changes may have been missed: renew everyone, then call again.
	Changes(ctx context.Context) iter.Seq2[Principal, error]
}
