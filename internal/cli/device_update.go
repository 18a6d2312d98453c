package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

// deviceUpdate changes a device and shows it.
func (e *env) deviceUpdate(c *cobra.Command, typ, id string, change any) error {
	r, org, err := e.inOrg(c.Context())
	if err != nil {
		return err
	}
	return one(c.Context(), e, r, http.MethodPatch, join(org+"/devices", typ, id), change, e.printDevice)
}

func deviceDisable(e *env, off bool) *cobra.Command {
	c := &cobra.Command{
		Use: "disable TYPE ID", Short: "Close a device's connection and refuse new ones", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			return e.deviceUpdate(c, a[0], a[1], map[string]bool{"disabled": off})
		},
	}
	if !off {
		c.Use, c.Short = "enable TYPE ID", "Let a device connect again"
	}
	return c
}

func deviceAttach(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "attach TYPE ID GATEWAY-TYPE GATEWAY-ID", Short: "Let a gateway act for a device", Args: args(4, 4),
		RunE: func(c *cobra.Command, a []string) error {
			return e.deviceUpdate(c, a[0], a[1], map[string]string{"gateway": a[2] + ":" + a[3]})
		},
	}
}

func deviceDetach(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "detach TYPE ID", Short: "Let no gateway act for a device", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			return e.deviceUpdate(c, a[0], a[1], map[string]string{"gateway": ""})
		},
	}
}

func deviceRegisters(e *env) *cobra.Command {
	var off bool
	c := &cobra.Command{
		Use: "registers TYPE ID", Short: "Let a gateway register the devices that it speaks for", Args: args(2, 2),
		Long: "A device that the gateway sends for, or wants the commands of, and that is not there, is made and attached\n" +
			"to it: of a device type that is there, until the gateway has 300 devices. What is another's stays so.",
		RunE: func(c *cobra.Command, a []string) error {
			return e.deviceUpdate(c, a[0], a[1], map[string]bool{"registers": !off})
		},
	}
	c.Flags().BoolVar(&off, "off", false, "no more")
	return c
}
