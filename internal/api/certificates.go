package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// DeviceCertificate is a certificate that a device has.
type DeviceCertificate struct {
	Serial  string    `json:"serial"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

func (s *server) listCertificates(ctx context.Context, actor registry.Actor, in *InDevice) (*body[list[DeviceCertificate]], error) {
	all, err := s.registry.Certificates(ctx, actor, in.org(), in.Type, in.ID)
	if err != nil {
		return nil, err
	}
	return newList(all, "", func(c registry.Certificate) DeviceCertificate {
		return DeviceCertificate{Serial: c.Serial, Issued: utc(c.Issued), Expires: utc(c.NotAfter)}
	}), nil
}

func (s *server) revokeCertificate(ctx context.Context, actor registry.Actor, in *struct {
	InDevice
	Serial string `path:"serial" minLength:"1" maxLength:"64" doc:"The serial number, in hexadecimal digits."`
}) error {
	return s.registry.RevokeCertificate(ctx, actor, in.org(), in.Type, in.ID, in.Serial)
}
