package sasl

import (
	"strings"
	"testing"
)

func TestParseBearer(t *testing.T) {
	for msg, want := range map[string]Bearer{
		"n,,\x01auth=Bearer abc.def-_~+/==\x01\x01":                                 {"", "abc.def-_~+/=="},
		"y,,\x01auth=bearer x\x01\x01":                                              {"", "x"},
		"n,a=org/user,\x01auth=Bearer x\x01\x01":                                    {"org/user", "x"},
		"n,a=u=2Cv,\x01host=mqtt.example.com\x01port=8883\x01auth=BEARER x\x01\x01": {"u,v", "x"},
	} {
		if got, err := ParseBearer([]byte(msg)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", msg, got, err)
		}
	}
	for _, msg := range []string{
		"", "\x01", "n,,", "n,,\x01", "n,,\x01\x01", "n,,\x01\x01\x01", "n,,\x01auth=Bearer x", "n,,\x01auth=Bearer x\x01", "n,,auth=Bearer x\x01\x01",
		"n,,\x01auth=Bearer x\x01\x01\x01", "n,,\x01auth=Bearer x\x01\x01x", "n,,\x01auth=Bearer x\x01auth=Bearer x\x01\x01", "n,,\x01auth=Bearer \x01\x01",
		"n,,\x01auth=Bearer  x\x01\x01", "n,,\x01auth=Basic x\x01\x01", "n,,\x01auth=x\x01\x01", "n,,\x01auth=\x01\x01", "n,,\x01auth=Bearer x y\x01\x01",
		"n,,\x01auth=Bearer =\x01\x01", "n,,\x01auth=Bearer x=x\x01\x01", "n,,\x01auth=Bearer \xff\x01\x01", "n,,\x01host=x\x01\x01", "n,,\x01=x\x01auth=Bearer x\x01\x01",
		"n,,\x01ho st=x\x01auth=Bearer x\x01\x01", "n,,\x01host=\x00\x01auth=Bearer x\x01\x01", "n,,\x01host\x01auth=Bearer x\x01\x01",
		"p=tls-unique,,\x01auth=Bearer x\x01\x01", "x,,\x01auth=Bearer x\x01\x01", "n,a=,\x01auth=Bearer x\x01\x01", "n,b=x,\x01auth=Bearer x\x01\x01",
		"Bearer x", "x", "n,,\x01auth=Bearer " + strings.Repeat("x", MaxMessage) + "\x01\x01",
	} {
		if got, err := ParseBearer([]byte(msg)); err == nil {
			t.Errorf("%.60q is accepted as %+v", msg, got)
		}
	}
}

// Nothing of a message is in the error that refuses it: it holds a token.
func TestBearerErrors(t *testing.T) {
	_, err := ParseBearer([]byte("n,,\x01auth=Bearer sesame\x01"))
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Error(err)
	}
}

// FuzzBearer checks that a token that is found stands in the message.
func FuzzBearer(f *testing.F) {
	for _, s := range []string{
		"n,,\x01auth=Bearer abc.def\x01\x01", "y,a=u=2Cv,\x01host=h\x01port=1\x01auth=bearer x==\x01\x01", "p=x,,\x01auth=Bearer x\x01\x01", "\x01",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		b, err := ParseBearer(msg)
		if err != nil {
			if b != (Bearer{}) {
				t.Fatalf("%q is refused with %+v", msg, b)
			}
			return
		}
		if !isToken(b.Token) || !strings.HasSuffix(string(msg), "\x01\x01") ||
			!strings.Contains(strings.ToLower(string(msg)), "\x01auth=bearer "+strings.ToLower(b.Token)+"\x01") {
			t.Fatalf("%q is read as %+v", msg, b)
		}
	})
}
