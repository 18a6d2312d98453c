package security

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func request(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// invite returns an enrolment token of a device.
func (s *site) invite(o *org, device string) string {
	var made struct{ Token string }
	s.api.Call(http.MethodPost, "/orgs/"+o.id+"/devices/"+device+"/enrolments", map[string]int{"ttl_seconds": 600}, &made)
	return made.Token
}

// enrol returns a certificate, or the refusal.
func (s *site) enrol(t *testing.T, token string, key *ecdsa.PrivateKey) (tls.Certificate, error) {
	t.Helper()
	var out struct{ Certificate, Chain string }
	if err := s.api.Do(http.MethodPost, "/enrol", map[string]string{"token": token, "csr": request(t, key)}, &out); err != nil {
		return tls.Certificate{}, err
	}
	cert := tls.Certificate{PrivateKey: key}
	for rest := []byte(out.Chain); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return cert, nil
		}
		cert.Certificate = append(cert.Certificate, b.Bytes)
	}
}

// forged returns a certificate like the device's, of an authority of our own
// or, if signer is given, of that one.
func forged(t *testing.T, o *org, signer *tls.Certificate) tls.Certificate {
	t.Helper()
	key := newKey(t)
	urn, err := url.Parse("urn:keepmq:org:" + o.id)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "d:sensor:one"}, EmailAddresses: []string{"d:sensor:one"}, URIs: []*url.URL{urn},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	parent, by, chain := tmpl, key, [][]byte(nil)
	if signer != nil {
		if parent, err = x509.ParseCertificate(signer.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		by, chain = signer.PrivateKey.(*ecdsa.PrivateKey), signer.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key}
}

// admits reports whether a client with a certificate and no password is let in.
func (s *site) admits(t *testing.T, cert tls.Certificate, id string) bool {
	t.Helper()
	conf := s.TLS()
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	nc, err := tls.Dial("tcp", s.address(), conf)
	if err != nil {
		return false
	}
	defer nc.Close()
	c := &client{t, nc, mqtt.NewReader(nc, 1<<20)}
	if c.raw((&mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: id}).Append(nil, mqtt.V5)) != nil {
		return false
	}
	ack, ok := c.next().(*mqtt.Connack)
	return ok && ack.Code == mqtt.Success
}

// A certificate opens its device's name while it is good, and nothing else.
func TestCertificateIsItsDeviceOnly(t *testing.T) {
	s := start(t)
	a, b := s.ours, s.theirs
	own := a.asDevice().client
	cert, err := s.enrol(t, s.invite(a, "sensor/one"), newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if !s.admits(t, cert, own) {
		t.Fatal("the device's own certificate is refused")
	}
	for _, client := range []string{b.asDevice().client, "d:" + a.id + ":sensor:two", "g:" + a.id + ":sensor:one", a.asGateway().client,
		a.asApp().client, "A:" + a.id + ":x", "anything", ""} {
		if s.admits(t, cert, client) {
			t.Errorf("the certificate of %s opens %q", own, client)
		}
	}
	for name, f := range map[string]tls.Certificate{"of another authority": forged(t, a, nil), "signed by a device": forged(t, a, &cert)} {
		if s.admits(t, f, own) {
			t.Errorf("a certificate %s is accepted", name)
		}
	}
	stolen := cert
	stolen.PrivateKey = newKey(t)
	if s.admits(t, stolen, own) {
		t.Error("a certificate without its key is accepted")
	}
}

// An enrolment token is good for one key of one device, once.
func TestEnrolmentTokenReuse(t *testing.T) {
	s := start(t)
	token, key := s.invite(s.ours, "sensor/one"), newKey(t)
	if _, err := s.enrol(t, "-"+token[1:], key); err == nil {
		t.Error("a wrong token is accepted")
	}
	cert, err := s.enrol(t, token, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.enrol(t, token, newKey(t)); err == nil {
		t.Error("a used token gives another key a certificate")
	}
	if s.admits(t, cert, s.theirs.asDevice().client) {
		t.Error("it opens the same name in the other organisation")
	}
	if s.admits(t, cert, s.ours.asGateway().client) {
		t.Error("it opens a gateway")
	}
}

// Once a device is disabled, deleted or its certificate revoked, the certificate
// neither connects nor renews, and the live connection ends within a second.
func TestEndedCertificates(t *testing.T) {
	s := start(t)
	for name, end := range map[string]func(at, serial string){
		"disabled": func(at, _ string) { s.api.Call(http.MethodPatch, at, map[string]bool{"disabled": true}, nil) },
		"deleted":  func(at, _ string) { s.api.Call(http.MethodDelete, at, nil, nil) },
		"revoked":  func(at, serial string) { s.api.Call(http.MethodDelete, at+"/certificates/"+serial, nil, nil) },
		"made anew": func(at, _ string) {
			s.api.Call(http.MethodDelete, at, nil, nil)
			s.api.Call(http.MethodPost, "/orgs/"+s.ours.id+"/devices", map[string]string{"type": "sensor", "id": "made"}, nil)
		},
	} {
		id := name[:4]
		at := "/orgs/" + s.ours.id + "/devices/sensor/" + id
		s.api.Call(http.MethodPost, "/orgs/"+s.ours.id+"/devices", map[string]string{"type": "sensor", "id": id}, nil)
		invitation := s.invite(s.ours, "sensor/"+id)
		cert, err := s.enrol(t, s.invite(s.ours, "sensor/"+id), newKey(t))
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Items []struct{ Serial string } }
		s.api.Call(http.MethodGet, at+"/certificates", nil, &list)
		if len(list.Items) == 0 {
			t.Fatal("the certificate is not listed")
		}
		conf := s.TLS()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		live := s.dial(t, conf)
		client := "d:" + s.ours.id + ":sensor:" + id
		live.send(&mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: client})
		if ack, ok := live.next().(*mqtt.Connack); !ok || ack.Code != mqtt.Success {
			t.Fatal("the certificate is refused before its end")
		}
		end(at, list.Items[0].Serial)
		ended := time.Now()
		live.ended()
		if took := time.Since(ended); took > time.Second {
			t.Errorf("%s: the connection lived for %v", name, took)
		}
		if s.admits(t, cert, client) {
			t.Errorf("%s: the certificate connects", name)
		}
		w := s.web(t)
		tr := w.client.Transport.(*http.Transport)
		tr.TLSClientConfig.GetClientCertificate = conf.GetClientCertificate
		if status, body := w.do(http.MethodPost, "/renew", "", `{"csr":`+strconv.Quote(request(t, newKey(t)))+`}`); status/100 == 2 {
			t.Errorf("%s: the certificate is renewed: %s", name, body)
		}
		if name != "revoked" {
			if _, err := s.enrol(t, invitation, newKey(t)); err == nil {
				t.Errorf("%s: an earlier invitation is accepted", name)
			}
		}
	}
}
