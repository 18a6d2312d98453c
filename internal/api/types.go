package api

import (
	"context"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// DeviceType is a device type as the API shows it.
type DeviceType struct {
	ID          string    `json:"id"`
	Class       string    `json:"class" enum:"Device,Gateway"`
	Description string    `json:"description,omitempty"`
	Created     time.Time `json:"created"`
}

func deviceType(t registry.DeviceType) DeviceType {
	return DeviceType{ID: t.ID, Class: t.Class, Description: t.Description, Created: utc(t.Created)}
}

type InType struct {
	InOrg
	Type string `path:"type" minLength:"1" maxLength:"36" doc:"The device type."`
}

func (s *server) listTypes(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
}) (*body[list[DeviceType]], error) {
	types, next, err := s.registry.DeviceTypes(ctx, actor, in.org(), in.page())
	if err != nil {
		return nil, err
	}
	return newList(types, next, deviceType), nil
}

// NewDeviceType is what a device type is created from.
type NewDeviceType struct {
	ID          string `json:"id" minLength:"1" maxLength:"36" pattern:"^[A-Za-z0-9._-]+$" patternDescription:"letters, digits, dot, underscore and hyphen"`
	Class       string `json:"class,omitempty" enum:"Device,Gateway" default:"Device" doc:"A gateway may act for the devices attached to it."`
	Description string `json:"description,omitempty" maxLength:"1000"`
}

func (s *server) createType(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewDeviceType
}) (*created[DeviceType], error) {
	t, err := s.registry.CreateDeviceType(ctx, actor, registry.DeviceType{
		Org: in.org(), ID: in.Body.ID, Class: in.Body.Class, Description: in.Body.Description,
	})
	if err != nil {
		return nil, err
	}
	return &created[DeviceType]{Location: base + "/orgs/" + in.Org + "/types/" + url.PathEscape(t.ID), Body: deviceType(t)}, nil
}

func (s *server) getType(ctx context.Context, actor registry.Actor, in *InType) (*body[DeviceType], error) {
	t, err := s.registry.DeviceType(ctx, actor, in.org(), in.Type)
	if err != nil {
		return nil, err
	}
	return &body[DeviceType]{Body: deviceType(t)}, nil
}

func (s *server) deleteType(ctx context.Context, actor registry.Actor, in *InType) error {
	return s.registry.DeleteDeviceType(ctx, actor, in.org(), in.Type)
}
