package registry

import (
	"crypto/rand"
	"crypto/subtle"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/secret"
)

const (
	letters     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	lowLetters  = "0123456789abcdefghijklmnopqrstuvwxyz"
	tokenLength = 32 // of 62 letters: 190 bits
)

// random returns n letters of alphabet, each equally likely.
func random(alphabet string, n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	fair := 256 / len(alphabet) * len(alphabet) // bytes from here on would favour the first letters
	for len(out) < n {
		_, _ = rand.Read(buf[:]) // it never fails; the program ends if the system has no randomness
		for _, b := range buf {
			if int(b) < fair && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// newToken returns a new secret of 190 bits. Letters and digits only, so that
// it survives shells, double clicks and being read aloud.
func newToken() secret.String { return secret.New(random(letters, tokenLength)) }

// macer is the part of keyring.Ring that token hashes need.
type macer interface {
	MAC(purpose string, parts ...[]byte) []byte
}

// A stored token is its format, a salt and a keyed hash over owner, salt and
// token: of no use without the master key, nor under another owner's name.
const (
	hashFormat1  = 1
	saltLength   = 16
	macLength    = 32
	storedLength = 1 + saltLength + macLength
	hashPurpose  = "registry/token/1"
	findPurpose  = "registry/lookup/1"
)

// hashToken returns what is stored for the token of owner.
func hashToken(m macer, owner auth.Principal, token secret.String) []byte {
	stored := make([]byte, 1+saltLength, storedLength)
	stored[0] = hashFormat1
	_, _ = rand.Read(stored[1:])
	return append(stored, tokenMAC(m, owner, stored[1:], token)...)
}

func tokenMAC(m macer, owner auth.Principal, salt []byte, token secret.String) []byte {
	return m.MAC(hashPurpose, []byte(owner.String()), salt, []byte(token.Reveal()))
}

// checkToken reports whether token is the one that stored was made from. It
// takes the same time whatever the answer, also when stored is empty because
// the owner is unknown.
func checkToken(m macer, owner auth.Principal, stored []byte, token secret.String) bool {
	good := len(stored) == storedLength && stored[0] == hashFormat1
	if !good {
		stored = make([]byte, storedLength)
	}
	salt, want := stored[1:1+saltLength], stored[1+saltLength:]
	same := subtle.ConstantTimeCompare(tokenMAC(m, owner, salt, token), want) == 1
	return same && good
}

// findHash returns the keyed hash under which a token without an owner's name
// (session, sign-in code, enrolment) is found again. It needs no salt: such
// tokens are random and never chosen by a person. use keeps the kinds apart.
func findHash(m macer, use string, token secret.String) []byte {
	return m.MAC(findPurpose, []byte(use), []byte(token.Reveal()))
}
