package cli

import (
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func supportCommand(e *env) *cobra.Command {
	return group("support", "The installation's operator looks into an organisation, by its leave",
		supportAsk(e), supportList(e), supportGrant(e), supportEnd(e))
}

type supportAccess struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Reason   string    `json:"reason"`
	Messages bool      `json:"messages"`
	State    string    `json:"state"`
	Expires  time.Time `json:"expires"`
}

func (e *env) printSupport(s supportAccess) error {
	return e.facts("Support access", s.ID, "Who", s.Name, "Reason", s.Reason, "Messages", strconv.FormatBool(s.Messages), "State", s.State,
		"Until", s.Expires.UTC().Format(time.RFC3339))
}

func supportAsk(e *env) *cobra.Command {
	var reason string
	var life time.Duration
	var messages bool
	c := &cobra.Command{
		Use: "ask --reason TEXT", Short: "Ask an organisation to let you, its operator, look in", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			in := map[string]any{"reason": reason, "ttl_seconds": int64(life / time.Second), "messages": messages}
			return one(c.Context(), e, r, http.MethodPost, org+"/support", in, e.printSupport)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the organisation and its audit record")
	c.Flags().DurationVar(&life, "for", 4*time.Hour, "how long, from now on")
	c.Flags().BoolVar(&messages, "messages", false, "see what devices say, too")
	_ = c.MarkFlagRequired("reason") // it is there
	return c
}

func supportList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List who asked to look in, and who may", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, org+"/support", []string{"ID", "WHO", "STATE", "MESSAGES", "UNTIL", "REASON"}, func(s supportAccess) []string {
				return []string{s.ID, s.Name, s.State, strconv.FormatBool(s.Messages), s.Expires.UTC().Format(time.RFC3339), s.Reason}
			})
		},
	}
}

func supportGrant(e *env) *cobra.Command {
	var messages bool
	c := &cobra.Command{
		Use: "grant ID", Short: "Let the operator look in, for the time asked for", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join(org+"/support", a[0], "grant"), map[string]bool{"messages": messages}, e.printSupport)
		},
	}
	c.Flags().BoolVar(&messages, "messages", false, "what devices say, too, if it was asked for")
	return c
}

func supportEnd(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "end ID", Short: "End it, or refuse what was asked for", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/support", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("It is over.")
		},
	}
}
