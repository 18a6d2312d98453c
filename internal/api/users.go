package api

import (
	"context"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
)

// User is a plain MQTT user as the API shows it.
type User struct {
	Name     string    `json:"name"`
	Username string    `json:"username" doc:"The MQTT user name with which it connects: organisation/name."`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Rules    []Rule    `json:"rules" doc:"The last rule that matches a topic decides; where none matches, the answer is no."`
}

// Rule allows or denies a user something on the topics that a filter matches.
type Rule struct {
	Action string `json:"action" enum:"publish,subscribe,receive" doc:"Reading needs two: subscribe for the filter, receive for each message."`
	Filter string `json:"filter" minLength:"1" maxLength:"256" doc:"A topic filter. %u stands for the user's name and %c for the client identifier."`
	Deny   bool   `json:"deny,omitempty"`
}

func registryRules(rules []Rule) []registry.Rule {
	all := make([]registry.Rule, len(rules))
	for i, r := range rules {
		all[i] = registry.Rule(r)
	}
	return all
}

func user(u registry.User) User {
	x := User{Name: u.Name, Username: string(u.Org) + "/" + u.Name, Disabled: u.Disabled, Created: utc(u.Created), Rules: make([]Rule, len(u.Rules))}
	for i, r := range u.Rules {
		x.Rules[i] = Rule(r)
	}
	return x
}

// UserWithPassword is a plain MQTT user together with its new password.
type UserWithPassword struct {
	User
	Password string `json:"password" doc:"Shown this once; the server keeps a hash only."`
}

// Password is a new password.
type Password struct {
	Password string `json:"password" doc:"Shown this once; the server keeps a hash only."`
}

type InUser struct {
	InOrg
	Name string `path:"name" minLength:"1" maxLength:"64" doc:"The user's name."`
}

func (s *server) listUsers(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
}) (*body[list[User]], error) {
	users, next, err := s.registry.Users(ctx, actor, in.org(), in.page())
	if err != nil {
		return nil, err
	}
	return newList(users, next, user), nil
}

// NewUser is what a plain MQTT user is created from.
type NewUser struct {
	Name  string `json:"name" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9._@-]+$" patternDescription:"letters, digits, dot, underscore, at sign and hyphen"`
	Rules []Rule `json:"rules,omitempty" maxItems:"100" doc:"Without any, the user may do everything in the organisation, but on topics that begin with $."`
}

func (s *server) createUser(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewUser
}) (*created[UserWithPassword], error) {
	u, password, err := s.registry.CreateUser(ctx, actor, registry.User{Org: in.org(), Name: in.Body.Name, Rules: registryRules(in.Body.Rules)})
	if err != nil {
		return nil, err
	}
	return &created[UserWithPassword]{
		Location: base + "/orgs/" + in.Org + "/users/" + url.PathEscape(u.Name),
		Body:     UserWithPassword{User: user(u), Password: password.Reveal()},
	}, nil
}

func (s *server) getUser(ctx context.Context, actor registry.Actor, in *InUser) (*body[User], error) {
	u, err := s.registry.User(ctx, actor, in.org(), in.Name)
	if err != nil {
		return nil, err
	}
	return &body[User]{Body: user(u)}, nil
}

// UserChange is what to change of a user; what is left out stays.
type UserChange struct {
	Disabled *bool   `json:"disabled,omitempty" doc:"Disabled: connections are closed at once and new ones refused."`
	Rules    *[]Rule `json:"rules,omitempty" maxItems:"100" doc:"All rules, instead of the present ones. None: the user may do nothing."`
}

func (s *server) updateUser(ctx context.Context, actor registry.Actor, in *struct {
	InUser
	Body UserChange
}) (*body[User], error) {
	if in.Body.Rules != nil {
		if err := s.registry.SetUserRules(ctx, actor, in.org(), in.Name, registryRules(*in.Body.Rules)); err != nil {
			return nil, err
		}
	}
	if in.Body.Disabled != nil {
		if err := s.registry.SetUserDisabled(ctx, actor, in.org(), in.Name, *in.Body.Disabled); err != nil {
			return nil, err
		}
	}
	return s.getUser(ctx, actor, &in.InUser)
}

func (s *server) deleteUser(ctx context.Context, actor registry.Actor, in *InUser) error {
	return s.registry.DeleteUser(ctx, actor, in.org(), in.Name)
}

func (s *server) rotateUserPassword(ctx context.Context, actor registry.Actor, in *InUser) (*body[Password], error) {
	p, err := s.registry.RotateUserPassword(ctx, actor, in.org(), in.Name)
	if err != nil {
		return nil, err
	}
	return &body[Password]{Body: Password{Password: p.Reveal()}}, nil
}
