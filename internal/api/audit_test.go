package api_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/audit"
)

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	return n
}

func TestAudit(t *testing.T) {
	f := start(t)
	org := string(f.first.Org.ID)
	a := f.ask(t, f.admin, "POST", "/api/v1/orgs/"+org+"/types", map[string]any{"id": "pump"}).is(t, 201)
	var l struct {
		Items []struct{ Actor, Action, Target, Request, Org, Address string }
		Next  string
	}
	f.ask(t, f.admin, "GET", "/api/v1/audit?limit=1&org="+org, nil).is(t, 200).into(t, &l)
	e := l.Items[0]
	if e.Request != a.header.Get("X-Request-Id") || e.Org != org || e.Address != "127.0.0.1" || !strings.HasPrefix(e.Actor, "person:") || !strings.Contains(e.Target, "pump") {
		t.Errorf("the newest record is %+v", e)
	}
	if l.Next == "" {
		t.Error("there is no next page")
	}
	f.ask(t, f.admin, "GET", "/api/v1/audit?after=x", nil).is(t, 422)

	standard := application(f.first.Application.Key, f.first.ApplicationToken.Reveal())
	f.ask(t, standard, "GET", "/api/v1/audit", nil).is(t, 403)
	who := f.manager(t)
	f.ask(t, who, "GET", "/api/v1/audit?limit=1000", nil).is(t, 200).into(t, &l)
	for _, e := range l.Items {
		if e.Org != org {
			t.Errorf("an application sees a record of %q", e.Org)
		}
	}
	f.ask(t, standard, "GET", "/api/v1/audit/checkpoint", nil).is(t, 403)
	f.ask(t, standard, "GET", "/api/v1/audit/export", nil).is(t, 403)

	var c struct {
		Checkpoint  string
		VerifierKey string `json:"verifier_key"`
	}
	f.ask(t, f.admin, "GET", "/api/v1/audit/checkpoint", nil).is(t, 200).into(t, &c)
	f.ask(t, f.admin, "POST", "/api/v1/orgs/"+org+"/types", map[string]any{"id": "fan"}).is(t, 201)
	export := f.ask(t, f.admin, "GET", "/api/v1/audit/export", nil).is(t, 200)
	if got := export.header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("content type %q", got)
	}
	v, err := audit.VerifyExport(bytes.NewReader(export.body), c.VerifierKey, c.Checkpoint)
	must(t, err)
	if v.Records < 3 {
		t.Errorf("only %d records", v.Records)
	}
	changed := bytes.Replace(export.body, []byte("pump"), []byte("lamp"), 1)
	if _, err := audit.VerifyExport(bytes.NewReader(changed), c.VerifierKey); err == nil {
		t.Error("a changed export is verified")
	}
}

func TestAuditSearch(t *testing.T) {
	f := start(t)
	org := string(f.first.Org.ID)
	a := f.ask(t, f.admin, "POST", "/api/v1/orgs/"+org+"/types", map[string]any{"id": "pump"}).is(t, 201)
	f.ask(t, f.admin, "POST", "/api/v1/orgs/"+org+"/types", map[string]any{"id": "fan"}).is(t, 201)
	who := f.manager(t)
	search := func(query string) (found []string) {
		t.Helper()
		var l struct {
			Items []struct{ Action, Target, Org string }
			Next  string
		}
		f.ask(t, who, "GET", "/api/v1/audit?"+query, nil).is(t, 200).into(t, &l)
		for _, e := range l.Items {
			if e.Org != org {
				t.Errorf("%s: a record of %q", query, e.Org)
			}
			found = append(found, e.Action+" "+e.Target)
		}
		return found
	}
	for query, want := range map[string]string{
		"action=type.create&target=pump":          "[type.create pump]",
		"action=type.&limit=2":                    "[type.create fan type.create pump]",
		"request=" + a.header.Get("X-Request-Id"): "[type.create pump]",
		"address=127.0.0.1&target=fan":            "[type.create fan]",
		"address=127.0.0.2":                       "[]",
		"from=2020-01-01T00:00:00Z&target=pump":   "[type.create pump]",
		"until=2020-01-01T00:00:00%2B01:00":       "[]",
		"actor=nobody":                            "[]",
		"target=%1b%5b2J":                         "[]",
		"target=%27%20OR%201=1--":                 "[]",
	} {
		if got := fmt.Sprint(search(query)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for query, want := range map[string]string{
		"action=type.create.": "action must be a whole one", "from=yesterday": "from", "from=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z": "from must be before until",
		"limit=1001": "limit", "after=x": "after is not a position", "actor=" + strings.Repeat("x", 513): "actor", "target=%ff": "target must be UTF-8",
		"when=now": "when",
	} {
		if a := f.ask(t, who, "GET", "/api/v1/audit?"+query, nil).is(t, 422); !strings.Contains(string(a.body), want) {
			t.Errorf("%s: %s, want %q", query, a.body, want)
		}
	}
	f.ask(t, who, "GET", "/api/v1/audit?org=zzzzzz", nil).is(t, 404)
	f.ask(t, f.admin, "GET", "/api/v1/audit?org=zzzzzz", nil).is(t, 200)
}

// An organisation's own people export its records only, and can prove them.
func TestOrgExport(t *testing.T) {
	f := start(t)
	org := string(f.first.Org.ID)
	var other struct{ ID string }
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "hidden"}).is(t, 201).into(t, &other)
	f.ask(t, f.admin, "POST", "/api/v1/orgs/"+org+"/types", map[string]any{"id": "pump"}).is(t, 201)
	f.ask(t, f.admin, "POST", "/api/v1/orgs/"+other.ID+"/types", map[string]any{"id": "hidden"})
	who := f.manager(t)
	var c struct {
		VerifierKey string `json:"verifier_key"`
	}
	f.ask(t, who, "GET", "/api/v1/audit/checkpoint", nil).is(t, 200).into(t, &c)
	for format, kind := range map[string]string{"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"} {
		for _, query := range []string{"", "&org=" + org, "&action=type."} {
			a := f.ask(t, who, "GET", "/api/v1/audit/export?format="+format+query, nil).is(t, 200)
			if got := a.header.Get("Content-Type"); got != kind || a.header.Get("Content-Disposition") != "attachment" {
				t.Errorf("%s: content type %q", format, got)
			}
			v, err := audit.VerifyExport(bytes.NewReader(a.body), c.VerifierKey)
			if err != nil || string(v.Org) != org || v.Part != strings.Contains(query, "action") || v.Records < 1 {
				t.Errorf("%s%s: %+v, %v", format, query, v, err)
			}
			if !bytes.Contains(a.body, []byte("pump")) || bytes.Contains(a.body, []byte("hidden")) || bytes.Contains(a.body, []byte(other.ID)) {
				t.Errorf("%s%s: %s", format, query, a.body)
			}
		}
		a := f.ask(t, f.admin, "GET", "/api/v1/audit/export?format="+format+"&org="+other.ID, nil).is(t, 200)
		if v, err := audit.VerifyExport(bytes.NewReader(a.body), c.VerifierKey); err != nil || string(v.Org) != other.ID {
			t.Errorf("%+v, %v", v, err)
		}
	}
	f.ask(t, who, "GET", "/api/v1/audit/export?org="+other.ID, nil).is(t, 404)
	f.ask(t, who, "GET", "/api/v1/audit/export?org=zzzzzz", nil).is(t, 404)
	f.ask(t, who, "GET", "/api/v1/audit/export?format=xml", nil).is(t, 422)
	f.ask(t, who, "GET", "/api/v1/audit/export?action=.", nil).is(t, 422)
}

func TestAuditRetention(t *testing.T) {
	f := start(t)
	const path = "/api/v1/audit/retention"
	var r struct {
		Days, Default int
		Set           *int
	}
	f.ask(t, f.admin, "GET", path, nil).is(t, 200).into(t, &r)
	if r.Days != 0 || r.Set != nil {
		t.Errorf("%+v", r)
	}
	f.ask(t, f.admin, "PATCH", path, map[string]any{"days": 365}).is(t, 200).into(t, &r)
	if r.Days != 365 || r.Set == nil || *r.Set != 365 || r.Default != 0 {
		t.Errorf("%+v", r)
	}
	f.ask(t, f.admin, "PATCH", path, map[string]any{"days": nil}).is(t, 200)
	for _, bad := range []any{map[string]any{"days": 29}, map[string]any{"days": -1}, map[string]any{"days": "x"}, map[string]any{}} {
		f.ask(t, f.admin, "PATCH", path, bad).is(t, 422)
	}
	who := f.manager(t)
	f.ask(t, who, "GET", path, nil).is(t, 403)
	f.ask(t, who, "PATCH", path, map[string]any{"days": 30}).is(t, 403)
}

// What a caller may not do is counted on the record of whose it was.
func TestRefusalsAreOnRecord(t *testing.T) {
	f := start(t)
	org := string(f.first.Org.ID)
	var other struct{ ID string }
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "other"}).is(t, 201).into(t, &other)
	standard := application(f.first.Application.Key, f.first.ApplicationToken.Reveal())
	for range 3 {
		f.ask(t, standard, "GET", "/api/v1/audit", nil).is(t, 403)
	}
	for range 2 {
		f.ask(t, standard, "POST", "/api/v1/orgs/"+org+"/apps", map[string]any{"role": "owner"}).is(t, 403)
		f.ask(t, standard, "GET", "/api/v1/orgs/"+other.ID, nil).is(t, 404)
		f.ask(t, standard, "GET", "/api/v1/audit?org="+other.ID, nil).is(t, 404)
	}
	f.ask(t, application(f.first.Application.Key, "wrong"), "GET", "/api/v1/me", nil).is(t, 401)
	f.ask(t, func(r *http.Request) { r.Header.Set("Authorization", "Bearer wrong") }, "GET", "/api/v1/me", nil).is(t, 401)
	f.ask(t, f.manager(t), "PATCH", "/api/v1/audit/retention", map[string]any{"days": 30}).is(t, 403)
	f.ask(t, standard, "GET", "/api/v1/orgs/"+org+"/devices/x/x", nil).is(t, 404) // this is no refusal
	must(t, f.registry.RecordRefusals(t.Context(), true))
	counts := func(org string) map[string]int {
		var l struct {
			Items []struct {
				Action, Actor, Org, Target string
				Detail                     struct{ Count int }
			}
		}
		f.ask(t, f.admin, "GET", "/api/v1/audit?action=refuse."+org, nil).is(t, 200).into(t, &l)
		all := map[string]int{}
		for _, e := range l.Items {
			all[e.Org+" "+e.Action] += e.Detail.Count
		}
		return all
	}
	want := map[string]int{org + " refuse.permission": 6, org + " refuse.organisation": 4, org + " refuse.credential": 1}
	if got := counts("&org=" + org); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := counts("&org=" + other.ID); len(got) != 0 {
		t.Errorf("the other organisation has %v", got)
	}
	if got := counts(""); got[" refuse.session"] != 1 {
		t.Errorf("all: %v", got)
	}
}
