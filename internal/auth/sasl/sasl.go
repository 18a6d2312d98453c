// Package sasl reads and writes the messages of two authentication mechanisms:
// SCRAM-SHA-256 (RFC 5802, RFC 7677) and OAUTHBEARER (RFC 7628), on the side of
// the server.
//
// It is pure: it knows the form of a message and the arithmetic of a proof. It
// does not know who exists, and never decides whom to let in. Channel binding is
// not offered: a client that asks for it is refused.
package sasl

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
)

// MaxMessage bounds one message of a client. A signed token of an identity
// provider has some thousand bytes.
const MaxMessage = 16 << 10

// Why a message is refused. Nothing of the message is repeated.
var (
	errLong      = errors.New("the message is too long")
	errHeader    = errors.New("the message does not begin with n,, or y,, or a name between the commas")
	errBinding   = errors.New("channel binding is not offered")
	errName      = errors.New("the name is not well formed")
	errForm      = errors.New("the message is not well formed")
	errMandatory = errors.New("the message asks for an extension that is not known")
)

// header reads the GS2 header (RFC 5801, 4): the channel binding flag and the
// name to act as. It returns what is left of the message, and the header itself.
func header(msg string) (authzid, gs2, rest string, err error) {
	flag, rest, ok := strings.Cut(msg, ",")
	name, rest, also := strings.Cut(rest, ",")
	switch {
	case strings.HasPrefix(flag, "p="):
		return "", "", "", errBinding
	case !ok, !also, flag != "n" && flag != "y":
		return "", "", "", errHeader
	}
	if name != "" {
		encoded, ok := strings.CutPrefix(name, "a=")
		if !ok {
			return "", "", "", errHeader
		}
		if authzid, err = decodeName(encoded); err != nil {
			return "", "", "", err
		}
	}
	return authzid, msg[:len(msg)-len(rest)], rest, nil
}

// decodeName decodes a name, in which =2C stands for a comma and =3D for an
// equals sign, and prepares it with SASLprep (RFC 5802, 5.1).
func decodeName(s string) (string, error) {
	if s == "" || !utf8.ValidString(s) || strings.ContainsAny(s, "\x00,") {
		return "", errName
	}
	var b strings.Builder
	for {
		plain, rest, found := strings.Cut(s, "=")
		b.WriteString(plain)
		if !found {
			name, err := Prepare(b.String())
			if err != nil || name == "" {
				return "", errName
			}
			return name, nil
		}
		switch {
		case strings.HasPrefix(rest, "2C"):
			b.WriteByte(',')
		case strings.HasPrefix(rest, "3D"):
			b.WriteByte('=')
		default:
			return "", errName
		}
		s = rest[2:]
	}
}

// ErrPrepare says that a text contains what SASLprep prohibits.
var ErrPrepare = errors.New("the text contains what SASLprep (RFC 4013) prohibits")

// Prepare prepares a name or a password with SASLprep (RFC 4013), so that all ways
// to write the same text are the same.
func Prepare(s string) (string, error) {
	prepared, err := stringprep.SASLprep.Prepare(s)
	if err != nil || !utf8.ValidString(s) {
		return "", ErrPrepare
	}
	return prepared, nil
}
