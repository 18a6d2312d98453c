package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/api"
)

func TestMalformedRequests(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		location                 string
	}{
		{"not JSON", "POST", "/api/v1/orgs", "{", 400, "body"},
		{"no body", "POST", "/api/v1/orgs", "", 400, ""},
		{"trailing data", "POST", "/api/v1/orgs", `{"name":"x"} {}`, 400, "body"},
		{"wrong type", "POST", "/api/v1/orgs", `{"name":7}`, 422, "body.name"},
		{"array", "POST", "/api/v1/orgs", `[]`, 422, "body"},
		{"null", "POST", org + "/types", `null`, 422, "body"},
		{"unknown field", "POST", "/api/v1/orgs", `{"name":"x","admin":true}`, 422, "body.admin"},
		{"bad enum", "POST", "/api/v1/orgs", `{"name":"x","profile":"house"}`, 422, "body.profile"},
		{"bad id", "POST", "/api/v1/orgs", `{"name":"x","id":"TOOLONG"}`, 422, "body.id"},
		{"missing field", "POST", org + "/devices", `{"type":"sensor"}`, 422, "body"},
		{"device id with slash", "POST", org + "/devices", `{"type":"sensor","id":"a/b"}`, 422, "body.id"},
		{"control character", "POST", "/api/v1/orgs", `{"name":"a\u001b[2J"}`, 422, ""},
		{"path", "GET", "/api/v1/orgs/UPPER1", "", 422, "path.org"},
		{"unknown query", "GET", "/api/v1/orgs?admin=1", "", 422, "query.admin"},
		{"too deep", "POST", "/api/v1/orgs", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), 400, "body"},
		{"ttl", "POST", org + "/devices/sensor/sensor-1/enrolments", `{"ttl_seconds":1}`, 422, "body.ttl_seconds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var in any
			if c.body != "" {
				in = c.body
			}
			p := f.ask(t, f.admin, c.method, c.path, in).is(t, c.status).problem(t)
			if c.location == "" {
				return
			}
			for _, e := range p.Errors {
				if e.Location == c.location {
					return
				}
			}
			t.Errorf("no error names %s: %+v", c.location, p)
		})
	}
}

func TestWhatNoRouteAnswers(t *testing.T) {
	f := start(t)
	f.ask(t, f.admin, "GET", "/api/v1/nothing", nil).is(t, 404)
	f.ask(t, f.admin, "GET", "/api/v2/orgs", nil).is(t, 404)
	f.ask(t, f.admin, "GET", "/", nil).is(t, 404)
	a := f.ask(t, f.admin, "PUT", "/api/v1/orgs", map[string]any{}).is(t, 405)
	if got := a.header.Get("Allow"); got != "GET, HEAD, POST" {
		t.Errorf("Allow: %q", got)
	}
	f.ask(t, f.admin, "GET", "/api/v1/orgs?limit="+strings.Repeat("1", 5000), nil).is(t, 414)
	f.ask(t, f.admin, "POST", "/api/v1/orgs", `{"name":"`+strings.Repeat("x", 70<<10)+`"}`).is(t, 413)
	for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml"} {
		req, err := http.NewRequest("POST", f.url+"/api/v1/orgs", strings.NewReader(`{"name":"x"}`))
		must(t, err)
		f.admin(req)
		req.Header.Set("Content-Type", media)
		f.do(t, f.client, req).is(t, 415)
	}
}

// A secret that breaks a rule must not come back in the refusal.
func TestRefusalRepeatsNoValue(t *testing.T) {
	f := start(t)
	long := strings.Repeat("s3cret", 200)
	a := f.ask(t, anonymous, "POST", "/api/v1/sign-in", map[string]string{"code": long}).is(t, 422)
	b := f.ask(t, anonymous, "POST", "/api/v1/enrol", `{"token":"s3cret","csr":7}`).is(t, 422)
	c := f.ask(t, anonymous, "POST", "/api/v1/sign-in", `{"code":"s3cret"`).is(t, 400)
	for _, a := range []answer{a, b, c} {
		if strings.Contains(string(a.body), "s3cret") {
			t.Errorf("the refusal repeats the secret: %.300s", a.body)
		}
	}
	if strings.Contains(f.log.String(), "s3cret") {
		t.Errorf("the log has the secret: %s", f.log)
	}
}

// What breaks inside is in the log, under the number that the caller is told.
func TestInternalErrorsStayInside(t *testing.T) {
	f := start(t)
	must(t, f.db.Close())
	p := f.ask(t, f.admin, "GET", "/api/v1/orgs", nil)
	if p.status != 500 && p.status != 503 {
		t.Fatalf("status %d", p.status)
	}
	got := p.problem(t)
	for _, inner := range []string{"sql", "database is closed", "state.db"} {
		if strings.Contains(string(p.body), inner) {
			t.Errorf("the answer tells %q: %s", inner, p.body)
		}
	}
	if !strings.Contains(f.log.String(), strings.TrimPrefix(got.Instance, "urn:uuid:")) {
		t.Errorf("the log does not have request %s:\n%s", got.Instance, f.log)
	}
}

func TestHeaders(t *testing.T) {
	f := start(t)
	for _, path := range []string{"/api/v1/orgs", "/api/v1/openapi.json", "/api/v1/ca.pem", "/healthz", "/readyz", "/nothing"} {
		a := f.ask(t, f.admin, "GET", path, nil)
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Referrer-Policy": "no-referrer",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if a.header.Get("X-Request-Id") == "" || a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: header %v", path, a.header)
		}
	}
}

func TestHealth(t *testing.T) {
	broken := errors.New("the disk is gone")
	var why error
	h := api.New(api.Config{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Ready: func(context.Context) error { return why }, Version: "test"})
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	if w := get("/readyz"); w.Code != 200 {
		t.Errorf("ready: %d", w.Code)
	}
	why = broken
	if w := get("/readyz"); w.Code != 503 || strings.Contains(w.Body.String(), "disk") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	if w := get("/healthz"); w.Code != 200 {
		t.Errorf("alive: %d", w.Code)
	}
}
