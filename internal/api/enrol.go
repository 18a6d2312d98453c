package api

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// NewEnrolment says how long an enrolment token is good.
type NewEnrolment struct {
	TTL int `json:"ttl_seconds,omitempty" minimum:"60" maximum:"604800" default:"3600" doc:"Seconds from now."`
}

// Enrolment is a one-time token with which one device gets its certificate.
type Enrolment struct {
	Token   string    `json:"token" doc:"Shown this once; the server keeps a hash only."`
	Expires time.Time `json:"expires"`
}

func (s *server) createEnrolment(ctx context.Context, actor registry.Actor, in *struct {
	InDevice
	Body NewEnrolment
}) (*body[Enrolment], error) {
	ttl := time.Duration(in.Body.TTL) * time.Second
	expires := time.Now().Add(ttl)
	token, err := s.registry.CreateEnrolment(ctx, actor, in.org(), in.Type, in.ID, ttl)
	if err != nil {
		return nil, err
	}
	return &body[Enrolment]{Body: Enrolment{Token: token.Reveal(), Expires: utc(expires)}}, nil
}

// CertificateRequest asks for a certificate.
type CertificateRequest struct {
	CSR string `json:"csr" minLength:"1" maxLength:"16384" doc:"PKCS #10 certificate request, PEM."`
}

// EnrolRequest asks for a device's first certificate.
type EnrolRequest struct {
	Token string `json:"token" minLength:"1" maxLength:"512" doc:"The enrolment token."`
	CertificateRequest
}

// Certificate is an issued certificate.
type Certificate struct {
	Certificate string    `json:"certificate" doc:"The device's certificate, PEM."`
	Chain       string    `json:"chain" doc:"The certificate and those that signed it, without the root, PEM."`
	Expires     time.Time `json:"expires"`
}

func (s *server) enrol(ctx context.Context, actor registry.Actor, in *struct{ Body EnrolRequest }) (*body[Certificate], error) {
	csr, err := parseCSR(in.Body.CSR)
	if err != nil {
		return nil, err
	}
	chain, err := s.registry.Enrol(ctx, secret.New(in.Body.Token), csr, actor.Address)
	if err != nil {
		return nil, err
	}
	return certificate(chain)
}

// renew trusts a certificate only if TLS has verified it against our
// authorities: a server that does not check certificates renews none.
func (s *server) renew(ctx context.Context, _ registry.Actor, in *struct{ Body CertificateRequest }) (*body[Certificate], error) {
	state := requestOf(ctx).raw.TLS
	if state == nil || len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return nil, errs.E(errs.Unauthenticated, "the connection must present the certificate that is to be renewed")
	}
	csr, err := parseCSR(in.Body.CSR)
	if err != nil {
		return nil, err
	}
	chain, err := s.registry.RenewCertificate(ctx, state.PeerCertificates[0], csr)
	if err != nil {
		return nil, err
	}
	return certificate(chain)
}

// parseCSR returns the DER of exactly one certificate request.
func parseCSR(s string) ([]byte, error) {
	b, rest := pem.Decode([]byte(s))
	if b == nil || b.Type != "CERTIFICATE REQUEST" {
		return nil, errs.E(errs.Invalid, "csr must be a PEM block CERTIFICATE REQUEST")
	}
	if next, _ := pem.Decode(rest); next != nil {
		return nil, errs.E(errs.Invalid, "csr must be one PEM block, not several")
	}
	return b.Bytes, nil
}

func certificate(chain []*x509.Certificate) (*body[Certificate], error) {
	if len(chain) == 0 {
		return nil, errs.E(errs.Internal, "no certificate was issued")
	}
	out := Certificate{Expires: utc(chain[0].NotAfter)}
	for i, c := range chain {
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		if i == 0 {
			out.Certificate = text
		}
		out.Chain += text
	}
	return &body[Certificate]{Body: out}, nil
}
