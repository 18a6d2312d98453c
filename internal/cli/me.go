package cli

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func meCommand(e *env) *cobra.Command {
	return group("me", "Your own account: e-mail address, password, second factors",
		meUpdate(e), mePassword(e), meFactors(e), meFactorAdd(e), meFactorDelete(e), meRecovery(e), meVerify(e))
}

func meUpdate(e *env) *cobra.Command {
	var name, email string
	c := &cobra.Command{
		Use: "update", Short: "Change your name or e-mail address", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			in := map[string]string{}
			if c.Flags().Changed("name") {
				in["name"] = name
			}
			if c.Flags().Changed("email") {
				in["email"] = email
			}
			if len(in) == 0 {
				return usage(c, "nothing to change was given")
			}
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, "/me", in, func(p person) error {
				return e.facts("Name", p.Name, "E-mail", p.Email)
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "what you are called")
	c.Flags().StringVar(&email, "email", "", "the address with which you sign in")
	return c
}

func mePassword(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "password", Short: "Set your password; your other sessions end", Args: args(0, 0),
		Long: "Asks for the present password, if you have one, and the new one. Without a terminal both come\n" +
			"on standard input, one on each line: the present one, which may be empty, and the new one.",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			present, fresh, err := e.twoSecrets("Present password (empty if you have none)", "New password")
			if err != nil {
				return err
			}
			in := map[string]string{"present": present.Reveal(), "password": fresh.Reveal()}
			if err := r.call(c.Context(), http.MethodPost, "/me/password", in, nil); err != nil {
				return err
			}
			return e.done("The password is set. All your other sessions have ended.")
		},
	}
}

type factor struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	Confirmed bool      `json:"confirmed"`
	Created   time.Time `json:"created"`
	URL       string    `json:"url"`
}

func meFactors(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "factors", Short: "List your second factors", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			type factors struct {
				Items    []factor
				Recovery int `json:"recovery_codes"`
			}
			return one(c.Context(), e, r, http.MethodGet, "/me/second-factors", nil, func(l factors) error {
				rows := [][]string{}
				for _, f := range l.Items {
					counts := "not confirmed"
					switch {
					case f.Kind == "passkey":
						counts = f.Kind
					case f.Confirmed:
						counts = "authenticator"
					}
					rows = append(rows, []string{f.ID, f.Name, counts, day(f.Created)})
				}
				if err := e.table([]string{"ID", "NAME", "KIND", "SINCE"}, rows); err != nil {
					return err
				}
				e.note("recovery codes left: %s", strconv.Itoa(l.Recovery))
				return nil
			})
		},
	}
}

func meFactorAdd(e *env) *cobra.Command {
	var name, confirm string
	c := &cobra.Command{
		Use: "add-factor", Short: "Add an authenticator, and confirm it with a code", Args: args(0, 0),
		Long: "First without --confirm: it prints the URL for the authenticator. Then with --confirm ID: it asks\n" +
			"for a code that the authenticator shows, and with the first one prints the recovery codes.",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			if confirm == "" {
				err = one(c.Context(), e, r, http.MethodPost, "/me/second-factors", map[string]string{"name": name}, func(f factor) error {
					return e.facts("Factor", f.ID, "URL", f.URL)
				})
				if err == nil && !e.json {
					e.note("Put the URL into your authenticator, as a QR code or by hand; then: keepmq me add-factor --confirm ID")
				}
				return err
			}
			code, err := e.code()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, join("/me/second-factors", confirm, "confirm"), map[string]string{"code": code.Reveal()}, e.printRecovery)
		},
	}
	c.Flags().StringVar(&name, "name", "", "to tell it from others")
	c.Flags().StringVar(&confirm, "confirm", "", "the id of the authenticator of which you have a code")
	return c
}

type recovery struct {
	Codes []string `json:"recovery_codes"`
}

func (e *env) printRecovery(x recovery) error {
	if len(x.Codes) == 0 {
		return e.done("The authenticator counts from now on.")
	}
	e.note("Keep these recovery codes: each is good once in place of the authenticator. They are shown this once.")
	return e.done("%s", strings.Join(x.Codes, "\n"))
}

func meFactorDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete-factor ID", Short: "Delete an authenticator", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join("/me/second-factors", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Deleted the authenticator.")
		},
	}
}

func meRecovery(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "recovery-codes", Short: "Replace your recovery codes", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, "/me/recovery-codes", nil, e.printRecovery)
		},
	}
}

func meVerify(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "Prove a second factor in this session", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			code, err := e.code()
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodPost, "/me/verify", map[string]string{"code": code.Reveal()}, nil); err != nil {
				return err
			}
			return e.done("This session is proved.")
		},
	}
}
