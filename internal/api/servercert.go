package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/servercert"
)

// ServerCertificate is a certificate that the server shows, or should.
type ServerCertificate struct {
	From    string     `json:"from" enum:"own,file,acme,organisation" doc:"own: of KeepMQ's own authority."`
	Org     string     `json:"org,omitempty"`
	Names   []string   `json:"names,omitempty" doc:"For which it is shown; none: all for which there is no other."`
	Serial  string     `json:"serial,omitempty" doc:"Hexadecimal; none: there is none yet."`
	Issuer  string     `json:"issuer,omitempty"`
	Ends    *time.Time `json:"ends,omitempty"`
	Stapled bool       `json:"stapled" doc:"An OCSP response is given with it."`
	Problem string     `json:"problem,omitempty" doc:"Why a newer one is not in use."`
}

func (s *server) listServerCertificates(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[list[ServerCertificate]], error) {
	if err := actor.MayAdminister(); err != nil {
		return nil, err
	}
	var all []servercert.Source
	if s.certificates != nil {
		all = s.certificates()
	}
	return newList(all, "", func(c servercert.Source) ServerCertificate {
		x := ServerCertificate{From: c.From, Org: c.Org, Names: c.Names, Serial: c.Serial, Issuer: c.Issuer, Stapled: c.Stapled, Problem: c.Problem}
		if !c.Ends.IsZero() {
			at := utc(c.Ends)
			x.Ends = &at
		}
		return x
	}), nil
}
