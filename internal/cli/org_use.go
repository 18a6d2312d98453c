package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func orgUse(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "use ID", Short: "Make an organisation the default of this computer", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodGet, join("/orgs", a[0]), nil, nil); err != nil {
				return err
			}
			s, err := e.load()
			if err != nil {
				return hint(signInAgain, "a default needs a sign-in to belong to")
			}
			s.Org = a[0]
			if err := e.save(s); err != nil {
				return err
			}
			return e.done("Organisation %s is the default now.", a[0])
		},
	}
}
