package sasl

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// The example of RFC 7677, 3.
const (
	vectorFirst     = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	vectorNonce     = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	vectorChallenge = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	vectorFinal     = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	vectorSuccess   = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func vector(t testing.TB) (*Scram, Keys) {
	t.Helper()
	s, err := ParseScram([]byte(vectorFirst))
	if err != nil {
		t.Fatal(err)
	}
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if got := string(s.challenge(vectorNonce, salt)); got != vectorChallenge {
		t.Fatalf("challenge %q", got)
	}
	k, err := NewKeys("pencil", salt)
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

func TestVector(t *testing.T) {
	s, k := vector(t)
	p, err := s.Final([]byte(vectorFinal))
	if err != nil {
		t.Fatal(err)
	}
	if s.Username != "user" || s.Authzid != "" || !p.Check(k) {
		t.Errorf("user %q, %q: the proof is refused", s.Username, s.Authzid)
	}
	if got := string(p.Success(k)); got != vectorSuccess {
		t.Errorf("last message %q", got)
	}
	k.Stored[0]++
	if p.Check(k) {
		t.Error("another password is accepted")
	}
}

func TestFinal(t *testing.T) {
	change := func(old, with string) string { return strings.Replace(vectorFinal, old, with, 1) }
	for why, msg := range map[string]string{
		"nothing":                 "",
		"no header":               change("c=biws,", ""),
		"y,, for n,,":             change("biws", "eSws"),
		"channel binding data":    change("biws", "biwsMDEyMw=="),
		"header not encoded":      change("biws", "n,,"),
		"spare bits":              change("biws", "biwt"),
		"a line end":              change("biws", "bi\nws"),
		"another nonce":           change("rOpr", "rOpx"),
		"the client's nonce":      change(vectorNonce, ""),
		"a longer nonce":          change("k0,", "k00,"),
		"no nonce":                change("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,", ""),
		"other order":             "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,c=biws,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		"no proof":                vectorFinal[:strings.Index(vectorFinal, ",p=")],
		"empty proof":             vectorFinal[:strings.Index(vectorFinal, ",p=")] + ",p=",
		"short proof":             vectorFinal[:strings.Index(vectorFinal, ",p=")] + ",p=AAAA",
		"long proof":              change("dHzb", "dHzbdHzb"),
		"something behind":        vectorFinal + ",x=y",
		"mandatory extension":     change(",p=", ",m=x,p="),
		"mandatory, before proof": strings.Replace(vectorFinal, ",p=", ",m=x,y=z,p=", 1),
		"attribute without value": change(",p=", ",x=,p="),
		"NUL":                     change(",p=", ",x=\x00,p="),
		"long":                    strings.Replace(vectorFinal, ",p=", ",x="+strings.Repeat("x", MaxMessage)+",p=", 1),
	} {
		s, _ := vector(t)
		if _, err := s.Final([]byte(msg)); err == nil {
			t.Errorf("%s: is accepted", why)
		}
	}
	s, k := vector(t)
	p, err := s.Final([]byte(strings.Replace(vectorFinal, ",p=", ",x=y,p=", 1)))
	if err != nil || p.Check(k) {
		t.Errorf("an extension that the proof does not cover: %v", err)
	}
	fresh, _ := ParseScram([]byte(vectorFirst))
	if _, err := fresh.Final([]byte(vectorFinal)); err == nil {
		t.Error("a proof before the challenge is accepted")
	}
}

func TestParseScram(t *testing.T) {
	for msg, want := range map[string]string{
		"n,,n=user,r=x":             "user",
		"y,,n=user,r=x":             "user",
		"n,,n=a=2Cb=3Dc,r=x":        "a,b=c",
		"n,a=me,n=org/user,r=x":     "org/user",
		"n,,n=user,r=x,e=ignored":   "user",
		"n,,n=use-token-auth,r=~!%": "use-token-auth",
		"n,,n=jürgen,r=x":           "jürgen",
	} {
		s, err := ParseScram([]byte(msg))
		if err != nil || s.Username != want {
			t.Errorf("%q: %v, %v", msg, s, err)
		}
	}
	for _, msg := range []string{
		"", "n", "n,", "n,,", "n,,n=", "n,,n=u", "n,,n=u,", "n,,n=u,r", "n,,n=u,r=", "n,,r=x,n=u", "n,,n=,r=x",
		"x,,n=u,r=x", ",,n=u,r=x", "N,,n=u,r=x", "p=tls-unique,,n=u,r=x", "p=,,n=u,r=x", "n,me,n=u,r=x", "n,a=,n=u,r=x", "n,a=x=,n=u,r=x",
		"n,,m=x,n=u,r=x", "n,,n=u=,r=x", "n,,n=u=2c,r=x", "n,,n=u=3d,r=x", "n,,n=u=20,r=x", "n,,n=\xff,r=x", "n,,n=a\x00b,r=x",
		"n,,n=u,r=a b", "n,,n=u,r=\x7f", "n,,n=u,r=x,", "n,,n=u,r=x,y", "n,,n=u,r=x,1=y", "n,,n=u,r=x,xx=y",
		"n,,n=u,r=" + strings.Repeat("x", maxNonce+1), "n,,n=u,r=x,x=" + strings.Repeat("y", MaxMessage),
	} {
		if s, err := ParseScram([]byte(msg)); err == nil {
			t.Errorf("%.60q is accepted as %q", msg, s.Username)
		}
	}
}

func TestNonces(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		s, err := ParseScram([]byte(vectorFirst))
		if err != nil {
			t.Fatal(err)
		}
		c := string(s.Challenge([]byte("0123456789abcdef")))
		if seen[c] || !strings.HasPrefix(c, "r=rOprNGfwEbeRWgbNEkqO") {
			t.Fatalf("challenge %q", c)
		}
		seen[c] = true
	}
}

// FuzzScram checks that what is accepted means what it says, and that nothing a
// client writes proves a password.
func FuzzScram(f *testing.F) {
	f.Add([]byte(vectorFirst), []byte(vectorFinal))
	f.Add([]byte("y,a=me,n=a=2Cb=3D,r=x,e=x"), []byte("c=eSxhPW1lLA==,r=x%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,x=y,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="))
	f.Add([]byte("p=tls-unique,,n=u,r=x"), []byte("c=biws,m=x,r=x,p=AAAA"))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		s, err := ParseScram(first)
		if err != nil {
			return
		}
		if s.Username == "" || !strings.HasSuffix(string(first), s.bare) || s.gs2+s.bare != string(first) || s.gs2[0] == 'p' {
			t.Fatalf("%q is read as %+v", first, s)
		}
		if strings.Count(s.gs2, ",") != 2 {
			t.Fatalf("header %q", s.gs2)
		}
		client := s.nonce
		s.challenge(vectorNonce, []byte("salt"))
		p, err := s.Final(final)
		if err != nil {
			return
		}
		if !strings.Contains(string(final), "r="+client+vectorNonce) || !strings.HasPrefix(string(final), "c=") {
			t.Fatalf("%q answers %q", final, s.first)
		}
		if p.Check(Keys{Stored: [32]byte{1}}) {
			t.Fatal("a proof without a password")
		}
	})
}

// The examples of RFC 4013, 3, and what they mean for passwords and names.
func TestSASLprep(t *testing.T) {
	for in, want := range map[string]string{"I\u00adX": "IX", "user": "user", "USER": "USER", "\u00aa": "a", "\u2168": "IX"} {
		if got, err := Prepare(in); err != nil || got != want {
			t.Errorf("%q is prepared as %q, %v", in, got, err)
		}
		a, err := NewKeys(in, []byte("salt"))
		b, err2 := NewKeys(want, []byte("salt"))
		if err != nil || err2 != nil || a != b {
			t.Errorf("the keys of %q and %q differ: %v %v", in, want, err, err2)
		}
	}
	for _, in := range []string{"\u0007", "\u0627\u0031", "\xff"} {
		if got, err := Prepare(in); !errors.Is(err, ErrPrepare) {
			t.Errorf("%q is prepared as %q, %v", in, got, err)
		}
		if _, err := NewKeys(in, []byte("salt")); !errors.Is(err, ErrPrepare) {
			t.Errorf("%q has keys: %v", in, err)
		}
		if s, err := ParseScram([]byte("n,,n=" + in + ",r=nonce")); err == nil {
			t.Errorf("%q is the name %q", in, s.Username)
		}
	}
	if s, err := ParseScram([]byte("n,,n=I\u00adX,r=nonce")); err != nil || s.Username != "IX" {
		t.Errorf("%v", err)
	}
	if _, err := ParseScram([]byte("n,,n=\u00ad,r=nonce")); err == nil {
		t.Error("a name of nothing is one")
	}
}
