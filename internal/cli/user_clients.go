package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func userClients(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "clients NAME CLIENT...", Short: "Replace the client ids that %c may stand for in the rules of a user", Args: cobra.MinimumNArgs(2),
		Long: "A client id belongs to one user at most, so that a rule with %c opens to nobody what is another's.\n" +
			"The user may connect with any other client id too, and gets nothing from rules with %c then.",
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/users", a[0]), map[string]any{"clients": a[1:]}, e.printUser)
		},
	}
}
