package cli

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/spf13/cobra"
)

type retention struct {
	Days    int  `json:"days"`
	Set     *int `json:"set"`
	Default int  `json:"default"`
}

func auditRetention(e *env) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "retention [DAYS|forever|default]", Short: "Show or set for how long records are kept", Args: args(0, 1),
		Long: "Show or set for how long records are kept, 30 days or more.\n\n" +
			"Of older records the texts are removed within the hour and do not come back. Their\n" +
			"hashes stay, so that audit verify checks the rest as before. Default is what the\n" +
			"server's configuration says.",
		Example: "  keepmq audit retention\n  keepmq audit retention 400",
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			if len(a) == 0 {
				return one(c.Context(), e, r, http.MethodGet, "/audit/retention", nil, e.printRetention)
			}
			change := map[string]any{"days": nil}
			switch n, err := strconv.Atoi(a[0]); {
			case err == nil:
				if n > 0 {
					if err := e.sure(yes, fmt.Sprintf("all audit records older than %d days, now and from now on", n)); err != nil {
						return err
					}
				}
				change["days"] = n
			case a[0] == "forever":
				change["days"] = 0
			case a[0] != "default":
				return usage(c, "%q is neither a number of days, nor forever, nor default", a[0])
			}
			return one(c.Context(), e, r, http.MethodPatch, "/audit/retention", change, e.printRetention)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (e *env) printRetention(r retention) error {
	days := func(n int) string {
		if n == 0 {
			return "for ever"
		}
		return fmt.Sprintf("%d days", n)
	}
	set := "nothing"
	if r.Set != nil {
		set = days(*r.Set)
	}
	return e.facts("kept", days(r.Days), "set", set, "configured", days(r.Default))
}
