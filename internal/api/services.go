package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keepmq/keepmq/internal/registry"
)

func (s *server) serviceRoutes(a huma.API) {
	get(s, a, "/orgs/{org}/services", "list-services", "List service accounts", s.listServices)
	get(s, a, "/orgs/{org}/services/{service}", "get-service", "Show a service account", s.getService)
	replace(s, a, "/orgs/{org}/services/{service}", "put-service", "Make a service account, or change what its API keys may do", s.putService)
	update(s, a, "/orgs/{org}/services/{service}", "update-service", "Disable or enable a service account with all its API keys", s.updateService)
	remove(s, a, "/orgs/{org}/services/{service}", "delete-service", "Delete a service account that has no API keys", s.deleteService)
}

// Service is a service account.
type Service struct {
	ID string `json:"id"`
	ServiceGives
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
}

// ServiceGives is what a service account is for, and what its API keys may do.
type ServiceGives struct {
	Description string   `json:"description,omitempty" maxLength:"200"`
	Role        string   `json:"role" minLength:"1" maxLength:"36" doc:"What its API keys may do at most. Nobody gives more rights than they have."`
	Limited     bool     `json:"limited,omitempty" doc:"With the devices of groups only."`
	Groups      []string `json:"groups,omitempty" maxItems:"10" doc:"Resource groups. Not in lists."`
}

func service(x registry.Service) Service {
	return Service{ID: x.ID, ServiceGives: ServiceGives{x.Description, x.Role, x.Limited, x.Groups}, Disabled: x.Disabled, Created: utc(x.Created)}
}

type InService struct {
	InOrg
	Service string `path:"service" minLength:"1" maxLength:"36" doc:"The service account."`
}

func (s *server) listServices(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Service]], error) {
	all, err := s.registry.Services(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all, "", service), nil
}

func (s *server) getService(ctx context.Context, actor registry.Actor, in *InService) (*body[Service], error) {
	x, err := s.registry.Service(ctx, actor, in.org(), in.Service)
	if err != nil {
		return nil, err
	}
	return &body[Service]{Body: service(x)}, nil
}

func (s *server) putService(ctx context.Context, actor registry.Actor, in *struct {
	InService
	Body ServiceGives
}) (*body[Service], error) {
	x, err := s.registry.PutService(ctx, actor, registry.Service{Org: in.org(), ID: in.Service, Description: in.Body.Description,
		Role: in.Body.Role, Limited: in.Body.Limited, Groups: in.Body.Groups})
	if err != nil {
		return nil, err
	}
	return &body[Service]{Body: service(x)}, nil
}

func (s *server) updateService(ctx context.Context, actor registry.Actor, in *struct {
	InService
	Body disable
}) (*body[Service], error) {
	if err := s.registry.SetServiceDisabled(ctx, actor, in.org(), in.Service, in.Body.Disabled); err != nil {
		return nil, err
	}
	return s.getService(ctx, actor, &in.InService)
}

func (s *server) deleteService(ctx context.Context, actor registry.Actor, in *InService) error {
	return s.registry.DeleteService(ctx, actor, in.org(), in.Service)
}
