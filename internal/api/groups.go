package api

import (
	"context"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// Group is a resource group: devices that the rights of a member or an API key
// can be limited to.
type Group struct {
	ID          string    `json:"id"`
	Description string    `json:"description,omitempty"`
	Created     time.Time `json:"created"`
}

func group(g registry.Group) Group {
	return Group{ID: g.ID, Description: g.Description, Created: utc(g.Created)}
}

type InGroup struct {
	InOrg
	Group string `path:"group" minLength:"1" maxLength:"100" doc:"The resource group's id."`
}

func (s *server) listGroups(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
}) (*body[list[Group]], error) {
	all, next, err := s.registry.Groups(ctx, actor, in.org(), in.page())
	if err != nil {
		return nil, err
	}
	return newList(all, next, group), nil
}

// NewGroup is what a resource group is created from.
type NewGroup struct {
	ID          string `json:"id" minLength:"1" maxLength:"36" doc:"Letters, digits, dot, underscore and hyphen."`
	Description string `json:"description,omitempty" maxLength:"200"`
}

func (s *server) createGroup(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewGroup
}) (*created[Group], error) {
	g, err := s.registry.CreateGroup(ctx, actor, registry.Group{Org: in.org(), ID: in.Body.ID, Description: in.Body.Description})
	if err != nil {
		return nil, err
	}
	return &created[Group]{Location: base + "/orgs/" + in.Org + "/groups/" + url.PathEscape(g.ID), Body: group(g)}, nil
}

func (s *server) getGroup(ctx context.Context, actor registry.Actor, in *InGroup) (*body[Group], error) {
	g, err := s.registry.Group(ctx, actor, in.org(), in.Group)
	if err != nil {
		return nil, err
	}
	return &body[Group]{Body: group(g)}, nil
}

func (s *server) deleteGroup(ctx context.Context, actor registry.Actor, in *InGroup) error {
	return s.registry.DeleteGroup(ctx, actor, in.org(), in.Group)
}

// DeviceName names a device.
type DeviceName struct {
	Type string `json:"type" minLength:"1" maxLength:"36"`
	ID   string `json:"id" minLength:"1" maxLength:"36"`
}

func (s *server) listGroupDevices(ctx context.Context, actor registry.Actor, in *InGroup) (*body[list[DeviceName]], error) {
	all, err := s.registry.GroupDevices(ctx, actor, in.org(), in.Group)
	if err != nil {
		return nil, err
	}
	return newList(all, "", func(d registry.DeviceName) DeviceName { return DeviceName(d) }), nil
}

// GroupChange is which devices come into a resource group, and which leave it.
type GroupChange struct {
	Add    []DeviceName `json:"add,omitempty" maxItems:"300" doc:"A group has at most 300 devices, and a device is in at most 10 groups."`
	Remove []DeviceName `json:"remove,omitempty" maxItems:"300"`
}

func (s *server) updateGroupDevices(ctx context.Context, actor registry.Actor, in *struct {
	InGroup
	Body GroupChange
}) (*body[list[DeviceName]], error) {
	err := s.registry.ChangeGroupDevices(ctx, actor, in.org(), in.Group, deviceNames(in.Body.Add), deviceNames(in.Body.Remove))
	if err != nil {
		return nil, err
	}
	return s.listGroupDevices(ctx, actor, &in.InGroup)
}

func deviceNames(from []DeviceName) []registry.DeviceName {
	all := make([]registry.DeviceName, 0, len(from))
	for _, d := range from {
		all = append(all, registry.DeviceName(d))
	}
	return all
}
