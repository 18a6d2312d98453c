package auth_test

import (
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

func TestParseOrgID(t *testing.T) {
	for s, ok := range map[string]bool{
		"abc123": true, "000000": true, "": false, "abc12": false, "abc1234": false, "ABC123": false, "abc-12": false, "abc/12": false, "abcé1": false, "abc12+": false,
	} {
		id, err := auth.ParseOrgID(s)
		if (err == nil) != ok || ok && string(id) != s || !ok && (errs.CodeOf(err) != errs.Invalid || id != "") {
			t.Errorf("ParseOrgID(%q) = %q, %v", s, id, err)
		}
	}
}

func TestCheckName(t *testing.T) {
	for s, ok := range map[string]bool{
		"a": true, "A-b_c.9": true, strings.Repeat("a", 36): true, "..": true,
		"": false, strings.Repeat("a", 37): false, "a/b": false, "a:b": false, "+": false, "#": false, "a b": false, "é": false, "a\x00": false, "%": false,
	} {
		if err := auth.CheckName("device id", s); (err == nil) != ok || !ok && errs.CodeOf(err) != errs.Invalid {
			t.Errorf("CheckName(%q): %v", s, err)
		}
	}
}

func TestPrincipal(t *testing.T) {
	d := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "t:d"}
	if got := d.String(); got != "device:abc123:t:d" {
		t.Errorf("String = %q", got)
	}
	if typ, id := d.TypeAndID(); typ != "t" || id != "d" {
		t.Errorf("TypeAndID = %q, %q", typ, id)
	}
	for p, covers := range map[auth.Principal]bool{
		d:               true,
		{Org: "abc123"}: true,
		{Org: "xyz789"}: false,
		{}:              false,
		{Org: "abc123", Kind: auth.Gateway, ID: "t:d"}: false,
		{Org: "xyz789", Kind: auth.Device, ID: "t:d"}:  false,
		{Org: "abc123", Kind: auth.Device, ID: "t:d2"}: false,
	} {
		if p.Covers(d) != covers {
			t.Errorf("%v covers %v: %v", p, d, !covers)
		}
	}
	if d.Covers(auth.Principal{Org: "abc123"}) {
		t.Error("a device stands for its organisation")
	}
}
