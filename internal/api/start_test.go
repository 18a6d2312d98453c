package api_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/keepmq/keepmq/internal/alert"
	"github.com/keepmq/keepmq/internal/alert/webhook"
	"github.com/keepmq/keepmq/internal/api"
	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/sqlite"
)

// A fixture is a real server: the API over TLS, on a registry, an authority and
// an audit record in a SQLite file.
type fixture struct {
	url      string
	handler  http.Handler
	client   *http.Client
	roots    *x509.CertPool
	first    registry.BootstrapResult
	registry *registry.Registry
	db       store.DB
	log      *bytes.Buffer
	events   *quota.Log
	token    string // the administrator's
}

func start(t testing.TB) *fixture {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "state.db"))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	ring, err := keyring.Open(ctx, dir, db)
	must(t, err)
	authority, err := ca.Open(ctx, db, ring)
	must(t, err)
	log, err := audit.Open(ctx, db, ring)
	must(t, err)
	f := &fixture{log: &bytes.Buffer{}, events: quota.NewLog(nil), roots: authority.Roots(), db: db}
	logger := slog.New(slog.NewTextHandler(f.log, nil))
	f.registry = registry.New(registry.Config{DB: db, Ring: ring, Issuer: authority, Log: logger})
	f.first, err = f.registry.Bootstrap(ctx)
	must(t, err)

	s := httptest.NewUnstartedServer(api.New(api.Config{
		Registry: f.registry, Audit: log,
		Alerts: alert.New(alert.Config{DB: db, Ring: ring, Registry: f.registry, Webhooks: webhook.New(webhook.Guard{}, nil), Log: logger}),
		CA:     authority.RootPEM(), Chain: authority.Chain, Log: logger, Version: "test",
		Usage: func(_ context.Context, _ auth.OrgID, typ string) (map[quota.Limit]int64, error) {
			if typ != "" {
				return map[quota.Limit]int64{quota.TypeConnections: 2}, nil
			}
			return map[quota.Limit]int64{quota.OrgConnections: 3}, nil
		},
		LimitEvents: func(org auth.OrgID) []quota.Event { return f.events.Events(string(org)) },
	}))
	cert, err := authority.ServerCertificate(ctx, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	must(t, err)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven,
		ClientCAs: authority.ClientAuthorities(), MinVersion: tls.VersionTLS12}
	s.Config.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelInfo)
	s.StartTLS()
	t.Cleanup(s.Close)
	f.url, f.handler = s.URL, s.Config.Handler
	f.client = f.with(nil)
	f.token = f.signIn(t)
	return f
}

// with returns a client that presents a certificate, if it is given one.
func (f *fixture) with(cert *tls.Certificate) *http.Client {
	c := &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
}

func (f *fixture) signIn(t testing.TB) string {
	t.Helper()
	var out struct{ Token string }
	f.ask(t, anonymous, "POST", "/api/v1/sign-in", map[string]string{"code": f.first.CLICode.Reveal()}).is(t, 200).into(t, &out)
	return out.Token
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A caller sets who makes a request.
type caller func(*http.Request)

func anonymous(*http.Request) {}

func (f *fixture) admin(r *http.Request) { r.Header.Set("Authorization", "Bearer "+f.token) }

func application(key, token string) caller {
	return func(r *http.Request) { r.SetBasicAuth(key, token) }
}

// An answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask makes a request. A string is sent as it is, anything else as JSON.
// manager returns an API key of the first organisation that may do nearly all.
func (f *fixture) manager(t testing.TB) caller {
	t.Helper()
	var k struct{ Key, Token string }
	f.ask(t, f.admin, "POST", "/api/v1/orgs/"+string(f.first.Org.ID)+"/apps", map[string]any{"role": "manager"}).is(t, 201).into(t, &k)
	return application(k.Key, k.Token)
}

func (f *fixture) ask(t testing.TB, who caller, method, path string, in any) answer {
	t.Helper()
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case string:
		body = bytes.NewReader([]byte(in))
	default:
		b, err := json.Marshal(in)
		must(t, err)
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, f.url+path, body)
	must(t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	who(req)
	return f.do(t, f.client, req)
}

func (f *fixture) do(t testing.TB, c *http.Client, req *http.Request) answer {
	t.Helper()
	res, err := c.Do(req)
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	return answer{res.StatusCode, res.Header, b}
}

// is checks the status; a refusal must be a problem document.
func (a answer) is(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("got status %d, want %d: %s", a.status, status, a.body)
	}
	if status >= 400 {
		a.problem(t)
	}
	return a
}

func (a answer) into(t testing.TB, out any) {
	t.Helper()
	if err := json.Unmarshal(a.body, out); err != nil {
		t.Fatalf("decode %s: %v", a.body, err)
	}
}

type problem struct {
	Status          int
	Title, Detail   string
	Instance        string
	Errors          []struct{ Message, Location string }
	Value, Password any // must never be there
}

// problem checks that a is a problem document with everything one must have.
func (a answer) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("refusal has content type %q: %s", got, a.body)
	}
	a.into(t, &p)
	if p.Status != a.status || p.Title == "" || p.Detail == "" || p.Instance != "urn:uuid:"+a.header.Get("X-Request-Id") {
		t.Errorf("problem document is not complete: %s", a.body)
	}
	return p
}
