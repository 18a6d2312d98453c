package cli

import "github.com/spf13/cobra"

func orgList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List organisations", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, "/orgs", &p, []string{"ID", "NAME", "PROFILE", "STATE", "CREATED"}, func(o organisation) []string {
				return []string{o.ID, o.Name, o.Profile, state(o.Disabled), day(o.Created)}
			})
		},
	}
	p.flags(c)
	return c
}
