package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

type homeOptions struct {
	Anonymous bool `json:"anonymous,omitempty"`
	Prefix    bool `json:"prefix,omitempty"`
	V0        bool `json:"v0,omitempty"`
}

func orgHome(e *env) *cobra.Command {
	var anonymous, v0 bool
	c := &cobra.Command{
		Use: "home [ID]", Short: "Show or change what an organisation with the profile home chooses", Args: args(0, 1),
		Example: "  keepmq org home --anonymous\n  keepmq org home --anonymous=false --v0",
		RunE: func(c *cobra.Command, a []string) error {
			r, path, _, err := e.namedOrg(c.Context(), a)
			if err != nil {
				return err
			}
			change := map[string]bool{}
			for name, value := range map[string]bool{"anonymous": anonymous, "v0": v0} {
				if c.Flags().Changed(name) {
					change[name] = value
				}
			}
			if len(change) == 0 {
				return one(c.Context(), e, r, http.MethodGet, path, nil, e.printOrg)
			}
			return one(c.Context(), e, r, http.MethodPatch, path, map[string]any{"home": change}, e.printOrg)
		},
	}
	c.Flags().BoolVar(&anonymous, "anonymous", false, "clients without a name may watch, and publish nothing")
	c.Flags().BoolVar(&v0, "v0", false, "the topics of Hemtjänst version 0 too")
	return c
}
