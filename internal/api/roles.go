package api

import (
	"context"

	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/registry"
)

// Role is a named set of permissions.
type Role struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Builtin     bool     `json:"builtin" doc:"Every organisation has it, and nobody changes it."`
	Permissions []string `json:"permissions"`
}

func role(r registry.Role) Role {
	return Role{Name: r.Name, Description: r.Description, Builtin: r.Builtin, Permissions: r.Set.Names()}
}

type InRole struct {
	InOrg
	Role string `path:"role" minLength:"1" maxLength:"64" doc:"The role's name."`
}

func (s *server) listRoles(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Role]], error) {
	all, err := s.registry.Roles(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all, "", role), nil
}

// NewRole is what a role consists of.
type NewRole struct {
	Description string   `json:"description,omitempty" maxLength:"200"`
	Permissions []string `json:"permissions" minItems:"1" maxItems:"64" doc:"Their names. Nobody gives more rights than they have."`
}

func (s *server) putRole(ctx context.Context, actor registry.Actor, in *struct {
	InRole
	Body NewRole
}) (*body[Role], error) {
	set, err := permission.Parse(in.Body.Permissions)
	if err != nil {
		return nil, err
	}
	r, err := s.registry.PutRole(ctx, actor, registry.Role{Org: in.org(), Name: in.Role, Description: in.Body.Description, Set: set})
	if err != nil {
		return nil, err
	}
	return &body[Role]{Body: role(r)}, nil
}

func (s *server) deleteRole(ctx context.Context, actor registry.Actor, in *InRole) error {
	return s.registry.DeleteRole(ctx, actor, in.org(), in.Role)
}
