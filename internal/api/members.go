package api

import (
	"context"
	"time"

	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// Member is a person in an organisation.
type Member struct {
	Org      string     `json:"org"`
	Person   string     `json:"person" doc:"The person's id."`
	Name     string     `json:"name"`
	Role     string     `json:"role"`
	Limited  bool       `json:"limited,omitempty" doc:"With the devices of groups only."`
	Groups   []string   `json:"groups,omitempty" doc:"Resource groups. Not in lists."`
	Teams    []string   `json:"teams,omitempty" doc:"The teams of which the person is, whose roles they have, too. Not in lists."`
	Disabled bool       `json:"disabled"`
	Expires  *time.Time `json:"expires,omitempty" doc:"When the membership ends; absent: never."`
	Created  time.Time  `json:"created"`
}

func member(m registry.Member) Member {
	x := Member{Org: string(m.Org), Person: m.Person, Name: m.Name, Role: m.Role, Limited: m.Limited, Groups: m.Groups, Teams: m.Teams,
		Disabled: m.Disabled, Created: utc(m.Created)}
	if !m.Expires.IsZero() {
		end := utc(m.Expires)
		x.Expires = &end
	}
	return x
}

type InMember struct {
	InOrg
	Person string `path:"person" minLength:"1" maxLength:"64" doc:"The person's id."`
}

func (s *server) listMembers(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	InPage
}) (*body[list[Member]], error) {
	all, next, err := s.registry.Members(ctx, actor, in.org(), in.page())
	if err != nil {
		return nil, err
	}
	return newList(all, next, member), nil
}

func (s *server) getMember(ctx context.Context, actor registry.Actor, in *InMember) (*body[Member], error) {
	m, err := s.registry.Member(ctx, actor, in.org(), in.Person)
	if err != nil {
		return nil, err
	}
	return &body[Member]{Body: member(m)}, nil
}

// MemberChange is what to change of a member; what is left out stays.
type MemberChange struct {
	Role     *string    `json:"role,omitempty" minLength:"1" maxLength:"36" doc:"Nobody gives more rights than they have, nor takes them from who has more."`
	Limited  *bool      `json:"limited,omitempty" doc:"With the devices of groups only."`
	Groups   *[]string  `json:"groups,omitempty" maxItems:"10" doc:"All resource groups, instead of the present ones."`
	Disabled *bool      `json:"disabled,omitempty" doc:"Disabled: as if the person were not a member, also for the API keys behind which they stand."`
	Expires  *time.Time `json:"expires,omitempty" doc:"When the membership ends; the year 1 (0001-01-01T00:00:00Z): never."`
}

func (s *server) updateMember(ctx context.Context, actor registry.Actor, in *struct {
	InMember
	Body MemberChange
}) (*body[Member], error) {
	m, err := s.registry.SetMember(ctx, actor, in.org(), in.Person, registry.MemberChange(in.Body))
	if err != nil {
		return nil, err
	}
	return &body[Member]{Body: member(m)}, nil
}

func (s *server) removeMember(ctx context.Context, actor registry.Actor, in *InMember) error {
	return s.registry.RemoveMember(ctx, actor, in.org(), in.Person)
}

// Invitation lets a person become a member.
type Invitation struct {
	ID      string    `json:"id"`
	Email   string    `json:"email" doc:"Who is meant."`
	Role    string    `json:"role"`
	Limited bool      `json:"limited,omitempty"`
	Groups  []string  `json:"groups,omitempty"`
	Teams   []string  `json:"teams,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
}

func invitation(i registry.Invitation) Invitation {
	return Invitation{ID: i.ID, Email: i.Email, Role: i.Role, Limited: i.Limited, Groups: i.Groups, Teams: i.Teams, Created: utc(i.Created), Expires: utc(i.Expires)}
}

// NewInvitation is what an invitation is made from.
type NewInvitation struct {
	Email      string   `json:"email" minLength:"3" maxLength:"254" doc:"Who is meant."`
	Role       string   `json:"role,omitempty" maxLength:"36" default:"PD_READER_USER" doc:"Nobody gives more rights than they have."`
	Limited    bool     `json:"limited,omitempty" doc:"With the devices of groups only."`
	Groups     []string `json:"groups,omitempty" maxItems:"10"`
	Teams      []string `json:"teams,omitempty" maxItems:"10" doc:"Teams that the person will be of. Nobody gives more rights than they have."`
	TTLSeconds int64    `json:"ttl_seconds,omitempty" minimum:"3600" maximum:"2592000" default:"604800" doc:"How long it is good for."`
}

// InvitationWithCode is a new invitation.
type InvitationWithCode struct {
	Invitation
	Code string `json:"code" doc:"Good once, for whoever has it. Shown this once."`
}

func (s *server) listInvitations(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Invitation]], error) {
	all, err := s.registry.Invitations(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all, "", invitation), nil
}

func (s *server) createInvitation(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	Body NewInvitation
}) (*body[InvitationWithCode], error) {
	i, code, err := s.registry.Invite(ctx, actor, registry.Invitation{Org: in.org(), Email: in.Body.Email, Role: in.Body.Role,
		Limited: in.Body.Limited, Groups: in.Body.Groups, Teams: in.Body.Teams}, time.Duration(in.Body.TTLSeconds)*time.Second)
	if err != nil {
		return nil, err
	}
	return &body[InvitationWithCode]{Body: InvitationWithCode{Invitation: invitation(i), Code: code.Reveal()}}, nil
}

func (s *server) deleteInvitation(ctx context.Context, actor registry.Actor, in *struct {
	InOrg
	ID string `path:"id" minLength:"1" maxLength:"64"`
}) error {
	return s.registry.Uninvite(ctx, actor, in.org(), in.ID)
}

// Accept is an invitation's code.
type Accept struct {
	Code string `json:"code" minLength:"1" maxLength:"512" doc:"The code of the invitation."`
}

func (s *server) acceptInvitation(ctx context.Context, actor registry.Actor, in *struct{ Body Accept }) (*body[Member], error) {
	m, err := s.registry.Accept(ctx, actor, secret.New(in.Body.Code))
	if err != nil {
		return nil, err
	}
	return &body[Member]{Body: member(m)}, nil
}

func (s *server) listMemberships(ctx context.Context, actor registry.Actor, _ *struct{}) (*body[list[Member]], error) {
	all, err := s.registry.Memberships(ctx, actor)
	if err != nil {
		return nil, err
	}
	return newList(all, "", member), nil
}

// Join is an invitation's code, and who accepts it.
type Join struct {
	Accept
	Name string `json:"name" minLength:"1" maxLength:"100" doc:"What the new person is called."`
}

func (s *server) joinOrg(ctx context.Context, actor registry.Actor, in *struct{ Body Join }) (*body[SignedIn], error) {
	token, who, err := s.registry.Enter(ctx, secret.New(in.Body.Code), in.Body.Name, registry.ForCLI, actor.Address, requestOf(ctx).raw.UserAgent())
	if err != nil {
		return nil, err
	}
	m, err := s.who(ctx, who)
	if err != nil {
		return nil, err
	}
	return &body[SignedIn]{Body: SignedIn{Token: token.Reveal(), Me: m}}, nil
}

// PersonChange shuts somebody out.
type PersonChange struct {
	Disabled bool `json:"disabled" doc:"Disabled: signed out everywhere, and refused, with all API keys behind which the person stands."`
}

func (s *server) updatePerson(ctx context.Context, actor registry.Actor, in *struct {
	Person string `path:"person" minLength:"1" maxLength:"64" doc:"The person's id."`
	Body   PersonChange
}) (*body[PersonChange], error) {
	if err := s.registry.SetPersonDisabled(ctx, actor, in.Person, in.Body.Disabled); err != nil {
		return nil, err
	}
	return &body[PersonChange]{Body: in.Body}, nil
}
