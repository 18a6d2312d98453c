package ca

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"

	"github.com/keepmq/keepmq/internal/errs"
)

const (
	requestLimit = 16 << 10 // of a CSR, in bytes; an RSA-8192 key needs 3 KiB
	rsaMin       = 2048     // bits
	rsaMax       = 8192     // bits; longer ones only cost us time
)

// ParseRequest reads a certificate request (PKCS#10, DER), checks that whoever
// made it holds the key, and that the key is a strong one.
func ParseRequest(der []byte) (*x509.CertificateRequest, error) {
	if len(der) > requestLimit {
		return nil, errs.E(errs.Invalid, "certificate request is longer than %d bytes", requestLimit)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "certificate request cannot be read; send PKCS#10 in DER")
	}
	// The key first: checking a signature with a huge one is what an attacker wants.
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, err
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "certificate request is not signed with its own key")
	}
	return csr, nil
}

func checkKey(pub any) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case ed25519.PublicKey:
		if len(k) == ed25519.PublicKeySize {
			return nil
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < rsaMin || bits > rsaMax {
			return errs.E(errs.Invalid, "an RSA key must have %d to %d bits, not %d", rsaMin, rsaMax, bits)
		}
		if k.E >= 3 && k.E&1 == 1 {
			return nil
		}
	}
	return errs.E(errs.Invalid, "the key must be ECDSA P-256 or P-384, Ed25519, or RSA with at least %d bits", rsaMin)
}
