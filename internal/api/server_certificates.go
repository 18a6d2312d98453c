package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// OrgServerCertificate is what the server shows to clients that ask for a name of
// an organisation.
type OrgServerCertificate struct {
	ID      string     `json:"id"`
	State   string     `json:"state" enum:"requested,shown,unused" doc:"requested: it waits for the certificate that an authority makes of the request. unused: it is for no name of the organisation, or over."`
	Names   []string   `json:"names,omitempty" doc:"For which it is shown."`
	Request string     `json:"request,omitempty" doc:"The certificate signing request, PEM; none if the key was uploaded."`
	Serial  string     `json:"serial,omitempty" doc:"Hexadecimal."`
	Issuer  string     `json:"issuer,omitempty"`
	Ends    *time.Time `json:"ends,omitempty"`
	Created time.Time  `json:"created"`
	Changed time.Time  `json:"changed"`
}

func orgServerCertificate(c registry.ServerCertificate) OrgServerCertificate {
	x := OrgServerCertificate{ID: c.ID, State: "requested", Names: c.Names, Request: string(c.Request), Created: utc(c.Created), Changed: utc(c.Changed)}
	if len(c.Chain) > 0 {
		leaf := c.Chain[0]
		ends := utc(leaf.NotAfter)
		x.State, x.Serial, x.Issuer, x.Ends = "shown", leaf.SerialNumber.Text(16), leaf.Issuer.String(), &ends
		if len(c.Names) == 0 || time.Now().After(ends) {
			x.State = "unused"
		}
	}
	return x
}

// OrgServerCertificates are the server certificates of an organisation, and the
// names that they may be for.
type OrgServerCertificates struct {
	Names []string               `json:"names" doc:"Under which clients may ask for the organisation."`
	Items []OrgServerCertificate `json:"items"`
}

func (s *server) listOrgServerCertificates(ctx context.Context, actor registry.Actor, in *InOrg) (*body[OrgServerCertificates], error) {
	all, names, err := s.registry.ServerCertificates(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	x := OrgServerCertificates{Names: names, Items: []OrgServerCertificate{}}
	for _, c := range all {
		x.Items = append(x.Items, orgServerCertificate(c))
	}
	return &body[OrgServerCertificates]{Body: x}, nil
}

// NewServerCertificate is a certificate that somebody has, or none to ask for one.
type NewServerCertificate struct {
	Certificate string `json:"certificate,omitempty" maxLength:"200000" doc:"PEM: the server's own first, then who signed it. Without one, a key and a request to be signed are made."`
	Key         string `json:"key,omitempty" maxLength:"50000" doc:"PEM. It is sealed, and never shown again."`
}

func (s *server) createOrgServerCertificate(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewServerCertificate
}) (*created[OrgServerCertificate], error) {
	var c registry.ServerCertificate
	var err error
	if in.Body.Certificate == "" && in.Body.Key == "" {
		c, err = s.registry.RequestServerCertificate(ctx, actor, in.org())
	} else {
		c, err = s.registry.UploadServerCertificate(ctx, actor, in.org(), []byte(in.Body.Certificate), secret.New(in.Body.Key))
	}
	if err != nil {
		return nil, err
	}
	return &created[OrgServerCertificate]{Location: base + "/orgs/" + in.Org + "/server-certificates/" + c.ID, Body: orgServerCertificate(c)}, nil
}

type InServerCertificate struct {
	InOrg
	ID string `path:"id" minLength:"1" maxLength:"64" doc:"The id of the server certificate."`
}

func (s *server) completeOrgServerCertificate(ctx context.Context, actor registry.Actor, in *struct {
	InServerCertificate
	Body struct {
		Certificate string `json:"certificate" minLength:"1" maxLength:"200000" doc:"PEM: the one made of the request first, then who signed it."`
	}
}) (*body[OrgServerCertificate], error) {
	c, err := s.registry.CompleteServerCertificate(ctx, actor, in.org(), in.ID, []byte(in.Body.Certificate))
	if err != nil {
		return nil, err
	}
	return &body[OrgServerCertificate]{Body: orgServerCertificate(c)}, nil
}

func (s *server) deleteOrgServerCertificate(ctx context.Context, actor registry.Actor, in *InServerCertificate) error {
	return s.registry.DeleteServerCertificate(ctx, actor, in.org(), in.ID)
}

type InServerName struct {
	InOrg
	Name string `path:"name" minLength:"1" maxLength:"253" doc:"A host name."`
}

func (s *server) giveServerName(ctx context.Context, actor registry.Actor, in *InServerName) error {
	return s.registry.GiveServerName(ctx, actor, in.org(), in.Name)
}

func (s *server) takeServerName(ctx context.Context, actor registry.Actor, in *InServerName) error {
	return s.registry.TakeServerName(ctx, actor, in.org(), in.Name)
}
