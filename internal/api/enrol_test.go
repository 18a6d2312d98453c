package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
)

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

func csr(t *testing.T, k *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

type issued struct{ Certificate, Chain, Expires string }

func (i issued) pair(t *testing.T, k *ecdsa.PrivateKey) *tls.Certificate {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	c, err := tls.X509KeyPair([]byte(i.Chain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	must(t, err)
	return &c
}

func TestEnrolRenewRevoke(t *testing.T) {
	f := start(t)
	one := "/api/v1/orgs/" + string(f.first.Org.ID) + "/devices/sensor/sensor-1"
	var e struct{ Token, Expires string }
	f.ask(t, f.admin, "POST", one+"/enrolments", map[string]any{}).is(t, 201).into(t, &e)
	k := key(t)
	var got issued
	f.ask(t, anonymous, "POST", "/api/v1/enrol", map[string]string{"token": e.Token, "csr": csr(t, k)}).is(t, 200).into(t, &got)
	pair := got.pair(t, k)
	if leaf := pair.Leaf; leaf == nil || leaf.Subject.CommonName != "d:sensor:sensor-1" {
		t.Errorf("certificate for %v", leaf.Subject)
	}
	f.ask(t, anonymous, "POST", "/api/v1/enrol", map[string]string{"token": e.Token, "csr": csr(t, k)}).is(t, 200) // the answer got lost
	reused := f.ask(t, anonymous, "POST", "/api/v1/enrol", map[string]string{"token": e.Token, "csr": csr(t, key(t))})
	if reused.status != 409 && reused.status != 401 {
		t.Errorf("a second key got %d: %s", reused.status, reused.body)
	}
	f.ask(t, anonymous, "POST", "/api/v1/enrol", map[string]string{"token": "no-such-token", "csr": csr(t, k)}).is(t, 401)
	for _, bad := range []string{"x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", csr(t, k) + csr(t, k), strings.Replace(csr(t, k), "M", "N", 3)} {
		f.ask(t, anonymous, "POST", "/api/v1/enrol", map[string]string{"token": e.Token, "csr": bad}).is(t, 422)
	}

	renew := func(c *http.Client, k *ecdsa.PrivateKey) answer {
		body, err := json.Marshal(map[string]string{"csr": csr(t, k)})
		must(t, err)
		req, err := http.NewRequest("POST", f.url+"/api/v1/renew", strings.NewReader(string(body)))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		return f.do(t, c, req)
	}
	renew(f.client, k).is(t, 401) // no certificate
	next := key(t)
	var again issued
	renew(f.with(pair), next).is(t, 200).into(t, &again)
	if again.Certificate == got.Certificate || again.pair(t, next).Leaf.Subject.CommonName != "d:sensor:sensor-1" {
		t.Errorf("renewed %v", again)
	}

	var l struct{ Items []struct{ Serial string } }
	f.ask(t, f.admin, "GET", one+"/certificates", nil).is(t, 200).into(t, &l)
	if len(l.Items) < 2 {
		t.Fatalf("certificates: %+v", l)
	}
	for _, c := range l.Items {
		f.ask(t, f.admin, "DELETE", one+"/certificates/"+c.Serial, nil).is(t, 204)
	}
	f.ask(t, f.admin, "DELETE", one+"/certificates/"+l.Items[0].Serial, nil).is(t, 404)
	if a := renew(f.with(again.pair(t, next)), key(t)); a.status < 400 || a.status >= 500 {
		t.Errorf("a revoked certificate renewed: %d %s", a.status, a.body)
	}
}

// A certificate that another authority signed does not even complete the handshake.
func TestRenewWithForeignCertificate(t *testing.T) {
	f := start(t)
	k := key(t)
	tmpl := &x509.Certificate{SerialNumber: serial(t), KeyUsage: x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	must(t, err)
	foreign := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	c := f.with(nil)
	c.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return foreign, nil // although the server has not asked for one of this authority
	}
	res, err := c.Post(f.url+"/api/v1/renew", "application/json", strings.NewReader(`{"csr":"x"}`))
	if err == nil {
		res.Body.Close()
		t.Fatalf("answered %s", res.Status)
	}
}
