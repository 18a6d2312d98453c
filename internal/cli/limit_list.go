package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func limitList(e *env) *cobra.Command {
	var typ string
	c := &cobra.Command{
		Use: "list", Short: "List limits, and what is used of them", Args: args(0, 0),
		Long: "List what holds, what is set, what holds by default in this installation, and what is used now.\n" +
			"What is set for a device type holds as far as it is below what holds for its organisation.",
		Example: "  keepmq limit list\n  keepmq limit list --type sensor --json",
		RunE: func(c *cobra.Command, _ []string) error {
			r, path, err := e.inLimits(c.Context(), typ)
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, path, nil, e.printLimits(func(limit) bool { return true }))
		},
	}
	typeFlag(c, &typ)
	return c
}
