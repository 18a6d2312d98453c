package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

func issuerList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List the identity providers whose tokens are accepted", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, org+"/issuers", &p, []string{"NAME", "ISS", "AUD", "ALGORITHMS", "KEYS"}, func(x issuer) []string {
				return []string{x.Name, x.Issuer, x.Audience, strings.Join(x.Algorithms, ","), strings.Join(x.KeyIDs, ",")}
			})
		},
	}
	p.flags(c)
	return c
}
