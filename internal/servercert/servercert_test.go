package servercert

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme/autocert"
	"golang.org/x/crypto/ocsp"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/sqlite"
)

// A pki is an authority of the test's own.
type pki struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	key := ecKey(t)
	tbs := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tbs, tbs, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pki{cert, key}
}

// leaf signs a server certificate, changed by edit, and returns chain and key as PEM.
func (p *pki) leaf(t testing.TB, key crypto.Signer, edit func(*x509.Certificate), names ...string) (cert, keyPEM []byte) {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	tbs := &x509.Certificate{SerialNumber: serial, DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if edit != nil {
		edit(tbs)
	}
	der, err := x509.CreateCertificate(rand.Reader, tbs, p.cert, key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	cert = append(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})...)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func (p *pki) pair(t testing.TB, key crypto.Signer, names ...string) *tls.Certificate {
	t.Helper()
	cert, keyPEM := p.leaf(t, key, nil, names...)
	pair, err := Pair(cert, keyPEM, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &pair
}

// shown returns who signed the certificate that a client gets which asks for name.
func shown(t *testing.T, s *Server, name string, edit func(*tls.Config)) *x509.Certificate {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = tls.Server(b, &tls.Config{GetCertificate: s.Get}).Handshake() }()
	conf := &tls.Config{ServerName: name, InsecureSkipVerify: true} // it is looked at below
	if edit != nil {
		edit(conf)
	}
	c := tls.Client(a, conf)
	if err := c.Handshake(); err != nil {
		t.Fatalf("%q: %v", name, err)
	}
	return c.ConnectionState().PeerCertificates[0]
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestWhoseNameItIs(t *testing.T) {
	p := newPKI(t)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(cert, key []byte) {
		t.Helper()
		for file, b := range map[string][]byte{certFile: cert, keyFile: key} {
			if err := os.WriteFile(file, b, 0o640); err != nil {
				t.Fatal(err)
			}
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	write(p.leaf(t, rsaKey, nil, "mqtt.example.org", "*.Wide.example.org"))
	ours := p.pair(t, ecKey(t), "org1.messaging.example.net")
	stolen := p.pair(t, ecKey(t), "mqtt.example.org") // an organisation's, for a name that is the operator's
	orgs := []OfOrg{{"org1", []string{"org1.messaging.example.net"}, *ours}, {"org2", []string{"mqtt.example.org"}, *stolen}}
	s, err := Open(t.Context(), Config{CertificateFile: certFile, KeyFile: keyFile, Log: quiet(),
		Organisations: func(context.Context) ([]OfOrg, error) { return orgs, nil }})
	if err != nil {
		t.Fatal(err)
	}
	own := p.pair(t, ecKey(t), "localhost")
	s.SetOwn(own)
	file := s.file
	noRSA := func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	}
	for _, tt := range []struct {
		name string
		edit func(*tls.Config)
		want *tls.Certificate
	}{
		{"mqtt.example.org", nil, file}, {"MQTT.example.ORG", nil, file}, {"a.wide.example.org", nil, file},
		{"a.b.wide.example.org", nil, own}, {"wide.example.org", nil, own}, {"example.org", nil, own}, {"localhost", nil, own},
		{"org1.messaging.example.net", nil, ours}, {"org2.messaging.example.net", nil, own},
		{"", nil, file}, {"mqtt.example.org", noRSA, own},
	} {
		if got := shown(t, s, tt.name, tt.edit); !got.Equal(tt.want.Leaf) {
			t.Errorf("%q gets the certificate for %v", tt.name, got.DNSNames)
		}
	}
	orgs = nil
	if err := s.Changed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := shown(t, s, "org1.messaging.example.net", nil); !got.Equal(own.Leaf) {
		t.Error("the certificate of an organisation is shown after it was taken away")
	}
	// A changed file is taken into use, half a change is not.
	cert, key := p.leaf(t, ecKey(t), nil, "mqtt.example.org")
	for step, tt := range []struct {
		cert, key []byte
		want      func() *tls.Certificate
		problem   string
	}{
		{cert, []byte("half"), func() *tls.Certificate { return file }, "belongs to its first certificate"},
		{cert, key, func() *tls.Certificate { return s.file }, ""},
		{nil, nil, func() *tls.Certificate { return s.file }, "not a certificate chain"},
	} {
		write(tt.cert, tt.key)
		s.watchFiles()
		if got := shown(t, s, "mqtt.example.org", nil); !got.Equal(tt.want().Leaf) || step == 1 && got.Equal(file.Leaf) {
			t.Errorf("step %d: serial %v", step, got.SerialNumber)
		}
		if got := s.Sources()[1]; got.From != SourceFile || !strings.Contains(got.Problem, tt.problem) || (got.Problem == "") != (tt.problem == "") {
			t.Errorf("step %d: %+v", step, got)
		}
	}
}

func TestUnusableFiles(t *testing.T) {
	p := newPKI(t)
	good, goodKey := p.leaf(t, ecKey(t), nil, "a.example.org")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this Go makes no such key: ", err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for want, make := range map[string]func() (cert, key []byte){
		"":              func() (_, _ []byte) { return p.leaf(t, edKey, nil, "a.example.org") },
		"needs 2048":    func() (_, _ []byte) { return p.leaf(t, small, nil, "a.example.org") },
		"P-224":         func() (_, _ []byte) { return p.leaf(t, p224, nil, "a.example.org") },
		"names no host": func() (_, _ []byte) { return p.leaf(t, ecKey(t), nil) },
		"it ended on": func() (_, _ []byte) {
			return p.leaf(t, ecKey(t), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "a.org")
		},
		"it begins on": func() (_, _ []byte) {
			return p.leaf(t, ecKey(t), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "a.org")
		},
		"lacks serverAuth": func() (_, _ []byte) {
			return p.leaf(t, ecKey(t), func(c *x509.Certificate) { c.ExtKeyUsage[0] = x509.ExtKeyUsageClientAuth }, "a.org")
		},
		"of an authority": func() (_, _ []byte) {
			return p.leaf(t, ecKey(t), func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }, "a.org")
		},
		"not a certificate":     func() (_, _ []byte) { return []byte("garbage"), goodKey },
		"belongs to its first ": func() (_, _ []byte) { _, other := p.leaf(t, ecKey(t), nil, "a.org"); return good, other },
	} {
		cert, key := make()
		_, err := Pair(cert, key, time.Now())
		if (err == nil) != (want == "") || err != nil && (errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), want)) {
			t.Errorf("%q: %v", want, err)
		}
	}
	dir := t.TempDir()
	at := func(name string, b []byte, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	cert := at("cert", good, 0o644)
	for want, key := range map[string]string{
		"chmod o=": at("open", goodKey, 0o644), "cannot be read": filepath.Join(dir, "nowhere"), "is not a file": dir,
		"larger than": at("large", bytes.Repeat([]byte("x"), maxFile+1), 0o600), "belongs to": at("empty", nil, 0o600),
	} {
		if _, err := Open(t.Context(), Config{CertificateFile: cert, KeyFile: key, Log: quiet()}); errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// A responder's answer is stapled if it says good of this very certificate now.
func TestStaple(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	answer := ocsp.Response{Status: ocsp.Good, ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	by := p
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		body, _ := io.ReadAll(r.Body)
		q, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		a := answer
		if a.SerialNumber == nil {
			a.SerialNumber = q.SerialNumber
		}
		b, err := ocsp.CreateResponse(by.cert, by.cert, a, by.key)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	}))
	defer web.Close()
	cert, key := p.leaf(t, ecKey(t), func(c *x509.Certificate) { c.OCSPServer = []string{web.URL} }, "a.example.org")
	dir := t.TempDir()
	for name, b := range map[string][]byte{"cert": cert, "key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := func() *Server {
		s, err := Open(t.Context(), Config{CertificateFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), Log: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		s.work(t.Context())
		return s
	}
	good := answer
	for name, edit := range map[string]func(){
		"good": nil, "revoked": func() { answer.Status, answer.RevokedAt = ocsp.Revoked, time.Now() }, "unknown": func() { answer.Status = ocsp.Unknown },
		"over": func() { answer.NextUpdate = time.Now().Add(-time.Second) }, "without end": func() { answer.NextUpdate = time.Time{} },
		"not yet": func() { answer.ThisUpdate = time.Now().Add(time.Hour) }, "of another authority": func() { by = other },
		"of another certificate": func() { answer.SerialNumber = big.NewInt(7) },
	} {
		answer, by = good, p
		if edit != nil {
			edit()
		}
		s := open()
		c, err := s.Get(&tls.ClientHelloInfo{ServerName: "a.example.org", SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}})
		if err != nil {
			t.Fatal(err)
		}
		if (len(c.OCSPStaple) > 0) != (edit == nil) || s.Sources()[1].Stapled != (edit == nil) {
			t.Errorf("%s: %d bytes are stapled", name, len(c.OCSPStaple))
		}
	}
	// It is asked for again at half its life only, and a failure leaves it.
	answer, by = good, p
	s := open()
	before := asked
	s.work(t.Context())
	if asked != before {
		t.Error("it is asked for again at once")
	}
	key1 := stapleKey(s.file.Leaf)
	x := s.staples[key1]
	x.renew = time.Now()
	s.staples[key1] = x
	web.Close()
	s.work(t.Context())
	if !s.Sources()[1].Stapled {
		t.Error("a responder that is away takes the staple")
	}
}

func FuzzStaple(f *testing.F) {
	p := newPKI(f)
	pair := p.pair(f, ecKey(f), "a.example.org")
	b, err := ocsp.CreateResponse(p.cert, p.cert, ocsp.Response{Status: ocsp.Good, SerialNumber: pair.Leaf.SerialNumber,
		ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, p.key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\x30\x03\x0a\x01\x06"))
	f.Fuzz(func(t *testing.T, body []byte) {
		x, err := readStaple(body, pair.Leaf, p.cert, time.Now())
		if err == nil && !bytes.Equal(x.response, b) {
			t.Errorf("%x is taken for good", body)
		}
	})
}

// What is remembered of an ACME authority is sealed, each under its name.
func TestACMECache(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ring, err := keyring.Open(ctx, dir, db)
	if err != nil {
		t.Fatal(err)
	}
	c := &cache{db, ring}
	if _, err := c.Get(ctx, "a"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Errorf("nothing is there: %v", err)
	}
	for _, v := range []string{"first", "very private"} {
		if err := c.Put(ctx, "a", []byte(v)); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Get(ctx, "a"); string(got) != v || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	err = db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		var sealed []byte
		if err := tx.QueryRowContext(ctx, `SELECT sealed FROM acme_cache WHERE name = 'a'`).Scan(&sealed); err != nil {
			return err
		}
		if bytes.Contains(sealed, []byte("private")) {
			t.Error("it is in the clear")
		}
		_, err := tx.ExecContext(ctx, `UPDATE acme_cache SET name = 'b'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "b"); err == nil {
		t.Error("it opens under another name")
	}
	if err := c.Delete(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(ctx, "b"); !errors.Is(err, autocert.ErrCacheMiss) {
		t.Errorf("after deletion: %v", err)
	}
	if err := c.Put(ctx, "large", make([]byte, maxEntry+1)); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("too much is kept: %v", err)
	}
}
