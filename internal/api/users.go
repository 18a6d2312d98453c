package api

import (
	"context"
	"net/url"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// User is an MQTT user as the API shows it.
type User struct {
	Name     string    `json:"name"`
	Username string    `json:"username" doc:"The MQTT user name with which it connects: organisation/name."`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Role     string    `json:"role,omitempty" enum:"actor,provider,bridge" doc:"In a home: an actor watches and gives orders, a provider has devices, a bridge does both."`
	Rules    []Rule    `json:"rules" doc:"The last rule that matches a topic decides, and before them those of the organisation; where none matches, the answer is no."`
	Clients  []string  `json:"clients,omitempty" doc:"The client identifiers that %c may stand for. Not in lists."`
	Imported bool      `json:"imported,omitempty" doc:"It has not connected yet since its password was imported."`
}

// Rule allows or denies a user something on the topics that a filter matches.
type Rule struct {
	Action string `json:"action" enum:"publish,subscribe,receive" doc:"Reading needs two: subscribe for the filter, receive for each message."`
	Filter string `json:"filter" minLength:"1" maxLength:"256" doc:"A topic filter. %u stands for the user's name and %c for the client identifier, if it belongs to the user."`
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
	return User{Name: u.Name, Username: string(u.Org) + "/" + u.Name, Disabled: u.Disabled, Created: utc(u.Created), Role: u.Role, Rules: rules(u.Rules), Clients: u.Clients, Imported: u.Imported}
}

func rules(of []registry.Rule) []Rule {
	all := make([]Rule, len(of))
	for i, r := range of {
		all[i] = Rule(r)
	}
	return all
}

// Rules are the rules for every user of a plain organisation.
type Rules struct {
	Rules []Rule `json:"rules" maxItems:"100" doc:"The rules for every user. They stand before a user's own, which decide where both match."`
}

func (s *server) getRules(ctx context.Context, actor registry.Actor, in *InOrg) (*body[Rules], error) {
	all, err := s.registry.OrgRules(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return &body[Rules]{Body: Rules{Rules: rules(all)}}, nil
}

func (s *server) updateRules(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body Rules
}) (*body[Rules], error) {
	if err := s.registry.SetOrgRules(ctx, actor, in.org(), registryRules(in.Body.Rules)); err != nil {
		return nil, err
	}
	return s.getRules(ctx, actor, &in.InOrg)
}

// UserWithPassword is a plain MQTT user together with its new password.
type UserWithPassword struct {
	User
	Password string `json:"password,omitempty" doc:"Shown this once; the server keeps a hash only. Absent where the password was imported."`
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
	Rules []Rule `json:"rules,omitempty" maxItems:"100" doc:"Without any, the rules of the organisation hold; if it has none either, the user may do everything in it, but on topics that begin with $."`

	Clients []string `json:"clients,omitempty" maxItems:"100" doc:"The client identifiers that %c may stand for in rules; its name if absent. Each belongs to one user."`

	Role string `json:"role,omitempty" enum:"actor,provider,bridge" doc:"In a home it must be there, and takes the place of rules."`

	PasswordHash string `json:"password_hash,omitempty" maxLength:"512" doc:"A hash of the password that the user has elsewhere and keeps: bcrypt, PBKDF2 with SHA-512 (as of mosquitto_passwd) or argon2id. Replaced by one of ours at its first connect. Absent: a new password is made."`
}

func (s *server) createUser(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewUser
}) (*created[UserWithPassword], error) {
	fresh := registry.User{Org: in.org(), Name: in.Body.Name, Rules: registryRules(in.Body.Rules), Clients: in.Body.Clients, Role: in.Body.Role}
	var u registry.User
	var password secret.String
	var err error
	if in.Body.PasswordHash != "" {
		u, err = s.registry.ImportUser(ctx, actor, fresh, secret.New(in.Body.PasswordHash))
	} else {
		u, password, err = s.registry.CreateUser(ctx, actor, fresh)
	}
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
	Rules    *[]Rule `json:"rules,omitempty" maxItems:"100" doc:"All rules of its own, instead of the present ones. None: those of the organisation hold alone."`

	Clients *[]string `json:"clients,omitempty" maxItems:"100" doc:"All client identifiers that %c may stand for, instead of the present ones."`

	Role *string `json:"role,omitempty" enum:"actor,provider,bridge" doc:"Of a user of a home."`
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
	if in.Body.Role != nil {
		if err := s.registry.SetUserRole(ctx, actor, in.org(), in.Name, *in.Body.Role); err != nil {
			return nil, err
		}
	}
	if in.Body.Clients != nil {
		if err := s.registry.SetUserClients(ctx, actor, in.org(), in.Name, *in.Body.Clients); err != nil {
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

func (s *server) rotateUserPassword(ctx context.Context, actor registry.Actor, in *struct {
	InUser
	Body *Rotation
}) (*body[Password], error) {
	p, err := s.registry.RotateToken(ctx, actor, in.who(), in.Body.of())
	if err != nil {
		return nil, err
	}
	return &body[Password]{Body: Password{Password: p.Reveal()}}, nil
}
