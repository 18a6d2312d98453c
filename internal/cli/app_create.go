package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func appCreate(e *env) *cobra.Command {
	var x rights
	var service string
	var life time.Duration
	c := &cobra.Command{
		Use: "create [NAME]", Short: "Create an API key and print its token, this once", Args: args(0, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := x.in()
			if service != "" {
				if in["service"] = service; !c.Flags().Changed("role") && !x.limited && len(x.groups) == 0 {
					delete(in, "role")
					delete(in, "limited")
				}
			}
			if c.Flags().Changed("for") {
				in["expires"] = time.Now().Add(life).UTC()
			}
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
	c.Flags().StringVar(&service, "service", "", "the service account that stands behind it, whose rights it has unless told otherwise")
	c.Flags().DurationVar(&life, "for", 0, "how long its token is good, for example 2160h (else for good)")
	c.Flags().StringSliceVar(&x.only, "only", nil, "a permission it has no more than, for example device:read; may be given several times")
	return c
}
