package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func typeCommand(e *env) *cobra.Command {
	return group("type", "Device types: what devices of one kind have in common",
		typeCreate(e), typeList(e), typeShow(e), typeDelete(e))
}

type deviceType struct {
	ID          string    `json:"id"`
	Class       string    `json:"class"`
	Description string    `json:"description"`
	Created     time.Time `json:"created"`
}

func (e *env) printType(t deviceType) error {
	return e.facts("Device type", t.ID, "Class", t.Class, "Description", t.Description, "Created", day(t.Created))
}

func typeShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a device type", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/types", a[0]), nil, e.printType)
		},
	}
}
