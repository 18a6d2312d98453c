package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func orgDelete(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete ID", Short: "Delete an organisation and shred everything it has", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			if err := e.sure(yes, "organisation "+a[0]+" with its devices, keys and messages"); err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join("/orgs", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted organisation %s.", a[0])
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
