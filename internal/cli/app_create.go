package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func appCreate(e *env) *cobra.Command {
	var x rights
	c := &cobra.Command{
		Use: "create [NAME]", Short: "Create an API key and print its token, this once", Args: args(0, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := x.in()
			if len(a) > 0 {
				in["name"] = a[0]
			}
			err = one(c.Context(), e, r, http.MethodPost, org+"/apps", in, e.printApp)
			if err == nil && !e.json {
				e.note("The token is shown this once; the server keeps a hash only.")
			}
			return err
		},
	}
	x.flags(c, "PD_STANDARD_APP")
	c.Flags().StringSliceVar(&x.only, "only", nil, "a permission it has no more than, for example device:read; may be given several times")
	return c
}
