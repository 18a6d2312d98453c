package servercert

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
)

// maxFile bounds a certificate or key file.
const maxFile = 1 << 20

// readFiles takes the files of the operator into use.
func (s *Server) readFiles() error {
	cert, key, err := s.contents()
	if err != nil {
		return err
	}
	pair, err := Pair(cert, key, time.Now())
	if err != nil {
		return errs.Wrap(errs.Invalid, err, fmt.Sprintf("tls.certificate %s, tls.key %s: %s", s.config.CertificateFile, s.config.KeyFile, errs.Message(err)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.fileID, s.problem = &pair, digest(cert, key), ""
	return nil
}

func digest(cert, key []byte) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d\n%s%s", len(cert), cert, key)
	return string(h.Sum(nil))
}

func (s *Server) contents() (cert, key []byte, err error) {
	if cert, err = readFile("tls.certificate", s.config.CertificateFile, 0); err != nil {
		return nil, nil, err
	}
	key, err = readFile("tls.key", s.config.KeyFile, 0o007)
	return cert, key, err
}

// readFile reads a file that has none of the forbidden permissions.
func readFile(setting, file string, forbidden os.FileMode) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, fmt.Sprintf("%s: the file %s cannot be read", setting, file))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if !info.Mode().IsRegular() {
		return nil, errs.E(errs.Invalid, "%s: %s is not a file", setting, file)
	}
	if info.Mode().Perm()&forbidden != 0 {
		return nil, errs.E(errs.Invalid, "%s: everybody may read or write %s (mode %04o); run: chmod o= %s", setting, file, info.Mode().Perm(), file)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errs.E(errs.Invalid, "%s: %s is larger than %d bytes", setting, file, maxFile)
	}
	return b, err
}

// watchFiles takes changed files into use. Half a change, as of a certificate
// whose key is not there yet, leaves the former ones in use.
func (s *Server) watchFiles() {
	if s.config.CertificateFile == "" {
		return
	}
	cert, key, err := s.contents()
	s.mu.Lock()
	same, before := err == nil && digest(cert, key) == s.fileID, s.problem
	s.mu.Unlock()
	if same {
		return
	}
	if err == nil {
		err = s.readFiles()
	}
	if err != nil {
		s.mu.Lock()
		s.problem = errs.Message(err)
		now := s.problem
		s.mu.Unlock()
		if now != before {
			s.config.Log.Error("the changed server certificate is not taken into use; the former one stays", "err", err)
		}
		return
	}
	s.choose()
	s.config.Log.Info("the server certificate was read again", "file", s.config.CertificateFile)
}

// Pair reads a certificate chain, the server's own first, and its key, both PEM,
// and checks that a client can use them at now.
func Pair(cert, key []byte, now time.Time) (tls.Certificate, error) {
	pair, err := tls.X509KeyPair(cert, key)
	if err == nil {
		err = leaf(&pair)
	}
	if err != nil {
		// What is wrong with a key is not repeated: it could quote it.
		return tls.Certificate{}, errs.Wrap(errs.Invalid, err, "not a certificate chain in PEM and the key that belongs to its first certificate")
	}
	return pair, checkLeaf(pair.Leaf, now)
}

// checkLeaf checks a server certificate itself. Who signed it is for clients to judge.
func checkLeaf(c *x509.Certificate, now time.Time) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 {
			return errs.E(errs.Invalid, "the key has %d bits; an RSA key needs 2048", k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P224() {
			return errs.E(errs.Invalid, "the key is on the curve P-224; use P-256, P-384 or P-521")
		}
	case ed25519.PublicKey:
	default:
		return errs.E(errs.Invalid, "the key must be ECDSA, RSA or Ed25519")
	}
	switch c.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.MD2WithRSA, x509.DSAWithSHA1:
		return errs.E(errs.Invalid, "it is signed with %s, which clients refuse", c.SignatureAlgorithm)
	}
	switch {
	case c.IsCA:
		return errs.E(errs.Invalid, "it is of an authority and not of a server; the server's own must be the first")
	case len(c.DNSNames) == 0:
		return errs.E(errs.Invalid, "it names no host: a subject alternative name must")
	case len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errs.E(errs.Invalid, "it is not for servers: its extended key usage lacks serverAuth")
	case now.After(c.NotAfter):
		return errs.E(errs.Invalid, "it ended on %s", c.NotAfter.UTC().Format(time.DateTime))
	case now.Before(c.NotBefore):
		return errs.E(errs.Invalid, "it begins on %s", c.NotBefore.UTC().Format(time.DateTime))
	}
	return nil
}
