package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keepmq/keepmq/internal/errs"
)

// An issuer has one key for each kind, named after it.
type issuer struct {
	keys map[string]crypto.Signer
	set  []jose.JSONWebKey
}

var theIssuer = sync.OnceValue(func() *issuer {
	must := func(k crypto.Signer, err error) crypto.Signer {
		if err != nil {
			panic(err)
		}
		return k
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	i := &issuer{keys: map[string]crypto.Signer{
		"p256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"p384": must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"p521": must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
		"rsa":  must(rsa.GenerateKey(rand.Reader, 2048)),
		"ed":   must(ed, err),
	}}
	for id, k := range i.keys {
		i.set = append(i.set, jose.JSONWebKey{Key: k.Public(), KeyID: id})
	}
	return i
})

func (i *issuer) document(t testing.TB, more ...any) []byte {
	t.Helper()
	var set struct {
		Keys []any `json:"keys"`
	}
	for _, k := range i.set {
		set.Keys = append(set.Keys, k)
	}
	set.Keys = append(set.Keys, more...)
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (i *issuer) rules(t testing.TB) Rules {
	t.Helper()
	k, err := ParseKeys(i.document(t))
	if err != nil {
		t.Fatal(err)
	}
	return Rules{Keys: k, Algorithms: Algorithms(), Issuer: "https://id.example.com", Audience: "keepmq", Subject: "sub"}
}

var now = time.Unix(1_800_000_000, 0)

func good() map[string]any {
	return map[string]any{"iss": "https://id.example.com", "aud": "keepmq", "sub": "type:one",
		"exp": now.Unix() + 60, "nbf": now.Unix(), "iat": now.Unix()}
}

// sign signs claims with the key of that identifier.
func (i *issuer) sign(t testing.TB, alg jose.SignatureAlgorithm, kid string, claims any) string {
	t.Helper()
	payload, ok := claims.(string)
	if !ok {
		b, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		payload = string(b)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: i.keys[kid], KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestAlgorithms(t *testing.T) {
	i := theIssuer()
	kid := map[string]string{"ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed"}
	for _, alg := range Algorithms() {
		id := kid[alg]
		if id == "" {
			id = "rsa"
		}
		token := i.sign(t, jose.SignatureAlgorithm(alg), id, good())
		got, err := i.rules(t).Check(token, now)
		if err != nil || got.Subject != "type:one" || got.Expires.Unix() != now.Unix()+60 {
			t.Errorf("%s: %+v, %v", alg, got, err)
		}
		only := i.rules(t)
		only.Algorithms = []string{"ES256", "RS256"}
		if _, err := only.Check(token, now); (err == nil) != (alg == "ES256" || alg == "RS256") {
			t.Errorf("%s where it is not allowed: %v", alg, err)
		}
		if _, err := (Rules{}).Check(token, now); err == nil {
			t.Errorf("%s: accepted without rules", alg)
		}
		if Issuer(token) != "https://id.example.com" {
			t.Errorf("issuer %q", Issuer(token))
		}
	}
}

// raw makes a token of its parts.
func raw(header, payload string, sign func(string) []byte) string {
	s := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	return s + "." + base64.RawURLEncoding.EncodeToString(sign(s))
}

func TestForged(t *testing.T) {
	i := theIssuer()
	claims, err := json.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	es := func(s string) []byte {
		h := sha256.Sum256([]byte(s))
		r, v, err := ecdsa.Sign(rand.Reader, i.keys["p256"].(*ecdsa.PrivateKey), h[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	}
	rs := func(s string) []byte {
		h := sha256.Sum256([]byte(s))
		b, err := rsa.SignPKCS1v15(nil, i.keys["rsa"].(*rsa.PrivateKey), crypto.SHA256, h[:])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	none := func(string) []byte { return nil }
	hs := func(s string) []byte { // with the public key for a secret
		der, err := x509.MarshalPKIXPublicKey(i.keys["rsa"].Public())
		if err != nil {
			t.Fatal(err)
		}
		h := hmac.New(sha256.New, der)
		h.Write([]byte(s))
		return h.Sum(nil)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := json.Marshal(jose.JSONWebKey{Key: own.Public(), KeyID: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	mine := func(s string) []byte {
		h := sha256.Sum256([]byte(s))
		r, v, _ := ecdsa.Sign(rand.Reader, own, h[:])
		return append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	}
	ok := raw(`{"alg":"ES256","kid":"p256"}`, string(claims), es)
	if _, err := i.rules(t).Check(ok, now); err != nil {
		t.Fatal(err)
	}
	for why, token := range map[string]string{
		"nothing":                    "",
		"dots":                       "..",
		"one part":                   "abc",
		"four parts":                 ok + ".x",
		"encrypted":                  ok + ".x.y",
		"JSON":                       `{"payload":"x","signatures":[]}`,
		"alg none":                   raw(`{"alg":"none","kid":"p256"}`, string(claims), none),
		"alg None":                   raw(`{"alg":"None","kid":"p256"}`, string(claims), none),
		"no alg":                     raw(`{"kid":"p256"}`, string(claims), es),
		"no kid":                     raw(`{"alg":"ES256"}`, string(claims), es),
		"unknown kid":                raw(`{"alg":"ES256","kid":"other"}`, string(claims), es),
		"another's kid":              raw(`{"alg":"ES256","kid":"p384"}`, string(claims), es),
		"HMAC with the public key":   raw(`{"alg":"HS256","kid":"rsa"}`, string(claims), hs),
		"a kid of another algorithm": raw(`{"alg":"RS256","kid":"p256"}`, string(claims), rs),
		"PS256 for RS256":            raw(`{"alg":"PS256","kid":"rsa"}`, string(claims), rs),
		"a key in the header":        raw(`{"alg":"ES256","kid":"mine","jwk":`+string(embedded)+`}`, string(claims), mine),
		"a key in the header, known": raw(`{"alg":"ES256","kid":"p256","jwk":`+string(embedded)+`}`, string(claims), mine),
		"crit":                       raw(`{"alg":"ES256","kid":"p256","crit":["exp"],"exp":1}`, string(claims), es),
		"b64":                        raw(`{"alg":"ES256","kid":"p256","crit":["b64"],"b64":false}`, string(claims), es),
		"alg twice":                  raw(`{"alg":"none","alg":"ES256","kid":"p256"}`, string(claims), es),
		"no signature":               ok[:strings.LastIndex(ok, ".")+1],
		"short signature":            ok[:len(ok)-4],
		"signature of zeros":         raw(`{"alg":"ES256","kid":"p256"}`, string(claims), func(string) []byte { return make([]byte, 64) }),
		"another payload":            strings.Replace(ok, ".", "."+base64.RawURLEncoding.EncodeToString([]byte("{} ")), 1),
		"blank":                      ok + " ",
		"padding":                    ok + "=",
	} {
		got, err := i.rules(t).Check(token, now)
		if err == nil || got != (Token{}) {
			t.Errorf("%s: accepted as %+v", why, got)
		}
	}
}

func TestClaims(t *testing.T) {
	i, r := theIssuer(), theIssuer().rules(t)
	with := func(name string, v any) map[string]any {
		c := maps.Clone(good())
		if c[name] = v; v == nil {
			delete(c, name)
		}
		return c
	}
	at := now.Unix()
	for _, tt := range []struct {
		claims any
		want   error
	}{
		{good(), nil},
		{with("aud", []string{"other", "keepmq"}), nil},
		{with("nbf", nil), nil},
		{with("iat", nil), nil},
		{with("nbf", at+59), nil},
		{with("exp", float64(at)+1.5), nil},
		{with("iss", nil), ErrIssuer},
		{with("iss", "https://id.example.com/"), ErrIssuer},
		{with("iss", []string{"https://id.example.com"}), ErrClaims},
		{with("aud", nil), ErrAudience},
		{with("aud", "KeepMQ"), ErrAudience},
		{with("aud", []string{}), ErrAudience},
		{with("aud", []string{"keepmq2"}), ErrAudience},
		{with("aud", 1), ErrClaims},
		{with("exp", nil), ErrExpired},
		{with("exp", at), ErrExpired},
		{with("exp", at-1), ErrExpired},
		{with("exp", float64(at)+0.9), ErrExpired},
		{with("exp", fmt.Sprint(at+60)), ErrClaims},
		{with("exp", 1e300), ErrClaims},
		{with("exp", -1), ErrClaims},
		{with("nbf", at+61), ErrEarly},
		{with("iat", at+61), ErrEarly},
		{with("nbf", "soon"), ErrClaims},
		{with("sub", nil), ErrSubject},
		{with("sub", ""), ErrSubject},
		{with("sub", 7), ErrSubject},
		{with("sub", []string{"type:one"}), ErrSubject},
		{`{"iss":"https://id.example.com","aud":"keepmq","sub":"a","sub":"b","exp":1800000060}`, ErrClaims},
		{`{"iss":"https://id.example.com","aud":"keepmq","sub":"a","exp":null}`, ErrExpired},
		{`{"ISS":"https://id.example.com","Aud":"keepmq","sub":"a","EXP":1800000060}`, ErrIssuer},
		{`[]`, ErrClaims}, {`null`, ErrIssuer}, {`{`, ErrClaims}, {``, ErrClaims}, {`{} {}`, ErrClaims},
	} {
		_, err := r.Check(i.sign(t, jose.ES256, "p256", tt.claims), now)
		if !errors.Is(err, tt.want) {
			t.Errorf("%v: %v, want %v", tt.claims, err, tt.want)
		}
	}
	for name, change := range map[string]func(*Rules){
		"issuer": func(r *Rules) { r.Issuer = "" }, "audience": func(r *Rules) { r.Audience = "" }, "subject": func(r *Rules) { r.Subject = "" },
		"algorithms": func(r *Rules) { r.Algorithms = nil }, "keys": func(r *Rules) { r.Keys = Keys{} },
	} {
		r := i.rules(t)
		change(&r)
		if _, err := r.Check(i.sign(t, jose.ES256, "p256", with("iss", "")), now); err == nil {
			t.Errorf("accepted without %s", name)
		}
	}
}

func TestParseKeys(t *testing.T) {
	i := theIssuer()
	k, err := ParseKeys(i.document(t, map[string]any{"kty": "RSA", "use": "enc", "kid": "for encryption"}))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(k.IDs()) != "[ed p256 p384 p521 rsa]" {
		t.Errorf("keys %v", k.IDs())
	}
	b, err := k.Document()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseKeys(b)
	if err != nil || fmt.Sprint(again.IDs()) != fmt.Sprint(k.IDs()) {
		t.Errorf("read again: %v, %v", again.IDs(), err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	public := i.keys["p256"].Public()
	for why, key := range map[string]any{
		"a private key":         jose.JSONWebKey{Key: i.keys["p256"], KeyID: "x"},
		"a shared secret":       jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "x"},
		"a small RSA key":       jose.JSONWebKey{Key: small.Public(), KeyID: "x"},
		"no kid":                jose.JSONWebKey{Key: public},
		"a long kid":            jose.JSONWebKey{Key: public, KeyID: strings.Repeat("x", maxKeyID+1)},
		"a kid that is taken":   jose.JSONWebKey{Key: public, KeyID: "rsa"},
		"alg of another":        jose.JSONWebKey{Key: public, KeyID: "x", Algorithm: "RS256"},
		"alg HS256":             jose.JSONWebKey{Key: public, KeyID: "x", Algorithm: "HS256"},
		"alg none":              jose.JSONWebKey{Key: public, KeyID: "x", Algorithm: "none"},
		"an unknown type":       map[string]any{"kty": "XX", "kid": "x"},
		"no type":               map[string]any{"kid": "x"},
		"a point off the curve": map[string]any{"kty": "EC", "crv": "P-256", "kid": "x", "x": "AA", "y": "AA"},
		"a text":                "x",
		"nothing":               nil,
	} {
		if k, err := ParseKeys(i.document(t, key)); err == nil || errs.CodeOf(err) != errs.Invalid || len(k.IDs()) != 0 {
			t.Errorf("%s: %v, %v", why, k.IDs(), err)
		}
	}
	for _, document := range []string{"", "{}", "[]", "null", `{"keys":[]}`, `{"keys":{}}`, `{"keys":[],"keys":[]}`, `{"keys":[{"kty":"RSA","use":"enc"}]}`,
		`{"keys":[` + strings.Repeat("{},", MaxKeys) + `{}]}`, strings.Repeat(" ", MaxDocument+1)} {
		if _, err := ParseKeys([]byte(document)); err == nil || errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%.40q: %v", document, err)
		}
	}
}

func TestParseAlgorithms(t *testing.T) {
	if got, err := ParseAlgorithms([]string{"RS256", "ES256"}); err != nil || fmt.Sprint(got) != "[ES256 RS256]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, list := range [][]string{nil, {}, {"none"}, {"HS256"}, {"ES256", "none"}, {"es256"}, {""}, {"ES256", "ES256"}, {"RSA-OAEP"}} {
		if got, err := ParseAlgorithms(list); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
}

// Nobody gets in by the key that is used where there is none, and using it is
// a check of a signature like any other.
func TestDecoys(t *testing.T) {
	all := decoys()
	i := theIssuer()
	if len(all) != len(Algorithms()) {
		t.Fatalf("%d decoys", len(all))
	}
	for _, kid := range []string{"rsa", "p256", "ed"} {
		alg := map[string]jose.SignatureAlgorithm{"rsa": jose.RS256, "p256": jose.ES256, "ed": jose.EdDSA}[kid]
		jws, err := jose.ParseSignedCompact(i.sign(t, alg, kid, good()), algorithms)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jws.Verify(all[alg].Key); !errors.Is(err, jose.ErrCryptoFailure) {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

// FuzzCheck checks that what is not signed is not accepted.
func FuzzCheck(f *testing.F) {
	i := theIssuer()
	r := i.rules(f)
	token := i.sign(f, jose.ES256, "p256", good())
	f.Add(token)
	f.Add(token[:len(token)-1])
	f.Add(i.sign(f, jose.EdDSA, "ed", good()))
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	seeds := map[string]bool{}
	for _, s := range []string{token, i.sign(f, jose.EdDSA, "ed", good())} {
		seeds[s[:strings.LastIndex(s, ".")]] = true
	}
	f.Fuzz(func(t *testing.T, token string) {
		Issuer(token)
		if got, err := r.Check(token, now); err == nil && !seeds[token[:strings.LastIndex(token, ".")]] {
			t.Fatalf("%q is accepted as %+v", token, got)
		}
	})
}

// FuzzKeys checks that a key set that is accepted can be written and read again.
func FuzzKeys(f *testing.F) {
	f.Add(theIssuer().document(f))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		k, err := ParseKeys(document)
		if err != nil {
			return
		}
		b, err := k.Document()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), `"d":`) || strings.Contains(string(b), `"k":`) {
			t.Fatalf("secrets in %s", b)
		}
		again, err := ParseKeys(b)
		if err != nil || fmt.Sprint(again.IDs()) != fmt.Sprint(k.IDs()) {
			t.Fatalf("%s: %v", b, err)
		}
	})
}
