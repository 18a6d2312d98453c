package cli

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

const maxLimits = 100 // in one command

func limitSet(e *env) *cobra.Command {
	var typ string
	c := &cobra.Command{
		Use: "set NAME=VALUE…", Short: "Set limits; they hold at once", Args: args(1, maxLimits),
		Long: "Set limits of the organisation, which an administrator may, or of a device type.\n" +
			"Those of a device type can only be below what holds for its organisation.",
		Example: "  keepmq limit set org.connections=5000 client.queue=1000\n  keepmq limit set --type sensor client.message_rate=10 client.queue_full=end_session",
		RunE: func(c *cobra.Command, a []string) error {
			change := map[string]any{}
			for _, arg := range a {
				name, value, ok := strings.Cut(arg, "=")
				if !ok || name == "" || value == "" {
					return usage(c, "%q is not NAME=VALUE", arg)
				}
				if _, twice := change[name]; twice {
					return usage(c, "%s is given twice", name)
				}
				change[name] = value // a word
				if n, err := strconv.ParseInt(value, 10, 64); err == nil {
					change[name] = n
				}
			}
			return e.changeLimits(c, typ, change)
		},
	}
	typeFlag(c, &typ)
	return c
}

func limitUnset(e *env) *cobra.Command {
	var typ string
	c := &cobra.Command{
		Use: "unset NAME…", Short: "Let what holds elsewhere hold again", Args: args(1, maxLimits),
		Example: "  keepmq limit unset client.queue\n  keepmq limit unset --type sensor client.queue",
		RunE: func(c *cobra.Command, a []string) error {
			change := map[string]any{}
			for _, name := range a {
				change[name] = nil
			}
			return e.changeLimits(c, typ, change)
		},
	}
	typeFlag(c, &typ)
	return c
}

// changeLimits changes limits and shows what holds for those then.
func (e *env) changeLimits(c *cobra.Command, typ string, change map[string]any) error {
	r, path, err := e.inLimits(c.Context(), typ)
	if err != nil {
		return err
	}
	changed := func(l limit) bool { _, is := change[l.Name]; return is }
	return one(c.Context(), e, r, http.MethodPatch, path, change, e.printLimits(changed))
}
