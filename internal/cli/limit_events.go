package cli

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func limitEvents(e *env) *cobra.Command {
	p := page{}
	c := &cobra.Command{
		Use: "events", Short: "List who reached which limit, latest first", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			type event struct {
				Principal, Client, Limit, Outcome string
				Value, Count                      int64
				Last                              time.Time
			}
			head := []string{"LAST", "LIMIT", "VALUE", "OUTCOME", "TIMES", "WHO", "CLIENT"}
			return show(c.Context(), e, r, org+"/limit-events", &p, head, func(v event) []string {
				return []string{day(v.Last), v.Limit, strconv.FormatInt(v.Value, 10), v.Outcome, strconv.FormatInt(v.Count, 10), v.Principal, v.Client}
			})
		},
	}
	p.query = map[string][]string{}
	c.Flags().IntVar(&p.limit, "limit", 100, "show at most this many, 1 to 500")
	return c
}
