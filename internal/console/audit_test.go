package console_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/store"
)

// record puts an event on the audit record whose every text is s.
func (f *fixture) recorded(t *testing.T, s string) {
	t.Helper()
	must(t, f.db.Update(context.Background(), func(tx *store.Tx) error {
		return audit.Append(context.Background(), tx, audit.Event{Org: f.first.Org.ID, Actor: auth.Principal{Org: f.first.Org.ID, Kind: auth.User, ID: s},
			Action: "x." + strings.NewReplacer(" ", "_", "\n", "_").Replace(s), Target: s, Address: s, RequestID: s, Detail: map[string]any{s: s}})
	}))
}

func TestAuditPage(t *testing.T) {
	f := start(t)
	org := string(f.first.Org.ID)
	path := "/audit?org=" + org
	f.do(t, "GET", path).is(t, http.StatusUnauthorized)
	f.signIn(t)
	_, err := f.registry.CreateDeviceType(context.Background(), f.admin, registry.DeviceType{Org: f.first.Org.ID, ID: "pump"})
	must(t, err)
	_, err = f.registry.CreateOrg(context.Background(), f.admin, registry.Org{ID: "second"})
	must(t, err)
	a := f.do(t, "GET", path).is(t, 200).says(t, "<code>type.create</code>").says(t, "<td>pump</td>").says(t, "What was done")
	checkPage(t, path, a.body)
	if strings.Contains(a.body, "<td>second</td>") {
		t.Error("another organisation's records are shown")
	}
	f.do(t, "GET", "/audit").is(t, 200).says(t, "<td>second</td>").says(t, "All organisations")
	for query, want := range map[string]string{
		"&action=type.&target=pump": "<td>pump</td>", "&target=nothing": "Nothing.", "&from=2020-01-01&until=2020-01-02": "Nothing.",
		"&from=2020-01-01T00:00:00Z&action=type.create": "<td>pump</td>",
	} {
		checkPage(t, query, f.do(t, "GET", path+query).is(t, 200).says(t, want).says(t, "What was found").body)
	}
	for query, want := range map[string]string{"&from=yesterday": "rom must be a day", "&action=.": "ction must be", "&after=x": "fter is not", "&from=2026-01-02&until=2026-01-01": "rom must be before until"} {
		f.do(t, "GET", path+query).is(t, 400).says(t, want)
	}
	f.do(t, "GET", "/audit?org=%3Cscript%3E").is(t, 404)

	for i := range 130 {
		f.recorded(t, fmt.Sprint("many", i))
	}
	seen := 0
	for next := path + "&action=x."; next != ""; {
		a := f.do(t, "GET", next).is(t, 200)
		seen += strings.Count(a.body, "<code>x.many")
		before, _, ok := strings.Cut(a.body, `" rel="next"`)
		if next = ""; ok {
			next = html.UnescapeString(before[strings.LastIndex(before, `"`)+1:])
		}
	}
	if seen != 130 {
		t.Errorf("%d records on all pages, want 130", seen)
	}
	f.do(t, "GET", "/?org="+org).is(t, 200).says(t, `href="/audit?org=`+org)
}

// What others have written never is markup, nor hides what stands beside it,
// whether it was recorded or is searched for.
func TestAuditPageShowsText(t *testing.T) {
	f := start(t)
	f.signIn(t)
	path := "/audit?org=" + string(f.first.Org.ID)
	f.recorded(t, "plain")
	plain := strings.Count(f.do(t, "GET", path+"&target=plain").is(t, 200).says(t, "<td>plain</td>").body, "<")
	for _, s := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' autofocus onfocus='alert(1)`, `javascript:alert(1)`, `</code></td></table><h1>`,
		`{{.Org}}`, "\u202egnp.exe\u2066", "\x1b[2J\u009b31m", "a\x00b", "\u2028", `&lt;b&gt;`, `<svg/onload=alert(1)>`, `]]><!--`,
	} {
		f.recorded(t, s)
		for _, query := range []string{"", "&target=" + url.QueryEscape(s), "&actor=" + url.QueryEscape(s) + "&after=99999999999999999.1"} {
			a := f.do(t, "GET", path+query)
			if a.status != 200 && (a.status != 400 || !strings.Contains(s, "\x00")) {
				t.Fatalf("%q: %d", s, a.status)
			}
			body := a.body
			if n := strings.Count(body, "<"); strings.HasPrefix(query, "&target") && a.status == 200 && n != plain {
				t.Errorf("%q: the page has %d tags, and with plain text %d", s, n, plain)
			}
			for _, bad := range []string{"<script>a", "<img src=x", "<svg/", "<!--", "</table><h1>", `" onerror`, `' autofocus`} {
				if strings.Contains(body, bad) {
					t.Errorf("%q is shown as %q", s, bad)
				}
			}
			if query == "" {
				if i := strings.IndexFunc(body, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }); i >= 0 {
					t.Errorf("%q: the page has %q", s, body[i:min(len(body), i+10)])
				}
			}
		}
	}
}
