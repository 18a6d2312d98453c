package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// An identity is a server's certificate and key in files, for peers that do
// not make their own.
type identity struct {
	cert, key string
	rootFile  string
	client    *tls.Config // trusts it
	root      *x509.Certificate
	rootKey   *ecdsa.PrivateKey
}

// newIdentity makes an ECDSA P-256 certificate for localhost, signed by a root
// of its own as KeepMQ's is, so that the handshakes are alike.
func newIdentity(dir string) (identity, error) {
	id := identity{cert: filepath.Join(dir, "server.pem"), key: filepath.Join(dir, "server.key"), rootFile: filepath.Join(dir, "root.pem")}
	root := certificate("bench root")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return id, err
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return id, err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil {
		return id, err
	}
	leaf := certificate("localhost")
	leaf.DNSNames, leaf.IPAddresses = []string{"localhost", mutualName}, []net.IP{net.IPv4(127, 0, 0, 1)}
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return id, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	if err != nil {
		return id, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return id, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	id.client = clientTLS(&tls.Config{RootCAs: pool})
	id.root, id.rootKey = root, rootKey
	if err := writePEM(id.rootFile, "CERTIFICATE", rootDER); err != nil {
		return id, err
	}
	if err := writePEM(id.cert, "CERTIFICATE", der); err != nil {
		return id, err
	}
	return id, writePEM(id.key, "PRIVATE KEY", keyDER)
}

func certificate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
	}
}

func writePEM(file, kind string, der []byte) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}
