package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/keepmq/keepmq/internal/secret"
)

// issued is what the server answers to enrolment and renewal.
type issued struct {
	Certificate string `json:"certificate"`
	Chain       string `json:"chain"`
}

// enrol gets the device's first certificate for a one-time token, and keeps
// it. The key is durable before the server hears of it, and the server binds
// the token to the key: after a crash on any line, enrolling again with the
// same token goes through. If want is not "", a certificate for another client
// id is not kept.
func enrol(ctx context.Context, f *folder, s *server, key *ecdsa.PrivateKey, token secret.String, want string) (*tls.Certificate, error) {
	csr, err := request(key)
	if err != nil {
		return nil, err
	}
	in := struct {
		Token string `json:"token"`
		CSR   string `json:"csr"`
	}{token.Reveal(), csr}
	var out issued
	if err := s.post(ctx, "/api/v1/enrol", in, &out, nil); err != nil {
		switch status(err) {
		case 0:
			return nil, err
		case 429, 500, 502, 503, 504:
			return nil, &Problem{"the server cannot enrol this device now", "try again in a moment, with the same token", err}
		}
		return nil, &Problem{"the server does not enrol this device", askForToken, err}
	}
	t, err := s.check(out, key)
	if err != nil {
		return nil, err
	}
	if is, err := identityOf(t.Leaf); err != nil || want != "" && is.ClientID() != want {
		return nil, &Problem{fmt.Sprintf("this folder belongs to %s, and the token is for %s", want, is.ClientID()),
			"give the other device a folder of its own with --dir and a token of its own", err}
	}
	return t, saveCertificate(f, t)
}

// renew gets a new certificate with the one the device has, and keeps it.
func renew(ctx context.Context, f *folder, s *server, old *tls.Certificate) (*tls.Certificate, error) {
	key, ok := old.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("renew: the key is a %T", old.PrivateKey)
	}
	csr, err := request(key)
	if err != nil {
		return nil, err
	}
	in := struct {
		CSR string `json:"csr"`
	}{csr}
	var out issued
	if err := s.post(ctx, "/api/v1/renew", in, &out, old); err != nil {
		return nil, err
	}
	t, err := s.check(out, key)
	if err != nil {
		return nil, err
	}
	was, err := identityOf(old.Leaf)
	if err != nil {
		return nil, err
	}
	if is, err := identityOf(t.Leaf); err != nil || is != was {
		return nil, fmt.Errorf("the new certificate is for %s, not for %s", is.ClientID(), was.ClientID())
	}
	return t, saveCertificate(f, t)
}

// check takes nothing the device could not use: a certificate for another key,
// of another authority, without an identity, or not valid now.
func (s *server) check(out issued, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	chain, err := parseChain([]byte(out.Certificate + "\n" + out.Chain))
	if err != nil {
		return nil, fmt.Errorf("the server's answer holds no usable certificate: %w", err)
	}
	now := s.now()
	if c := chain[0]; now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return nil, wrongClock("the certificate made for this device", c, now)
	}
	more := x509.NewCertPool()
	for _, c := range chain[1:] {
		more.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{
		Roots: s.roots, Intermediates: more, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, fmt.Errorf("the certificate made for this device is not of the authority in the CA file: %w", err)
	}
	if _, err := identityOf(chain[0]); err != nil {
		return nil, err
	}
	return pair(chain, key)
}
