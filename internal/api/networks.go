package api

import (
	"context"

	"github.com/keepmq/keepmq/internal/registry"
)

// Network says from where clients may connect to an organisation's messaging. The
// console and the API are not concerned.
type Network struct {
	Mode      string   `json:"mode" enum:"off,allow,deny" doc:"allow: from what is listed only. deny: not from what is listed. off: from everywhere."`
	Ranges    []string `json:"ranges,omitempty" maxItems:"1000" doc:"IP addresses, or ranges of them (CIDR)."`
	Countries []string `json:"countries,omitempty" maxItems:"300" doc:"ISO 3166-1 alpha-2 codes. They need the server to have a database of countries."`
}

func (s *server) getNetwork(ctx context.Context, actor registry.Actor, in *InOrg) (*body[Network], error) {
	n, err := s.registry.Network(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return &body[Network]{Body: Network(n)}, nil
}

func (s *server) putNetwork(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body Network
}) (*body[Network], error) {
	n, err := s.registry.SetNetwork(ctx, actor, in.org(), registry.Network(in.Body))
	if err != nil {
		return nil, err
	}
	return &body[Network]{Body: Network(n)}, nil
}

// Policies are the connection security policies of an organisation: either, token,
// certificate or both.
type Policies struct {
	Default string            `json:"default,omitempty" maxLength:"20" doc:"For devices of all types that have none of their own: either, token, certificate or both. In a change, absent: as it is."`
	Types   map[string]string `json:"types,omitempty" doc:"By device type. In a change, empty: that of the organisation from now on."`
}

func (s *server) getPolicies(ctx context.Context, actor registry.Actor, in *InOrg) (*body[Policies], error) {
	p, err := s.registry.Policies(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return &body[Policies]{Body: Policies(p)}, nil
}

func (s *server) updatePolicies(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body Policies
}) (*body[Policies], error) {
	p, err := s.registry.SetPolicies(ctx, actor, in.org(), registry.Policies(in.Body))
	if err != nil {
		return nil, err
	}
	return &body[Policies]{Body: Policies(p)}, nil
}

// Compliance says how many devices of a type have what its policy asks for.
type Compliance struct {
	Type    string `json:"type"`
	Policy  string `json:"policy" enum:"either,token,certificate,both"`
	Devices int64  `json:"devices"`
	Without int64  `json:"without" doc:"Of them: without a certificate that is good now, though the policy asks for one. They could not connect."`
}

func (s *server) compliance(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body Policies `doc:"What would be changed; empty: nothing, as it is now."`
}) (*body[list[Compliance]], error) {
	all, err := s.registry.Compliance(ctx, actor, in.org(), registry.Policies(in.Body))
	if err != nil {
		return nil, err
	}
	return newList(all, "", func(c registry.Compliance) Compliance { return Compliance(c) }), nil
}

func (s *server) listNonCompliant(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
}) (*body[list[DeviceName]], error) {
	all, next, err := s.registry.NonCompliant(ctx, actor, in.org(), in.page())
	if err != nil {
		return nil, err
	}
	return newList(all, next, func(d registry.DeviceName) DeviceName { return DeviceName(d) }), nil
}
