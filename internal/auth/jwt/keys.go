// Package jwt checks signed tokens (RFC 7519) against the public keys of who
// issued them.
//
// It is strict where the standard leaves room: an algorithm is one of a list
// that the caller gives, none and those with a shared secret are in no list; a
// token names its key; issuer, audience and end are required. It fetches
// nothing: neither keys nor anything that a token points to. It does not know
// whom a token may stand for.
package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json" // refuses members given twice

	"github.com/keepmq/keepmq/internal/errs"
)

// The bounds of a key set.
const (
	MaxDocument = 48 << 10 // bytes
	MaxKeys     = 32
	maxKeyID    = 200
	minRSA      = 2048 // bits
	maxRSA      = 8192
)

// algorithms are those that a token may be signed with.
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}

// Algorithms returns the names of the algorithms there are.
func Algorithms() []string {
	var all []string
	for _, a := range algorithms {
		all = append(all, string(a))
	}
	return all
}

// Keys are public keys by their identifier.
type Keys struct{ byID map[string]jose.JSONWebKey }

// ParseKeys reads a key set (RFC 7517). Keys that are not for signatures are
// left out. A key that cannot be used, or one that should have been kept secret,
// makes it refuse all.
func ParseKeys(document []byte) (Keys, error) {
	if len(document) > MaxDocument {
		return Keys{}, errs.E(errs.Invalid, "key set must have at most %d bytes, has %d", MaxDocument, len(document))
	}
	var set struct {
		Keys []josejson.RawMessage `json:"keys"`
	}
	if err := josejson.Unmarshal(document, &set); err != nil {
		return Keys{}, errs.Wrap(errs.Invalid, err, `key set must be a JSON object with an array "keys" (RFC 7517)`)
	}
	if len(set.Keys) > MaxKeys {
		return Keys{}, errs.E(errs.Invalid, "key set must have at most %d keys, has %d", MaxKeys, len(set.Keys))
	}
	k := Keys{byID: map[string]jose.JSONWebKey{}}
	for i, raw := range set.Keys {
		key, use, err := parseKey(raw)
		switch {
		case err != nil:
			return Keys{}, errs.E(errs.Invalid, "key %d: %s", i+1, errs.Message(err))
		case !use:
			continue
		}
		if _, twice := k.byID[key.KeyID]; twice {
			return Keys{}, errs.E(errs.Invalid, "key %d: there is another one with the same kid", i+1)
		}
		k.byID[key.KeyID] = key
	}
	if len(k.byID) == 0 {
		return Keys{}, errs.E(errs.Invalid, "key set has no key for signatures")
	}
	return k, nil
}

// parseKey reads one key. use tells whether it is for signatures.
func parseKey(raw []byte) (key jose.JSONWebKey, use bool, err error) {
	var is struct {
		Type    string              `json:"kty"`
		Use     string              `json:"use"`
		ID      string              `json:"kid"`
		Private josejson.RawMessage `json:"d"`
	}
	if err := josejson.Unmarshal(raw, &is); err != nil {
		return key, false, errs.Wrap(errs.Invalid, err, "must be a JSON object")
	}
	switch {
	case is.Type == "oct":
		return key, false, errs.E(errs.Invalid, "is a shared secret; only public keys belong here")
	case is.Private != nil:
		return key, false, errs.E(errs.Invalid, "is a private key; only public keys belong here, and this one is known to others now")
	case is.Use != "" && is.Use != "sig":
		return key, false, nil
	case is.ID == "" || len(is.ID) > maxKeyID:
		return key, false, errs.E(errs.Invalid, "kid must have 1 to %d characters: tokens name their key by it", maxKeyID)
	}
	if err := josejson.Unmarshal(raw, &key); err != nil {
		return key, false, errs.Wrap(errs.Invalid, err, "is no key that can be used")
	}
	if !key.Valid() || !key.IsPublic() {
		return key, false, errs.E(errs.Invalid, "is no public key that can be used")
	}
	fits := fitting(key.Key)
	switch {
	case len(fits) == 0:
		return key, false, errs.E(errs.Invalid, "must be of P-256, P-384, P-521, Ed25519, or RSA with %d to %d bits", minRSA, maxRSA)
	case key.Algorithm != "" && !slices.Contains(fits, jose.SignatureAlgorithm(key.Algorithm)):
		return key, false, errs.E(errs.Invalid, "alg is not one of %s, which fit it", names(fits))
	}
	// What else the document says of it is of no use here.
	return jose.JSONWebKey{Key: key.Key, KeyID: key.KeyID, Algorithm: key.Algorithm, Use: "sig"}, true, nil
}

// fitting returns the algorithms that fit a key.
func fitting(key any) []jose.SignatureAlgorithm {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits >= minRSA && bits <= maxRSA {
			return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			return []jose.SignatureAlgorithm{jose.ES384}
		case elliptic.P521():
			return []jose.SignatureAlgorithm{jose.ES512}
		}
	case ed25519.PublicKey:
		return []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return nil
}

func names(list []jose.SignatureAlgorithm) string {
	var all []string
	for _, a := range list {
		all = append(all, string(a))
	}
	return strings.Join(all, ", ")
}

// Document returns the keys as a key set: what ParseKeys has read of one.
func (k Keys) Document() ([]byte, error) {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, id := range k.IDs() {
		set.Keys = append(set.Keys, k.byID[id])
	}
	b, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode key set: %w", err)
	}
	return b, nil
}

// IDs returns the identifiers of the keys in order.
func (k Keys) IDs() []string {
	var all []string
	for id := range k.byID {
		all = append(all, id)
	}
	slices.Sort(all)
	return all
}

// ParseAlgorithms checks a list of names of algorithms.
func ParseAlgorithms(list []string) ([]string, error) {
	if len(list) == 0 {
		return nil, errs.E(errs.Invalid, "algorithms must not be empty; there are %s", names(algorithms))
	}
	seen := map[string]bool{}
	for _, name := range list {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(name)) || seen[name] {
			return nil, errs.E(errs.Invalid, "algorithms must be some of %s, each once", names(algorithms))
		}
		seen[name] = true
	}
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return sorted, nil
}
