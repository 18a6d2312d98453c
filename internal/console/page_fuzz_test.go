package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzPage asks for any page, with any cookie and any code, from anywhere. A
// stranger gets no page that is for people who are signed in, and no error of ours.
func FuzzPage(f *testing.F) {
	x := start(f)
	for _, s := range [][3]string{
		{"GET", "/", ""}, {"GET", "/events", "x"}, {"GET", "/audit?actor=%00&from=x&after=1.1", "x"}, {"POST", "/sign-out", "x"}, {"GET", "/sign-in", ""}, {"GET", "/sign-in/c", ""},
		{"POST", "/sign-in/c", ""}, {"GET", "/assets/style.css", ""}, {"GET", "/assets/../x", "\x00"}, {"GET", "/%2e%2e/", "a=b; c"},
	} {
		f.Add(s[0], s[1], s[2], "same-origin")
		f.Add(s[0], s[1], s[2], "cross-site")
	}
	f.Fuzz(func(t *testing.T, method, target, cookie, site string) {
		path, query, _ := strings.Cut(target, "?")
		r := &http.Request{
			Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: "localhost", RequestURI: target,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1", Body: http.NoBody,
			Header: http.Header{"Cookie": {cookie, "__Host-keepmq=" + cookie}, "Sec-Fetch-Site": {site}, "Origin": {site}},
		}
		w := httptest.NewRecorder()
		x.handler.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
			t.Fatalf("%s %q %q: %d %s", method, target, cookie, w.Code, w.Body)
		}
		if (path == "/" || path == "/events" || path == "/audit") && w.Code == http.StatusOK {
			t.Fatalf("%s %q %q: a stranger is let in", method, target, cookie)
		}
		if strings.Contains(w.Header().Get("Set-Cookie"), "=") && w.Code == http.StatusSeeOther && method == "POST" && strings.HasPrefix(path, "/sign-in/") {
			t.Fatalf("%s %q: signed in with a code of nobody", method, target)
		}
	})
}
