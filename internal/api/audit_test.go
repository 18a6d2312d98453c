package api_test

import (
	"bytes"
	"crypto/rand"
	"math/big"
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

	who := application(f.first.Application.Key, f.first.ApplicationToken.Reveal())
	f.ask(t, who, "GET", "/api/v1/audit?limit=1000", nil).is(t, 200).into(t, &l)
	for _, e := range l.Items {
		if e.Org != org {
			t.Errorf("an application sees a record of %q", e.Org)
		}
	}
	f.ask(t, who, "GET", "/api/v1/audit/checkpoint", nil).is(t, 403)
	f.ask(t, who, "GET", "/api/v1/audit/export", nil).is(t, 403)

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
