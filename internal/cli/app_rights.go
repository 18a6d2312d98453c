package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func appRights(e *env) *cobra.Command {
	var x rights
	c := &cobra.Command{
		Use: "rights KEY --role ROLE", Short: "Replace what an API key may do; you stand behind it then", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/apps", a[0]), map[string]any{"rights": x.in()}, e.printApp)
		},
	}
	x.flags(c, "")
	c.Flags().StringSliceVar(&x.only, "only", nil, "a permission it has no more than, for example device:read; may be given several times")
	_ = c.MarkFlagRequired("role") // it is there
	return c
}
