package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

// A newToken is what replaced a token.
type newToken struct {
	Token string `json:"token"`
}

func (e *env) printToken(t newToken) error { return e.facts("Token", t.Token) }

func deviceRotate(e *env) *cobra.Command {
	var x rotation
	return x.flags(&cobra.Command{
		Use: "rotate TYPE ID", Short: "Replace a device's token; the old one ends at once unless told otherwise", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/devices", a...)+"/token", x.in(), e.printToken)
		},
	})
}
