package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func userDisable(e *env, off bool) *cobra.Command {
	c := &cobra.Command{
		Use: "disable NAME", Short: "Close the connections of a plain MQTT user and refuse new ones", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/users", a[0]), map[string]bool{"disabled": off}, e.printUser)
		},
	}
	if !off {
		c.Use, c.Short = "enable NAME", "Let a plain MQTT user connect again"
	}
	return c
}
