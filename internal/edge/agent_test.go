package edge

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/edge/sources"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// agent is one run of the whole agent.
type agent struct {
	stop func() error
	log  *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func config(dir, token string) (Config, *safeBuffer) {
	log := &safeBuffer{}
	return Config{
		Dir: dir, Interval: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil)),
		Token: func() (secret.String, error) { return secret.New(token), nil },
	}, log
}

func startAgent(c Config, log *safeBuffer) *agent {
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- Run(ctx, c) }()
	return &agent{func() error { cancel(); return <-result }, log}
}

// TestAgent is the whole way: enrol, connect with the certificate, deliver;
// stop, start again with nothing but the folder, and go on.
func TestAgent(t *testing.T) {
	a := newAuthority(t)
	b := newBrokerOf(t, a)
	dir := t.TempDir()
	c, log := config(dir, "good")
	c.Server, c.Broker, c.CA = a.url, b.address, a.pem()
	var who Identity
	c.Enrolled = func(i Identity) { who = i }
	run := startAgent(c, log)
	b.wait(func() bool { return len(b.delivered) >= 12 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	if who.ClientID() != "d:abc123:sensor:s-1" {
		t.Errorf("enrolled as %v", who)
	}
	if strings.Contains(log.String(), "good") || strings.Contains(log.String(), "PRIVATE") {
		t.Errorf("a secret is in the log:\n%s", log)
	}
	before, _ := b.seen()

	again, log := config(dir, "")
	run = startAgent(again, log)
	b.wait(func() bool { return len(b.delivered) >= len(before)+12 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	delivered, topics := b.seen()
	last, seen := time.Time{}, map[string]bool{}
	for i, payload := range delivered {
		var r struct {
			Time   time.Time
			Source string
		}
		if err := json.Unmarshal([]byte(payload), &r); err != nil {
			t.Fatal(err)
		}
		if r.Time.Before(last) || time.Since(r.Time) > time.Minute {
			t.Errorf("reading %d has the time %v after %v", i, r.Time, last)
		}
		if seen[payload] {
			t.Errorf("twice: %s", payload)
		}
		if topics[i] != "iot-2/evt/"+r.Source+"/fmt/json" {
			t.Errorf("%s is on %s", payload, topics[i])
		}
		last, seen[payload] = r.Time, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range b.clients {
		if name != "d:sensor:s-1 as d:abc123:sensor:s-1" {
			t.Errorf("connected by %s", name)
		}
	}
}

// TestAgentRenews: the certificate is renewed while the agent runs, and the
// next connection uses it.
func TestAgentRenews(t *testing.T) {
	a := newAuthority(t)
	b := newBrokerOf(t, a)
	a.set(func() {
		a.life = 3 * time.Second
		a.answer = func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-5 * time.Second) }
	})
	c, log := config(t.TempDir(), "good")
	c.Server, c.Broker, c.CA = a.url, b.address, a.pem()
	run := startAgent(c, log)
	b.wait(func() bool { return len(b.serials) >= 2 && b.serials[0] != b.serials[len(b.serials)-1] })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	if a.set(func() {}); a.renewed == 0 || strings.Contains(log.String(), "expired;") {
		t.Errorf("renewed %d times:\n%s", a.renewed, log)
	}
}

func TestAgentDoesNotStart(t *testing.T) {
	a := newAuthority(t)
	full := func(dir, token string) Config {
		c, _ := config(dir, token)
		c.Server, c.Broker, c.CA = a.url, "127.0.0.1:1", a.pem()
		return c
	}
	dir := t.TempDir()
	f := testFolder(t, filepath.Join(dir, "enrolled"))
	keepExpired(t, a, f)
	for _, test := range []struct {
		name, what, do string
		change         func(*Config)
	}{
		{"no token", "not enrolled", "keepmq device enrol", nil},
		{"bad token", "not known", "keepmq device enrol", func(c *Config) {
			c.Token = func() (secret.String, error) { return secret.New("bad"), nil }
		}},
		{"expired", "cannot be renewed", "keepmq device enrol", func(c *Config) { c.Dir = filepath.Join(dir, "enrolled") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := full(filepath.Join(dir, test.name), "")
			if test.change != nil {
				test.change(&c)
			}
			wantProblem(t, Run(context.Background(), c), test.what, test.do)
		})
	}
	for name, change := range map[string]func(*Config){
		"--server":  func(c *Config) { c.Server = "" },
		"not https": func(c *Config) { c.Server = "http://127.0.0.1" },
		"--ca":      func(c *Config) { c.CA = nil },
		"CA file":   func(c *Config) { c.CA = []byte("nothing") },
		"host:port": func(c *Config) { c.Broker = "nowhere" },
		"--dir":     func(c *Config) { c.Dir = "" },
		"interval":  func(c *Config) { c.Interval = time.Millisecond },
		"spool":     func(c *Config) { c.Spool = 7 },
	} {
		c := full(filepath.Join(dir, "new"), "good")
		change(&c)
		want := name
		if name == "not https" {
			want = "is not https://"
		}
		if err := Run(context.Background(), c); errs.CodeOf(err) != errs.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// keepExpired puts a certificate into the folder that has just expired.
func keepExpired(t *testing.T, a *testAuthority, f *folder) {
	t.Helper()
	key, err := openKey(f)
	if err != nil {
		t.Fatal(err)
	}
	a.answer = func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }
	cert, err := pair([]*x509.Certificate{a.device(key.Public())}, key)
	if err != nil {
		t.Fatal(err)
	}
	a.answer = nil
	if err := saveCertificate(f, cert); err != nil {
		t.Fatal(err)
	}
}

// TestFolderOfAnother: a token for another device does not take a folder over.
func TestFolderOfAnother(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	f := testFolder(t, dir)
	s := settings{Server: a.url, Broker: "127.0.0.1:1", CA: string(a.pem()), Client: "d:abc123:sensor:first"}
	if err := s.save(f); err != nil {
		t.Fatal(err)
	}
	c, _ := config(dir, "good")
	err := Run(context.Background(), c)
	if p := new(Problem); !errors.As(err, &p) || !strings.Contains(err.Error(), "belongs to d:abc123:sensor:first") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, certificateFile)); err == nil {
		t.Error("the certificate was kept")
	}
}

// TestEnrolAfterExpiry: with a token, a device whose certificate has expired
// enrols again with the key it has.
func TestEnrolAfterExpiry(t *testing.T) {
	a := newAuthority(t)
	b := newBrokerOf(t, a)
	dir := t.TempDir()
	f := testFolder(t, dir)
	keepExpired(t, a, f)
	key, err := openKey(f)
	if err != nil {
		t.Fatal(err)
	}
	c, log := config(dir, "good")
	c.Server, c.Broker, c.CA = a.url, b.address, a.pem()
	run := startAgent(c, log)
	b.wait(func() bool { return len(b.delivered) > 0 })
	if err := run.stop(); err != nil {
		t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !key.PublicKey.Equal(a.tokens["good"]) {
		t.Error("enrolled with another key")
	}
}

func TestOneAgentPerFolder(t *testing.T) {
	dir := t.TempDir()
	lock, err := testFolder(t, dir).lock()
	if err != nil {
		t.Fatal(err)
	}
	c, _ := config(dir, "good")
	wantProblem(t, Run(context.Background(), c), "another agent works in this folder", "--dir")
	lock.Close()
}

func TestSettings(t *testing.T) {
	d := newMemDisk()
	s := settings{Server: "https://h:8443", Broker: "h:8883", CA: "x", Client: "c"}
	if err := s.save(d); err != nil {
		t.Fatal(err)
	}
	got, err := loadSettings(d)
	if s.Version = settingsVersion; err != nil || got != s {
		t.Errorf("got %+v %v", got, err)
	}
	d.live[settingsFile].data = []byte(`{"version":2}`)
	_, err = loadSettings(d)
	wantProblem(t, err, "version 2", "newer keepmq")
	d.live[settingsFile].data = []byte(`{`)
	_, err = loadSettings(d)
	wantProblem(t, err, "damaged", "remove it")
}

// TestSampler: a source that fails, panics or is absent does not keep the
// others from being read, and is reported once.
func TestSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &safeBuffer{}
		var batches [][]reading
		bad := errors.New("no answer")
		good := func(context.Context) (map[string]any, error) { return map[string]any{"v": 1}, nil }
		fullDisk := 0
		s := &sampler{
			interval: time.Second, log: slog.New(slog.NewTextHandler(log, nil)),
			sources: []sources.Source{
				{Name: "absent", Read: func(context.Context) (map[string]any, error) { return nil, sources.ErrAbsent }},
				{Name: "failing", Read: func(context.Context) (map[string]any, error) { return nil, bad }},
				{Name: "panicking", Read: func(context.Context) (map[string]any, error) { panic("driver") }},
				{Name: "infinite", Read: func(context.Context) (map[string]any, error) {
					zero := 0.0
					return map[string]any{"v": 1 / zero}, nil
				}},
				{Name: "good", Read: good},
			},
			keep: func(now time.Time, rs []reading) error {
				batches = append(batches, rs)
				if fullDisk++; fullDisk == 2 || fullDisk == 3 {
					return errors.New("disk full")
				}
				return nil
			},
		}
		ctx, cancel := context.WithTimeout(context.Background(), 4500*time.Millisecond)
		defer cancel()
		s.run(ctx)
		if len(batches) != 5 {
			t.Fatalf("%d batches", len(batches))
		}
		for i, rs := range batches {
			want := time.Date(2000, 1, 1, 0, 0, i, 0, time.UTC).Format(timeFormat)
			if len(rs) != 1 || string(rs[0].payload) != `{"source":"good","time":"`+want+`","v":1}` {
				t.Errorf("batch %d is %s", i, rs)
			}
		}
		for _, once := range []string{"source=failing", "source=panicking", "source=infinite", "cannot be kept", "kept again"} {
			if n := strings.Count(log.String(), once); n != 1 {
				t.Errorf("%q is reported %d times:\n%s", once, n, log)
			}
		}
		if strings.Contains(log.String(), "absent") {
			t.Errorf("what is absent was reported:\n%s", log)
		}
	})
}
