package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func issuerCommand(e *env) *cobra.Command {
	return group("issuer", "Identity providers whose tokens let clients in (OAUTHBEARER)",
		issuerCreate(e), issuerList(e), issuerShow(e), issuerUpdate(e), issuerDelete(e))
}

type issuer struct {
	Name       string    `json:"name"`
	Issuer     string    `json:"issuer"`
	Audience   string    `json:"audience"`
	Claim      string    `json:"claim"`
	Algorithms []string  `json:"algorithms"`
	KeyIDs     []string  `json:"key_ids"`
	Changed    time.Time `json:"changed"`
}

func (e *env) printIssuer(x issuer) error {
	return e.facts("Issuer", x.Name, "iss", x.Issuer, "aud", x.Audience, "Client named by", x.Claim,
		"Algorithms", strings.Join(x.Algorithms, ", "), "Keys", strings.Join(x.KeyIDs, ", "), "Changed", day(x.Changed))
}

// issuerFlags are what an issuer is made of.
type issuerFlags struct {
	iss, aud, claim, jwks string
	algorithms            []string
}

func (f *issuerFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.iss, "iss", "", "what its tokens have in iss")
	c.Flags().StringVar(&f.aud, "aud", "", "what its tokens must have in aud")
	c.Flags().StringVar(&f.claim, "claim", "", "the claim that names the client (else sub)")
	c.Flags().StringSliceVar(&f.algorithms, "alg", nil, "an algorithm with which its tokens may be signed; may be given again")
	c.Flags().StringVar(&f.jwks, "jwks", "", "file with its public keys, as a JSON Web Key Set")
}

// maxJWKS is more than the server takes.
const maxJWKS = 64 << 10

// body returns what was given, for a request.
func (f *issuerFlags) body() (map[string]any, error) {
	in := map[string]any{}
	for name, v := range map[string]string{"issuer": f.iss, "audience": f.aud, "claim": f.claim} {
		if v != "" {
			in[name] = v
		}
	}
	if len(f.algorithms) > 0 {
		in["algorithms"] = f.algorithms
	}
	if f.jwks == "" {
		return in, nil
	}
	file, err := os.Open(f.jwks)
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxJWKS+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the keys: %w", err)
	case len(b) > maxJWKS:
		return nil, fmt.Errorf("%s has more than %d bytes", f.jwks, maxJWKS)
	case !json.Valid(b):
		return nil, hint(`it must be a JSON object with an array "keys" (RFC 7517), as providers publish it`, "%s is not JSON", f.jwks)
	}
	in["jwks"] = json.RawMessage(b)
	return in, nil
}

func issuerShow(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show an identity provider", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodGet, join(org+"/issuers", a[0]), nil, e.printIssuer)
		},
	}
}

func issuerUpdate(e *env) *cobra.Command {
	var f issuerFlags
	c := &cobra.Command{
		Use: "update NAME", Short: "Change an identity provider; clients that it let in have to authenticate again", Args: args(1, 1),
		RunE: func(c *cobra.Command, a []string) error {
			in, err := f.body()
			if err != nil {
				return err
			}
			if len(in) == 0 {
				return &hintError{errors.New("nothing to change was given"), "give one or more of --iss, --aud, --claim, --alg and --jwks"}
			}
			r, org, err := e.inOrg(c.Context())
			if err != nil {
				return err
			}
			return one(c.Context(), e, r, http.MethodPatch, join(org+"/issuers", a[0]), in, e.printIssuer)
		},
	}
	f.add(c)
	return c
}
