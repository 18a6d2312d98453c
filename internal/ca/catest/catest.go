// Package catest is the contract of ca.Issuer as a test. Every issuer runs it.
package catest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
)

// An Authority is an issuer with what those need who rely on its certificates.
type Authority interface {
	ca.Issuer
	Revoked(ctx context.Context, serial *big.Int) (bool, error)
	Roots() *x509.CertPool
	Chain() []*x509.Certificate
}

// Test runs the contract against the authority that open returns.
func Test(t *testing.T, open func(t *testing.T) Authority) {
	a := open(t)
	for name, test := range map[string]func(*testing.T, Authority){
		"Certificate": testCertificate,
		"Keys":        testKeys,
		"WeakKeys":    testWeakKeys,
		"Request":     testRequest,
		"Names":       testNames,
		"Life":        testLife,
		"Purpose":     testPurpose,
		"Revoke":      testRevoke,
		"Concurrent":  testConcurrent,
	} {
		t.Run(name, func(t *testing.T) { test(t, a) })
	}
}

func device() auth.Principal {
	return auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:s-1"}
}

// Request returns a certificate request that key signs and that asks for
// everything it must not get.
func Request(t testing.TB, key crypto.Signer) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:        pkix.Name{CommonName: "d:sensor:other", Organization: []string{"greedy"}},
		DNSNames:       []string{"keepmq.example"},
		EmailAddresses: []string{"d:sensor:other"},
		IPAddresses:    []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtraExtensions: []pkix.Extension{ // basic constraints: I am an authority
			{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}},
		},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t *testing.T, a Authority, r ca.Request) *x509.Certificate {
	t.Helper()
	if r.CSR == nil {
		r.CSR = Request(t, newKey(t))
	}
	cert, err := a.Issue(t.Context(), r)
	if err != nil {
		t.Fatalf("issue: %v", err)
	}
	return cert
}

func refuse(t *testing.T, a Authority, why string, r ca.Request) {
	t.Helper()
	cert, err := a.Issue(t.Context(), r)
	if errs.CodeOf(err) != errs.Invalid || errs.Message(err) == "" || cert != nil {
		t.Errorf("%s: certificate %v, error %v; want a refusal with a reason", why, cert != nil, err)
	}
}

// verify verifies as a server would.
func verify(a Authority, cert *x509.Certificate, at time.Time, usage x509.ExtKeyUsage) error {
	between := x509.NewCertPool()
	for _, c := range a.Chain() {
		between.AddCert(c)
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: a.Roots(), Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func testCertificate(t *testing.T, a Authority) {
	key := newKey(t)
	for _, p := range []auth.Principal{device(), {Org: "zzz999", Kind: auth.Gateway, ID: "gw:G_1.x"}} {
		cert := issue(t, a, ca.Request{Principal: p, CSR: Request(t, key)})
		if err := verify(a, cert, cert.NotAfter.Add(-time.Second), x509.ExtKeyUsageClientAuth); err != nil {
			t.Errorf("%v: verify: %v", p, err)
		}
		if got, err := ca.PrincipalOf(cert); err != nil || got != p {
			t.Errorf("PrincipalOf = %v, %v; want %v", got, err, p)
		}
		if !key.PublicKey.Equal(cert.PublicKey) {
			t.Errorf("%v: the certificate has another key", p)
		}
		if revoked, err := a.Revoked(t.Context(), cert.SerialNumber); err != nil || revoked {
			t.Errorf("%v: a new certificate: Revoked = %v, %v", p, revoked, err)
		}
		// Nothing of what the request asked for.
		if cert.IsCA || len(cert.DNSNames)+len(cert.IPAddresses) > 0 || len(cert.Subject.Organization) > 0 {
			t.Errorf("%v: names of the request are in the certificate: %v %v %v", p, cert.DNSNames, cert.IPAddresses, cert.Subject)
		}
	}
}

func testKeys(t *testing.T, a Authority) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{p384, ed, rsa2048} {
		cert := issue(t, a, ca.Request{Principal: device(), CSR: Request(t, key)})
		if err := verify(a, cert, time.Time{}, x509.ExtKeyUsageClientAuth); err != nil {
			t.Errorf("%T: %v", key, err)
		}
	}
}

func testWeakKeys(t *testing.T, a Authority) {
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	refuse(t, a, "RSA 1024", ca.Request{Principal: device(), CSR: Request(t, short)})
	refuse(t, a, "P-224", ca.Request{Principal: device(), CSR: Request(t, p224)})
	refuse(t, a, "P-521", ca.Request{Principal: device(), CSR: Request(t, p521)})
}

func testRequest(t *testing.T, a Authority) {
	refuse(t, a, "no request", ca.Request{Principal: device()})
	refuse(t, a, "empty request", ca.Request{Principal: device(), CSR: &x509.CertificateRequest{}})

	good := Request(t, newKey(t))
	bad := slices.Clone(good.Raw)
	bad[len(bad)-1] ^= 1 // in the signature
	refuse(t, a, "wrong signature", ca.Request{Principal: device(), CSR: &x509.CertificateRequest{Raw: bad, PublicKey: good.PublicKey}})
	refuse(t, a, "more after the end", ca.Request{Principal: device(), CSR: &x509.CertificateRequest{Raw: append(slices.Clone(good.Raw), 0)}})

	// What counts is the signed text, not the fields beside it.
	other := newKey(t)
	cert := issue(t, a, ca.Request{Principal: device(), CSR: &x509.CertificateRequest{Raw: good.Raw, PublicKey: other.Public()}})
	if other.PublicKey.Equal(cert.PublicKey) {
		t.Error("a key was certified whose owner did not sign the request")
	}
}

func testNames(t *testing.T, a Authority) {
	csr := Request(t, newKey(t))
	for _, p := range []auth.Principal{
		{},
		{Org: "abc123", Kind: auth.Device, ID: ""},
		{Org: "abc123", Kind: auth.Device, ID: "sensor"},
		{Org: "abc123", Kind: auth.Device, ID: "sensor:"},
		{Org: "abc123", Kind: auth.Device, ID: "a:b:c"},
		{Org: "abc123", Kind: auth.Device, ID: "sensor:s/1"},
		{Org: "abc123", Kind: auth.Device, ID: "sensor:s\x001"},
		{Org: "ABC123", Kind: auth.Device, ID: "sensor:s-1"},
		{Org: "", Kind: auth.Device, ID: "sensor:s-1"},
		{Org: "abc123", Kind: auth.AnyKind, ID: "sensor:s-1"},
		{Org: "abc123", Kind: auth.Application, ID: "a-abc123-0123456789"},
		{Org: "abc123", Kind: auth.System, ID: "root:root"},
	} {
		refuse(t, a, p.String(), ca.Request{Principal: p, CSR: csr})
	}
}

func testLife(t *testing.T, a Authority) {
	for _, ttl := range []time.Duration{-time.Hour, time.Second, ca.MinTTL - 1, ca.MaxTTL + 1} {
		refuse(t, a, ttl.String(), ca.Request{Principal: device(), CSR: Request(t, newKey(t)), TTL: ttl})
	}
	for _, ttl := range []time.Duration{0, ca.MinTTL, ca.MaxTTL} {
		before := time.Now()
		cert := issue(t, a, ca.Request{Principal: device(), TTL: ttl})
		if ttl == 0 {
			ttl = ca.DefaultTTL
		}
		if life := cert.NotAfter.Sub(before); life < ttl-time.Second || life > ttl+time.Minute {
			t.Errorf("good for %v, want %v", life, ttl)
		}
		if back := before.Sub(cert.NotBefore); back > 5*time.Minute || back < 0 {
			t.Errorf("begins %v ago", back)
		}
		if err := verify(a, cert, cert.NotAfter.Add(time.Second), x509.ExtKeyUsageClientAuth); err == nil {
			t.Error("an expired certificate verifies")
		}
		if err := verify(a, cert, cert.NotBefore.Add(-time.Second), x509.ExtKeyUsageClientAuth); err == nil {
			t.Error("a certificate verifies before it begins")
		}
	}
}

func testPurpose(t *testing.T, a Authority) {
	cert := issue(t, a, ca.Request{Principal: device()})
	if err := verify(a, cert, time.Time{}, x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("a device's certificate is good for a server")
	}
	for _, c := range a.Chain() {
		if p, err := ca.PrincipalOf(c); errs.CodeOf(err) != errs.Unauthenticated || p != (auth.Principal{}) {
			t.Errorf("an authority is a client: %v, %v", p, err)
		}
		if !c.MaxPathLenZero || !c.IsCA {
			t.Error("the issuing authority may make others")
		}
	}
}

func testRevoke(t *testing.T, a Authority) {
	cert, other := issue(t, a, ca.Request{Principal: device()}), issue(t, a, ca.Request{Principal: device()})
	for _, reason := range []int{-1, 2, 6, 7, 8, 10, 11} {
		if err := a.Revoke(t.Context(), cert.SerialNumber, reason); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("reason %d: %v, want a refusal", reason, err)
		}
	}
	for range 2 { // the second changes nothing
		if err := a.Revoke(t.Context(), cert.SerialNumber, 1); err != nil {
			t.Fatalf("revoke: %v", err)
		}
	}
	want := func(serial *big.Int, revoked bool) {
		t.Helper()
		if got, err := a.Revoked(t.Context(), serial); err != nil || got != revoked {
			t.Errorf("Revoked = %v, %v; want %v", got, err, revoked)
		}
	}
	want(cert.SerialNumber, true)
	want(other.SerialNumber, false)
	unknown := new(big.Int).Add(other.SerialNumber, big.NewInt(1))
	for _, n := range []*big.Int{unknown, nil, big.NewInt(0), big.NewInt(-1), new(big.Int).Lsh(big.NewInt(1), 200)} {
		if err := a.Revoke(t.Context(), n, 0); errs.CodeOf(err) != errs.NotFound {
			t.Errorf("revoke %v: %v, want not found", n, err)
		}
		want(n, true) // what is not known is not good
	}
	for _, c := range a.Chain() {
		if err := a.Revoke(t.Context(), c.SerialNumber, 0); err == nil {
			t.Error("an authority was revoked like a device")
		}
	}
}

func testConcurrent(t *testing.T, a Authority) {
	var mu sync.Mutex // guards seen
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				cert, err := a.Issue(t.Context(), ca.Request{Principal: device(), CSR: Request(t, newKey(t))})
				if err != nil {
					t.Errorf("issue: %v", err)
					return
				}
				mu.Lock()
				if seen[cert.SerialNumber.String()] || cert.SerialNumber.BitLen() < 100 {
					t.Errorf("serial number %v", cert.SerialNumber)
				}
				seen[cert.SerialNumber.String()] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}
