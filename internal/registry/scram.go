package registry

import (
	"context"
	"crypto/sha256"
	"errors"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/sasl"
	"github.com/keepmq/keepmq/internal/secret"
)

// For SCRAM a token is kept a second time: as the keys that prove and check
// knowledge of it, sealed for its owner. What is stored is a format, and
//
//	format 1 | StoredKey 32 | ServerKey 32
//
// The salt is not stored. It is a keyed hash of the owner's name, so that it is
// the same for a name that exists, one that does not and one that will, and our
// first message is written without a look at the store. A salt serves to keep
// two equal passwords apart, and one table from serving for many: ours are
// random, 190 bits long, and of one installation.
const (
	scramFormat1 = 1
	scramLength  = 1 + 2*sha256.Size
	scramPurpose = "registry/scram/1\x00"
	scramSalt    = "registry/scram-salt/1"
	saltOfSCRAM  = 16
)

// errNoSCRAM is why a good token does not help.
var errNoSCRAM = errors.New("its token was made before SCRAM was there, and has to be replaced first; or its password was imported, and has to be used once without SCRAM")

// A fresh token has not been stored yet.
type fresh struct {
	token    secret.String
	scram    []byte // sealed; nil: SCRAM does not work yet
	imported []byte // a hash of a password, sealed, that is good in place of the token; nil: none
}

// newFresh makes a token for owner. It takes a millisecond or more: do it before
// a transaction.
func (r *Registry) newFresh(owner auth.Principal) (fresh, error) {
	f := fresh{token: newToken()}
	k, err := sasl.NewKeys(f.token.Reveal(), r.saltOf(owner))
	if err != nil {
		return f, err
	}
	f.scram, err = r.sealKeys(owner, k)
	return f, err
}

// scramOwner is the name under which the keys of p are sealed. A device and a
// gateway never share one, and which of the two it is may not be known yet.
func scramOwner(p auth.Principal) string {
	if p.Kind == auth.Gateway {
		p.Kind = auth.Device
	}
	return p.String()
}

func (r *Registry) saltOf(owner auth.Principal) []byte {
	return r.ring.MAC(scramSalt, []byte(scramOwner(owner)))[:saltOfSCRAM]
}

func (r *Registry) sealKeys(owner auth.Principal, k sasl.Keys) ([]byte, error) {
	plain := make([]byte, 1, scramLength)
	plain[0] = scramFormat1
	plain = append(append(plain, k.Stored[:]...), k.Server[:]...)
	return r.ring.Seal(scramPurpose+scramOwner(owner), plain)
}

func (r *Registry) openKeys(owner string, sealed []byte) (sasl.Keys, error) {
	plain, err := r.ring.Open(scramPurpose+owner, sealed)
	if err != nil {
		return sasl.Keys{}, err
	}
	if len(plain) != scramLength || plain[0] != scramFormat1 {
		return sasl.Keys{}, errors.New("stored SCRAM keys are of another format")
	}
	return sasl.Keys{
		Stored: [sha256.Size]byte(plain[1 : 1+sha256.Size]),
		Server: [sha256.Size]byte(plain[1+sha256.Size:]),
	}, nil
}

// The decoy is opened in place of the keys of who has none: a refusal is to
// cost the same.
const decoyOwner = "nobody"

func (r *Registry) decoy() ([]byte, error) {
	r.decoyOnce.Do(func() {
		plain := make([]byte, scramLength)
		plain[0] = scramFormat1
		r.decoySealed, r.decoyErr = r.ring.Seal(scramPurpose+decoyOwner, plain)
	})
	return r.decoySealed, r.decoyErr
}

// scramFirst reads a client's first message.
func (e *exchange) scramFirst(ctx context.Context, data []byte) ([]byte, *auth.Grant, error) {
	s, err := sasl.ParseScram(data)
	if err != nil {
		return nil, nil, e.malformed(ctx, err)
	}
	cl, err := e.claim(ctx, s.Username, s.Authzid)
	if err != nil {
		return nil, nil, e.malformed(ctx, err)
	}
	e.next = func(ctx context.Context, data []byte) ([]byte, *auth.Grant, error) {
		return e.scramFinal(ctx, cl, s, data)
	}
	return s.Challenge(e.r.saltOf(cl.principal)), nil, nil
}

// scramFinal reads the client's proof. Only here the store is asked who it is.
func (e *exchange) scramFinal(ctx context.Context, cl claim, s *sasl.Scram, data []byte) ([]byte, *auth.Grant, error) {
	p, err := s.Final(data)
	if err != nil {
		return nil, nil, e.malformed(ctx, err)
	}
	c := scramCheck{r: e.r, proof: p}
	g, err := e.r.admit(ctx, cl, proof{accept: c.accept})
	switch {
	case c.failed != nil:
		err = c.failed // a check that could not be made
	case c.without && errors.Is(err, errWrong):
		err = errNoSCRAM
	}
	if err != nil {
		return nil, nil, e.r.refuseFrom(ctx, cl.principal, addressText(e.credentials.Remote.Addr()), err)
	}
	return p.Success(c.keys), g, nil
}

// A scramCheck checks a client's proof against accounts.
type scramCheck struct {
	r       *Registry
	proof   sasl.Proof
	keys    sasl.Keys // of the account that was accepted
	without bool      // there is an account, and it has no keys
	failed  error
}

// accept returns which of a's tokens was proved. Both are checked, always.
func (c *scramCheck) accept(a *account) (got accepted, ok bool) {
	c.failed = nil
	for _, t := range a.tokens() {
		k, good := c.check(a, t)
		if !ok {
			c.keys = k
		}
		if good {
			got, ok = t.accepts(), true
		}
	}
	return got, ok && c.failed == nil
}

func (c *scramCheck) check(a *account, t heldToken) (sasl.Keys, bool) {
	owner, sealed := scramOwner(a.principal), t.scram
	if len(sealed) == 0 {
		c.without = c.without || len(t.hash) > 0
		owner = decoyOwner
		var err error
		if sealed, err = c.r.decoy(); err != nil {
			c.failed = err
			return sasl.Keys{}, false
		}
	}
	k, err := c.r.openKeys(owner, sealed)
	if err != nil {
		c.failed = err
		return k, false
	}
	return k, c.proof.Check(k) && len(t.scram) > 0
}
