package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func deviceDelete(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete TYPE ID", Short: "Delete a device, its connection and its certificates", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := e.sure(yes, "device "+a[0]+" "+a[1]); err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/devices", a...), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted device %s %s.", a[0], a[1])
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
