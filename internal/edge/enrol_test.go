package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/secret"
)

func testFolder(t *testing.T, dir string) *folder {
	t.Helper()
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func (a *testAuthority) server() *server {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return &server{url: a.url, roots: pool, now: time.Now}
}

// enrolIn does what the agent does, from opening the key on.
func enrolIn(t *testing.T, f *folder, s *server, token string) (*tls.Certificate, error) {
	t.Helper()
	key, err := openKey(f)
	if err != nil {
		t.Fatal(err)
	}
	return enrol(context.Background(), f, s, key, secret.New(token), "")
}

func TestEnrol(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	f := testFolder(t, dir)
	cert, err := enrolIn(t, f, a.server(), "good")
	if err != nil {
		t.Fatal(err)
	}
	id, err := identityOf(cert.Leaf)
	if err != nil || id.ClientID() != "d:abc123:sensor:s-1" || id.topic("cpu") != "iot-2/evt/cpu/fmt/json" {
		t.Errorf("identity is %+v %v", id, err)
	}
	key, err := openKey(f)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := loadCertificate(f, key)
	if err != nil || !kept.Leaf.Equal(cert.Leaf) || len(kept.Certificate) != 1 {
		t.Errorf("kept %v %v", kept, err)
	}
	for _, name := range []string{keyFile, certificateFile} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v %v", name, fi.Mode(), err)
		}
	}
	if id := (Identity{"o", "g", "t", "1"}); id.topic("cpu") != "iot-2/type/t/id/1/evt/cpu/fmt/json" || id.ClientID() != "g:o:t:1" {
		t.Errorf("a gateway publishes on %s", id.topic("cpu"))
	}
}

// TestEnrolAgain: whatever broke after the request, the same token and key go
// through; another key does not.
func TestEnrolAgain(t *testing.T) {
	a := newAuthority(t)
	f := testFolder(t, t.TempDir())
	a.set(func() { a.cut = true })
	if _, err := enrolIn(t, f, a.server(), "good"); err == nil {
		t.Fatal("enrolled without an answer")
	}
	a.set(func() { a.cut = false })
	for range 2 {
		if _, err := enrolIn(t, f, a.server(), "good"); err != nil {
			t.Fatal(err)
		}
	}
	_, err := enrolIn(t, testFolder(t, t.TempDir()), a.server(), "good")
	wantProblem(t, err, "already used with another key", "keepmq device enrol")
}

func wantProblem(t *testing.T, err error, what, do string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || !strings.Contains(err.Error(), what) || !strings.Contains(p.Do, do) {
		t.Errorf("got %+v, want %q and the advice %q", err, what, do)
	}
	if err != nil && strings.Contains(err.Error(), "good") {
		t.Errorf("the token is in the message: %v", err)
	}
}

func TestEnrolRefusals(t *testing.T) {
	a := newAuthority(t)
	other := newAuthority(t)
	early := newAuthority(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, test := range []struct {
		name, token, what, do string
		change                func(*server)
		issue                 func(*x509.Certificate)
		fail                  int
	}{
		{name: "unknown token", token: "bad", what: "not known", do: "keepmq device enrol"},
		{name: "expired token", token: "expired", what: "has expired", do: "keepmq device enrol"},
		{name: "server busy", token: "good", fail: 503, what: "cannot enrol this device now", do: "same token"},
		{name: "wrong CA", token: "good", change: func(s *server) { s.roots = other.server().roots }, what: "not signed by an authority in the CA file", do: "--ca"},
		{name: "nothing there", token: "good", change: func(s *server) { s.url = "https://" + closed.Addr().String() }, what: "cannot be reached", do: "check that the server runs"},
		{name: "wrong name", token: "good", change: func(s *server) { s.url = strings.Replace(s.url, "127.0.0.1", "localhost", 1) }, what: "another name", do: "use a name"},
		{name: "clock off", token: "good", change: func(s *server) { s.now = func() time.Time { return time.Unix(0, 0) } }, what: "clock says 1970-01-01", do: "set the clock"},
		{name: "certificate of the past", token: "good", issue: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }, what: "clock says", do: "set the clock"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.set(func() { a.answer, a.fail = test.issue, test.fail })
			s := a.server()
			if test.change != nil {
				test.change(s)
			}
			dir := t.TempDir()
			_, err := enrolIn(t, testFolder(t, dir), s, test.token)
			wantProblem(t, err, test.what, test.do)
			if _, err := os.Stat(filepath.Join(dir, certificateFile)); err == nil {
				t.Error("a certificate was kept")
			}
			a.set(func() { a.tokens["good"] = nil })
		})
	}
	t.Run("server's certificate of the future", func(t *testing.T) {
		l, err := tls.Listen("tcp", "127.0.0.1:0", early.serverTLS(time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)))
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			if conn, err := l.Accept(); err == nil {
				conn.(*tls.Conn).Handshake()
				conn.Close()
			}
		}()
		s := early.server()
		s.url = "https://" + l.Addr().String()
		_, err = enrolIn(t, testFolder(t, t.TempDir()), s, "good")
		wantProblem(t, err, "this device's clock says", "set the clock")
		<-served
		l.Close()
	})
}

// TestEnrolTakesNoBadAnswer: what is not our certificate is not kept.
func TestEnrolTakesNoBadAnswer(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := func(a *testAuthority, pub *ecdsa.PublicKey, change func(*x509.Certificate)) issued {
		a.answer = change
		return issued{Certificate: string(certPEM(a.device(pub)))}
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]issued{
		"nothing":           {},
		"no certificate":    {Certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
		"another key":       text(a, &stranger.PublicKey, nil),
		"another authority": text(other, &key.PublicKey, nil),
		"no organisation":   text(a, &key.PublicKey, func(c *x509.Certificate) { c.URIs = nil }),
		"an application":    text(a, &key.PublicKey, func(c *x509.Certificate) { c.Subject.CommonName = "a:x:y" }),
		"for servers":       text(a, &key.PublicKey, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
	} {
		if _, err := a.server().check(out, key); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := a.server().check(text(a, &key.PublicKey, nil), key); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// TestKeyOnce: the key is durable before it is used, and never made again.
func TestKeyOnce(t *testing.T) {
	dir := t.TempDir()
	f := testFolder(t, dir)
	first, err := openKey(f)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := openKey(f); err != nil || !again.Equal(first) {
		t.Errorf("another key: %v", err)
	}
	path := filepath.Join(dir, keyFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = openKey(f)
	wantProblem(t, err, "read by other users", "chmod 600")
	if err := os.WriteFile(path, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = openKey(f)
	wantProblem(t, err, "key is damaged", "enrol again")
}

func FuzzChain(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		chain, err := parseChain(b)
		if err == nil && len(chain) == 0 {
			t.Error("no certificate and no error")
		}
	})
}
