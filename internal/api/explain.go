package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/refusal"
	"github.com/keepmq/keepmq/internal/registry"
)

// Explanation says whether something is allowed, and why.
type Explanation struct {
	Allowed bool   `json:"allowed"`
	Topic   string `json:"topic,omitempty" doc:"The organisation's, which the one that the client names stands for."`
	Rule    string `json:"rule,omitempty" doc:"The rule that decides: the last one that matches. Absent: none does, and so the answer is no."`
	Source  string `json:"source,omitempty" doc:"Where the rule comes from."`
	Reason  string `json:"reason" doc:"In words."`
}

func (s *server) explain(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Who    string `query:"who" required:"true" minLength:"3" maxLength:"200" doc:"device:TYPE:ID, gateway:TYPE:ID, application:KEY, user:NAME or person:ID."`
	Action string `query:"action" required:"true" enum:"publish,subscribe,receive"`
	Topic  string `query:"topic" required:"true" minLength:"1" maxLength:"2048" doc:"As the client names it; to subscribe, a filter."`
	Client string `query:"client" maxLength:"256" doc:"Its client identifier; absent: one that it may have."`
}) (*body[Explanation], error) {
	who, err := registry.ParseWho(in.Who)
	if err != nil {
		return nil, err
	}
	q := registry.Question{Org: in.org(), Who: who, Client: in.Client, Topic: in.Topic}
	for _, a := range []auth.Action{auth.Publish, auth.Subscribe, auth.Receive} {
		if a.String() == in.Action {
			q.Action = a
		}
	}
	e, err := s.registry.Explain(ctx, actor, q)
	if err != nil {
		return nil, err
	}
	return &body[Explanation]{Body: Explanation(e)}, nil
}

// Reader is somebody who may receive a topic.
type Reader struct {
	Who    string `json:"who" doc:"As kind:id."`
	Client string `json:"client,omitempty" doc:"A client identifier with which it may."`
	Source string `json:"source" doc:"Where the rule comes from that allows it."`
}

func (s *server) listReaders(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Topic string `query:"topic" required:"true" minLength:"1" maxLength:"2048" doc:"A topic name of the organisation."`
	After string `query:"after" maxLength:"1024" doc:"The next of the page before; absent for the first. A page looks at 1000 who might, and may be short or empty and not the last."`
}) (*body[list[Reader]], error) {
	all, next, err := s.registry.Readers(ctx, actor, in.org(), in.Topic, registry.Page{After: in.After})
	if err != nil {
		return nil, err
	}
	return newList(all, next, func(r registry.Reader) Reader {
		return Reader{Who: r.Who.Kind.String() + ":" + r.Who.ID, Client: r.Client, Source: r.Source}
	}), nil
}

// Refusal is that somebody was refused something, once or many times.
type Refusal struct {
	ID     string    `json:"id" doc:"The number that the client was told."`
	Who    string    `json:"who" doc:"As kind:org:id; to connect: who it said it was."`
	Client string    `json:"client,omitempty"`
	Action string    `json:"action" enum:"connect,publish,subscribe"`
	Topic  string    `json:"topic,omitempty"`
	Reason string    `json:"reason" doc:"Of the latest."`
	Count  int64     `json:"count" doc:"How often."`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
}

func refused(r refusal.Refusal) Refusal {
	return Refusal{ID: r.ID, Who: r.Principal, Client: r.Client, Action: r.Action, Topic: r.Topic, Reason: r.Reason, Count: r.Count,
		First: utc(r.First), Last: utc(r.Last)}
}

func (s *server) listRefusals(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Limit int `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"How many at most."`
}) (*body[list[Refusal]], error) {
	all, err := s.registry.RefusedLately(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all[:min(len(all), in.Limit)], "", refused), nil
}

func (s *server) getRefusal(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	ID string `path:"id" minLength:"1" maxLength:"64" doc:"The number in the refusal."`
}) (*body[Refusal], error) {
	r, err := s.registry.Refused(ctx, actor, in.org(), in.ID)
	if err != nil {
		return nil, err
	}
	return &body[Refusal]{Body: refused(r)}, nil
}
