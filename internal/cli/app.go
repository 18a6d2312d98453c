package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func appCommand(e *env) *cobra.Command {
	return group("app", "API keys: how applications sign in",
		appCreate(e), appList(e), appShow(e), appDisable(e, true), appDisable(e, false), appRotate(e), appDelete(e))
}

type application struct {
	Key      string    `json:"key"`
	Name     string    `json:"name"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
	Token    string    `json:"token"`
}

func (e *env) printApp(x application) error {
	return e.facts("API key", x.Key, "Name", x.Name, "State", state(x.Disabled), "Created", day(x.Created), "Token", x.Token)
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
