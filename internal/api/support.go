package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// Support is that the installation's operator looks into an organisation.
type Support struct {
	ID       string     `json:"id"`
	Person   string     `json:"person" doc:"Who looks in."`
	Name     string     `json:"name"`
	Reason   string     `json:"reason"`
	Messages bool       `json:"messages" doc:"What devices say may be seen, too."`
	State    string     `json:"state" enum:"asked,open,over"`
	Asked    time.Time  `json:"asked"`
	Granted  *time.Time `json:"granted,omitempty"`
	Grantor  string     `json:"grantor,omitempty" doc:"Who granted it, as kind:org:id."`
	Ended    *time.Time `json:"ended,omitempty" doc:"If it was ended before its time."`
	Expires  time.Time  `json:"expires"`
}

func support(s registry.Support) Support {
	x := Support{ID: s.ID, Person: s.Person, Name: s.Name, Reason: s.Reason, Messages: s.Messages, State: s.State(time.Now()),
		Asked: utc(s.Asked), Grantor: s.Grantor, Expires: utc(s.Expires)}
	for _, t := range []struct {
		at time.Time
		to **time.Time
	}{{s.Granted, &x.Granted}, {s.Ended, &x.Ended}} {
		if !t.at.IsZero() {
			at := utc(t.at)
			*t.to = &at
		}
	}
	return x
}

func (s *server) listSupport(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Support]], error) {
	all, err := s.registry.Supports(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all, "", support), nil
}

// NewSupport is what is asked for.
type NewSupport struct {
	Reason     string `json:"reason" minLength:"1" maxLength:"200" doc:"For the organisation, and its audit record."`
	TTLSeconds int64  `json:"ttl_seconds,omitempty" minimum:"900" maximum:"259200" default:"14400" doc:"How long, from now on."`
	Messages   bool   `json:"messages,omitempty" doc:"What devices say, too."`
}

func (s *server) askSupport(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewSupport
}) (*body[Support], error) {
	x, err := s.registry.AskSupport(ctx, actor, in.org(), in.Body.Reason, time.Duration(in.Body.TTLSeconds)*time.Second, in.Body.Messages)
	if err != nil {
		return nil, err
	}
	return &body[Support]{Body: support(x)}, nil
}

type InSupport struct {
	InOrg
	ID string `path:"id" minLength:"1" maxLength:"64"`
}

// GrantSupport is how far the operator may look in.
type GrantSupport struct {
	Messages bool `json:"messages,omitempty" doc:"What devices say, too, if it was asked for."`
}

func (s *server) grantSupport(ctx context.Context, actor registry.Actor, in *struct {
	InSupport
	Body GrantSupport
}) (*body[Support], error) {
	x, err := s.registry.GrantSupport(ctx, actor, in.org(), in.ID, in.Body.Messages)
	if err != nil {
		return nil, err
	}
	return &body[Support]{Body: support(x)}, nil
}

func (s *server) endSupport(ctx context.Context, actor registry.Actor, in *InSupport) error {
	return s.registry.EndSupport(ctx, actor, in.org(), in.ID)
}
