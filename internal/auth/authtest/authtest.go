// Package authtest is the contract test of an auth.Verifier. Every
// implementation runs it on itself.
package authtest

import (
	"context"
	"crypto/x509"
	"regexp"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/quota"
)

// A World is a Verifier with what the test needs to make clients for it. It has
// two iot-2 organisations, number 0 and number 1.
type World struct {
	Verifier auth.Verifier

	// Kinds are the kinds of clients that Add makes: some of Device, Gateway and
	// Application.
	Kinds []auth.Kind

	// Add makes a client in an organisation. name is its id; a device or
	// gateway has the same type in both organisations, an application's client
	// identifier is "a:org:name".
	Add func(ctx context.Context, kind auth.Kind, org int, name string) (Client, error)

	// DisableOrg and DeleteOrg change a whole organisation.
	DisableOrg, DeleteOrg func(ctx context.Context, org int) error

	// SetLimits sets what an organisation may use, or its devices of a type if typ
	// is not empty. The types are those of the clients that Add makes.
	SetLimits func(ctx context.Context, org int, typ string, l quota.Limits) error

	// Break makes what the Verifier depends on fail until repair is called, and
	// changes be missed. nil: it depends on nothing.
	Break func() (repair func())
}

// A Client is a client that a World knows.
type Client struct {
	Principal   auth.Principal
	Credentials auth.Credentials // a user name and the token, which are good

	// Certificate returns a certificate that is good for the client. nil: its
	// kind uses none.
	Certificate func(context.Context) (*x509.Certificate, error)

	// Disable, Rotate (of the token) and Delete return when the change is made.
	Disable, Rotate, Delete func(context.Context) error
}

// soon is how long a change may take to be heard.
const soon = time.Second

// Run tests the verifiers that open makes, one for each clause of the contract.
func Run(t *testing.T, open func(t *testing.T) World) {
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := c.check(ctx, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// number is that of a refusal, which stands for the client and not for the reason.
var number = regexp.MustCompile(` \(refusal [a-z0-9]+\)`)

// Bare returns what a refusal says without its number.
func Bare(refusal string) string { return number.ReplaceAllString(refusal, "") }

// A clause is one part of the contract. Its check returns how it is broken.
type clause struct {
	name  string
	check func(context.Context, World) error
}

var clauses = []clause{
	{"accepts", accepts},
	{"wrong token", wrongToken},
	{"wrong user name", wrongUsername},
	{"unknown name", unknownName},
	{"malformed client id", malformed},
	{"another's token", anothersToken},
	{"refusals are alike", alike},
	{"server name", serverName},
	{"certificate", certificate},
	{"disable", disable},
	{"rotate", rotate},
	{"delete", remove},
	{"disable organisation", disableOrg},
	{"delete organisation", deleteOrg},
	{"invented reference", invented},
	{"no change is lost", noneLost},
	{"several listeners", several},
	{"changes end", changesEnd},
	{"limits", limits},
	{"broken", broken},
	{"unknown method", unknownMethod},
	{"password is proved", provesPassword},
	{"unknown name runs on", unknownRunsOn},
	{"bad proofs", badProofs},
	{"changed during an exchange", changedExchange},
	{"broken exchange", brokenExchange},
}
