package jwt

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // refuses members given twice, and tells "exp" from "Exp"
)

// leeway is how far the issuer's clock may be ahead of ours. A token never
// lives longer for it: its end is not stretched.
const leeway = time.Minute

// Why a token is refused. Nothing of the token is repeated.
var (
	ErrForm      = errors.New("the token is not a signed one, or its algorithm is not allowed")
	ErrKey       = errors.New("the token names no key of its issuer")
	ErrSignature = errors.New("the token's signature is wrong")
	ErrClaims    = errors.New("the token's claims are not well formed")
	ErrIssuer    = errors.New("the token is from another issuer")
	ErrAudience  = errors.New("the token is for somebody else")
	ErrExpired   = errors.New("the token has expired")
	ErrEarly     = errors.New("the token is not good yet")
	ErrSubject   = errors.New("the token names nobody")
)

// Rules are what a token has to satisfy. With none of them every token is
// refused, for the usual cost.
type Rules struct {
	Keys       Keys
	Algorithms []string
	Issuer     string
	Audience   string
	Subject    string // the claim that says whose token it is
}

// A Token is a token that satisfies its rules.
type Token struct {
	Subject string
	Expires time.Time // in full seconds
}

// Issuer returns who a token says has issued it, to find the rules for it. It is
// not checked.
func Issuer(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	body, _, _ := strings.Cut(rest, ".")
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(b, &c) != nil {
		return ""
	}
	return c.Issuer
}

// Check checks a token at a time.
func (r Rules) Check(token string, now time.Time) (Token, error) {
	payload, err := r.verify(token)
	if err != nil {
		return Token{}, err
	}
	return r.claims(payload, now)
}

// verify checks the signature and returns what is signed.
func (r Rules) verify(token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, ErrForm
	}
	h := jws.Signatures[0].Protected
	algorithm := jose.SignatureAlgorithm(h.Algorithm)
	key, known := r.Keys.byID[h.KeyID]
	fits := known && slices.Contains(fitting(key.Key), algorithm) && (key.Algorithm == "" || key.Algorithm == h.Algorithm)
	if !fits {
		key = decoys()[algorithm] // a refusal costs the same
	}
	payload, err := jws.Verify(key.Key)
	_, critical := h.ExtraHeaders["crit"]
	switch {
	case !slices.Contains(r.Algorithms, h.Algorithm), critical:
		return nil, ErrForm
	case !fits:
		return nil, ErrKey
	case err != nil:
		return nil, ErrSignature
	}
	return payload, nil
}

func (r Rules) claims(payload []byte, now time.Time) (Token, error) {
	var c struct {
		Issuer   string   `json:"iss"`
		Audience audience `json:"aud"`
		Expires  *numeric `json:"exp"`
		From     *numeric `json:"nbf"`
		Issued   *numeric `json:"iat"`
	}
	var all map[string]any
	if json.Unmarshal(payload, &c) != nil || json.Unmarshal(payload, &all) != nil {
		return Token{}, ErrClaims
	}
	switch {
	case r.Issuer == "" || c.Issuer != r.Issuer:
		return Token{}, ErrIssuer
	case r.Audience == "" || !slices.Contains(c.Audience, r.Audience):
		return Token{}, ErrAudience
	case c.Expires == nil || !now.Before(c.Expires.time()):
		return Token{}, ErrExpired
	case c.From != nil && now.Add(leeway).Before(c.From.time()), c.Issued != nil && now.Add(leeway).Before(c.Issued.time()):
		return Token{}, ErrEarly
	}
	subject, ok := all[r.Subject].(string)
	if !ok || subject == "" {
		return Token{}, ErrSubject
	}
	return Token{Subject: subject, Expires: c.Expires.time()}, nil
}

// audience is one name or several.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// numeric is a number of seconds since 1970. It may have a fraction, which is
// cut off.
type numeric int64

func (n *numeric) UnmarshalJSON(b []byte) error {
	const most = 1 << 38 // in the year 10680
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	if math.IsNaN(f) || f < 0 || f > most || string(b) == "null" {
		return ErrClaims
	}
	*n = numeric(f)
	return nil
}

func (n numeric) time() time.Time { return time.Unix(int64(n), 0).UTC() }

// decoys are keys to which nobody has the other half.
var decoys = sync.OnceValue(func() map[jose.SignatureAlgorithm]jose.JSONWebKey {
	all := map[jose.SignatureAlgorithm]jose.JSONWebKey{}
	add := func(key any) {
		for _, a := range fitting(key) {
			all[a] = jose.JSONWebKey{Key: key}
		}
	}
	one := big.NewInt(1)
	add(&rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(one, minRSA), one), E: 65537})
	if public, _, err := ed25519.GenerateKey(rand.Reader); err == nil {
		add(public)
	}
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if key, err := ecdsa.GenerateKey(c, rand.Reader); err == nil {
			add(&key.PublicKey)
		}
	}
	return all
})
