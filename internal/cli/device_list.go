package cli

import "github.com/spf13/cobra"

func deviceList(e *env) *cobra.Command {
	var p page
	var typ, prefix, gateway string
	var disabled, enabled bool
	c := &cobra.Command{
		Use: "list", Short: "List devices", Args: args(0, 0),
		Example: "  keepmq device list --type sensor --prefix hall-\n  keepmq device list --disabled --json",
		RunE: func(c *cobra.Command, _ []string) error {
			if disabled && enabled {
				return usage(c, "--disabled and --enabled exclude each other")
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			p.add("type", typ)
			p.add("prefix", prefix)
			p.add("gateway", gateway)
			switch {
			case disabled:
				p.add("disabled", "true")
			case enabled:
				p.add("disabled", "false")
			}
			return show(c.Context(), e, r, org+"/devices", &p, []string{"TYPE", "ID", "CLASS", "STATE", "CREATED", "GATEWAY"}, func(d device) []string {
				return []string{d.Type, d.ID, d.Class, state(d.Disabled), day(d.Created), d.Gateway}
			})
		},
	}
	p.flags(c)
	c.Flags().StringVar(&typ, "type", "", "only of this type")
	c.Flags().StringVar(&prefix, "prefix", "", "only whose id begins so")
	c.Flags().StringVar(&gateway, "gateway", "", "only attached to this gateway, as TYPE:ID")
	c.Flags().BoolVar(&disabled, "disabled", false, "only disabled ones")
	c.Flags().BoolVar(&enabled, "enabled", false, "only enabled ones")
	return c
}
