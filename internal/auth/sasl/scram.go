package sasl

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// Iterations is how often a password is hashed: the least that RFC 7677 allows.
// Ours are random and long, so that more would cost clients time and nobody else.
const Iterations = 4096

// maxNonce bounds a client's nonce.
const maxNonce = 512

// A Scram is one exchange. Make one of the client's first message, send
// Challenge, and read the client's last message with Final, once.
type Scram struct {
	Username string // who the client says it is
	Authzid  string // the name to act as, or ""

	gs2   string
	bare  string // the first message without its header
	nonce string // the client's, then both
	first string // our first message
}

// ParseScram reads a client's first message.
func ParseScram(msg []byte) (*Scram, error) {
	if len(msg) > MaxMessage {
		return nil, errLong
	}
	authzid, gs2, bare, err := header(string(msg))
	if err != nil {
		return nil, err
	}
	s := &Scram{Authzid: authzid, gs2: gs2, bare: bare}
	a := attributes{rest: bare, more: true}
	if strings.HasPrefix(bare, "m=") {
		return nil, errMandatory
	}
	name := a.next('n')
	s.nonce = a.next('r')
	a.skip()
	if a.bad || !isNonce(s.nonce) {
		return nil, errForm
	}
	if s.Username, err = decodeName(name); err != nil {
		return nil, err
	}
	return s, nil
}

// Challenge returns our first message. The nonce in it is new, so that a
// recorded exchange is of no use.
func (s *Scram) Challenge(salt []byte) []byte {
	var random [18]byte
	_, _ = rand.Read(random[:]) // it never fails; the program ends if the system has no randomness
	return s.challenge(base64.StdEncoding.EncodeToString(random[:]), salt)
}

func (s *Scram) challenge(nonce string, salt []byte) []byte {
	s.nonce += nonce
	s.first = "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(salt) + ",i=" + strconv.Itoa(Iterations)
	return []byte(s.first)
}

// A Proof is a client's last message. It is well formed and belongs to its
// exchange; only Check tells whether the client knows the password.
type Proof struct {
	message []byte // what both sides have authenticated
	proof   [sha256.Size]byte
}

// Final reads the client's last message.
func (s *Scram) Final(msg []byte) (Proof, error) {
	if len(msg) > MaxMessage {
		return Proof{}, errLong
	}
	a := attributes{rest: string(msg), more: true}
	binding, err := decode(a.next('c'))
	if err != nil {
		return Proof{}, err
	}
	nonce := a.next('r')
	if strings.HasPrefix(a.rest, "m=") {
		return Proof{}, errMandatory
	}
	end := strings.LastIndex(string(msg), ",p=")
	a.skip()
	switch {
	case a.bad, end < 0, s.first == "":
		return Proof{}, errForm
	case string(binding) != s.gs2:
		return Proof{}, errBinding // somebody changed the header on its way
	case subtle.ConstantTimeCompare([]byte(nonce), []byte(s.nonce)) != 1:
		return Proof{}, errForm // it belongs to another exchange
	}
	proof, err := decode(string(msg)[end+len(",p="):])
	if err != nil {
		return Proof{}, err
	}
	if len(proof) != sha256.Size {
		return Proof{}, errForm
	}
	message := s.bare + "," + s.first + "," + string(msg[:end])
	return Proof{message: []byte(message), proof: [sha256.Size]byte(proof)}, nil
}

// Keys are what a server keeps of a password. Whoever has them can play the
// server, and with a recorded exchange the client: they are a secret.
type Keys struct{ Stored, Server [sha256.Size]byte }

// NewKeys returns the keys of a password, prepared with SASLprep (RFC 5802, 2.2):
// ErrPrepare if it cannot be. It takes a millisecond or more.
func NewKeys(password string, salt []byte) (Keys, error) {
	password, err := Prepare(password)
	if err != nil {
		return Keys{}, err
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt, Iterations, sha256.Size)
	if err != nil {
		return Keys{}, fmt.Errorf("derive keys: %w", err)
	}
	return Keys{
		Stored: sha256.Sum256(mac(salted, "Client Key")),
		Server: [sha256.Size]byte(mac(salted, "Server Key")),
	}, nil
}

// Check reports whether the client knows the password of k. The time it takes
// does not depend on the answer.
func (p Proof) Check(k Keys) bool {
	signature := mac(k.Stored[:], string(p.message))
	var key [sha256.Size]byte
	subtle.XORBytes(key[:], signature, p.proof[:])
	stored := sha256.Sum256(key[:])
	return subtle.ConstantTimeCompare(stored[:], k.Stored[:]) == 1
}

// Success returns our last message, which proves to the client that we know
// the password too. Send it only after Check.
func (p Proof) Success(k Keys) []byte {
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(k.Server[:], string(p.message))))
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}

// attributes reads "a=value,b=value,…" from the front.
type attributes struct {
	rest string
	more bool // there is another attribute in rest
	bad  bool
}

// next returns the value of the next attribute, which must have that name.
func (a *attributes) next(name byte) string {
	got, value := a.one()
	if got != name {
		a.bad = true
	}
	return value
}

// skip reads the attributes that are left: extensions, which may be ignored,
// and a proof.
func (a *attributes) skip() {
	for a.more && !a.bad {
		a.one()
	}
}

func (a *attributes) one() (name byte, value string) {
	if !a.more {
		a.bad = true
		return 0, ""
	}
	var attribute string
	attribute, a.rest, a.more = strings.Cut(a.rest, ",")
	if len(attribute) < 3 || attribute[1] != '=' || !letters(attribute[:1]) || strings.IndexByte(attribute, 0) >= 0 {
		a.bad = true
		return 0, ""
	}
	return attribute[0], attribute[2:]
}

// isNonce reports whether s is visible ASCII without a comma.
func isNonce(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == ',' {
			return false
		}
	}
	return s != "" && len(s) <= maxNonce
}

// decode is base64 with nothing left to taste: no line ends, no spare bits.
func decode(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errForm
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errForm
	}
	return b, nil
}
