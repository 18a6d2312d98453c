package cli

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func memberCommand(e *env) *cobra.Command {
	return group("member", "The people of an organisation",
		memberList(e), memberShow(e), memberInvite(e), memberInvitations(e), memberUninvite(e), memberJoin(e), memberUpdate(e), memberRemove(e))
}

type member struct {
	Org      string     `json:"org"`
	Person   string     `json:"person"`
	Name     string     `json:"name"`
	Role     string     `json:"role"`
	Limited  bool       `json:"limited"`
	Groups   []string   `json:"groups"`
	Teams    []string   `json:"teams"`
	Disabled bool       `json:"disabled"`
	Expires  *time.Time `json:"expires"`
}

func (m member) until() string {
	if m.Expires == nil {
		return ""
	}
	return day(*m.Expires)
}

func (e *env) printMember(m member) error {
	return e.facts("Person", m.Person, "Name", m.Name, "Organisation", m.Org, "Role", m.Role, "Devices", inGroups(m.Limited, m.Groups), "Teams", strings.Join(m.Teams, " "),
		"State", state(m.Disabled), "Until", m.until())
}

func memberList(e *env) *cobra.Command {
	var p page
	c := &cobra.Command{
		Use: "list", Short: "List members", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return show(c.Context(), e, r, org+"/members", &p, []string{"PERSON", "NAME", "ROLE", "STATE", "UNTIL"}, func(m member) []string {
				return []string{m.Person, m.Name, m.Role, state(m.Disabled), m.until()}
			})
		},
	}
	p.flags(c)
	return c
}

func memberShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show PERSON", Short: "Show a member", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/members", a[0]), nil, e.printMember)
		},
	}
}

func memberUpdate(e *env) *cobra.Command {
	var x rights
	var disable, enable, forever bool
	var until time.Duration
	c := &cobra.Command{
		Use: "update PERSON", Short: "Change what a member may do, and for how long", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			in := map[string]any{}
			flag := c.Flags().Changed
			if flag("role") {
				in["role"] = x.role
			}
			if flag("group") || flag("limited") {
				in["limited"], in["groups"] = x.limited || len(x.groups) > 0, append([]string{}, x.groups...)
			}
			if disable || enable {
				in["disabled"] = disable
			}
			if flag("for") {
				in["expires"] = time.Now().Add(until).UTC()
			}
			if forever {
				in["expires"] = time.Time{}
			}
			if len(in) == 0 {
				return usage(c, "nothing to change was given")
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/members", a[0]), in, e.printMember)
		},
	}
	x.flags(c, "")
	c.Flags().BoolVar(&disable, "disable", false, "as if they were no member, for now")
	c.Flags().BoolVar(&enable, "enable", false, "let them in again")
	c.Flags().DurationVar(&until, "for", 0, "how long the membership lasts from now, for example 72h")
	c.Flags().BoolVar(&forever, "forever", false, "the membership has no end")
	c.MarkFlagsMutuallyExclusive("disable", "enable")
	c.MarkFlagsMutuallyExclusive("for", "forever")
	return c
}

func memberRemove(e *env) *cobra.Command {
	return deletion(e, "member", "remove PERSON", "Remove a member, or leave", "members")
}
