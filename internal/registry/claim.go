package registry

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/secret"
)

// The user names that say what the password is.
const (
	userDeviceToken = "use-token-auth"
	userAccessToken = "use-access-token"
)

// A claim is who a client says it is, and what it presents as proof. It is well
// formed, and not checked.
type claim struct {
	principal auth.Principal // of a person: without an id
	client    string
	hasToken  bool
	token     secret.String
	cert      *x509.Certificate // nil: none
	address   netip.Addr        // where it comes from
}

// Why a claim is refused. These go to the log only.
var (
	errClientID    = errors.New("the client id and the user name do not go together")
	errNoProof     = errors.New("neither a password nor a certificate was presented")
	errServerName  = errors.New("the server name is that of another organisation")
	errOtherName   = errors.New("the certificate is another's")
	errPassword    = errors.New("a password is required")
	errStrayCert   = errors.New("a certificate does not go with this user name")
	errNoClientKey = errors.New("the user name is none of ours")
)

// parseClaim reads credentials. It looks at nothing but them.
func parseClaim(c auth.Credentials) (claim, error) {
	cl, err := claimOf(c)
	cl.address = c.Remote.Addr().Unmap()
	if err != nil {
		return cl, err
	}
	if org, ok := orgOfServerName(c.ServerName); ok && org != cl.principal.Org {
		return cl, errServerName
	}
	return cl, nil
}

func claimOf(c auth.Credentials) (claim, error) {
	if !c.HasUsername {
		c.Username = ""
	}
	if org, ok := nameless(c); ok {
		return claim{principal: auth.Principal{Org: org, Kind: auth.Anonymous}, client: c.ClientID}, nil
	}
	cl := claim{client: c.ClientID, hasToken: c.HasPassword, token: c.Password, cert: c.Certificate}
	if org, name, ok := strings.Cut(c.Username, "/"); ok {
		return claimUser(cl, org, name)
	}
	id, err := profile.ParseClientID(c.ClientID)
	if err != nil {
		return cl, err
	}
	cl.principal = auth.Principal{Org: id.Org, Kind: id.Kind}
	switch id.Kind {
	case auth.Device, auth.Gateway:
		cl.principal.ID = id.Type + ":" + id.ID
		if c.HasUsername && c.Username != userDeviceToken || c.HasPassword && !c.HasUsername {
			return cl, errClientID
		}
		if !cl.hasToken && cl.cert == nil {
			return cl, errNoProof
		}
		return cl, nil
	case auth.Application:
		return claimApplication(cl, c.Username)
	default:
		return cl, errClientID
	}
}

// nameless reads the claim of a client that gives no name: nothing but the
// organisation, as the user name "org/" or in the server name.
func nameless(c auth.Credentials) (auth.OrgID, bool) {
	if c.HasPassword || c.Certificate != nil {
		return "", false
	}
	if !c.HasUsername {
		if _, err := profile.ParseClientID(c.ClientID); err == nil {
			return "", false // it says who it is, and lacks the proof
		}
		return orgOfServerName(c.ServerName)
	}
	s, ok := strings.CutSuffix(c.Username, "/")
	if !ok {
		return "", false
	}
	org, err := auth.ParseOrgID(s)
	return org, err == nil
}

// claimUser reads the claim of a plain user. Its client id is its own affair.
func claimUser(cl claim, org, name string) (claim, error) {
	id, err := auth.ParseOrgID(org)
	if err != nil {
		return cl, err
	}
	if err := checkUserName(name); err != nil {
		return cl, err
	}
	cl.principal = auth.Principal{Org: id, Kind: auth.User, ID: name}
	return cl, onlyToken(cl)
}

// claimApplication reads the claim of an API key, or of a person who works with
// an access token.
func claimApplication(cl claim, username string) (claim, error) {
	if username == userAccessToken {
		cl.principal.Kind = auth.Person
		return cl, onlyToken(cl)
	}
	org, ok := orgOfKey(username)
	if !ok {
		return cl, errNoClientKey
	}
	if org != cl.principal.Org {
		return cl, errClientID
	}
	cl.principal.ID = username
	return cl, onlyToken(cl)
}

// onlyToken checks that cl is proved by a password alone. A certificate is a
// device's: whoever presents one must be that device.
func onlyToken(cl claim) error {
	switch {
	case cl.cert != nil:
		return errStrayCert
	case !cl.hasToken:
		return errPassword
	}
	return nil
}

// orgOfServerName returns the organisation in "{org}.messaging.…".
func orgOfServerName(name string) (auth.OrgID, bool) {
	first, rest, _ := strings.Cut(strings.ToLower(name), ".")
	second, _, _ := strings.Cut(rest, ".")
	if second != "messaging" {
		return "", false
	}
	org, err := auth.ParseOrgID(first)
	return org, err == nil
}
