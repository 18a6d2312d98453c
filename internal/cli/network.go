package cli

import (
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func networkCommand(e *env) *cobra.Command {
	return group("network", "From where clients may connect", networkShow(e), networkSet(e))
}

type network struct {
	Mode      string   `json:"mode"`
	Ranges    []string `json:"ranges,omitempty"`
	Countries []string `json:"countries,omitempty"`
}

func (e *env) printNetwork(n network) error {
	about := map[string]string{"off": "from everywhere", "allow": "from these only", "deny": "from everywhere but these"}[n.Mode]
	return e.facts("Clients may connect", about, "Ranges", strings.Join(n.Ranges, " "), "Countries", strings.Join(n.Countries, " "))
}

func networkShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show from where clients may connect", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, org+"/network", nil, e.printNetwork)
		},
	}
}

func networkSet(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "set off|allow|deny [RANGE|COUNTRY...]", Short: "Replace from where clients may connect", Args: cobra.MinimumNArgs(1),
		Long:    "Who is connected from elsewhere is disconnected. The console and the API are not concerned.",
		Example: "  keepmq network set allow 192.0.2.0/24 2001:db8::/32 SE NO\n  keepmq network set off",
		RunE: func(c *cobra.Command, a []string) error {
			n := network{Mode: a[0]}
			for _, s := range a[1:] {
				if len(s) == 2 {
					n.Countries = append(n.Countries, strings.ToUpper(s))
				} else {
					n.Ranges = append(n.Ranges, s)
				}
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPut, org+"/network", n, e.printNetwork)
		},
	}
}
