package cli

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keepmq/keepmq/internal/secret"
)

// A person is who is signed in.
type person struct {
	Kind  string `json:"kind"`
	ID    string `json:"id"`
	Name  string `json:"name"`
	Org   string `json:"org"`
	Admin bool   `json:"admin"`
	Email string `json:"email"`
}

func (p person) String() string { return first(p.Name, p.ID) }

func loginCommand(e *env) *cobra.Command {
	var code, broker, name, email string
	var fresh bool
	c := &cobra.Command{
		Use: "login", Short: "Sign in to a server with a one-time code", Args: args(0, 0),
		Long: "Sign in to a server with a one-time code.\n\n" +
			"The code is asked for, or read from standard input if that is not a terminal.\n" +
			"The access token that it is exchanged for is kept in a file that only you can read.",
		Example: "  keepmq login --server https://localhost:8443 --ca data/ca.pem\n" +
			"  keepmq login --new-code        # a code for another computer",
		RunE: func(c *cobra.Command, _ []string) error {
			if fresh {
				return e.newCode(c, "cli", func(code string) error { return e.facts("Code", code) })
			}
			if email != "" {
				return e.loginPassword(c, email, broker)
			}
			return e.login(c, code, broker, name)
		},
	}
	c.Flags().StringVar(&code, "code", "", "the one-time code (it ends up in your shell's history, but is good only once)")
	c.Flags().StringVar(&broker, "broker", "", "where MQTT is, as host:port (else port 8883 of the server)")
	c.Flags().StringVar(&email, "email", "", "sign in with this address and your password, instead of a code; the password, and the code of a second factor, are asked for or come on standard input, one on each line")
	c.Flags().StringVar(&name, "join", "", "your name: the code is that of an invitation, and you are new here")
	c.Flags().BoolVar(&fresh, "new-code", false, "make a code for signing in on another computer")
	return c
}

func (e *env) login(c *cobra.Command, code, broker, name string) error {
	s, err := e.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := e.loginServer(c, s)
	if err != nil {
		return err
	}
	one := secret.New(code)
	if code == "" {
		if one, err = e.code(); err != nil {
			return err
		}
	}
	var in signedIn
	r.token = secret.String{} // the code alone decides who signs in
	path, body := "/sign-in", map[string]string{"code": one.Reveal()}
	if name != "" {
		path, body["name"] = "/join", name
	}
	if err := r.open(c.Context(), http.MethodPost, path, body, &in); err != nil {
		return err
	}
	return e.signedIn(c, r, s, in, broker)
}

// A signedIn is the server's answer to a sign-in.
type signedIn struct {
	Token string
	Me    person
}

// loginPassword signs in with a password.
func (e *env) loginPassword(c *cobra.Command, email, broker string) error {
	s, err := e.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r, err := e.loginServer(c, s)
	if err != nil {
		return err
	}
	code, password, err := e.passwordAndCode()
	if err != nil {
		return err
	}
	r.token = secret.String{}
	var in signedIn
	body := map[string]string{"email": email, "password": password.Reveal()}
	if code.Reveal() != "" {
		body["code"] = code.Reveal()
	}
	err = r.open(c.Context(), http.MethodPost, "/sign-in/password", body, &in)
	if needs := new(remoteError); errors.As(err, &needs) && strings.Contains(err.Error(), "second factor") && code.Reveal() == "" {
		asked := false
		if code, asked, err = e.ask("Code of your second factor"); err != nil {
			return err
		}
		if !asked {
			return hint("write it to standard input, on the line after the password", "a code of your second factor is needed")
		}
		body["code"] = code.Reveal()
		err = r.open(c.Context(), http.MethodPost, "/sign-in/password", body, &in)
	}
	if err != nil {
		return err
	}
	return e.signedIn(c, r, s, in, broker)
}

// passwordAndCode reads a password and, if it does not come from a terminal, the
// code after it.
func (e *env) passwordAndCode() (code, password secret.String, err error) {
	if p, asked, err := e.ask("Password"); asked {
		return code, p, err
	}
	lines := bufio.NewScanner(io.LimitReader(e.in, 4096))
	var read [2]string
	for i := range read {
		if lines.Scan() {
			read[i] = lines.Text()
		}
	}
	if read[0] == "" {
		return code, password, hint("write it to standard input, on one line", "the password is empty")
	}
	return secret.New(strings.TrimSpace(read[1])), secret.New(read[0]), lines.Err()
}

// signedIn keeps what the sign-in gave.
func (e *env) signedIn(c *cobra.Command, r *remote, s saved, in signedIn, broker string) error {
	next := saved{Server: r.server, Broker: first(broker, r.broker), CA: string(r.ca), Token: in.Token, Person: in.Me.String()}
	if s.Server == next.Server {
		next.Org = s.Org
	}
	// The key is worth most when it is kept from the first day on. Who is no
	// administrator does not get it, and has no use for it.
	r.token = secret.New(in.Token)
	var key checkpoint
	if err := r.call(c.Context(), http.MethodGet, "/audit/checkpoint", nil, &key); err == nil {
		next.Audit = key.VerifierKey
	}
	if s.Server == next.Server && s.Audit != "" && next.Audit != s.Audit {
		e.note("warning: the server's audit record is signed with another key than before")
	}
	if err := e.save(next); err != nil {
		return err
	}
	return e.done("Signed in to %s as %s.", r.server, next.Person)
}

// loginServer returns the server that login is for.
func (e *env) loginServer(c *cobra.Command, s saved) (*remote, error) {
	if e.key != "" {
		return nil, usage(c, "an application does not sign in; give --key with each command")
	}
	if first(e.server, e.getenv("KEEPMQ_SERVER"), s.Server) == "" {
		return nil, usage(c, "--server is needed, as https://host:port")
	}
	return e.remote()
}

// code reads the one-time code.
func (e *env) code() (secret.String, error) {
	if s, asked, err := e.ask("One-time code"); asked {
		return s, err
	}
	return e.secret(true, "", "one-time code")
}

// newCode makes a one-time code for the person who is signed in.
func (e *env) newCode(c *cobra.Command, purpose string, print func(code string) error) error {
	r, err := e.remote()
	if err != nil {
		return err
	}
	return one(c.Context(), e, r, http.MethodPost, "/me/sign-in-codes", map[string]string{"purpose": purpose}, func(v struct{ Code string }) error {
		return print(v.Code)
	})
}
