package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest makes any request: any method, path, query, credentials and body.
// It is answered, and never with an internal error; a refusal is a problem
// document that repeats no credential.
func FuzzRequest(f *testing.F) {
	for _, s := range [][3]string{
		{"POST", "/api/v1/orgs", `{"name":"North","id":"north1"}`},
		{"PATCH", "/api/v1/orgs/north1", `{"name":"South","disabled":true}`},
		{"GET", "/api/v1/orgs/north1/devices?limit=2&after=W10&type=pump&disabled=true", ""},
		{"POST", "/api/v1/orgs/north1/types", `{"id":"pump","class":"Gateway"}`},
		{"POST", "/api/v1/orgs/north1/devices", `{"type":"pump","id":"p-1","gateway":"gw:g1"}`},
		{"POST", "/api/v1/orgs/north1/devices/pump/p-1/token", ""},
		{"POST", "/api/v1/orgs/north1/users", `{"name":"ann","rules":[{"action":"publish","filter":"a/#","deny":true}]}`},
		{"POST", "/api/v1/orgs/north1/apps", `{"name":"dashboard"}`},
		{"POST", "/api/v1/enroll", `{"token":"t","csr":"-----BEGIN CERTIFICATE REQUEST-----\n"}`},
		{"POST", "/api/v1/sign-in", `{"code":"c"}`},
		{"GET", "/api/v1/audit?after=5&limit=1", ""},
		{"GET", "/api/v1/../%2e%2e/\x00", `[`},
		{"DELETE", "/api/v1/orgs/north1", `null`},
	} {
		f.Add(s[0], s[1], "application/json", true, []byte(s[2]))
		f.Add(s[0], s[1], "text/plain", false, []byte(s[2]))
	}
	x := start(f)
	f.Fuzz(func(t *testing.T, method, target, kind string, admin bool, body []byte) {
		path, query, _ := strings.Cut(target, "?")
		if strings.HasSuffix(path, "/sign-out") {
			return // it would end the session of all that follow
		}
		req := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: "localhost", RequestURI: target,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1",
			Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		}
		if admin {
			x.admin(req)
		}
		w := httptest.NewRecorder()
		x.handler.ServeHTTP(w, req.WithContext(t.Context()))
		if w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
			t.Fatalf("%s %q %q %s: %d %s", method, target, kind, body, w.Code, w.Body)
		}
		if w.Code >= 400 && method != http.MethodHead && w.Header().Get("Content-Type") == "application/problem+json" && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %q %s: %d %s", method, target, body, w.Code, w.Body)
		}
		if bytes.Contains(w.Body.Bytes(), []byte(x.token)) {
			t.Fatalf("%s %q %s: the answer holds the caller's token", method, target, body)
		}
	})
}
