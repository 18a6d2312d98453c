package cli

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func credentialCommand(e *env) *cobra.Command {
	return group("credential", "The tokens and passwords of devices, API keys and MQTT users: age, end, last use",
		credentialReport(e), credentialExpire(e), credentialRetire(e))
}

// A rotation is the flags of a command that replaces a token.
type rotation struct {
	c       *cobra.Command
	overlap time.Duration
	life    time.Duration
	forever bool
}

func (x *rotation) flags(c *cobra.Command) *cobra.Command {
	x.c = c
	c.Flags().DurationVar(&x.overlap, "overlap", 0, "for how long the old one stays good, for example 48h; at most 720h")
	c.Flags().DurationVar(&x.life, "for", 0, "how long the new one is good, for example 2160h (else as long as the old one was to be)")
	c.Flags().BoolVar(&x.forever, "forever", false, "the new one has no end, whatever the old one had")
	c.MarkFlagsMutuallyExclusive("for", "forever")
	return c
}

func (x *rotation) in() any {
	in := map[string]any{}
	if x.overlap != 0 {
		in["overlap_seconds"] = int64(x.overlap / time.Second)
	}
	if x.c.Flags().Changed("for") {
		in["expires"] = time.Now().Add(x.life).UTC()
	}
	if x.forever {
		in["forever"] = true
	}
	if len(in) == 0 {
		return nil
	}
	return in
}

type tokenUse struct {
	At      time.Time `json:"at"`
	Address string    `json:"address"`
}

func (u *tokenUse) String() string {
	if u == nil {
		return "never"
	}
	return strings.TrimSpace(day(u.At) + " " + u.Address)
}

type credential struct {
	Kind      string     `json:"kind"`
	Holder    string     `json:"holder"`
	Disabled  bool       `json:"disabled"`
	Age       int64      `json:"age_seconds"`
	Expires   *time.Time `json:"expires"`
	LastUse   *tokenUse  `json:"last_use"`
	Before    *time.Time `json:"before_until"`
	LastOld   *tokenUse  `json:"before_last_use"`
	LastOther *tokenUse  `json:"other_last_use"`
}

// before says until when the token before is good, and when it was used.
func (c credential) before() string {
	if c.Before == nil {
		return ""
	}
	return "until " + day(*c.Before) + ", used " + c.LastOld.String()
}

// age writes seconds as days or hours.
func age(seconds int64) string {
	if seconds >= 48*3600 {
		return strconv.FormatInt(seconds/86400, 10) + " days"
	}
	return strconv.FormatInt(seconds/3600, 10) + " h"
}

// never writes a time that there may not be.
func never(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return day(*t)
}

func credentialReport(e *env) *cobra.Command {
	var p page
	var kind string
	var older, unused, ending time.Duration
	var neverUsed, two bool
	c := &cobra.Command{
		Use: "report", Short: "List tokens with their age, end and last use", Args: args(0, 0),
		Example: "  keepmq credential report --older-than 8760h          # a year\n" +
			"  keepmq credential report --never-used --kind device\n" +
			"  keepmq credential report --two                      # rotated, and the old one is still good",
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			p.add("kind", kind)
			for name, d := range map[string]time.Duration{"older_than_seconds": older, "unused_seconds": unused, "expires_within_seconds": ending} {
				if d != 0 {
					p.add(name, strconv.FormatInt(int64(d/time.Second), 10))
				}
			}
			for name, on := range map[string]bool{"never_used": neverUsed, "two": two} {
				if on {
					p.add(name, "true")
				}
			}
			return show(c.Context(), e, r, org+"/credentials", &p, []string{"KIND", "HOLDER", "STATE", "AGE", "EXPIRES", "LAST USE", "OTHERWISE", "TOKEN BEFORE"},
				func(c credential) []string {
					other := ""
					if c.LastOther != nil {
						other = c.LastOther.String()
					}
					return []string{c.Kind, c.Holder, state(c.Disabled), age(c.Age), never(c.Expires), c.LastUse.String(), other, c.before()}
				})
		},
	}
	p.flags(c)
	c.Flags().StringVar(&kind, "kind", "", "device (gateways, too), gateway, application or user")
	c.Flags().DurationVar(&older, "older-than", 0, "made so long ago, or longer")
	c.Flags().DurationVar(&unused, "unused-for", 0, "not used for so long")
	c.Flags().DurationVar(&ending, "expires-within", 0, "ending within so long, or ended")
	c.Flags().BoolVar(&neverUsed, "never-used", false, "never used")
	c.Flags().BoolVar(&two, "two", false, "the token before is good, too")
	return c
}

const holders = "HOLDER is device:TYPE:ID, gateway:TYPE:ID, application:KEY or user:NAME."

// credentialOf returns the server and the path of a holder's token.
func (e *env) credentialOf(ctx context.Context, c *cobra.Command, holder string) (*remote, string, error) {
	kind, id, _ := strings.Cut(holder, ":")
	typ, device, two := strings.Cut(id, ":")
	var below []string
	path, last := "", "/token"
	switch {
	case (kind == "device" || kind == "gateway") && two:
		path, below = "/devices", []string{typ, device}
	case kind == "application" && id != "":
		path, below = "/apps", []string{id}
	case kind == "user" && id != "":
		path, below, last = "/users", []string{id}, "/password"
	default:
		return nil, "", usage(c, "%s", holders)
	}
	r, org, err := e.inOrg(ctx)
	return r, join(org+path, below...) + last, err
}

func credentialExpire(e *env) *cobra.Command {
	var life time.Duration
	var forever bool
	c := &cobra.Command{
		Use: "expire HOLDER --for DURATION | --forever", Short: "Set when a token ends, and connections made with it", Args: args(1, 1), Long: holders,
		RunE: func(c *cobra.Command, a []string) error {
			in := map[string]any{"expires": nil}
			switch {
			case c.Flags().Changed("for"):
				in["expires"] = time.Now().Add(life).UTC()
			case !forever:
				return usage(c, "say how long, or --forever")
			}
			r, path, err := e.credentialOf(c.Context(), c, a[0])
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, path, in, func(x credential) error {
				return e.facts("Ends", never(x.Expires))
			})
		},
	}
	c.Flags().DurationVar(&life, "for", 0, "how long from now, for example 2160h")
	c.Flags().BoolVar(&forever, "forever", false, "it has no end")
	c.MarkFlagsMutuallyExclusive("for", "forever")
	return c
}

func credentialRetire(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "retire HOLDER", Short: "End the token from before a rotation now, and connections made with it", Args: args(1, 1), Long: holders,
		RunE: func(c *cobra.Command, a []string) error {
			r, path, err := e.credentialOf(c.Context(), c, a[0])
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, path+"/before", nil, nil); err != nil {
				return err
			}
			return e.done("The old token of %s is good no more.", a[0])
		},
	}
}
