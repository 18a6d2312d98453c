package registry

import (
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// An Actor is who asks for something, as its face has authenticated it. Nothing
// in it is taken from the request itself.
type Actor struct {
	Principal auth.Principal
	Admin     bool // administrator of the installation
	Address   string
	RequestID string
	Session   string // the id of a person's session; empty for others
	Verified  bool   // the session was proved with a second factor
	// Provider is the sign-in provider that the session came from, and Within the
	// organisation that it is for; both are empty for any other.
	Provider string
	Within   auth.OrgID
}

// mayAdminister checks that a may do what concerns the whole installation.
func (a Actor) mayAdminister() error {
	if !a.Admin {
		return errs.E(errs.Denied, "only an administrator may do this")
	}
	return nil
}

// MayAdminister checks that a may do what concerns the whole installation.
func (a Actor) MayAdminister() error { return a.mayAdminister() }

func noOrg(org auth.OrgID) error {
	return errs.E(errs.NotFound, "organisation %q not found", string(org))
}
