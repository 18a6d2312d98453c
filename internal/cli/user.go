package cli

import (
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func userCommand(e *env) *cobra.Command {
	return group("user", "MQTT users, of organisations with the profile plain or home",
		userCreate(e), userList(e), userShow(e), userDisable(e, true), userDisable(e, false), userRules(e), userClients(e), userRole(e), userRotate(e), userDelete(e))
}

type mqttUser struct {
	Name     string    `json:"name"`
	Username string    `json:"username"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Password string    `json:"password"`
	Role     string    `json:"role"`
	Rules    []rule    `json:"rules"`
	Clients  []string  `json:"clients"`
	Imported bool      `json:"imported"`
}

func (e *env) printUser(x mqttUser) error {
	return e.facts("User", x.Name, "User name", x.Username, "State", state(x.Disabled), "Created", day(x.Created),
		"Role", x.Role, "Rules", strings.Join(ruleLines(x.Rules), "; "),
		"Client ids", strings.Join(x.Clients, " "), "Password", x.password())
}

// password says which password the user has, as far as it is to be told.
func (x mqttUser) password() string {
	if x.Imported {
		return "imported, not used yet"
	}
	return x.Password
}

func userShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show an MQTT user", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/users", a[0]), nil, e.printUser)
		},
	}
}
