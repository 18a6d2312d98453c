package api

import (
	"context"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// Device is a device or gateway as the API shows it.
type Device struct {
	Type     string `json:"type"`
	ID       string `json:"id"`
	Class    string `json:"class" enum:"Device,Gateway"`
	ClientID string `json:"client_id" doc:"The MQTT client identifier with which it connects."`
	Gateway  string `json:"gateway,omitempty" doc:"The gateway it is attached to, as type:id."`
	Disabled bool   `json:"disabled"`

	Registers bool `json:"registers,omitempty" doc:"Of a gateway: a device that it speaks for and that is not there is made, of a type that is there, and attached to it."`

	Created time.Time `json:"created"`
}

func device(d registry.Device) Device {
	class := "d"
	if d.Class == "Gateway" {
		class = "g"
	}
	return Device{
		Type: d.Type, ID: d.ID, Class: d.Class, Gateway: d.Gateway, Registers: d.Registers, Disabled: d.Disabled, Created: utc(d.Created),
		ClientID: class + ":" + string(d.Org) + ":" + d.Type + ":" + d.ID,
	}
}

// DeviceWithToken is a device together with its new token.
type DeviceWithToken struct {
	Device
	Token string `json:"token" doc:"Shown this once; the server keeps a hash only."`
}

// Token is a new secret of something that exists.
type Token struct {
	Token string `json:"token" doc:"Shown this once; the server keeps a hash only."`
}

type InDevice struct {
	InType
	ID string `path:"id" minLength:"1" maxLength:"36" doc:"The device id."`
}

func (s *server) listDevices(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
	Type     string `query:"type" maxLength:"36" doc:"Only devices of this type."`
	Prefix   string `query:"prefix" maxLength:"36" doc:"Only devices whose id begins so."`
	Gateway  string `query:"gateway" maxLength:"73" doc:"Only devices attached to this gateway, given as type:id."`
	Disabled string `query:"disabled" enum:"true,false" doc:"Only disabled or only enabled devices."`
}) (*body[list[Device]], error) {
	f := registry.DeviceFilter{Type: in.Type, Prefix: in.Prefix, Gateway: in.Gateway}
	if in.Disabled != "" {
		v := in.Disabled == "true"
		f.Disabled = &v
	}
	devices, next, err := s.registry.Devices(ctx, actor, in.org(), f, in.page())
	if err != nil {
		return nil, err
	}
	return newList(devices, next, device), nil
}

// NewDevice is what a device is created from.
type NewDevice struct {
	Type    string `json:"type" minLength:"1" maxLength:"36"`
	ID      string `json:"id" minLength:"1" maxLength:"36" pattern:"^[A-Za-z0-9._-]+$" patternDescription:"letters, digits, dot, underscore and hyphen"`
	Gateway string `json:"gateway,omitempty" maxLength:"73" doc:"The gateway it is attached to, as type:id."`

	Registers bool `json:"registers,omitempty" doc:"Of a gateway: it may register devices by speaking for them."`
}

func (s *server) createDevice(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewDevice
}) (*created[DeviceWithToken], error) {
	d, token, err := s.registry.CreateDevice(ctx, actor, registry.Device{
		Org: in.org(), Type: in.Body.Type, ID: in.Body.ID, Gateway: in.Body.Gateway, Registers: in.Body.Registers,
	})
	if err != nil {
		return nil, err
	}
	return &created[DeviceWithToken]{
		Location: base + "/orgs/" + in.Org + "/devices/" + url.PathEscape(d.Type) + "/" + url.PathEscape(d.ID),
		Body:     DeviceWithToken{Device: device(d), Token: token.Reveal()},
	}, nil
}

func (s *server) getDevice(ctx context.Context, actor registry.Actor, in *InDevice) (*body[Device], error) {
	d, err := s.registry.Device(ctx, actor, in.org(), in.Type, in.ID)
	if err != nil {
		return nil, err
	}
	return &body[Device]{Body: device(d)}, nil
}

// DeviceChange is a change of a device; what is absent stays as it is.
type DeviceChange struct {
	Gateway  *string `json:"gateway,omitempty" maxLength:"73" doc:"The gateway it is attached to, as type:id; empty for none."`
	Disabled *bool   `json:"disabled,omitempty" doc:"Disabled: its connection is closed at once and new ones are refused."`

	Registers *bool `json:"registers,omitempty" doc:"Of a gateway: it may register devices by speaking for them."`
}

func (s *server) updateDevice(ctx context.Context, actor registry.Actor, in *struct {
	InDevice
	Body DeviceChange
}) (*body[Device], error) {
	if in.Body.Gateway != nil {
		if err := s.registry.SetDeviceGateway(ctx, actor, in.org(), in.Type, in.ID, *in.Body.Gateway); err != nil {
			return nil, err
		}
	}
	if in.Body.Registers != nil {
		if err := s.registry.SetDeviceRegisters(ctx, actor, in.org(), in.Type, in.ID, *in.Body.Registers); err != nil {
			return nil, err
		}
	}
	if in.Body.Disabled != nil {
		if err := s.registry.SetDeviceDisabled(ctx, actor, in.org(), in.Type, in.ID, *in.Body.Disabled); err != nil {
			return nil, err
		}
	}
	return s.getDevice(ctx, actor, &in.InDevice)
}

func (s *server) deleteDevice(ctx context.Context, actor registry.Actor, in *InDevice) error {
	return s.registry.DeleteDevice(ctx, actor, in.org(), in.Type, in.ID)
}

func (s *server) rotateDeviceToken(ctx context.Context, actor registry.Actor, in *struct {
	InDevice
	Body *Rotation
}) (*body[Token], error) {
	token, err := s.registry.RotateToken(ctx, actor, in.who(), in.Body.of())
	if err != nil {
		return nil, err
	}
	return &body[Token]{Body: Token{Token: token.Reveal()}}, nil
}
