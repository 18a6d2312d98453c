package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

const (
	keyFile         = "key.pem"
	certificateFile = "certificate.pem"
	maxPEM          = 256 << 10
)

// Identity is who the device is. Its certificate says so, nothing else.
type Identity struct{ Org, Class, Type, ID string }

// ClientID is the MQTT client id of the identity, like "d:org:type:id".
func (i Identity) ClientID() string { return i.Class + ":" + i.Org + ":" + i.Type + ":" + i.ID }

// topic returns where a reading of a source is published.
func (i Identity) topic(source string) string {
	event := "evt/" + source + "/fmt/json"
	if i.Class == "g" {
		return "iot-2/type/" + i.Type + "/id/" + i.ID + "/" + event
	}
	return "iot-2/" + event
}

// identityOf reads the identity in a device certificate.
func identityOf(c *x509.Certificate) (Identity, error) {
	parts := strings.Split(c.Subject.CommonName, ":")
	if len(parts) != 3 || parts[0] != "d" && parts[0] != "g" || parts[1] == "" || parts[2] == "" {
		return Identity{}, fmt.Errorf("the certificate's name %q is not that of a device", c.Subject.CommonName)
	}
	for _, u := range c.URIs {
		if org, ok := strings.CutPrefix(u.String(), "urn:keepmq:org:"); ok && org != "" {
			return Identity{Org: org, Class: parts[0], Type: parts[1], ID: parts[2]}, nil
		}
	}
	return Identity{}, errors.New("the certificate names no organisation")
}

// openKey returns the device's key. The first call makes it, and returns it
// only when it is durable: whatever asks for a certificate afterwards, also
// after a crash, asks for this key. It never leaves the folder.
func openKey(f *folder) (*ecdsa.PrivateKey, error) {
	b, err := readFile(f, keyFile, maxPEM)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(f)
	}
	if err != nil {
		return nil, fmt.Errorf("read the device's key: %w", err)
	}
	fi, err := f.root.Stat(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the device's key: %w", err)
	}
	if open := fi.Mode().Perm() & 0o077; open != 0 && !anyMode {
		return nil, &Problem{"the device's key can be read by other users of this machine", "chmod 600 " + keyFile + " in the agent's folder, and consider enrolling with a new key", nil}
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, damagedKey(errors.New("it is no PEM"))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, damagedKey(err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, damagedKey(errors.New("it is no ECDSA key"))
	}
	return ec, nil
}

func damagedKey(err error) error {
	return &Problem{"the device's key is damaged", "remove " + keyFile + " in the agent's folder and enrol again; " + askForToken, err}
}

func makeKey(f *folder) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the device's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make the device's key: %w", err)
	}
	if err := writeAtomic(f, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, fmt.Errorf("keep the device's key: %w", err)
	}
	return key, nil
}

// request returns a certificate request for key, PEM. It says nothing about
// the device: the token or the old certificate does.
func request(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return "", fmt.Errorf("make certificate request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// parseChain returns the certificates in PEM text, each one once.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if len(out) == 0 || !out[len(out)-1].Equal(c) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return out, nil
}

// pair joins a chain and the key it must be for.
func pair(chain []*x509.Certificate, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	if !key.PublicKey.Equal(chain[0].PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	t := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		t.Certificate = append(t.Certificate, c.Raw)
	}
	return t, nil
}

// loadCertificate returns the certificate that is kept, or nil if none is.
func loadCertificate(f *folder, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	b, err := readFile(f, certificateFile, maxPEM)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the device's certificate: %w", err)
	}
	chain, err := parseChain(b)
	if err == nil {
		var t *tls.Certificate
		if t, err = pair(chain, key); err == nil {
			return t, nil
		}
	}
	return nil, &Problem{"the device's certificate is damaged", "remove " + certificateFile + " in the agent's folder and enrol again; " + askForToken, err}
}

// saveCertificate keeps a chain in place of the one before.
func saveCertificate(f *folder, t *tls.Certificate) error {
	var b bytes.Buffer
	for _, der := range t.Certificate {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return fmt.Errorf("encode the device's certificate: %w", err)
		}
	}
	if err := writeAtomic(f, certificateFile, b.Bytes()); err != nil {
		return fmt.Errorf("keep the device's certificate: %w", err)
	}
	return nil
}
