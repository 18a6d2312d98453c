package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/registry"
)

// Limit is a limit as the API shows it. Its values are whole numbers, except
// those of client.queue_full, which are words.
type Limit struct {
	Name      string `json:"name"`
	About     string `json:"about" doc:"What is bounded, and in what unit."`
	AtLimit   string `json:"at_limit" doc:"What happens at the limit."`
	Default   any    `json:"default" doc:"What holds for everybody in this installation."`
	Set       any    `json:"set" doc:"What is set here; null: nothing."`
	Effective any    `json:"effective" doc:"What holds here. What is set for a device type holds as far as it is below what holds for its organisation."`
	Used      *int64 `json:"used,omitempty" doc:"How much of it is used now; absent where that is not counted."`
}

// showLimits lists limits: what is set, what holds, and what is used.
func (s *server) showLimits(ctx context.Context, org auth.OrgID, typ string, l registry.Limits) (*body[list[Limit]], error) {
	used, err := s.usage(ctx, org, typ)
	if err != nil {
		return nil, err
	}
	set := l.Org
	if typ != "" {
		set = l.Type
	}
	holds := l.Effective(s.limits)
	out := &body[list[Limit]]{Body: list[Limit]{Items: []Limit{}}}
	for _, k := range quota.All() {
		if typ != "" && k.OfOrg() {
			continue
		}
		limit := Limit{Name: k.String(), About: k.About(), AtLimit: k.AtLimit(),
			Default: s.limits.Value(k), Set: set.Value(k), Effective: holds.Value(k)}
		if n, ok := used[k]; ok {
			limit.Used = &n
		}
		out.Body.Items = append(out.Body.Items, limit)
	}
	return out, nil
}

func (s *server) listLimits(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Limit]], error) {
	l, err := s.registry.OrgLimits(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return s.showLimits(ctx, in.org(), "", l)
}

// LimitChange is a change of limits, by name; those that are absent stay as they are.
type LimitChange map[string]any

func (s *server) updateLimits(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body LimitChange `doc:"Values by the names of limits; null: nothing is set any more."`
}) (*body[list[Limit]], error) {
	l, err := s.registry.SetOrgLimits(ctx, actor, in.org(), in.Body)
	if err != nil {
		return nil, err
	}
	return s.showLimits(ctx, in.org(), "", l)
}

func (s *server) listTypeLimits(ctx context.Context, actor registry.Actor, in *InType) (*body[list[Limit]], error) {
	l, err := s.registry.TypeLimits(ctx, actor, in.org(), in.Type)
	if err != nil {
		return nil, err
	}
	return s.showLimits(ctx, in.org(), in.Type, l)
}

func (s *server) updateTypeLimits(ctx context.Context, actor registry.Actor, in *struct {
	InType
	Body LimitChange `doc:"Values by the names of limits; null: nothing is set any more."`
}) (*body[list[Limit]], error) {
	l, err := s.registry.SetTypeLimits(ctx, actor, in.org(), in.Type, in.Body)
	if err != nil {
		return nil, err
	}
	return s.showLimits(ctx, in.org(), in.Type, l)
}

// LimitEvent is that a client reached a limit, once or many times.
type LimitEvent struct {
	Principal string    `json:"principal" doc:"Who reached it, as kind:org:id."`
	Client    string    `json:"client,omitempty" doc:"Its MQTT client identifier; absent if it has no session."`
	Limit     string    `json:"limit"`
	Value     int64     `json:"value" doc:"Of the limit, then."`
	Outcome   string    `json:"outcome" enum:"refused,delayed,dropped,ended"`
	Count     int64     `json:"count" doc:"How often."`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

func (s *server) listLimitEvents(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Limit int `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"How many at most."`
}) (*body[list[LimitEvent]], error) {
	if _, err := s.registry.Org(ctx, actor, in.org()); err != nil {
		return nil, err
	}
	events := s.limitEvents(in.org())
	out := &body[list[LimitEvent]]{Body: list[LimitEvent]{Items: []LimitEvent{}}}
	for _, e := range events[:min(len(events), in.Limit)] {
		out.Body.Items = append(out.Body.Items, LimitEvent{
			Principal: e.Principal, Client: e.Client, Limit: e.Limit.String(), Value: e.Value, Outcome: e.Outcome.String(),
			Count: e.Count, First: utc(e.First), Last: utc(e.Last),
		})
	}
	return out, nil
}
