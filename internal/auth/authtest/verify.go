package authtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// each calls fn with a new client of every kind.
func each(ctx context.Context, w World, fn func(Client) error) error {
	for _, kind := range w.Kinds {
		c, err := w.Add(ctx, kind, 0, "one")
		if err != nil {
			return fmt.Errorf("add %v: %w", kind, err)
		}
		if err := fn(c); err != nil {
			return fmt.Errorf("%v: %w", kind, err)
		}
	}
	return nil
}

// verified returns the grant of c, whose credentials must be good.
func verified(ctx context.Context, w World, c Client) (*auth.Grant, error) {
	return good(ctx, w, c, c.Credentials)
}

func good(ctx context.Context, w World, c Client, cr auth.Credentials) (*auth.Grant, error) {
	g, err := w.Verifier.Verify(ctx, cr)
	if err != nil {
		return nil, fmt.Errorf("good credentials of %v are refused: %w", c.Principal, err)
	}
	if g == nil || g.Principal() != c.Principal || g.Ref().Principal != c.Principal {
		return nil, fmt.Errorf("%v is taken for another", c.Principal)
	}
	return g, nil
}

// refused checks that the credentials are refused for what they are.
func refused(ctx context.Context, w World, cr auth.Credentials, why string) error {
	g, err := w.Verifier.Verify(ctx, cr)
	return isRefusal(g, err, why, errs.Unauthenticated, errs.Denied)
}

func isRefusal(g *auth.Grant, err error, why string, codes ...errs.Code) error {
	if err == nil {
		return fmt.Errorf("%s: is accepted", why)
	}
	if g != nil {
		return fmt.Errorf("%s: is refused with a grant", why)
	}
	for _, c := range codes {
		if errs.CodeOf(err) == c {
			return nil
		}
	}
	return fmt.Errorf("%s: is refused with code %d: %w", why, errs.CodeOf(err), err)
}

func withToken(cr auth.Credentials, token string) auth.Credentials {
	cr.Password, cr.HasPassword = secret.New(token), true
	return cr
}

func withClientID(cr auth.Credentials, id string) auth.Credentials {
	cr.ClientID = id
	return cr
}

// swap returns the client identifier with another part number i.
func swap(clientID string, i int, part string) string {
	parts := strings.Split(clientID, ":")
	parts[i] = part
	return strings.Join(parts, ":")
}

func accepts(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		g, err := verified(ctx, w, c)
		if err != nil {
			return err
		}
		ref := g.Ref()
		token := c.Credentials.Password.Reveal()
		switch {
		case ref.Client == "" || ref.Credential == "":
			return fmt.Errorf("the reference %+v is not complete", ref)
		case strings.Contains(fmt.Sprint(ref), token):
			return errors.New("the reference has the token in it")
		case !ref.Expires.IsZero() && !ref.Expires.After(time.Now()):
			return fmt.Errorf("the grant ended at %v", ref.Expires)
		}
		again, err := w.Verifier.Renew(ctx, ref)
		if err != nil {
			return fmt.Errorf("renew: %w", err)
		}
		if again.Ref() != ref {
			return fmt.Errorf("renewed as %+v, was %+v", again.Ref(), ref)
		}
		return nil
	})
}

func wrongToken(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		token := c.Credentials.Password.Reveal()
		other := byte('x')
		if token[len(token)-1] == other {
			other = 'y'
		}
		for why, wrong := range map[string]string{
			"no character":              "",
			"another last character":    token[:len(token)-1] + string(other),
			"a last character too few":  token[:len(token)-1],
			"a last character too many": token + "x",
			"upside down case":          strings.ToUpper(token) + strings.ToLower(token),
			"a NUL behind":              token + "\x00",
			"a space before":            " " + token,
			"not UTF-8":                 "\xff",
			"long":                      strings.Repeat("x", 65535),
		} {
			if err := refused(ctx, w, withToken(c.Credentials, wrong), "a token with "+why); err != nil {
				return err
			}
		}
		none := c.Credentials
		none.Password, none.HasPassword = secret.String{}, false
		if err := refused(ctx, w, none, "no token"); err != nil {
			return err
		}
		none.Username, none.HasUsername = "", false
		if err := refused(ctx, w, none, "neither user name nor token"); err != nil {
			return err
		}
		_, err := verified(ctx, w, c) // the client is not the worse for it
		return err
	})
}

func wrongUsername(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		for _, name := range []string{"", "x", c.Credentials.Username + "x", "use-access-token", c.Credentials.ClientID, "\x00", "a-abc123", "/", "#"} {
			cr := c.Credentials
			cr.Username = name
			if err := refused(ctx, w, cr, fmt.Sprintf("user name %q", name)); err != nil {
				return err
			}
		}
		cr := c.Credentials
		cr.Username, cr.HasUsername = "", false
		return refused(ctx, w, cr, "a token without a user name")
	})
}

func unknownName(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		for _, cr := range unknown(c) {
			if err := refused(ctx, w, cr, fmt.Sprintf("unknown client %q, user %q", cr.ClientID, cr.Username)); err != nil {
				return err
			}
		}
		return nil
	})
}

// unknown returns well-formed credentials of nobody.
func unknown(c Client) []auth.Credentials {
	id := c.Credentials.ClientID
	all := []auth.Credentials{withClientID(c.Credentials, swap(id, 1, "zzzzz0"))}
	if c.Principal.Kind == auth.Application {
		cr := c.Credentials
		last := cr.Username[len(cr.Username)-1:]
		cr.Username = strings.TrimSuffix(cr.Username, last) + map[bool]string{true: "b", false: "a"}[last == "a"]
		return append(all, cr)
	}
	kind := "g"
	if strings.HasPrefix(id, "g:") {
		kind = "d"
	}
	return append(all,
		withClientID(c.Credentials, swap(id, 3, "nobody")),
		withClientID(c.Credentials, swap(id, 2, "no-such-type")),
		withClientID(c.Credentials, swap(id, 0, kind))) // a device is no gateway
}

func malformed(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		id := c.Credentials.ClientID
		for _, bad := range []string{
			"", ":", "d:", "x" + id, " " + id, id + ":", id + ":a:b", id + "\x00", id + "/", "\xff", strings.ToUpper(id), strings.ReplaceAll(id, ":", "/"),
			swap(id, 0, "z"), swap(id, 1, ""), swap(id, 1, "+"), swap(id, 2, ""), swap(id, 2, "+"), swap(id, 2, "#"), swap(id, 2, "%"), swap(id, 2, "a/b"),
			swap(id, 2, "' OR '1'='1"), swap(id, 2, strings.Repeat("x", 37)), swap(id, 2, strings.Repeat("x", 60000)),
		} {
			if err := refused(ctx, w, withClientID(c.Credentials, bad), fmt.Sprintf("client id %.80q", bad)); err != nil {
				return err
			}
		}
		return nil
	})
}

// anothersToken gives clients the credentials of others of the same and of the
// other organisation.
func anothersToken(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		sibling, err := w.Add(ctx, c.Principal.Kind, 0, "two")
		if err != nil {
			return err
		}
		namesake, err := w.Add(ctx, c.Principal.Kind, 1, "one")
		if err != nil {
			return err
		}
		for why, other := range map[string]Client{"the same organisation": sibling, "another organisation": namesake} {
			token := withToken(c.Credentials, other.Credentials.Password.Reveal())
			if err := refused(ctx, w, token, "the token of one in "+why); err != nil {
				return err
			}
		}
		stranger := withClientID(c.Credentials, namesake.Credentials.ClientID)
		if err := refused(ctx, w, stranger, "the client id of one in another organisation"); err != nil {
			return err
		}
		if _, err := verified(ctx, w, namesake); err != nil {
			return err
		}
		_, err = verified(ctx, w, sibling)
		return err
	})
}

// alike checks that a refusal does not tell which names exist.
func alike(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		_, want := w.Verifier.Verify(ctx, withToken(c.Credentials, "wrong-token"))
		for _, cr := range unknown(c) {
			_, err := w.Verifier.Verify(ctx, withToken(cr, "wrong-token"))
			if errs.CodeOf(err) != errs.CodeOf(want) || Bare(errs.Message(err)) != Bare(errs.Message(want)) {
				return fmt.Errorf("a wrong token is refused with %q, an unknown name with %q", want, err)
			}
		}
		if m := errs.Message(want); strings.Contains(m, c.Credentials.ClientID) || strings.Contains(m, "wrong-token") {
			return fmt.Errorf("the refusal repeats what was presented: %q", m)
		}
		return nil
	})
}

func serverName(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		other, err := w.Add(ctx, c.Principal.Kind, 1, "one")
		if err != nil {
			return err
		}
		cr := c.Credentials
		for _, name := range []string{"", "localhost", "mqtt.example.com", string(c.Principal.Org) + ".messaging.example.com"} {
			cr.ServerName = name
			if _, err := good(ctx, w, c, cr); err != nil {
				return fmt.Errorf("server name %q: %w", name, err)
			}
		}
		for _, org := range []string{string(other.Principal.Org), "zzzzz0"} {
			cr.ServerName = org + ".messaging.example.com"
			if err := refused(ctx, w, cr, "the server name of another organisation"); err != nil {
				return err
			}
		}
		return nil
	})
}

func certificate(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		if c.Certificate == nil {
			return nil
		}
		cert, err := c.Certificate(ctx)
		if err != nil {
			return fmt.Errorf("make a certificate: %w", err)
		}
		alone := auth.Credentials{ClientID: c.Credentials.ClientID, Certificate: cert, Remote: c.Credentials.Remote}
		g, err := good(ctx, w, c, alone)
		if err != nil {
			return err
		}
		if end := g.Ref().Expires; end.IsZero() || end.After(cert.NotAfter) {
			return fmt.Errorf("the grant ends at %v, the certificate at %v", end, cert.NotAfter)
		}
		if _, err := w.Verifier.Renew(ctx, g.Ref()); err != nil {
			return fmt.Errorf("renew with a certificate: %w", err)
		}
		both := c.Credentials
		both.Certificate = cert
		if _, err := good(ctx, w, c, both); err != nil {
			return err
		}
		if err := refused(ctx, w, withToken(both, "wrong"), "a wrong token beside a certificate"); err != nil {
			return err
		}
		for org, name := range []string{"two", "one"} {
			other, err := w.Add(ctx, c.Principal.Kind, org, name)
			if err != nil {
				return err
			}
			if err := refused(ctx, w, withClientID(alone, other.Credentials.ClientID), "another's certificate"); err != nil {
				return err
			}
			mixed := other.Credentials
			mixed.Certificate = cert
			if err := refused(ctx, w, mixed, "another's certificate beside a good token"); err != nil {
				return err
			}
		}
		return nil
	})
}
