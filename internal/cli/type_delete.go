package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func typeDelete(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete ID", Short: "Delete a device type that has no devices", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := e.sure(yes, "device type "+a[0]); err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/types", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted device type %s.", a[0])
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
