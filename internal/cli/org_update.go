package cli

import (
	"net/http"

	"github.com/spf13/cobra"
)

func orgRename(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "rename ID NAME", Short: "Give an organisation another name", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join("/orgs", a[0]), map[string]string{"name": a[1]}, e.printOrg)
		},
	}
}

func orgDisable(e *env, off bool) *cobra.Command {
	c := &cobra.Command{
		Use: "disable ID", Short: "Close every connection of an organisation and refuse new ones", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join("/orgs", a[0]), map[string]bool{"disabled": off}, e.printOrg)
		},
	}
	if !off {
		c.Use, c.Short = "enable ID", "Let an organisation connect again"
	}
	return c
}

func orgSecondFactor(e *env) *cobra.Command {
	var off bool
	c := &cobra.Command{
		Use: "second-factor ID", Short: "Have members need a second factor, or no more", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join("/orgs", a[0]), map[string]bool{"second_factor": !off}, e.printOrg)
		},
	}
	c.Flags().BoolVar(&off, "off", false, "no more")
	return c
}
