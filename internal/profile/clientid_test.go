package profile_test

import (
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/profile"
)

var (
	n36 = strings.Repeat("x", 36)
	n37 = strings.Repeat("x", 37)
)

func TestParseClientID(t *testing.T) {
	tests := map[string]profile.ClientID{
		"d:abc123:t:d":                {Kind: auth.Device, Org: "abc123", Type: "t", ID: "d"},
		"d:abc123:" + n36 + ":" + n36: {Kind: auth.Device, Org: "abc123", Type: n36, ID: n36},
		"d:abc123:T-1_2.3:..":         {Kind: auth.Device, Org: "abc123", Type: "T-1_2.3", ID: ".."},
		"g:abc123:gw:g1":              {Kind: auth.Gateway, Org: "abc123", Type: "gw", ID: "g1"},
		"a:abc123:app1":               {Kind: auth.Application, Org: "abc123", App: "app1"},
		"A:abc123:app1":               {Kind: auth.Application, Org: "abc123", App: "app1", Scalable: true},
		"A:abc123:app1:i1":            {Kind: auth.Application, Org: "abc123", App: "app1", Instance: "i1", Scalable: true},
		"A:abc123:" + n36 + ":" + n36: {Kind: auth.Application, Org: "abc123", App: n36, Instance: n36, Scalable: true},
		"":                            {},
		"d":                           {},
		"d:":                          {},
		"d:abc123":                    {},
		"d:abc123:":                   {},
		"d:abc123:t":                  {},
		"d:abc123:t:":                 {},
		"d:abc123::d":                 {},
		"d:abc123:t:d:":               {},
		"d:abc123:t:d:x":              {},
		"d::t:d":                      {},
		"d:ABC123:t:d":                {},
		"d:abc12:t:d":                 {},
		"d:abc1234:t:d":               {},
		"D:abc123:t:d":                {},
		"G:abc123:t:d":                {},
		" d:abc123:t:d":               {},
		"d:abc123:t:d ":               {},
		"d:abc123:t:d\n":              {},
		"d:abc123:t:d\x00":            {},
		"d:abc123:" + n37 + ":d":      {},
		"d:abc123:t:" + n37:           {},
		"d:abc123:t/x:d":              {},
		"d:abc123:+:+":                {},
		"d:abc123:t:#":                {},
		"d:abc123:t:é":                {},
		"d:abc123:t:%u":               {},
		"g:abc123:gw":                 {},
		"g:abc123:gw:g1:x":            {},
		"a:abc123":                    {},
		"a:abc123:":                   {},
		"a:abc123:app1:":              {},
		"a:abc123:app1:i1":            {},
		"a:abc123:app 1":              {},
		"a:abc123:" + n37:             {},
		"A:abc123":                    {},
		"A:abc123:":                   {},
		"A:abc123:app1:":              {},
		"A:abc123::i1":                {},
		"A:abc123:app1:i1:x":          {},
		"A:abc123:app1:" + n37:        {},
		"x:abc123:t:d":                {},
		":abc123:t:d":                 {},
		"mqttjs_1234":                 {},
		"d-abc123-t-d":                {},
		"d:abc123:t:d" + strings.Repeat(":", 65000): {},
	}
	for s, want := range tests {
		got, err := profile.ParseClientID(s)
		if got != want || (err == nil) != (want.Kind != 0) || err != nil && errs.CodeOf(err) != errs.Invalid {
			t.Errorf("ParseClientID(%.60q) = %+v, %v, want %+v", s, got, err, want)
		}
		if err == nil && got.String() != s {
			t.Errorf("%q is written as %q", s, got)
		}
	}
}

func FuzzParseClientID(f *testing.F) {
	for _, s := range []string{"d:abc123:t:d", "g:abc123:t:d", "a:abc123:app", "A:abc123:app", "A:abc123:app:i", "d:abc123:t:d:x", "A:abc123:a:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := profile.ParseClientID(s)
		if err != nil {
			if c != (profile.ClientID{}) || errs.CodeOf(err) != errs.Invalid {
				t.Fatalf("ParseClientID(%q) = %+v, %v", s, c, err)
			}
			return
		}
		if c.String() != s || len(s) > 2+6+1+36+1+36 || strings.ContainsAny(s, "/+#%\x00 ") {
			t.Fatalf("ParseClientID(%q) = %+v, which is written as %q", s, c, c)
		}
	})
}
