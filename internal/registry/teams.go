package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/store"
)

// Limits of teams.
const (
	maxTeams       = 200  // of an organisation
	maxTeamMembers = 1000 // of one team
	maxTeamsOf     = 10   // of one member
)

// teamHolder is the kind under which the resource groups of a team are stored. No
// principal has it.
const teamHolder auth.Kind = 64

// A Team is members of an organisation who have a role together, beside their own.
type Team struct {
	Org         auth.OrgID
	ID          string
	Description string
	Role        string
	Limited     bool     // to the devices in Groups
	Groups      []string // resource groups; not in a list
	Created     time.Time
}

const teamColumns = `org, id, description, role, limited, created_at`

func (t *Team) scan(row scanner) error {
	var created int64
	err := row.Scan(&t.Org, &t.ID, &t.Description, &t.Role, &t.Limited, &created)
	t.Created = fromMicros(created)
	return err
}

// holder returns under what the team's resource groups are stored.
func (t Team) holder() auth.Principal { return auth.Principal{Org: t.Org, Kind: teamHolder, ID: t.ID} }

// rights returns what the team gives its members.
func (t Team) rights(ctx context.Context, tx *store.Tx) (permission.Rights, error) {
	set, err := roleSet(ctx, tx, t.Org, t.Role)
	return permission.Rights{Set: set, Limited: t.Limited, Groups: t.Groups}, err
}

// detail describes a team for the audit record.
func (t Team) detail() map[string]any {
	return map[string]any{"role": t.Role, "limited": t.Limited, "groups": strings.Join(t.Groups, " "), "description": t.Description}
}

func noTeam(id string) error { return errs.E(errs.NotFound, "team %q not found", clip(id)) }

func readTeam(ctx context.Context, tx *store.Tx, org auth.OrgID, id string) (Team, error) {
	const q = `SELECT ` + teamColumns + ` FROM team WHERE org = $1 AND id = $2`
	t, err := one[Team](tx.QueryRowContext(ctx, q, org, id), noTeam(id))
	if err == nil && t.Limited {
		t.Groups, err = readGroupsOf(ctx, tx, t.holder())
	}
	return t, err
}

// names reads a column of names.
func names(ctx context.Context, tx *store.Tx, what, query string, args ...any) ([]string, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	var all []string
	return all, each(rows, func() error {
		var s string
		if err := rows.Scan(&s); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		all = append(all, s)
		return nil
	})
}

// teamsOf returns the teams of a member.
func teamsOf(ctx context.Context, tx *store.Tx, org auth.OrgID, person string) ([]string, error) {
	return names(ctx, tx, "teams", `SELECT team FROM team_member WHERE org = $1 AND person = $2 ORDER BY team`, org, person)
}

// memberParts returns what a member may do: by their own role, and as one of their
// teams.
func memberParts(ctx context.Context, tx *store.Tx, m Member) ([]profile.Part, error) {
	set, err := roleSet(ctx, tx, m.Org, m.Role)
	if err != nil {
		return nil, err
	}
	parts := []profile.Part{{Rights: permission.Rights{Set: set, Limited: m.Limited, Groups: m.Groups}, From: fmt.Sprintf("the role %q", m.Role)}}
	for _, id := range m.Teams {
		t, err := readTeam(ctx, tx, m.Org, id)
		if err != nil {
			return nil, err
		}
		rights, err := t.rights(ctx, tx)
		if err != nil {
			return nil, err
		}
		parts = append(parts, profile.Part{Rights: rights, From: fmt.Sprintf("the role %q of the team %q", t.Role, t.ID)})
	}
	return parts, nil
}

// Teams lists the teams of an organisation.
func (r *Registry) Teams(ctx context.Context, a Actor, org auth.OrgID) ([]Team, error) {
	ctx, err := r.may(ctx, a, org, permission.MemberRead)
	if err != nil {
		return nil, err
	}
	return list[Team](ctx, r, `SELECT `+teamColumns+` FROM team WHERE org = $1 ORDER BY id LIMIT $2`, org, maxTeams)
}

// Team returns one team.
func (r *Registry) Team(ctx context.Context, a Actor, org auth.OrgID, id string) (Team, error) {
	ctx, err := r.may(ctx, a, org, permission.MemberRead)
	if err != nil {
		return Team{}, err
	}
	var t Team
	err = r.view(ctx, func(tx *store.Tx) (err error) {
		t, err = readTeam(ctx, tx, org, id)
		return err
	})
	return t, err
}

// TeamMembers lists who is of a team.
func (r *Registry) TeamMembers(ctx context.Context, a Actor, org auth.OrgID, id string) ([]Member, error) {
	if _, err := r.Team(ctx, a, org, id); err != nil {
		return nil, err
	}
	const q = `SELECT ` + memberColumns + ` FROM team_member t JOIN member m ON m.org = t.org AND m.person = t.person JOIN person p ON p.id = m.person
		WHERE t.org = $1 AND t.team = $2 ORDER BY m.person LIMIT $3`
	return list[Member](forOrg(ctx, org), r, q, org, id, maxTeamMembers)
}

// PutTeam makes a team without members, or changes what one gives, to its members
// at once. Nobody gives or takes rights that they do not have.
func (r *Registry) PutTeam(ctx context.Context, a Actor, t Team) (Team, error) {
	ctx, h, err := r.mayAs(ctx, a, t.Org, permission.MemberWrite)
	if err != nil {
		return Team{}, err
	}
	t.Groups = tidy(t.Groups)
	var bad mistakes
	bad.add(auth.CheckName("team", t.ID))
	bad.add(checkText("description", t.Description, 200))
	if err := bad.err(); err != nil {
		return Team{}, err
	}
	err = r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: t.Org, action: "team.create", target: t.ID, detail: t.detail()}
		if _, err := readOrg(ctx, tx, t.Org); err != nil {
			return e, err
		}
		rights, err := given(ctx, tx, t.Org, t.Role, t.Limited, t.Groups)
		if err == nil {
			err = within(h, rights)
		}
		if err != nil {
			return e, err
		}
		t.Created = r.now()
		old, err := readTeam(ctx, tx, t.Org, t.ID)
		switch {
		case err == nil:
			if err := mayTeam(ctx, tx, h, old); err != nil {
				return e, err
			}
			e.action, t.Created = "team.update", old.Created
			e.detail["before"] = old.detail()
		case errs.CodeOf(err) != errs.NotFound:
			return e, err
		default:
			if err := room(ctx, tx, t.Org, "team", maxTeams); err != nil {
				return e, err
			}
		}
		const q = `INSERT INTO team (org, id, description, role, limited, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (org, id) DO UPDATE SET description = excluded.description, role = excluded.role, limited = excluded.limited`
		if _, err := tx.ExecContext(ctx, q, t.Org, t.ID, t.Description, t.Role, t.Limited, micros(t.Created)); err != nil {
			return e, fmt.Errorf("write team: %w", err)
		}
		if err := replaceGroupsOf(ctx, tx, t.holder(), t.Groups); err != nil {
			return e, err
		}
		return e, affectHolders(ctx, tx, t.Org, &e)
	})
	if err != nil {
		return Team{}, err
	}
	return t, nil
}

// mayTeam checks that whoever has h has what t gives, to give or to take it.
func mayTeam(ctx context.Context, tx *store.Tx, h permission.Holder, t Team) error {
	rights, err := t.rights(ctx, tx)
	if err != nil {
		return err
	}
	return within(h, rights)
}

// changeTeam makes one change to one team, and to what its members may do.
func (r *Registry) changeTeam(ctx context.Context, a Actor, org auth.OrgID, id, action string,
	do func(context.Context, *store.Tx, Team, permission.Holder, *effect) error) error {
	ctx, h, err := r.mayAs(ctx, a, org, permission.MemberWrite)
	if err != nil {
		return err
	}
	return r.change(ctx, a, func(tx *store.Tx) (effect, error) {
		e := effect{org: org, action: action, target: id}
		t, err := readTeam(ctx, tx, org, id)
		if err == nil {
			err = mayTeam(ctx, tx, h, t)
		}
		if err == nil {
			err = affectHolders(ctx, tx, org, &e)
		}
		if err != nil {
			return e, err
		}
		return e, do(ctx, tx, t, h, &e)
	})
}

// DeleteTeam deletes a team. Its members stay, with their own roles.
func (r *Registry) DeleteTeam(ctx context.Context, a Actor, org auth.OrgID, id string) error {
	return r.changeTeam(ctx, a, org, id, "team.delete", func(ctx context.Context, tx *store.Tx, t Team, _ permission.Holder, _ *effect) error {
		if err := replaceGroupsOf(ctx, tx, t.holder(), nil); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `DELETE FROM team WHERE org = $1 AND id = $2`, org, id)
		return wrap("delete team", err)
	})
}

// ChangeTeamMembers takes members into a team and others out: all of them, or none
// if one cannot be.
func (r *Registry) ChangeTeamMembers(ctx context.Context, a Actor, org auth.OrgID, id string, in, out []string) error {
	if len(in)+len(out) > maxTeamMembers {
		return errs.E(errs.Invalid, "add and remove must name at most %d people together, name %d", maxTeamMembers, len(in)+len(out))
	}
	return r.changeTeam(ctx, a, org, id, "team.members", func(ctx context.Context, tx *store.Tx, _ Team, _ permission.Holder, e *effect) error {
		e.detail = map[string]any{"added": strings.Join(in, " "), "removed": strings.Join(out, " ")}
		for _, person := range out {
			if _, err := tx.ExecContext(ctx, `DELETE FROM team_member WHERE org = $1 AND team = $2 AND person = $3`, org, id, person); err != nil {
				return fmt.Errorf("delete from team: %w", err)
			}
		}
		for _, person := range in {
			m, err := readMember(ctx, tx, org, person)
			if err != nil {
				return err
			}
			if !slices.Contains(m.Teams, id) && len(m.Teams) >= maxTeamsOf {
				return errs.E(errs.Exhausted, "member %q is of %d teams already", clip(person), maxTeamsOf)
			}
			if err := addToTeam(ctx, tx, org, id, person); err != nil {
				return err
			}
		}
		return nil
	})
}

// addToTeam makes a member one of a team.
func addToTeam(ctx context.Context, tx *store.Tx, org auth.OrgID, id, person string) error {
	const q = `INSERT INTO team_member (org, team, person) VALUES ($1, $2, $3) ON CONFLICT (org, team, person) DO NOTHING`
	if _, err := tx.ExecContext(ctx, q, org, id, person); err != nil {
		return fmt.Errorf("insert into team: %w", err)
	}
	var n int
	const count = `SELECT COUNT(*) FROM team_member WHERE org = $1 AND team = $2`
	if err := tx.QueryRowContext(ctx, count, org, id).Scan(&n); err != nil {
		return fmt.Errorf("count members of team: %w", err)
	}
	if n > maxTeamMembers {
		return errs.E(errs.Exhausted, "a team may have %d members", maxTeamMembers)
	}
	return nil
}
