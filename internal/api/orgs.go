package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/registry"
)

// Org is an organisation as the API shows it.
type Org struct {
	ID       string    `json:"id" doc:"Six lower-case letters or digits."`
	Name     string    `json:"name"`
	Profile  string    `json:"profile" enum:"iot-2,plain,home" doc:"The topics of the organisation: iot-2 for devices and applications, plain for MQTT users with rules, home for MQTT users with a role and the topics of Hemtjänst."`
	Disabled bool      `json:"disabled"`
	Home     *Home     `json:"home,omitempty" doc:"Of an organisation with the profile home."`
	Created  time.Time `json:"created"`

	SecondFactor bool `json:"second_factor" doc:"Its members need a second factor."`
}

// Home is what an organisation with the profile home chooses.
type Home struct {
	Anonymous bool `json:"anonymous,omitempty" doc:"Clients without a name may watch, and publish nothing."`
	Prefix    bool `json:"prefix,omitempty" doc:"Every topic begins with the organisation's id and a slash. It never changes."`
	V0        bool `json:"v0,omitempty" doc:"The topics of version 0 too."`
}

func org(o registry.Org) Org {
	x := Org{ID: string(o.ID), Name: o.Name, Profile: o.Profile, Disabled: o.Disabled, Created: utc(o.Created), SecondFactor: o.SecondFactor}
	if o.Profile == registry.ProfileHome {
		h := Home(o.Home)
		x.Home = &h
	}
	return x
}

func (s *server) listOrgs(ctx context.Context, actor registry.Actor, in *struct{ InPage }) (*body[list[Org]], error) {
	orgs, next, err := s.registry.Orgs(ctx, actor, in.page())
	if err != nil {
		return nil, err
	}
	return newList(orgs, next, org), nil
}

// NewOrg is what an organisation is created from.
type NewOrg struct {
	ID      string `json:"id,omitempty" pattern:"^[a-z0-9]{6}$" patternDescription:"6 lower-case letters or digits" doc:"Made by the server if absent."`
	Name    string `json:"name,omitempty" maxLength:"200" doc:"For people; the id if absent."`
	Profile string `json:"profile,omitempty" enum:"iot-2,plain,home" default:"iot-2"`
	Home    Home   `json:"home,omitempty" doc:"For the profile home only."`
}

func (s *server) createOrg(ctx context.Context, actor registry.Actor, in *struct{ Body NewOrg }) (*created[Org], error) {
	o, err := s.registry.CreateOrg(ctx, actor, registry.Org{ID: auth.OrgID(in.Body.ID), Name: in.Body.Name, Profile: in.Body.Profile,
		Home: registry.HomeOptions(in.Body.Home)})
	if err != nil {
		return nil, err
	}
	return &created[Org]{Location: base + "/orgs/" + string(o.ID), Body: org(o)}, nil
}

func (s *server) getOrg(ctx context.Context, actor registry.Actor, in *InOrg) (*body[Org], error) {
	o, err := s.registry.Org(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return &body[Org]{Body: org(o)}, nil
}

// OrgChange is a change of an organisation; what is absent stays as it is.
type OrgChange struct {
	Name     *string `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Disabled *bool   `json:"disabled,omitempty" doc:"Disabled: every connection of the organisation is closed at once."`

	Home *HomeChange `json:"home,omitempty" doc:"For the profile home only."`

	SecondFactor *bool `json:"second_factor,omitempty" doc:"Members need a second factor: who has proved none in their session sees nothing of the organisation."`
}

// HomeChange is a change of what a home chooses; what is absent stays as it is.
type HomeChange struct {
	Anonymous *bool `json:"anonymous,omitempty" doc:"Clients without a name may watch, and publish nothing."`
	V0        *bool `json:"v0,omitempty" doc:"The topics of version 0 too."`
}

func (s *server) updateOrg(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body OrgChange
}) (*body[Org], error) {
	o, err := s.registry.Org(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	if in.Body.Name != nil {
		o.Name = *in.Body.Name
		if o, err = s.registry.UpdateOrg(ctx, actor, o); err != nil {
			return nil, err
		}
	}
	if in.Body.Home != nil {
		if o, err = s.registry.SetHome(ctx, actor, o.ID, registry.HomeChange(*in.Body.Home)); err != nil {
			return nil, err
		}
	}
	if in.Body.SecondFactor != nil {
		if err := s.registry.SetSecondFactor(ctx, actor, o.ID, *in.Body.SecondFactor); err != nil {
			return nil, err
		}
		o.SecondFactor = *in.Body.SecondFactor
	}
	if in.Body.Disabled != nil {
		if err := s.registry.SetOrgDisabled(ctx, actor, o.ID, *in.Body.Disabled); err != nil {
			return nil, err
		}
		o.Disabled = *in.Body.Disabled
	}
	return &body[Org]{Body: org(o)}, nil
}

func (s *server) deleteOrg(ctx context.Context, actor registry.Actor, in *InOrg) error {
	return s.registry.DeleteOrg(ctx, actor, in.org())
}
