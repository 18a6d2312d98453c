package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func issuerCreate(e *env) *cobra.Command {
	var f issuerFlags
	c := &cobra.Command{
		Use:   "create NAME --iss URL --aud NAME --alg ALG --jwks FILE",
		Short: "Accept the tokens of an identity provider", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			in, err := f.body()
			if err != nil {
				return err
			}
			in["name"] = a[0]
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, org+"/issuers", in, e.printIssuer)
		},
	}
	f.add(c)
	for _, name := range []string{"iss", "aud", "alg", "jwks"} {
		_ = c.MarkFlagRequired(name) // it was added just now
	}
	return c
}
