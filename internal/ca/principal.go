package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"net/url"
	"slices"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

const uriPrefix = "urn:keepmq:org:"

// names are how a client certificate names a principal.
type names struct {
	common string // "d:type:id" or "g:type:id"
	email  string // the same: iot-2 clients look for it there
	uri    *url.URL
}

func namesOf(p auth.Principal) (names, error) {
	if _, err := auth.ParseOrgID(string(p.Org)); err != nil {
		return names{}, err
	}
	typ, id := p.TypeAndID()
	if err := auth.CheckName("device type", typ); err != nil {
		return names{}, err
	}
	if err := auth.CheckName("device id", id); err != nil {
		return names{}, err
	}
	letter := ""
	switch p.Kind {
	case auth.Device:
		letter = "d:"
	case auth.Gateway:
		letter = "g:"
	default:
		return names{}, errs.E(errs.Invalid, "certificates are for devices and gateways, not for a %s", p.Kind)
	}
	return names{
		common: letter + p.ID, email: letter + p.ID,
		uri: &url.URL{Scheme: "urn", Opaque: strings.TrimPrefix(uriPrefix, "urn:") + string(p.Org)},
	}, nil
}

// PrincipalOf returns whose client certificate cert is. TLS must have verified
// it before. It is strict: the certificate must name its principal exactly as
// Issue does, in every place, and nothing else.
func PrincipalOf(cert *x509.Certificate) (auth.Principal, error) {
	p, ok := principalOf(cert)
	if !ok {
		return auth.Principal{}, errs.E(errs.Unauthenticated, "not a client certificate of a device")
	}
	return p, nil
}

func principalOf(cert *x509.Certificate) (auth.Principal, bool) {
	none := auth.Principal{}
	if cert == nil || cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage != x509.KeyUsageDigitalSignature ||
		len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || len(cert.UnknownExtKeyUsage) > 0 {
		return none, false
	}
	if len(cert.URIs) != 1 || len(cert.EmailAddresses) != 1 || len(cert.DNSNames) > 0 || len(cert.IPAddresses) > 0 {
		return none, false
	}
	org, ok := strings.CutPrefix(cert.URIs[0].String(), uriPrefix)
	if !ok {
		return none, false
	}
	commonName := asn1.ObjectIdentifier{2, 5, 4, 3}
	if len(cert.Subject.Names) != 1 || !slices.Equal(cert.Subject.Names[0].Type, commonName) {
		return none, false
	}
	p := auth.Principal{Org: auth.OrgID(org)}
	var letter string
	letter, p.ID, _ = strings.Cut(cert.Subject.CommonName, ":")
	switch letter {
	case "d":
		p.Kind = auth.Device
	case "g":
		p.Kind = auth.Gateway
	}
	// It is right if the principal has just these names.
	n, err := namesOf(p)
	if err != nil || n.common != cert.Subject.CommonName || n.email != cert.EmailAddresses[0] || n.uri.String() != cert.URIs[0].String() {
		return none, false
	}
	return p, true
}
