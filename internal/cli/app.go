package cli

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func appCommand(e *env) *cobra.Command {
	return group("app", "API keys: how applications sign in",
		appCreate(e), appList(e), appShow(e), appDisable(e, true), appDisable(e, false), appRights(e), appRotate(e), appDelete(e))
}

type application struct {
	Key      string    `json:"key"`
	Name     string    `json:"name"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Token    string    `json:"token"`

	Role        string   `json:"role"`
	Permissions []string `json:"permissions"`
	Limited     bool     `json:"limited"`
	Groups      []string `json:"groups"`
	Maker       string   `json:"maker"`
}

func (e *env) printApp(x application) error {
	return e.facts("API key", x.Key, "Name", x.Name, "State", state(x.Disabled), "Created", day(x.Created),
		"Role", x.Role, "No more than", strings.Join(x.Permissions, " "), "Devices", inGroups(x.Limited, x.Groups), "Behind it", x.Maker, "Token", x.Token)
}

// inGroups says to which devices rights are limited.
func inGroups(limited bool, groups []string) string {
	switch {
	case !limited:
		return ""
	case len(groups) == 0:
		return "none"
	}
	return "of groups " + strings.Join(groups, " ")
}

// rights are the flags that say what somebody may do.
type rights struct {
	role    string
	only    []string
	limited bool
	groups  []string
}

func (x *rights) flags(c *cobra.Command, role string) {
	c.Flags().StringVar(&x.role, "role", role, "what it may do at most (keepmq role list)")
	c.Flags().StringSliceVar(&x.groups, "group", nil, "a resource group it is limited to; may be given several times")
	c.Flags().BoolVar(&x.limited, "limited", false, "only with the devices of its resource groups, even if it has none")
}

// in returns the rights as the API takes them.
func (x *rights) in() map[string]any {
	m := map[string]any{"role": x.role, "limited": x.limited || len(x.groups) > 0, "groups": x.groups}
	if len(x.only) > 0 {
		m["permissions"] = x.only
	}
	if len(x.groups) == 0 {
		delete(m, "groups")
	}
	return m
}

func appShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show KEY", Short: "Show an API key", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/apps", a[0]), nil, e.printApp)
		},
	}
}
