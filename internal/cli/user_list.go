package cli

import "github.com/spf13/cobra"

func userList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List plain MQTT users", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, org+"/users", &p, []string{"NAME", "USER NAME", "STATE", "CREATED"}, func(x mqttUser) []string {
				return []string{x.Name, x.Username, state(x.Disabled), day(x.Created)}
			})
		},
	}
	p.flags(c)
	return c
}
