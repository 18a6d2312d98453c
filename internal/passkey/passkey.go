// Package passkey makes and checks passkeys (Web Authentication Level 3): keys of
// a person that only their device has, and that it uses only after it has made
// sure of the person, by a finger, a face or a PIN.
//
// It keeps nothing. What a ceremony needs at its end is for the caller to keep
// until then, sealed, and to use once.
package passkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/keepmq/keepmq/internal/errs"
)

// Life is how long a ceremony may take.
const Life = 5 * time.Minute

// A Party is who a passkey is for: the console under one name (the relying
// party). The name is part of the key: under another one it is not offered.
type Party struct{ web *webauthn.WebAuthn }

// NewParty returns the party for pages at host, "name" or "name:port", of an
// installation with a domain. Passkeys hold for the domain and what is below it;
// an address can have none.
func NewParty(domain, host string) (*Party, error) {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name, domain = strings.ToLower(name), strings.ToLower(domain)
	id := domain
	if name != domain && !strings.HasSuffix(name, "."+domain) {
		id = name
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil || id != "localhost" && id != domain {
		return nil, errs.E(errs.Invalid, "passkeys work under the console's own name only: open https://%s", domain)
	}
	web, err := webauthn.New(&webauthn.Config{RPID: id, RPDisplayName: "KeepMQ", RPOrigins: []string{"https://" + host},
		AuthenticatorSelection: protocol.AuthenticatorSelection{ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired},
		AttestationPreference:  protocol.PreferNoAttestation,
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Enforce: true, Timeout: Life, TimeoutUVD: Life},
			Registration: webauthn.TimeoutConfig{Enforce: true, Timeout: Life, TimeoutUVD: Life},
		}})
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "passkeys cannot be used under this name")
	}
	return &Party{web}, nil
}

// A Holder is a person who has, or makes, passkeys.
type Holder struct {
	ID      string // never another's, and not shown
	Name    string // with which they sign in
	Shown   string
	Records []string // of the passkeys there are
}

// holder is a Holder as the library wants it.
type holder struct {
	Holder
	credentials []webauthn.Credential
}

func newHolder(h Holder) (*holder, error) {
	x := &holder{Holder: h}
	for _, r := range h.Records {
		var c webauthn.Credential
		if err := json.Unmarshal([]byte(r), &c); err != nil {
			return nil, errs.Wrap(errs.Unavailable, err, "a stored passkey is damaged")
		}
		x.credentials = append(x.credentials, c)
	}
	return x, nil
}

func (h *holder) WebAuthnID() []byte                         { return []byte(h.ID) }
func (h *holder) WebAuthnName() string                       { return h.Name }
func (h *holder) WebAuthnDisplayName() string                { return h.Shown }
func (h *holder) WebAuthnCredentials() []webauthn.Credential { return h.credentials }

// A Made is a new passkey.
type Made struct {
	Credential []byte // its id
	Record     string
}

// Create begins to make a passkey. options go to the browser, and what is kept
// comes back to Created.
func (p *Party) Create(h Holder) (options, kept []byte, err error) {
	x, err := newHolder(h)
	if err != nil {
		return nil, nil, err
	}
	creation, session, err := p.web.BeginRegistration(x, webauthn.WithExclusions(webauthn.Credentials(x.credentials).CredentialDescriptors()))
	if err != nil {
		return nil, nil, errs.Wrap(errs.Unavailable, err, "a passkey cannot be made now")
	}
	return both(creation.Response, session)
}

func both(options, session any) (o, s []byte, err error) {
	if o, err = json.Marshal(options); err != nil {
		return nil, nil, err
	}
	s, err = json.Marshal(session)
	return o, s, err
}

var errAnswer = errs.E(errs.Denied, "the passkey's answer is not good; begin again")

// Created checks what the browser made.
func (p *Party) Created(h Holder, kept, answer []byte) (Made, error) {
	x, err := newHolder(h)
	if err != nil {
		return Made{}, err
	}
	var session webauthn.SessionData
	if err := json.Unmarshal(kept, &session); err != nil {
		return Made{}, errs.Wrap(errs.Denied, err, errs.Message(errAnswer))
	}
	parsed, err := protocol.ParseCredentialCreationResponseBody(bytes.NewReader(answer))
	if err != nil {
		return Made{}, errs.Wrap(errs.Denied, err, errs.Message(errAnswer))
	}
	c, err := p.web.CreateCredential(x, session, parsed)
	if err != nil {
		return Made{}, errs.Wrap(errs.Denied, err, errs.Message(errAnswer))
	}
	c.Attestation = webauthn.CredentialAttestation{} // it was not asked for
	record, err := json.Marshal(c)
	return Made{c.ID, string(record)}, err
}

// Ask begins to sign in whoever has a passkey. options go to the browser, and what
// is kept comes back to Answered.
func (p *Party) Ask() (options, kept []byte, err error) {
	assertion, session, err := p.web.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, nil, errs.Wrap(errs.Unavailable, err, "passkeys cannot be asked for now")
	}
	return both(assertion.Response, session)
}

// An Answer is that of a passkey that was found good.
type Answer struct {
	Person     string
	Credential []byte
	Record     string // with what is to be known at the next time
	// Cloned says that the passkey has counted less than before: there may be two.
	Cloned bool
}

// Answered checks what the browser answered. find returns the holder of a passkey
// by its id, with the record of that one.
func (p *Party) Answered(kept, answer []byte, find func(credential []byte) (Holder, error)) (Answer, error) {
	var session webauthn.SessionData
	if err := json.Unmarshal(kept, &session); err != nil {
		return Answer{}, errs.Wrap(errs.Denied, err, errs.Message(errAnswer))
	}
	parsed, err := protocol.ParseCredentialRequestResponseBody(bytes.NewReader(answer))
	if err != nil {
		return Answer{}, errs.Wrap(errs.Denied, err, errs.Message(errAnswer))
	}
	var who Holder
	var failed error
	c, err := p.web.ValidateDiscoverableLogin(func(id, handle []byte) (webauthn.User, error) {
		if who, failed = find(id); failed != nil {
			return nil, failed
		}
		if string(handle) != who.ID {
			return nil, errors.New("the passkey is another's")
		}
		return newHolder(who)
	}, session, parsed)
	if failed != nil && errs.CodeOf(failed) != errs.NotFound {
		return Answer{}, failed
	}
	if err != nil {
		return Answer{}, errs.Wrap(errs.Denied, err, errs.Message(errAnswer))
	}
	record, err := json.Marshal(c)
	return Answer{who.ID, c.ID, string(record), c.Authenticator.CloneWarning}, err
}
