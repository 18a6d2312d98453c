package ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// clocked is an authority in a new folder whose clock the test sets.
func clocked(t *testing.T, now *time.Time) *CA {
	t.Helper()
	dir := t.TempDir()
	db := dbtest.Open(t, dir)
	ring, err := keyring.Open(t.Context(), dir, db)
	if err != nil {
		t.Fatal(err)
	}
	c, err := open(t.Context(), db, ring, func() time.Time { return *now })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func server(t *testing.T, c *CA, hosts []string, ips ...net.IP) tls.Certificate {
	t.Helper()
	cert, err := c.ServerCertificate(t.Context(), hosts, ips)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestServerCertificate(t *testing.T) {
	now := time.Now()
	c := clocked(t, &now)
	hosts, ip := []string{"Localhost", "gate.example.", "*.messaging.gate.example", "localhost"}, net.IPv4(127, 0, 0, 1)
	first := server(t, c, hosts, ip, net.IPv6loopback)
	for _, name := range []string{"localhost", "gate.example", "abc123.messaging.gate.example", "127.0.0.1", "::1"} {
		between := x509.NewCertPool()
		between.AddCert(c.Chain()[0])
		if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: c.Roots(), Intermediates: between, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(first.Leaf.ExtKeyUsage) != 1 || first.Leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("usage %v, want server only", first.Leaf.ExtKeyUsage)
	}
	if _, err := PrincipalOf(first.Leaf); errs.CodeOf(err) != errs.Unauthenticated {
		t.Errorf("the server's certificate is a client's: %v", err)
	}

	same := func(why string, want bool, got tls.Certificate) {
		t.Helper()
		if first.Leaf.Equal(got.Leaf) != want {
			t.Errorf("%s: the same certificate: %v, want %v", why, !want, want)
		}
	}
	same("again", true, server(t, c, []string{"gate.example", "*.messaging.gate.example", "localhost"}, net.IPv6loopback, ip.To4()))
	now = now.Add(59 * 24 * time.Hour)
	same("before two thirds", true, server(t, c, hosts, ip, net.IPv6loopback))
	now = now.Add(2 * 24 * time.Hour)
	renewed := server(t, c, hosts, ip, net.IPv6loopback)
	same("after two thirds", false, renewed)
	if renewed.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(first.Leaf.PublicKey) {
		t.Error("renewed with the old key")
	}
	changed := server(t, c, hosts, ip)
	if renewed.Leaf.Equal(changed.Leaf) {
		t.Error("other names, and still the same certificate")
	}
	if err := c.Revoke(t.Context(), changed.Leaf.SerialNumber, 1); err != nil {
		t.Fatal(err)
	}
	if changed.Leaf.Equal(server(t, c, hosts, ip).Leaf) {
		t.Error("a revoked certificate goes on")
	}
}

func TestServerNamesRefused(t *testing.T) {
	now := time.Now()
	c := clocked(t, &now)
	for _, hosts := range [][]string{nil, {""}, {"a b"}, {"a..b"}, {"*"}, {"a.*.b"}, {"x\x00y"}, {"ü.example"}, make([]string, serverNames+1)} {
		if _, err := c.ServerCertificate(t.Context(), hosts, nil); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%q: %v, want a refusal", hosts, err)
		}
	}
	if _, err := c.ServerCertificate(t.Context(), nil, []net.IP{{1, 2}}); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("a broken address: %v, want a refusal", err)
	}
}

// TestHandshake does what broker and edge do: TLS both ways.
func TestHandshake(t *testing.T) {
	now := time.Now()
	c := clocked(t, &now)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:1"}
	cert, err := c.Issue(t.Context(), Request{Principal: p, CSR: requestFor(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	serverSide := &tls.Config{Certificates: []tls.Certificate{server(t, c, []string{"localhost"})},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.ClientAuthorities()}
	shake := func(client tls.Certificate) (*x509.Certificate, error) {
		a, b := net.Pipe()
		defer a.Close()
		done := make(chan error, 1)
		go func() {
			defer b.Close()
			conn := tls.Client(b, &tls.Config{RootCAs: c.Roots(), ServerName: "localhost", Certificates: []tls.Certificate{client}})
			err := conn.Handshake()
			if err == nil {
				_, err = conn.Read(make([]byte, 1)) // the refusal of a certificate comes here
			}
			done <- err
		}()
		conn := tls.Server(a, serverSide)
		err := conn.Handshake()
		if err == nil {
			_, err = conn.Write([]byte{1})
		}
		a.Close()
		<-done
		if err != nil {
			return nil, err
		}
		return conn.ConnectionState().PeerCertificates[0], nil
	}
	peer, err := shake(tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := PrincipalOf(peer); err != nil || got != p {
		t.Errorf("PrincipalOf = %v, %v; want %v", got, err, p)
	}
	if _, err := shake(tls.Certificate{Certificate: [][]byte{cert.Raw, c.Chain()[0].Raw}, PrivateKey: key}); err != nil {
		t.Errorf("with the chain: %v", err)
	}
	other := clocked(t, &now)
	foreign, err := other.Issue(t.Context(), Request{Principal: p, CSR: requestFor(t, key)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := shake(tls.Certificate{Certificate: [][]byte{foreign.Raw, other.Chain()[0].Raw}, PrivateKey: key}); err == nil {
		t.Error("a certificate of another installation was accepted")
	}
	if _, err := shake(serverSide.Certificates[0]); err == nil {
		t.Error("the server's certificate was accepted for a client")
	}
}

func requestFor(t testing.TB, key *ecdsa.PrivateKey) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return &x509.CertificateRequest{Raw: der}
}

// TestSuccession lets the years pass.
func TestSuccession(t *testing.T) {
	now := time.Now()
	c := clocked(t, &now)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:1"}
	begin, root := now, string(c.RootPEM())
	made := map[string]bool{}
	for month := range 12 * 20 {
		now = begin.Add(time.Duration(month) * 30 * 24 * time.Hour)
		cert, err := c.Issue(t.Context(), Request{Principal: p, CSR: requestFor(t, key), TTL: MaxTTL})
		if err != nil {
			t.Fatalf("month %d: %v", month, err)
		}
		made[c.Chain()[0].SerialNumber.String()] = true
		usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		for _, at := range []time.Time{now, cert.NotAfter.Add(-time.Second)} {
			if _, err := cert.Verify(x509.VerifyOptions{Roots: c.ClientAuthorities(), KeyUsages: usage, CurrentTime: at}); err != nil {
				t.Fatalf("month %d: %v", month, err)
			}
		}
	}
	if len(made) != 5 {
		t.Errorf("%d issuing authorities in twenty years, want 5", len(made))
	}
	if string(c.RootPEM()) != root {
		t.Error("the root changed")
	}
	// What ended long ago goes, and then counts as revoked.
	old, err := c.Certificates(t.Context(), p)
	if err != nil || len(old) != listLimit {
		t.Fatalf("%d certificates, %v", len(old), err)
	}
	n, err := c.Prune(t.Context())
	if err != nil || n < 200 {
		t.Errorf("pruned %d, %v", n, err)
	}
	left, err := c.Certificates(t.Context(), p)
	if err != nil || len(left) == 0 || len(left) > 6 {
		t.Errorf("%d certificates left, %v", len(left), err)
	}
}

func TestWrongClock(t *testing.T) {
	now := time.Now()
	c := clocked(t, &now)
	now = now.Add(-24 * time.Hour)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "sensor:1"}
	if _, err := c.Issue(t.Context(), Request{Principal: p, CSR: requestFor(t, key)}); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("before the authority began: %v, want a refusal", err)
	}
	epoch := time.Unix(0, 0)
	db := dbtest.Open(t, t.TempDir())
	if _, err := open(t.Context(), db, c.ring, func() time.Time { return epoch }); errs.CodeOf(err) != errs.Unavailable {
		t.Errorf("an authority was made in 1970: %v", err)
	}
}
