package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func appDisable(e *env, off bool) *cobra.Command {
	c := &cobra.Command{
		Use: "disable KEY", Short: "Close the connections of an API key and refuse new ones", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/apps", a[0]), map[string]bool{"disabled": off}, e.printApp)
		},
	}
	if !off {
		c.Use, c.Short = "enable KEY", "Let an API key connect again"
	}
	return c
}
