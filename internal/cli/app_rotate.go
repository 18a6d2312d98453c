package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func appRotate(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rotate KEY", Short: "Replace the token of an API key; the old one ends at once", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/apps", a[0])+"/token", nil, e.printToken)
		},
	}
}
