package cli

import "github.com/spf13/cobra"

func typeList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List device types", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, org+"/types", &p, []string{"ID", "CLASS", "CREATED", "DESCRIPTION"}, func(t deviceType) []string {
				return []string{t.ID, t.Class, day(t.Created), t.Description}
			})
		},
	}
	p.flags(c)
	return c
}
