package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

type enrolment struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func deviceEnrol(e *env) *cobra.Command {
	var ttl time.Duration
	c := &cobra.Command{
		Use: "enrol TYPE ID", Short: "Make a one-time token with which a device gets its certificate", Args: args(2, 2),
		Long: "Make a one-time token with which a device gets its certificate.\n\n" +
			"The device makes its own key, which never leaves it, and sends the token\nwith a certificate request. The token is good for one key.",
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := map[string]int{"ttl_seconds": int(ttl / time.Second)}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/devices", a...)+"/enrolments", in, func(t enrolment) error {
				return e.facts("Token", t.Token, "Good until", day(t.Expires))
			})
		},
	}
	c.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is good, 1m to 168h")
	return c
}
