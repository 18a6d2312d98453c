package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func userDelete(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete NAME", Short: "Delete a plain MQTT user and its connections", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := e.sure(yes, "MQTT user "+a[0]); err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/users", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted MQTT user %s.", a[0])
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
