package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func appRotate(e *env) *cobra.Command {
	var x rotation
	return x.flags(&cobra.Command{
		Use: "rotate KEY", Short: "Replace the token of an API key; the old one ends at once unless told otherwise", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/apps", a[0])+"/token", x.in(), e.printToken)
		},
	})
}
