package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func appDelete(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete KEY", Short: "Delete an API key and its connections", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := e.sure(yes, "API key "+a[0]); err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/apps", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted API key %s.", a[0])
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
