package edge

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"
)

// A Problem is an error for a person: what is wrong and what to do about it.
type Problem struct {
	What string
	Do   string // "" if there is nothing to advise
	Err  error  // the cause; may be nil
}

func (p *Problem) Error() string {
	if p.Err == nil {
		return p.What
	}
	return p.What + ": " + p.Err.Error()
}

func (p *Problem) Unwrap() error { return p.Err }

const askForToken = "make a new enrolment token with: keepmq device enrol TYPE ID"

// unreachable words why a server could not be talked to.
func unreachable(server string, err error, now time.Time) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		dns     *net.DNSError
		dial    *net.OpError
	)
	switch {
	case errors.As(err, &unknown):
		return &Problem{server + " has a certificate that is not signed by an authority in the CA file",
			"give the CA file of this server with --ca; the server prints where it is when it starts", nil}
	case errors.As(err, &name):
		return &Problem{server + " has a certificate for another name", "use a name that the certificate has, or let the server have one for this name", name}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return wrongClock("the certificate of "+server, invalid.Cert, now)
	case errors.As(err, &dns):
		return &Problem{fmt.Sprintf("the name %q cannot be found", dns.Name), "check the address of the server", nil}
	case errors.As(err, &dial) && dial.Op == "dial":
		return &Problem{server + " cannot be reached", "check that the server runs, and its address", dial.Err}
	}
	return fmt.Errorf("talk to %s: %w", server, err)
}

// wrongClock words that a certificate is not valid at the time this device
// believes it is.
func wrongClock(what string, c *x509.Certificate, now time.Time) error {
	return &Problem{
		fmt.Sprintf("%s is valid from %s to %s, and this device's clock says %s",
			what, c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)),
		"set the clock of this device; if it is right, the certificate must be renewed", nil,
	}
}
