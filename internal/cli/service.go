package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func serviceCommand(e *env) *cobra.Command {
	return group("service", "Service accounts: who stands behind the API keys of a program, whoever leaves",
		serviceList(e), serviceShow(e), serviceSet(e), serviceDisable(e, true), serviceDisable(e, false),
		deletion(e, "service account", "delete NAME", "Delete a service account that has no API keys", "services"))
}

type service struct {
	ID          string   `json:"id"`
	Description string   `json:"description"`
	Role        string   `json:"role"`
	Limited     bool     `json:"limited"`
	Groups      []string `json:"groups"`
	Disabled    bool     `json:"disabled"`
}

func (e *env) printService(s service) error {
	return e.facts("Service account", s.ID, "Description", s.Description, "Role", s.Role, "Devices", inGroups(s.Limited, s.Groups), "State", state(s.Disabled))
}

func serviceList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List service accounts", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, org+"/services", []string{"NAME", "ROLE", "STATE", "DESCRIPTION"}, func(s service) []string {
				return []string{s.ID, s.Role, state(s.Disabled), s.Description}
			})
		},
	}
}

func serviceShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a service account", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/services", a[0]), nil, e.printService)
		},
	}
}

func serviceSet(e *env) *cobra.Command {
	var x rights
	var about string
	c := &cobra.Command{
		Use: "set NAME --role ROLE", Short: "Make a service account, or change what its API keys may do", Args: args(1, 1),
		Example: "  keepmq service set ci --role PD_DEVELOPER_USER --description 'deploys devices'\n" +
			"  keepmq app create runner-1 --service ci --for 2160h",
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := x.in()
			if about != "" {
				in["description"] = about
			}
			return one(c.Context(), e, r, http.MethodPut, join(org+"/services", a[0]), in, e.printService)
		},
	}
	x.flags(c, "")
	c.Flags().StringVar(&about, "description", "", "what it is for")
	_ = c.MarkFlagRequired("role") // it is there
	return c
}

func serviceDisable(e *env, off bool) *cobra.Command {
	c := &cobra.Command{
		Use: "disable NAME", Short: "Close the connections of all its API keys and refuse new ones", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/services", a[0]), map[string]bool{"disabled": off}, e.printService)
		},
	}
	if !off {
		c.Use, c.Short = "enable NAME", "Let its API keys in again"
	}
	return c
}
