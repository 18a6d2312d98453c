package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func serverCertificateCommand(e *env) *cobra.Command {
	return group("server-certificate", "What the server shows to clients that ask for a name of the organisation",
		serverCertificateList(e), serverCertificateRequest(e), serverCertificateUpload(e), serverCertificateComplete(e), serverCertificateDelete(e))
}

type serverCertificate struct {
	ID      string     `json:"id"`
	State   string     `json:"state"`
	Names   []string   `json:"names"`
	Request string     `json:"request"`
	Serial  string     `json:"serial"`
	Issuer  string     `json:"issuer"`
	Ends    *time.Time `json:"ends"`
}

func (c serverCertificate) until() string {
	if c.Ends == nil {
		return ""
	}
	return c.Ends.UTC().Format(time.RFC3339)
}

func (e *env) printServerCertificate(c serverCertificate) error {
	return e.facts("Server certificate", c.ID, "State", c.State, "Shown for", strings.Join(c.Names, " "), "Issuer", c.Issuer, "Ends", c.until())
}

func serverCertificateList(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the server certificates of the organisation, and its names", Args: args(0, 0),
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			type all struct {
				Names []string            `json:"names"`
				Items []serverCertificate `json:"items"`
			}
			return one(c.Context(), e, r, http.MethodGet, org+"/server-certificates", nil, func(x all) error {
				if err := e.facts("Names", strings.Join(x.Names, " ")); err != nil {
					return err
				}
				rows := make([][]string, 0, len(x.Items))
				for _, s := range x.Items {
					rows = append(rows, []string{s.ID, s.State, s.until(), strings.Join(s.Names, " ")})
				}
				return e.table([]string{"ID", "STATE", "ENDS", "SHOWN FOR"}, rows)
			})
		},
	}
}

func serverCertificateRequest(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "request", Short: "Make a key, which stays in the server, and print a request to be signed", Args: args(0, 0),
		Long: "The request is for all names of the organisation. Have an authority sign it, and give what it made\nto keepmq server-certificate complete.",
		RunE: func(c *cobra.Command, _ []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, org+"/server-certificates", map[string]any{}, func(s serverCertificate) error {
				if err := e.printServerCertificate(s); err != nil {
					return err
				}
				_, err := fmt.Fprint(e.out, s.Request)
				return err
			})
		},
	}
}

func serverCertificateUpload(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "upload CHAIN KEY", Short: "Have a certificate shown whose key you have; both are PEM files", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			chain, err := readPEM(a[0])
			if err != nil {
				return err
			}
			key, err := readPEM(a[1])
			if err != nil {
				return err
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPost, org+"/server-certificates", map[string]any{"certificate": chain, "key": key}, e.printServerCertificate)
		},
	}
}

func serverCertificateComplete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "complete ID CHAIN", Short: "Have the certificate shown that an authority made of a request; a PEM file", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			chain, err := readPEM(a[1])
			if err != nil {
				return err
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPut, join(org+"/server-certificates", a[0]), map[string]any{"certificate": chain}, e.printServerCertificate)
		},
	}
}

func serverCertificateDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Show a certificate no more, and forget its key", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			if err := r.call(c.Context(), http.MethodDelete, join(org+"/server-certificates", a[0]), nil, nil); err != nil {
				return err
			}
			return e.done("Server certificate %s is deleted.", a[0])
		},
	}
}

// maxPEM is more than the server takes.
const maxPEM = 256 << 10

func readPEM(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxPEM+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("read %s: %w", name, err)
	case len(b) > maxPEM:
		return "", fmt.Errorf("%s has more than %d bytes", name, maxPEM)
	case !strings.Contains(string(b), "-----BEGIN "):
		return "", hint("openssl x509 -inform der -in FILE turns a certificate into one", "%s is not a PEM file", name)
	}
	return string(b), nil
}

func serverName(e *env, give bool) *cobra.Command {
	c := &cobra.Command{
		Use: "give-name ORG NAME", Short: "Give an organisation a host name: its clients may ask for it, others may not", Args: args(2, 2),
		RunE: func(c *cobra.Command, a []string) error {
			r, err := e.remote()
			if err != nil {
				return err
			}
			method, said := http.MethodPost, "%s is a name of organisation %s."
			if !give {
				method, said = http.MethodDelete, "%s is no name of organisation %s any more."
			}
			if err := r.call(c.Context(), method, join("/orgs", a[0])+join("/server-names", a[1]), nil, nil); err != nil {
				return err
			}
			return e.done(said, a[1], a[0])
		},
	}
	if !give {
		c.Use, c.Short = "take-name ORG NAME", "Take a host name from an organisation"
	}
	return c
}
