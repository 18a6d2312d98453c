package cli

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func orgCommand(e *env) *cobra.Command {
	return group("org", "Organisations: who owns devices, and never sees another's",
		orgCreate(e), orgList(e), orgShow(e), orgRename(e), orgDisable(e, true), orgDisable(e, false), orgDelete(e), orgUse(e), orgRules(e), orgHome(e), orgSecondFactor(e))
}

type organisation struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	Profile  string       `json:"profile"`
	Disabled bool         `json:"disabled"`
	Created  time.Time    `json:"created"`
	Home     *homeOptions `json:"home"`

	SecondFactor bool `json:"second_factor"`
}

func (e *env) printOrg(o organisation) error {
	var anonymous, topics string // left out where they are empty
	if o.Home != nil {
		anonymous, topics = "refused", "version 1"
		if o.Home.Anonymous {
			anonymous = "may watch"
		}
		if o.Home.V0 {
			topics = "versions 1 and 0"
		}
		if o.Home.Prefix {
			topics += ", below " + o.ID + "/"
		}
	}
	factor := ""
	if o.SecondFactor {
		factor = "needed by members"
	}
	return e.facts("Organisation", o.ID, "Name", o.Name, "Profile", o.Profile, "State", state(o.Disabled), "Created", day(o.Created),
		"Topics", topics, "Anonymous clients", anonymous, "Second factor", factor)
}

// namedOrg returns the server and the path of the organisation in args, or of
// the default one.
func (e *env) namedOrg(ctx context.Context, args []string) (r *remote, path, id string, err error) {
	if r, err = e.remote(); err != nil {
		return nil, "", "", err
	}
	if len(args) > 0 {
		id = args[0]
	} else if id, err = e.orgID(ctx, r); err != nil {
		return nil, "", "", err
	}
	return r, join("/orgs", id), id, nil
}

func orgShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show [ID]", Short: "Show an organisation", Args: args(0, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, path, _, err := e.namedOrg(c.Context(), a)
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, path, nil, e.printOrg)
		},
	}
}
