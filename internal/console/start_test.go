package console_test

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/console"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/oidc"
	"github.com/keepmq/keepmq/internal/oidc/oidctest"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/sqlite"
	"github.com/keepmq/keepmq/internal/topic"
)

// A fixture is a real console over TLS, on a registry in a SQLite file and the
// embedded engine on disk.
type fixture struct {
	url      string
	handler  http.Handler
	client   *http.Client // follows no redirects and keeps cookies
	registry *registry.Registry
	engine   engine.Engine
	first    registry.BootstrapResult
	stop     chan struct{}
	events   *quota.Log
	db       store.DB
	admin    registry.Actor
	provider *oidctest.Provider
	token    string
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB) *fixture { return startWith(t, 10*time.Second) }

// startWith is start with a time for each write to a browser.
func startWith(t testing.TB, writeIn time.Duration) *fixture {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	db, err := sqlite.Open(ctx, filepath.Join(dir, "state.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	ring, err := keyring.Open(ctx, dir, db)
	must(t, err)
	authority, err := ca.Open(ctx, db, ring)
	must(t, err)
	f := &fixture{stop: make(chan struct{}), events: quota.NewLog(nil)}
	f.registry = registry.New(registry.Config{DB: db, Ring: ring, Issuer: authority, Log: log})
	f.first, err = f.registry.Bootstrap(ctx)
	must(t, err)
	e, err := embedded.Open(ctx, embedded.Options{Dir: filepath.Join(dir, "messages"), Log: log,
		Sealer: func(ctx context.Context, org auth.OrgID) (embedded.Sealer, error) { return ring.Sealer(ctx, org) }})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	f.engine = e
	record, err := audit.Open(ctx, db, ring)
	must(t, err)
	f.db = db
	f.provider = oidctest.New(t)
	h, err := console.NewWith(console.Config{Registry: f.registry, OIDC: oidc.New(f.provider.Client()), Seal: ring, Engine: e, Audit: record, Log: log, Stop: f.stop,
		Usage: func(context.Context, auth.OrgID, string) (map[quota.Limit]int64, error) {
			return map[quota.Limit]int64{quota.OrgConnections: 12}, nil
		},
		LimitEvents: func(org auth.OrgID) []quota.Event { return f.events.Events(string(org)) }}, writeIn)
	must(t, err)

	s := httptest.NewUnstartedServer(h)
	cert, err := authority.ServerCertificate(ctx, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	must(t, err)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelInfo)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	f.url, f.handler = s.URL, h
	jar, err := cookiejar.New(nil)
	must(t, err)
	f.client = &http.Client{
		Jar:           jar,
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Roots(), MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(f.client.CloseIdleConnections)
	return f
}

// An answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// post sends a form.
func (f *fixture) post(t testing.TB, path string, values url.Values, header ...string) answer {
	t.Helper()
	return f.send(t, "POST", path, strings.NewReader(values.Encode()), header...)
}

func (f *fixture) do(t testing.TB, method, path string, header ...string) answer {
	t.Helper()
	return f.send(t, method, path, nil, header...)
}

func (f *fixture) send(t testing.TB, method, path string, body io.Reader, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, f.url+path, body)
	must(t, err)
	if method == "POST" {
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := f.client.Do(req)
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	return answer{res.StatusCode, res.Header, string(b)}
}

func (a answer) is(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("got status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

func (a answer) says(t testing.TB, text string) answer {
	t.Helper()
	if !strings.Contains(a.body, text) {
		t.Fatalf("the page does not say %q: %s", text, a.body)
	}
	return a
}

// signIn uses the first link, and remembers the session for direct questions.
func (f *fixture) signIn(t testing.TB) {
	t.Helper()
	f.do(t, "POST", "/sign-in/"+f.first.ConsoleCode.Reveal()).is(t, http.StatusSeeOther)
	u, err := url.Parse(f.url)
	must(t, err)
	for _, c := range f.client.Jar.Cookies(u) {
		f.token = c.Value
	}
	f.admin = registry.Actor{Principal: auth.Principal{Kind: auth.Person, ID: f.first.Administrator.ID}, Admin: true}
}

// publish sends a message into the engine as a device does through the broker.
func (f *fixture) publish(t testing.TB, org auth.OrgID, name, payload string) {
	t.Helper()
	n, err := topic.ParseName(name)
	must(t, err)
	done := make(chan error, 1)
	f.engine.Publish(context.Background(), &engine.Message{Org: org, Topic: n, Payload: []byte(payload),
		From: auth.Principal{Org: org, Kind: auth.Device, ID: "sensor:sensor-1"}}, func(err error) { done <- err })
	must(t, <-done)
}
