package api

import (
	"context"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/keepmq/keepmq/internal/registry"
)

func (s *server) teamRoutes(a huma.API) {
	get(s, a, "/orgs/{org}/teams", "list-teams", "List teams", s.listTeams)
	get(s, a, "/orgs/{org}/teams/{team}", "get-team", "Show a team", s.getTeam)
	replace(s, a, "/orgs/{org}/teams/{team}", "put-team", "Make a team, or change what it gives its members", s.putTeam)
	remove(s, a, "/orgs/{org}/teams/{team}", "delete-team", "Delete a team; its members stay in the organisation", s.deleteTeam)
	get(s, a, "/orgs/{org}/teams/{team}/members", "list-team-members", "List who is of a team", s.listTeamMembers)
	update(s, a, "/orgs/{org}/teams/{team}/members", "update-team-members", "Take members into a team, and others out", s.updateTeamMembers)
}

// Team is members of an organisation who have a role together.
type Team struct {
	ID string `json:"id"`
	TeamGives
	Created time.Time `json:"created"`
}

// TeamGives is what a team is for, and gives its members beside their own rights.
type TeamGives struct {
	Description string   `json:"description,omitempty" maxLength:"200"`
	Role        string   `json:"role" minLength:"1" maxLength:"36" doc:"Nobody gives more rights than they have."`
	Limited     bool     `json:"limited,omitempty" doc:"With the devices of groups only."`
	Groups      []string `json:"groups,omitempty" maxItems:"10" doc:"Resource groups. Not in lists."`
}

func team(t registry.Team) Team {
	return Team{ID: t.ID, TeamGives: TeamGives{t.Description, t.Role, t.Limited, t.Groups}, Created: utc(t.Created)}
}

type InTeam struct {
	InOrg
	Team string `path:"team" minLength:"1" maxLength:"36" doc:"The team."`
}

func (s *server) listTeams(ctx context.Context, actor registry.Actor, in *InOrg) (*body[list[Team]], error) {
	all, err := s.registry.Teams(ctx, actor, in.org())
	if err != nil {
		return nil, err
	}
	return newList(all, "", team), nil
}

func (s *server) getTeam(ctx context.Context, actor registry.Actor, in *InTeam) (*body[Team], error) {
	t, err := s.registry.Team(ctx, actor, in.org(), in.Team)
	if err != nil {
		return nil, err
	}
	return &body[Team]{Body: team(t)}, nil
}

func (s *server) putTeam(ctx context.Context, actor registry.Actor, in *struct {
	InTeam
	Body TeamGives
}) (*body[Team], error) {
	t, err := s.registry.PutTeam(ctx, actor, registry.Team{Org: in.org(), ID: in.Team, Description: in.Body.Description,
		Role: in.Body.Role, Limited: in.Body.Limited, Groups: in.Body.Groups})
	if err != nil {
		return nil, err
	}
	return &body[Team]{Body: team(t)}, nil
}

func (s *server) deleteTeam(ctx context.Context, actor registry.Actor, in *InTeam) error {
	return s.registry.DeleteTeam(ctx, actor, in.org(), in.Team)
}

func (s *server) listTeamMembers(ctx context.Context, actor registry.Actor, in *InTeam) (*body[list[Member]], error) {
	all, err := s.registry.TeamMembers(ctx, actor, in.org(), in.Team)
	if err != nil {
		return nil, err
	}
	return newList(all, "", member), nil
}

// TeamChange is who comes into a team, and who goes.
type TeamChange struct {
	Add    []string `json:"add,omitempty" maxItems:"1000" doc:"The ids of members."`
	Remove []string `json:"remove,omitempty" maxItems:"1000" doc:"The ids of members."`
}

func (s *server) updateTeamMembers(ctx context.Context, actor registry.Actor, in *struct {
	InTeam
	Body TeamChange
}) (*body[list[Member]], error) {
	if err := s.registry.ChangeTeamMembers(ctx, actor, in.org(), in.Team, in.Body.Add, in.Body.Remove); err != nil {
		return nil, err
	}
	return s.listTeamMembers(ctx, actor, &in.InTeam)
}
