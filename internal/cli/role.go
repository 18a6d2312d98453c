package cli

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func roleCommand(e *env) *cobra.Command {
	return group("role", "Roles: what members and API keys may do", roleList(e), roleShow(e), roleSet(e), roleDelete(e))
}

type role struct {
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Builtin     bool     `json:"builtin"`
	Permissions []string `json:"permissions"`
}

func (e *env) printRole(x role) error {
	return e.facts("Role", x.Name, "For", x.Description, "Permissions", strings.Join(x.Permissions, " "))
}

func roleList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the roles that can be given", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, org+"/roles", []string{"ROLE", "PERMISSIONS", "FOR"}, func(x role) []string {
				return []string{x.Name, strconv.Itoa(len(x.Permissions)), x.Description}
			})
		},
	}
}

func roleShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show the permissions of a role", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			var l list[role]
			if err := r.call(c.Context(), http.MethodGet, org+"/roles", nil, &l); err != nil {
				return err
			}
			for _, x := range l.Items {
				if x.Name == a[0] {
					return e.printRole(x)
				}
			}
			return hint("see them with: keepmq role list", "there is no role %q", printable(a[0]))
		},
	}
}

func roleSet(e *env) *cobra.Command {
	var about string
	c := &cobra.Command{
		Use: "set NAME PERMISSION...", Short: "Make a role of the organisation's own, or change it", Args: cobra.MinimumNArgs(2),
		Example: "  keepmq role set night-shift device:read event:receive alert:write",
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := map[string]any{"permissions": a[1:], "description": about}
			return one(c.Context(), e, r, http.MethodPut, join(org+"/roles", a[0]), in, e.printRole)
		},
	}
	c.Flags().StringVar(&about, "description", "", "what it is for")
	return c
}

func roleDelete(e *env) *cobra.Command {
	return deletion(e, "role", "delete NAME", "Delete a role that nobody has", "roles")
}
