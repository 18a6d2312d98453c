package cli

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

type invitation struct {
	ID      string    `json:"id"`
	Email   string    `json:"email"`
	Role    string    `json:"role"`
	Teams   []string  `json:"teams"`
	Expires time.Time `json:"expires"`
	Code    string    `json:"code"`
}

func memberInvite(e *env) *cobra.Command {
	var x rights
	var life time.Duration
	var teams []string
	c := &cobra.Command{
		Use: "invite EMAIL", Short: "Invite a person and print the code, this once", Args: args(1, 1),
		Long: "Whoever has the code becomes a member: with keepmq member join if they have signed in already,\nelse with keepmq login --join NAME.",
		RunE: func(c *cobra.Command, a []string) error {
			in := x.in()
			in["email"], in["ttl_seconds"] = a[0], int64(life/time.Second)
			if len(teams) > 0 {
				in["teams"] = teams
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			err = one(c.Context(), e, r, http.MethodPost, org+"/invitations", in, func(i invitation) error {
				return e.facts("Invitation", i.ID, "For", i.Email, "Role", i.Role, "Teams", strings.Join(i.Teams, " "), "Good until", i.Expires.UTC().Format(time.RFC3339), "Code", i.Code)
			})
			if err == nil && !e.json {
				e.note("The code is shown this once, and is good once. Give it to this person only.")
			}
			return err
		},
	}
	x.flags(c, "PD_READER_USER")
	c.Flags().StringSliceVar(&teams, "team", nil, "a team that they will be of; may be given several times")
	c.Flags().DurationVar(&life, "ttl", 7*24*time.Hour, "how long the code is good for")
	return c
}

func memberInvitations(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "invitations", Short: "List the open invitations", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return showAll(c.Context(), e, r, org+"/invitations", []string{"ID", "EMAIL", "ROLE", "GOOD UNTIL"}, func(i invitation) []string {
				return []string{i.ID, i.Email, i.Role, day(i.Expires)}
			})
		},
	}
}

func memberUninvite(e *env) *cobra.Command {
	return deletion(e, "invitation", "uninvite ID", "Withdraw an invitation", "invitations")
}

func memberJoin(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "join", Short: "Accept an invitation; the code comes on standard input", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			code, err := e.code()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, "/me/memberships", map[string]any{"code": code.Reveal()}, e.printMember)
		},
	}
}
