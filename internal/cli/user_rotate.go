package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

// A newPassword is what replaced a password.
type newPassword struct {
	Password string `json:"password"`
}

func userRotate(e *env) *cobra.Command {
	var x rotation
	return x.flags(&cobra.Command{
		Use: "rotate NAME", Short: "Replace the password of a plain MQTT user; the old one ends at once unless told otherwise", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/users", a[0])+"/password", x.in(), func(p newPassword) error {
				return e.facts("Password", p.Password)
			})
		},
	})
}
