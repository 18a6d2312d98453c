package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
)

func uri(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// selfSigned returns a certificate like those of a device, after change. Whether
// the signature is ours is not PrincipalOf's business, but TLS's.
func selfSigned(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	tbs := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		Subject:        pkix.Name{CommonName: "d:sensor:s-1"},
		EmailAddresses: []string{"d:sensor:s-1"},
		URIs:           []*url.URL{uri(t, "urn:keepmq:org:abc123")},
		KeyUsage:       x509.KeyUsageDigitalSignature,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(tbs)
	}
	key := newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, tbs, tbs, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestPrincipalOf(t *testing.T) {
	want := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:s-1"}
	if got, err := ca.PrincipalOf(selfSigned(t, nil)); err != nil || got != want {
		t.Fatalf("PrincipalOf = %v, %v; want %v", got, err, want)
	}
	type C = x509.Certificate
	both := func(s string) func(*C) {
		return func(c *C) { c.Subject.CommonName, c.EmailAddresses = s, []string{s} }
	}
	for name, change := range map[string]func(*C){
		"authority":        func(c *C) { c.IsCA = true },
		"certificate sign": func(c *C) { c.KeyUsage |= x509.KeyUsageCertSign },
		"no constraints":   func(c *C) { c.BasicConstraintsValid = false },
		"no usage":         func(c *C) { c.ExtKeyUsage = nil },
		"server":           func(c *C) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"server too":       func(c *C) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) },
		"any usage":        func(c *C) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"no organisation":  func(c *C) { c.URIs = nil },
		"two":              func(c *C) { c.URIs = append(c.URIs, uri(t, "urn:keepmq:org:def456")) },
		"twice":            func(c *C) { c.URIs = append(c.URIs, c.URIs[0]) },
		"other URI":        func(c *C) { c.URIs[0] = uri(t, "https://keepmq.example/abc123") },
		"long":             func(c *C) { c.URIs[0] = uri(t, "urn:keepmq:org:abc1234") },
		"query":            func(c *C) { c.URIs[0] = uri(t, "urn:keepmq:org:abc123?x=1") },
		"fragment":         func(c *C) { c.URIs[0] = uri(t, "urn:keepmq:org:abc123#x") },
		"other address":    func(c *C) { c.EmailAddresses = []string{"d:sensor:s-2"} },
		"no address":       func(c *C) { c.EmailAddresses = nil },
		"two addresses":    func(c *C) { c.EmailAddresses = append(c.EmailAddresses, "d:sensor:s-2") },
		"host":             func(c *C) { c.DNSNames = []string{"localhost"} },
		"IP":               func(c *C) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} },
		"more in subject":  func(c *C) { c.Subject.Organization = []string{"x"} },
		"two names": func(c *C) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "d:sensor:s-2"}}
		},
		"no subject":  func(c *C) { c.Subject = pkix.Name{} },
		"application": both("a:abc123:app"),
		"upper case":  both("D:sensor:s-1"),
		"no id":       both("d:sensor:"),
		"no type":     both("d::s-1"),
		"three":       both("d:sensor:s-1:x"),
		"no letter":   both(":sensor:s-1"),
		"slash":       both("d:sensor:s/1"),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ca.PrincipalOf(selfSigned(t, change))
			if errs.CodeOf(err) != errs.Unauthenticated || p != (auth.Principal{}) {
				t.Errorf("PrincipalOf = %v, %v; want a refusal", p, err)
			}
		})
	}
	if _, err := ca.PrincipalOf(nil); errs.CodeOf(err) != errs.Unauthenticated {
		t.Errorf("no certificate: %v", err)
	}
}

// FuzzPrincipalOf: whatever a certificate says, the answer is a refusal or a
// principal for which exactly these names would be issued.
func FuzzPrincipalOf(f *testing.F) {
	f.Add("d:sensor:s-1", "d:sensor:s-1", "urn:keepmq:org:abc123")
	f.Add("g:gw:1", "g:gw:1", "urn:keepmq:org:000000")
	f.Add("d:a:b:c", "", "urn:keepmq:org:ABC123")
	f.Fuzz(func(t *testing.T, common, email, where string) {
		u, err := url.Parse(where)
		if err != nil {
			return
		}
		cert := &x509.Certificate{
			Subject:        pkix.Name{CommonName: common, Names: []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: common}}},
			EmailAddresses: []string{email}, URIs: []*url.URL{u}, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		p, err := ca.PrincipalOf(cert)
		if err != nil {
			if errs.CodeOf(err) != errs.Unauthenticated || p != (auth.Principal{}) {
				t.Fatalf("refused with %v and %v", p, err)
			}
			return
		}
		letter := map[auth.Kind]string{auth.Device: "d:", auth.Gateway: "g:"}[p.Kind]
		if letter == "" || letter+p.ID != common || common != email || "urn:keepmq:org:"+string(p.Org) != u.String() {
			t.Fatalf("%q %q %q is %v", common, email, where, p)
		}
	})
}

// FuzzCertificate gives PrincipalOf what the parser makes of any bytes.
func FuzzCertificate(f *testing.F) {
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if p, err := ca.PrincipalOf(cert); err == nil && p.Kind != auth.Device && p.Kind != auth.Gateway {
			t.Fatalf("a certificate is %v", p)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := ca.ParseRequest(der)
		if err != nil {
			if errs.CodeOf(err) != errs.Invalid || errs.Message(err) == "" || csr != nil {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if err := csr.CheckSignature(); err != nil {
			t.Fatalf("accepted without proof: %v", err)
		}
	})
}

func TestParseRequestSize(t *testing.T) {
	if _, err := ca.ParseRequest(make([]byte, 1<<20)); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("a megabyte: %v, want a refusal", err)
	}
}
