package cli

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func groupCommand(e *env) *cobra.Command {
	return group("group", "Resource groups: devices that rights can be limited to",
		groupCreate(e), groupList(e), groupDevices(e), groupChange(e, "add"), groupChange(e, "remove"), groupDelete(e))
}

type resourceGroup struct {
	ID          string `json:"id"`
	Description string `json:"description"`
}

type deviceName struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

func groupCreate(e *env) *cobra.Command {
	var about string
	c := &cobra.Command{
		Use: "create ID", Short: "Create a resource group", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, org+"/groups", map[string]any{"id": a[0], "description": about},
				func(g resourceGroup) error { return e.facts("Group", g.ID, "For", g.Description) })
		},
	}
	c.Flags().StringVar(&about, "description", "", "what its devices have in common")
	return c
}

func groupList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List resource groups", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, org+"/groups", &p, []string{"ID", "FOR"}, func(g resourceGroup) []string {
				return []string{g.ID, g.Description}
			})
		},
	}
	p.flags(c)
	return c
}

func groupDevices(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "devices ID", Short: "List the devices in a resource group", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, join(org+"/groups", a[0], "devices"), []string{"TYPE", "ID"}, deviceRow)
		},
	}
}

func deviceRow(d deviceName) []string { return []string{d.Type, d.ID} }

func groupChange(e *env, what string) *cobra.Command {
	short := map[string]string{"add": "Put devices into a resource group", "remove": "Take devices out of a resource group"}[what]
	return &cobra.Command{
		Use: what + " ID TYPE:DEVICE...", Short: short, Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, a []string) error {
			var devices []deviceName
			for _, s := range a[1:] {
				typ, id, ok := strings.Cut(s, ":")
				if !ok {
					return usage(c, "%q must be TYPE:DEVICE", s)
				}
				devices = append(devices, deviceName{typ, id})
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/groups", a[0], "devices"), map[string]any{what: devices},
				func(l list[deviceName]) error {
					rows := make([][]string, 0, len(l.Items))
					for _, d := range l.Items {
						rows = append(rows, deviceRow(d))
					}
					return e.table([]string{"TYPE", "ID"}, rows)
				})
		},
	}
}

func groupDelete(e *env) *cobra.Command {
	return deletion(e, "resource group", "delete ID", "Delete a resource group; its devices stay", "groups")
}
