package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A TLSServer is a server of its own that also listens on the loopback address,
// with a certificate for localhost, and lets in only through TLS there.
type TLSServer struct {
	*Server
	Port   int
	CAFile string
}

// StartTLS starts a TLSServer at a port that is free.
func StartTLS(t testing.TB, port int) TLSServer {
	t.Helper()
	Shared(t) // is it installed?
	s := TLSServer{Port: port, CAFile: filepath.Join(t.TempDir(), "ca.pem")}
	var err error
	s.Server, err = start(func(dir string, who *syscall.Credential) error { return certify(dir, who, s.CAFile) },
		"listen_addresses = '127.0.0.1'", fmt.Sprintf("port = %d", port), "ssl = on",
		"ssl_cert_file = '../server.pem'", "ssl_key_file = '../server.key'")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// certify writes a certificate and its key for a server, and the authority.
func certify(dir string, who *syscall.Credential, caFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "database"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, b := range map[string][]byte{filepath.Join(dir, "server.pem"): public, caFile: public,
		filepath.Join(dir, "server.key"): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		err = errors.Join(err, os.WriteFile(file, b, 0o600))
		if who != nil && file != caFile {
			err = errors.Join(err, os.Chown(file, int(who.Uid), int(who.Gid)))
		}
	}
	return err
}
