package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func teamCommand(e *env) *cobra.Command {
	return group("team", "Members of an organisation who have a role together, beside their own",
		teamList(e), teamShow(e), teamSet(e), teamChange(e, "add", "Take members into a team"), teamChange(e, "remove", "Take members out of a team"),
		deletion(e, "team", "delete NAME", "Delete a team; its members stay in the organisation", "teams"))
}

type team struct {
	ID          string   `json:"id"`
	Description string   `json:"description"`
	Role        string   `json:"role"`
	Limited     bool     `json:"limited"`
	Groups      []string `json:"groups"`
}

func (e *env) printTeam(t team) error {
	return e.facts("Team", t.ID, "Description", t.Description, "Role", t.Role, "Devices", inGroups(t.Limited, t.Groups))
}

func teamList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List teams", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, org+"/teams", []string{"TEAM", "ROLE", "DESCRIPTION"}, func(t team) []string {
				return []string{t.ID, t.Role, t.Description}
			})
		},
	}
}

var teamHead = []string{"PERSON", "NAME", "STATE"}

func teamRow(m member) []string { return []string{m.Person, m.Name, state(m.Disabled)} }

func teamShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a team and who is of it", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			path := join(org+"/teams", a[0])
			if err := one(c.Context(), e, r, http.MethodGet, path, nil, e.printTeam); err != nil || e.json {
				return err
			}
			return showAll(c.Context(), e, r, path+"/members", teamHead, teamRow)
		},
	}
}

func teamSet(e *env) *cobra.Command {
	var x rights
	var about string
	c := &cobra.Command{
		Use: "set NAME --role ROLE", Short: "Make a team, or change what it gives its members", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := x.in()
			if about != "" {
				in["description"] = about
			}
			return one(c.Context(), e, r, http.MethodPut, join(org+"/teams", a[0]), in, e.printTeam)
		},
	}
	x.flags(c, "")
	c.Flags().StringVar(&about, "description", "", "what it is for")
	_ = c.MarkFlagRequired("role") // it is there
	return c
}

// teamChange is add or remove.
func teamChange(e *env, verb, short string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NAME PERSON…", Short: short, Args: args(2, 1000),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/teams", a[0])+"/members", map[string]any{verb: a[1:]}, func(l list[member]) error {
				rows := make([][]string, 0, len(l.Items))
				for _, m := range l.Items {
					rows = append(rows, teamRow(m))
				}
				return e.table(teamHead, rows)
			})
		},
	}
}
