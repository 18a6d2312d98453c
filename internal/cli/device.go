package cli

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func deviceCommand(e *env) *cobra.Command {
	return group("device", "Devices and gateways",
		deviceCreate(e), deviceList(e), deviceShow(e), deviceDisable(e, true), deviceDisable(e, false),
		deviceAttach(e), deviceDetach(e), deviceRegisters(e), deviceRotate(e), deviceEnrol(e), deviceCerts(e), deviceRevoke(e), deviceDelete(e))
}

type device struct {
	Type      string    `json:"type"`
	ID        string    `json:"id"`
	Class     string    `json:"class"`
	ClientID  string    `json:"client_id"`
	Gateway   string    `json:"gateway"`
	Registers bool      `json:"registers"`
	Disabled  bool      `json:"disabled"`
	Created   time.Time `json:"created"`
	Token     string    `json:"token"`
}

func (e *env) printDevice(d device) error {
	registers := "" // left out where it is empty
	if d.Registers {
		registers = "devices that it speaks for"
	}
	return e.facts("Device", d.Type+" "+d.ID, "Class", d.Class, "Client id", d.ClientID, "Gateway", d.Gateway, "Registers", registers,
		"State", state(d.Disabled), "Created", day(d.Created), "User name", userOf(d), "Token", d.Token)
}

// userOf tells with which user name a new device uses its token.
func userOf(d device) string {
	if d.Token == "" {
		return ""
	}
	return "use-token-auth"
}

func deviceShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show TYPE ID", Short: "Show a device", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/devices", a...), nil, e.printDevice)
		},
	}
}
