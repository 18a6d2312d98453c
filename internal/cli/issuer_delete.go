package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func issuerDelete(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "delete NAME", Short: "Accept the tokens of an identity provider no more, and end the connections made with them", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := e.sure(yes, "issuer "+a[0]); err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/issuers", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted issuer %s.", a[0])
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
