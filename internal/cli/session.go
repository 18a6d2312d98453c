package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func sessionCommand(e *env) *cobra.Command {
	return group("session", "Where you are signed in", sessionList(e), sessionEnd(e))
}

type session struct {
	ID        string    `json:"id"`
	Purpose   string    `json:"purpose"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	Address   string    `json:"address"`
	UserAgent string    `json:"user_agent"`
	Current   bool      `json:"current"`
	Used      time.Time `json:"used"`
	UsedFrom  string    `json:"used_from"`
}

func sessionList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List where you are signed in", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, "/me/sessions", nil, func(l list[session]) error {
				var rows [][]string
				for _, s := range l.Items {
					here := ""
					if s.Current {
						here = "this one"
					}
					rows = append(rows, []string{s.ID, s.Purpose, s.Address, day(s.Created), day(s.Used), day(s.Expires), here})
				}
				return e.table([]string{"ID", "FOR", "FROM", "SINCE", "USED", "UNTIL", ""}, rows)
			})
		},
	}
}

func sessionEnd(e *env) *cobra.Command {
	var others bool
	c := &cobra.Command{
		Use: "end [ID]", Short: "Sign out somewhere else, or everywhere else", Args: args(0, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			if others {
				if err := r.call(c.Context(), http.MethodDelete, "/me/sessions", nil, nil); err != nil {
					return err
				}
				return e.done("Ended all other sessions.")
			}
			if len(a) == 0 {
				return usage(c, "an id, or --others, is needed")
			}
			if err := r.call(c.Context(), http.MethodDelete, join("/me/sessions", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Ended session %s.", a[0])
		},
	}
	c.Flags().BoolVar(&others, "others", false, "all but this one")
	return c
}
