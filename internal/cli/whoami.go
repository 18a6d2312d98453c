package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func whoamiCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show who is signed in, and where", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, "/me", nil, func(p person) error {
				role := ""
				if p.Admin {
					role = "administrator"
				}
				return e.facts("Server", r.server, "Broker", r.broker, "Signed in as", p.String(), "Kind", p.Kind, "Role", role,
					"Organisation", first(p.Org, e.org, e.getenv("KEEPMQ_ORG"), r.org))
			})
		},
	}
}
