package api

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"io"
	"mime"
	"net/http"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// estBase is where enrolment over secure transport is (RFC 7030, section 3.2.2).
const estBase = "/.well-known/est/"

// estRoutes are the operations of EST. A device comes with its one-time token as
// the password of HTTP Basic, whatever the user name, and later with its
// certificate; its names come from there, never from the request.
func (s *server) estRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+estBase+"cacerts", s.est(s.estCACerts))
	mux.HandleFunc("GET "+estBase+"csrattrs", s.est(s.estAttributes))
	mux.HandleFunc("POST "+estBase+"simpleenroll", s.est(s.estEnrol))
	mux.HandleFunc("POST "+estBase+"simplereenroll", s.est(s.estRenew))
	for _, op := range []string{"serverkeygen", "fullcmc"} {
		mux.HandleFunc("POST "+estBase+op, s.estRefused)
	}
}

func (s *server) est(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		p := s.problem(r.Context(), err)
		if p.Status == http.StatusUnauthorized {
			p.header["Www-Authenticate"] = []string{`Basic realm="keepmq enrolment", charset="UTF-8"`}
		}
		p.write(w)
	}
}

// estRefused answers for what is not done: a key is made where it is used, and
// never leaves it.
func (s *server) estRefused(w http.ResponseWriter, r *http.Request) {
	newProblem(r.Context(), http.StatusNotImplemented,
		"keys are made on the device and never here; make one, and send its request to "+estBase+"simpleenroll").write(w)
}

func (s *server) estCACerts(w http.ResponseWriter, _ *http.Request) error {
	var certs [][]byte
	for rest := s.ca; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		certs = append(certs, b.Bytes)
	}
	if s.chain != nil {
		for _, c := range s.chain() {
			certs = append(certs, c.Raw)
		}
	}
	der, err := certsOnly(certs...)
	if err != nil {
		return err
	}
	return estAnswer(w, "application/pkcs7-mime", der)
}

// estAttributes asks for an ECDSA key on P-256, which is a wish: the other keys
// that are accepted elsewhere are accepted here too.
func (s *server) estAttributes(w http.ResponseWriter, _ *http.Request) error {
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.ObjectIdentifier `asn1:"set"`
	}
	der, err := asn1.Marshal(struct {
		Key       attribute
		Signature asn1.ObjectIdentifier
	}{
		attribute{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, []asn1.ObjectIdentifier{{1, 2, 840, 10045, 3, 1, 7}}},
		asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2},
	})
	if err != nil {
		return err
	}
	return estAnswer(w, "application/csrattrs", der)
}

func (s *server) estEnrol(w http.ResponseWriter, r *http.Request) error {
	_, token, ok := r.BasicAuth()
	if !ok || token == "" || len(token) > 512 {
		return errs.E(errs.Unauthenticated, "send the enrolment token as the password of HTTP Basic; the user name is not looked at")
	}
	csr, err := estRequest(r)
	if err != nil {
		return err
	}
	chain, err := s.registry.Enrol(r.Context(), secret.New(token), csr, address(r))
	if err != nil {
		return err
	}
	return estCertificate(w, chain)
}

func (s *server) estRenew(w http.ResponseWriter, r *http.Request) error {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.PeerCertificates) == 0 {
		return errs.E(errs.Unauthenticated, "the connection must present the certificate that is to be renewed")
	}
	peer := r.TLS.PeerCertificates[0]
	der, err := estRequest(r)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "certificate request cannot be read; send PKCS#10")
	}
	// RFC 7030, section 4.2.2: the names stay. One that asks for none gets its own.
	if len(csr.Subject.Names) > 0 && !bytes.Equal(csr.RawSubject, peer.RawSubject) {
		return errs.E(errs.Invalid, "the subject of the request must be that of the certificate, or empty")
	}
	chain, err := s.registry.RenewCertificate(r.Context(), peer, der)
	if err != nil {
		return err
	}
	return estCertificate(w, chain)
}

// estRequest returns the certificate request in the body, which is base64 with
// or without line breaks (RFC 8951, section 3).
func estRequest(r *http.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/pkcs10" || len(r.Header.Values("Content-Type")) != 1 {
		return nil, errs.E(errs.Invalid, "the content type must be application/pkcs10")
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "the body cannot be read, or is too long")
	}
	return decodeEST(text)
}

func decodeEST(text []byte) ([]byte, error) {
	der, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	if err != nil || len(der) == 0 {
		return nil, errs.E(errs.Invalid, "the body must be a PKCS#10 request in base64, without the lines around PEM")
	}
	return der, nil
}

// estCertificate answers with the certificate alone; the authorities are at
// cacerts.
func estCertificate(w http.ResponseWriter, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errs.E(errs.Internal, "no certificate was issued")
	}
	der, err := certsOnly(chain[0].Raw)
	if err != nil {
		return err
	}
	return estAnswer(w, "application/pkcs7-mime; smime-type=certs-only", der)
}

func estAnswer(w http.ResponseWriter, kind string, der []byte) error {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Transfer-Encoding", "base64")
	text := base64.StdEncoding.EncodeToString(der)
	for len(text) > 0 {
		n := min(64, len(text))
		if _, err := io.WriteString(w, text[:n]+"\n"); err != nil {
			return nil // the caller is gone
		}
		text = text[n:]
	}
	return nil
}

// certsOnly returns certificates as CMS SignedData that nobody signed
// (RFC 5652, section 5.2; RFC 8551, section 3.8).
func certsOnly(certs ...[]byte) ([]byte, error) {
	type content struct {
		Type asn1.ObjectIdentifier
	}
	type signed struct {
		Version    int
		Algorithms []asn1.RawValue `asn1:"set"`
		Content    content
		Certs      asn1.RawValue
		Signers    []asn1.RawValue `asn1:"set"`
	}
	inner, err := asn1.Marshal(signed{
		Version: 1, Content: content{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}},
		Certs: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: bytes.Join(certs, nil)},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue
	}{
		asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2},
		asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner},
	})
}
