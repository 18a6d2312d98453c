package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func userRole(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "role NAME ROLE", Short: "Give a user of a home another role: actor, provider or bridge", Args: args(2, 2),
		Long: "An actor watches everything and gives orders. A provider has devices, and says what they are and do.\n" +
			"A bridge does both.",
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/users", a[0]), map[string]string{"role": a[1]}, e.printUser)
		},
	}
}
