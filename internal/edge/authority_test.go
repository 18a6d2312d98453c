package edge

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// testAuthority is the server's side of enrolment: a root, and an API that
// binds a token to a key as the registry does.
type testAuthority struct {
	t    *testing.T
	root *x509.Certificate
	key  *ecdsa.PrivateKey
	url  string

	mu      sync.Mutex
	tokens  map[string]crypto.PublicKey // nil: not used yet
	answer  func(*x509.Certificate)     // changes what is issued
	fail    int                         // an HTTP status to answer with
	life    time.Duration
	issued  int
	renewed int
	cut     bool // answer nothing after having issued
}

func newAuthority(t *testing.T) *testAuthority {
	t.Helper()
	a := &testAuthority{t: t, tokens: map[string]crypto.PublicKey{"good": nil}, life: 24 * time.Hour}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.root = a.sign(tmpl, tmpl, a.key.Public())
	s := httptest.NewUnstartedServer(http.HandlerFunc(a.serve))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = a.serverTLS(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	s.StartTLS()
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

func (a *testAuthority) sign(tmpl, parent *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, pub, a.key)
	if err != nil {
		a.t.Error(err)
		return nil
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Error(err)
	}
	return c
}

// serverTLS is for a server of this authority that asks for certificates.
func (a *testAuthority) serverTLS(from, to time.Time) *tls.Config {
	c := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.root, a.key.Public())
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: a.key}},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool,
	}
}

func (a *testAuthority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

func (a *testAuthority) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	refuse := func(status int, detail string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(map[string]any{"status": status, "detail": detail})
	}
	var in struct{ Token, CSR string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		refuse(422, err.Error())
		return
	}
	block, _ := pem.Decode([]byte(in.CSR))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		refuse(422, "bad request")
		return
	}
	if a.fail != 0 {
		refuse(a.fail, "not now")
		return
	}
	switch r.URL.Path {
	case "/api/v1/enrol":
		bound, ok := a.tokens[in.Token]
		switch {
		case in.Token == "expired":
			refuse(401, "this enrolment token has expired; ask for a new one")
			return
		case !ok:
			refuse(401, "this enrolment token is not known; ask for a new one")
			return
		case bound != nil && !csr.PublicKey.(*ecdsa.PublicKey).Equal(bound):
			refuse(409, "this enrolment token was already used with another key; ask for a new one")
			return
		}
		a.tokens[in.Token] = csr.PublicKey
	case "/api/v1/renew":
		if len(r.TLS.VerifiedChains) == 0 {
			refuse(401, "no certificate")
			return
		}
		a.renewed++
	default:
		refuse(404, "no such path")
		return
	}
	if a.issued++; a.cut {
		panic(http.ErrAbortHandler) // the connection breaks before the answer
	}
	c := a.device(csr.PublicKey)
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	json.NewEncoder(w).Encode(map[string]any{"certificate": text, "chain": text, "expires": c.NotAfter})
}

// device issues a device certificate.
func (a *testAuthority) device(pub crypto.PublicKey) *x509.Certificate {
	org, err := url.Parse("urn:keepmq:org:abc123")
	if err != nil {
		a.t.Error(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(int64(100 + a.issued)), Subject: pkix.Name{CommonName: "d:sensor:s-1"}, URIs: []*url.URL{org},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(a.life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if a.answer != nil {
		a.answer(tmpl)
	}
	return a.sign(tmpl, a.root, pub)
}

func (a *testAuthority) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}
