package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/authtest"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
)

// customer is an authority that an organisation has its server certificates from.
var customer = func() (a struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}) {
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Customer authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(1000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, _ := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	a.cert, _ = x509.ParseCertificate(der)
	return a
}()

// serverChain signs a server certificate and returns the chain as PEM.
func serverChain(key any, names ...string) []byte {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, DNSNames: names, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, customer.cert, key, customer.key)
	if err != nil {
		panic(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: customer.cert.Raw})...)
}

func signRequest(request []byte, names ...string) []byte {
	b, _ := pem.Decode(request)
	if b == nil {
		return nil
	}
	r, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil || r.CheckSignature() != nil {
		panic(err)
	}
	return serverChain(r.PublicKey, names...)
}

func serverPair(names ...string) (chain []byte, key secret.String) {
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, _ := x509.MarshalPKCS8PrivateKey(k)
	return serverChain(k.Public(), names...), secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func TestServerCertificates(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	own := string(s.iot) + ".messaging.example.org"
	shown := func() []string {
		t.Helper()
		all, err := s.ShownCertificates(ctx)
		check(t, err)
		var names []string
		for _, c := range all {
			if c.Org != string(s.iot) || c.Certificate.PrivateKey == nil || len(c.Certificate.Certificate) != 2 {
				t.Errorf("%s: %d certificates", c.Org, len(c.Certificate.Certificate))
			}
			names = append(names, c.Names...)
		}
		slices.Sort(names)
		return names
	}
	want := func(names ...string) {
		t.Helper()
		slices.Sort(names)
		if got := shown(); !slices.Equal(got, names) {
			t.Errorf("shown for %q, want %q", got, names)
		}
	}
	// A request is for the names of the organisation, and its key shows up nowhere.
	check(t, s.GiveServerName(ctx, s.admin, s.iot, "MQTT.customer.example.com."))
	asked, err := s.RequestServerCertificate(ctx, s.admin, s.iot)
	check(t, err)
	block, _ := pem.Decode(asked.Request)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	check(t, err)
	if !slices.Equal(request.DNSNames, []string{own, "mqtt.customer.example.com"}) || request.Subject.CommonName != own {
		t.Errorf("the request is for %q", request.DNSNames)
	}
	want()
	done, err := s.CompleteServerCertificate(ctx, s.admin, s.iot, asked.ID, signRequest(asked.Request, own))
	check(t, err)
	if !slices.Equal(done.Names, []string{own}) {
		t.Errorf("shown for %q", done.Names)
	}
	want(own)
	chain, key := serverPair("*.customer.example.com", "stranger.example.com")
	up, err := s.UploadServerCertificate(ctx, s.admin, s.iot, chain, key)
	check(t, err)
	want("mqtt.customer.example.com", own)
	all, names, err := s.ServerCertificates(ctx, s.admin, s.iot)
	if check(t, err); len(all) != 2 || len(names) != 2 {
		t.Errorf("%d certificates, names %q", len(all), names)
	}
	check(t, s.SetOrgDisabled(ctx, s.admin, s.iot, true))
	want()
	check(t, s.SetOrgDisabled(ctx, s.admin, s.iot, false))
	check(t, s.TakeServerName(ctx, s.admin, s.iot, "mqtt.customer.example.com"))
	want(own)
	s.clock.move(2 * time.Hour)
	want() // it is over
	s.clock.move(-2 * time.Hour)

	// What is refused.
	_, otherKey := serverPair(own)
	strange, strangeKey := serverPair("stranger.example.com")
	goodChain, goodKey := serverPair(own)
	turned := append(bytes.Clone(goodChain[bytes.LastIndex(goodChain, []byte("-----BEGIN")):]), goodChain[:bytes.LastIndex(goodChain, []byte("-----BEGIN"))]...)
	unrelated := append(bytes.Clone(goodChain[:bytes.LastIndex(goodChain, []byte("-----BEGIN"))]), strange...)
	upload := func(a Actor, org auth.OrgID, chain []byte, key secret.String) error {
		return second(s.UploadServerCertificate(ctx, a, org, chain, key))
	}
	s.newPerson(t, "reader")
	reader := s.join(t, s.iot, "reader", permission.Reader)
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
		says string
	}{
		"another key":             {upload(s.admin, s.iot, goodChain, otherKey), errs.Invalid, "belongs to its first certificate"},
		"no key":                  {upload(s.admin, s.iot, goodChain, secret.String{}), errs.Invalid, "belongs to"},
		"other names":             {upload(s.admin, s.iot, strange, strangeKey), errs.Invalid, "none of the names of this organisation: " + own},
		"turned round":            {upload(s.admin, s.iot, turned, goodKey), errs.Invalid, ""},
		"unrelated chain":         {upload(s.admin, s.iot, unrelated, goodKey), errs.Invalid, "is not signed by the next one"},
		"garbage":                 {upload(s.admin, s.iot, []byte("-----BEGIN"), goodKey), errs.Invalid, ""},
		"no permission":           {upload(reader, s.iot, goodChain, goodKey), errs.Denied, ""},
		"another organisation":    {second(s.CompleteServerCertificate(ctx, s.admin, s.twin, asked.ID, goodChain)), errs.NotFound, ""},
		"not of the request":      {second(s.CompleteServerCertificate(ctx, s.admin, s.iot, asked.ID, goodChain)), errs.Invalid, ""},
		"unknown":                 {s.DeleteServerCertificate(ctx, s.admin, s.iot, "nope"), errs.NotFound, ""},
		"delete of another":       {s.DeleteServerCertificate(ctx, s.admin, s.twin, up.ID), errs.NotFound, ""},
		"name by a member":        {s.GiveServerName(ctx, Actor{Principal: reader.Principal}, s.iot, "a.example.com"), errs.Denied, ""},
		"the installation's":      {s.GiveServerName(ctx, s.admin, s.iot, "example.org"), errs.Invalid, "installation's own"},
		"below it":                {s.GiveServerName(ctx, s.admin, s.iot, "x.example.org"), errs.Invalid, "installation's own"},
		"another own name":        {s.GiveServerName(ctx, s.admin, s.iot, "own.example.net"), errs.Invalid, "installation's own"},
		"an organisation's":       {s.GiveServerName(ctx, s.admin, s.iot, string(s.twin)+".messaging.elsewhere.com"), errs.Invalid, "by its id"},
		"a wildcard":              {s.GiveServerName(ctx, s.admin, s.iot, "*.example.com"), errs.Invalid, "host name"},
		"an address":              {s.GiveServerName(ctx, s.admin, s.iot, "192.0.2.1"), errs.Invalid, "host name"},
		"a name it does not have": {s.TakeServerName(ctx, s.admin, s.iot, "a.example.com"), errs.NotFound, ""},
	} {
		if tc.err == nil || errs.CodeOf(tc.err) != tc.code || !strings.Contains(errs.Message(tc.err), tc.says) {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	check(t, s.GiveServerName(ctx, s.admin, s.twin, "twin.example.com"))
	wantCode(t, s.GiveServerName(ctx, s.admin, s.iot, "twin.example.com"), errs.Conflict)
	for range maxServerCertificates - 2 {
		check(t, second(s.RequestServerCertificate(ctx, s.admin, s.iot)))
	}
	wantCode(t, second(s.RequestServerCertificate(ctx, s.admin, s.iot)), errs.Exhausted)
	check(t, s.DeleteServerCertificate(ctx, s.admin, s.iot, asked.ID))
	want()
	if strings.Contains(s.log.String(), "PRIVATE KEY") {
		t.Error("a key is in the log")
	}
}

// A name that was given to an organisation lets nobody of another one in.
func TestGivenNamesAreFor(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	const name = "mqtt.customer.example.com"
	login := s.good()["device"].c
	login.ServerName = "MQTT.customer.example.com"
	twin := deviceLogin(s.twin, "t:d", s.twinDevice)
	twin.ServerName = name
	verify := func(c auth.Credentials) error { return second(s.Verify(ctx, c)) }
	check(t, verify(twin)) // it is nobody's yet
	check(t, s.GiveServerName(ctx, s.admin, s.iot, name))
	check(t, verify(login))
	wantCode(t, verify(twin), errs.Unauthenticated)
	x, err := s.Begin(ctx, with(twin, func(c *auth.Credentials) { c.HasPassword = false }), auth.MethodSCRAM)
	check(t, err)
	_, _, err = x.Step(ctx, authtest.NewSCRAM(userDeviceToken, s.twinDevice.Reveal()).Hello())
	wantCode(t, err, errs.Unauthenticated)
	s.given.clear()
	s.db.fail(errDisk)
	wantCode(t, verify(login), errs.Unavailable)
	s.db.fail(nil)
	check(t, s.TakeServerName(ctx, s.admin, s.iot, name))
	check(t, verify(twin))
	check(t, s.GiveServerName(ctx, s.admin, s.iot, name))
	wantCode(t, verify(twin), errs.Unauthenticated)
	check(t, s.DeleteOrg(ctx, s.admin, s.iot))
	check(t, verify(twin))
}
