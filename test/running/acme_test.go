package running

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

// freeAddress returns an address of this machine where nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// selfSigned writes a certificate for this machine and its key into dir.
func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tbs := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tbs, tbs, k.Public(), k)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	must(t, err)
	cert, key = filepath.Join(dir, "acme.pem"), filepath.Join(dir, "acme.key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	return cert, key
}

// anACMEAuthority starts an ACME authority that finds every name at this machine
// and proves it at the port of https, and returns its directory, and who signed
// its own certificate.
func anACMEAuthority(t *testing.T, https, eabKey string, life time.Duration) (directory, ca string, authority *exec.Cmd) {
	t.Helper()
	tool := func(name string) string {
		file, err := filepath.Abs(filepath.Join("..", "..", "bin", "test", name))
		must(t, err)
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%s is missing: run scripts/setup-test", name)
		}
		return file
	}
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	acme, dns := freeAddress(t), freeAddress(t)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": acme, "managementListenAddress": freeAddress(t), "certificate": cert, "privateKey": key,
		"httpPort": 1, "tlsPort": json.Number(portOf(https)), "externalAccountBindingRequired": true,
		"externalAccountMACKeys": map[string]string{"kid-1": eabKey}, "domainBlocklist": []string{"refused.example.org"},
		"profiles":   map[string]any{"default": map[string]any{"description": "short", "validityPeriod": int(life.Seconds())}},
		"retryAfter": map[string]int{"authz": 1, "order": 1},
	}})
	must(t, err)
	file := filepath.Join(dir, "pebble.json")
	must(t, os.WriteFile(file, conf, 0o600))
	start(t, exec.Command(tool("pebble-challtestsrv"), "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "",
		"-dnsserver", dns, "-management", freeAddress(t), "-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""))
	authority = exec.Command(tool("pebble"), "-config", file, "-dnsserver", dns, "-strict")
	authority.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	start(t, authority)
	eventually(t, "the ACME authority answers", func() bool {
		c, err := net.DialTimeout("tcp", acme, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return "https://" + acme + "/dir", cert, authority
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * server.StartTime); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, 2*server.StartTime)
		}
	}
}

// shown returns the certificate that a client gets which asks for name.
func shown(t *testing.T, port int, name string) *x509.Certificate {
	t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", fmt.Sprintf("127.0.0.1:%d", port),
		&tls.Config{ServerName: name, InsecureSkipVerify: true}) // what it is, is what is asked
	must(t, err)
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// A server gets its certificate from an ACME authority, renews it, keeps it over a
// restart, and shows its own for all other names.
func TestACME(t *testing.T) {
	const name, refused, eab = "mqtt.example.org", "refused.example.org", "YSBrZXkgdGhhdCBpcyBvbmx5IGZvciB0aGlzIHRlc3QsIG9mIDMyIGJ5dGVzIGFuZCBtb3Jl"
	dir := filepath.Join(t.TempDir(), "data")
	https := freeAddress(t)
	directory, ca, authority := anACMEAuthority(t, https, eab, 45*time.Second)
	conf, eabFile := filepath.Join(t.TempDir(), "keepmq.yaml"), filepath.Join(t.TempDir(), "eab")
	must(t, os.WriteFile(eabFile, []byte(eab+"\n"), 0o600))
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "tls:\n  acme:\n    directory: %s\n    accept_terms: true\n    names: [%s, %s]\n    ca: %s\n    eab_key_id: kid-1\n    eab_key_file: %s\n",
		directory, refused, name, ca, eabFile), 0o600))
	s := server.Start(t, dir, "--config", conf, "--https", https)
	api := s.SignIn()
	is := func(c *x509.Certificate) bool { return strings.Contains(c.Issuer.CommonName, "Pebble") }

	eventually(t, "the certificate is there", func() bool { return is(shown(t, s.MQTTPort, name)) })
	first := shown(t, s.HTTPSPort, name)
	if err := first.VerifyHostname(name); err != nil {
		t.Error(err)
	}
	for _, other := range []string{"localhost", refused, "other.example.org"} {
		if is(shown(t, s.MQTTPort, other)) {
			t.Errorf("%s gets a certificate that is not for it", other)
		}
	}
	if !is(shown(t, s.MQTTPort, "")) {
		t.Error("a client that names nothing does not get the public certificate")
	}
	var list struct {
		Items []struct {
			From, Problem string
			Names         []string
			Ends          *time.Time
		}
	}
	api.Call(http.MethodGet, "/server/certificates", nil, &list)
	if l := list.Items; len(l) != 3 || l[0].From != "own" || l[0].Ends == nil || l[1].Names[0] != refused || l[1].Ends != nil ||
		!strings.Contains(l[1].Problem, "rejectedIdentifier") || l[2].Names[0] != name || l[2].Ends == nil || l[2].Problem != "" {
		t.Errorf("%+v", l)
	}
	eventually(t, "it is renewed", func() bool { return !shown(t, s.MQTTPort, name).Equal(first) })
	second := shown(t, s.MQTTPort, name)

	s.Stop()
	_ = authority.Process.Kill()
	kept := 0
	must(t, filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		kept++
		b, err := os.ReadFile(file)
		if strings.Contains(string(b), "PRIVATE KEY") {
			t.Errorf("a key is in the clear in %s", file)
		}
		return err
	}))
	if kept < 3 {
		t.Errorf("%d files were looked at", kept)
	}
	s = server.Start(t, dir, "--config", conf, "--https", https)
	if time.Now().Before(second.NotAfter.Add(-5*time.Second)) && !is(shown(t, s.MQTTPort, name)) {
		t.Error("the certificate did not survive a restart without the authority")
	}
}

// The operator's own certificate is shown for its names, changed without a
// restart, and refused at the start if it is of no use.
func TestCertificateFile(t *testing.T) {
	dir := t.TempDir()
	write := func(serial int64, life time.Duration) *x509.Certificate {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		tbs := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"mqtt.example.org"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
		der, err := x509.CreateCertificate(rand.Reader, tbs, tbs, k.Public(), k)
		must(t, err)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "cert"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
		c, err := x509.ParseCertificate(der)
		must(t, err)
		return c
	}
	conf := filepath.Join(dir, "keepmq.yaml")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "tls: {certificate: %s, key: %s}\n", filepath.Join(dir, "cert"), filepath.Join(dir, "key")), 0o600))
	write(1, -time.Minute)
	if _, err := server.Try(t, filepath.Join(dir, "data"), "--config", conf); err == nil || !strings.Contains(err.Error(), "it ended on") {
		t.Errorf("started with a certificate that has ended: %v", err)
	}
	first := write(2, time.Hour)
	s := server.Start(t, filepath.Join(dir, "data"), "--config", conf)
	if got := shown(t, s.MQTTPort, "mqtt.example.org"); !got.Equal(first) {
		t.Errorf("shows %v", got.Subject)
	}
	if got := shown(t, s.MQTTPort, "localhost"); got.Equal(first) {
		t.Error("shows it for another name")
	}
	second := write(3, time.Hour)
	eventually(t, "the changed file is in use", func() bool { return shown(t, s.HTTPSPort, "mqtt.example.org").Equal(second) })
}

// An organisation has its own certificate shown for its name, signed by an
// authority of its choice, and nobody else's clients come in by that name.
func TestOrganisationCertificate(t *testing.T) {
	s := server.Start(t, filepath.Join(t.TempDir(), "data"))
	api := s.SignIn()
	const name = "mqtt.customer.example.com"
	at := "/orgs/" + s.Org
	api.Call(http.MethodPost, at+"/server-names/"+name, map[string]any{}, nil)
	var made struct{ ID, Request, State string }
	api.Call(http.MethodPost, at+"/server-certificates", map[string]any{}, &made)
	if made.State != "requested" {
		t.Errorf("%+v", made)
	}
	block, _ := pem.Decode([]byte(made.Request))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err)
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, err := x509.CreateCertificate(rand.Reader, authority, authority, k.Public(), k)
	must(t, err)
	authority, err = x509.ParseCertificate(root)
	must(t, err)
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(77), DNSNames: request.DNSNames,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, authority, request.PublicKey, k)
	must(t, err)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf})
	api.Call(http.MethodPut, at+"/server-certificates/"+made.ID, map[string]string{"certificate": string(chain)}, nil)
	ours := func(name string) bool { return shown(t, s.MQTTPort, name).SerialNumber.Int64() == 77 }
	if !ours(name) || !ours(s.Org+".messaging.localhost") || ours("localhost") || ours("") || ours("zzzzzz.messaging.localhost") {
		t.Errorf("shown for %s: %v", name, ours(name))
	}
	api.Call(http.MethodDelete, at+"/server-certificates/"+made.ID, nil, nil)
	if ours(name) {
		t.Error("it is shown after its end")
	}
}
