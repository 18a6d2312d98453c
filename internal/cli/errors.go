package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/keepmq/keepmq/internal/errs"
)

// A usageError is a command that was not understood.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

// A hintError is an error with what to do about it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// hint adds to a message what to do about it.
func hint(advice, format string, a ...any) error {
	return &hintError{fmt.Errorf(format, a...), advice}
}

// A remoteError is a refusal of the server.
type remoteError struct {
	status   int
	message  string
	instance string
}

func (e *remoteError) Error() string { return e.message }

const signInAgain = "sign in with: keepmq login --server https://HOST:8443 --ca CA-FILE (a code is made by: keepmq login --new-code on a computer that is signed in, and printed by the server's first start)"

// explain says what went wrong and what to do next.
func explain(err error) (message, advice string) {
	message = err.Error()
	var (
		u       *usageError
		h       *hintError
		remote  *remoteError
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		dns     *net.DNSError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &u):
		return u.message, u.hint
	case errors.As(err, &h):
		return message, h.hint
	case errors.As(err, &remote):
		return message, remoteAdvice(remote)
	case errors.As(err, &unknown):
		return "the server's certificate is not signed by an authority that you trust",
			"give the server's CA file with --ca FILE; the server prints where it is when it starts"
	case errors.As(err, &name):
		return "the server's certificate is for another name: " + name.Error(),
			"use a name that the certificate has, or let the server have one for this name"
	case errors.As(err, &invalid):
		return "the server's certificate is not valid: " + invalid.Error(), "check the clocks of this computer and of the server"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing answers at the server's address", "is the server running, and is the address right? " + after(message)
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %q cannot be found", dns.Name), "check --server"
	case errors.As(err, &record):
		return "the server's port does not speak TLS", "check --server: the API is on port 8443, MQTT on port 8883"
	case errors.Is(err, context.DeadlineExceeded):
		return "the server did not answer in time", "try again; if it stays so, look at the server's log"
	case errors.Is(err, context.Canceled):
		return "interrupted", ""
	case errors.Is(err, fs.ErrPermission):
		return message, "check the owner and the permissions of that file"
	case errs.CodeOf(err) == errs.Unauthenticated:
		return errs.Message(err), signInAgain
	}
	return message, ""
}

// remoteAdvice says what to do about a refusal of the server.
func remoteAdvice(e *remoteError) string {
	switch e.status {
	case 401:
		return signInAgain
	case 429, 503:
		return "try again in a moment"
	case 500:
		return "the server's log says more under request " + strings.TrimPrefix(e.instance, "urn:uuid:")
	}
	return ""
}

// after returns the cause at the end of a chain of messages.
func after(message string) string {
	i := strings.Index(message, "dial ")
	if i < 0 {
		return ""
	}
	return "(" + message[i:] + ")"
}
