package cli

import "github.com/spf13/cobra"

func appList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List API keys", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, org+"/apps", &p, []string{"KEY", "NAME", "STATE", "CREATED"}, func(x application) []string {
				return []string{x.Key, x.Name, state(x.Disabled), day(x.Created)}
			})
		},
	}
	p.flags(c)
	return c
}
