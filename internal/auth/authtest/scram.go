package authtest

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// A SCRAM is a client's side of SCRAM-SHA-256 (RFC 5802), written on its own so
// that it does not share the mistakes of a server.
type SCRAM struct {
	gs2, binding, name, password, nonce string // binding: what the last message says gs2 was
	salt                                string // of the server, encoded
	iterations                          int
	first, final, signature             string
}

// NewSCRAM returns the client's side of one exchange.
func NewSCRAM(name, password string) *SCRAM {
	return &SCRAM{gs2: "n,,", binding: "n,,", name: name, password: password, nonce: rand.Text()}
}

// Hello returns the first message.
func (s *SCRAM) Hello() []byte {
	name := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s.name)
	s.first = "n=" + name + ",r=" + s.nonce
	return []byte(s.gs2 + s.first)
}

// Prove answers the server's first message.
func (s *SCRAM) Prove(challenge []byte) ([]byte, error) {
	parts := strings.Split(string(challenge), ",")
	if len(parts) != 3 || !strings.HasPrefix(parts[0], "r="+s.nonce) || len(parts[0]) < len("r="+s.nonce)+16 ||
		!strings.HasPrefix(parts[1], "s=") || !strings.HasPrefix(parts[2], "i=") {
		return nil, fmt.Errorf("the server's first message is %q", challenge)
	}
	var err error
	if s.iterations, err = strconv.Atoi(parts[2][2:]); err != nil || s.iterations < 4096 {
		return nil, fmt.Errorf("the server asks for %q iterations", parts[2])
	}
	s.salt = parts[1][2:]
	salt, err := base64.StdEncoding.DecodeString(s.salt)
	if err != nil || len(salt) < 8 {
		return nil, fmt.Errorf("the server's salt is %q", s.salt)
	}
	salted, err := pbkdf2.Key(sha256.New, s.password, salt, s.iterations, sha256.Size)
	if err != nil {
		return nil, err
	}
	sum := func(key []byte, message string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(message))
		return h.Sum(nil)
	}
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(s.binding)) + "," + parts[0]
	message := s.first + "," + string(challenge) + "," + without
	key := sum(salted, "Client Key")
	stored := sha256.Sum256(key)
	proof := make([]byte, len(key))
	subtle.XORBytes(proof, key, sum(stored[:], message))
	s.signature = "v=" + base64.StdEncoding.EncodeToString(sum(sum(salted, "Server Key"), message))
	s.final = without + ",p=" + base64.StdEncoding.EncodeToString(proof)
	return []byte(s.final), nil
}

// Proved reports whether last proves that the server knows the password too.
func (s *SCRAM) Proved(last []byte) bool { return string(last) == s.signature }

// withMethod returns what stands in CONNECT beside an authentication method.
func withMethod(cr auth.Credentials) auth.Credentials {
	cr.Password, cr.HasPassword = auth.Credentials{}.Password, false
	return cr
}

// run makes an exchange and returns what its last step said.
func (s *SCRAM) run(ctx context.Context, v auth.Verifier, cr auth.Credentials) (*auth.Grant, []byte, error) {
	x, err := v.Begin(ctx, withMethod(cr), auth.MethodSCRAM)
	if err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	challenge, g, err := x.Step(ctx, s.Hello())
	if err != nil || g != nil {
		return nil, nil, early{err}
	}
	answer, err := s.Prove(challenge)
	if err != nil {
		return nil, nil, early{err}
	}
	last, g, err := x.Step(ctx, answer)
	if _, again, e := x.Step(ctx, answer); e == nil || again != nil {
		return nil, nil, errors.New("an exchange goes on after its end")
	}
	return g, last, err
}

// early says that an exchange ended before the proof.
type early struct{ err error }

func (e early) Error() string { return fmt.Sprintf("the exchange ended before the proof: %v", e.err) }

func (e early) Unwrap() error { return e.err }

func provesPassword(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		want, err := verified(ctx, w, c)
		if err != nil {
			return err
		}
		for _, gs2 := range []string{"n,,", "y,,", "n,a=" + c.Credentials.Username + ","} {
			s := NewSCRAM(c.Credentials.Username, c.Credentials.Password.Reveal())
			s.gs2, s.binding = gs2, gs2
			g, last, err := s.run(ctx, w.Verifier, c.Credentials)
			if err != nil {
				return fmt.Errorf("header %q: %w", gs2, err)
			}
			if g == nil || g.Ref() != want.Ref() {
				return fmt.Errorf("%v is taken for another", c.Principal)
			}
			if !s.Proved(last) {
				return errors.New("the server does not prove that it knows the password")
			}
			if _, err := w.Verifier.Renew(ctx, g.Ref()); err != nil {
				return fmt.Errorf("renew: %w", err)
			}
		}
		// The client's name may stand in the exchange alone, and the first message may follow.
		cr := withMethod(c.Credentials)
		cr.Username, cr.HasUsername = "", false
		x, err := w.Verifier.Begin(ctx, cr, auth.MethodSCRAM)
		if err != nil {
			return err
		}
		if reply, g, err := x.Step(ctx, nil); len(reply) > 0 || g != nil || err != nil {
			return fmt.Errorf("an empty beginning is answered with %q, %v", reply, err)
		}
		s := NewSCRAM(c.Credentials.Username, c.Credentials.Password.Reveal())
		challenge, _, err := x.Step(ctx, s.Hello())
		if err != nil {
			return err
		}
		answer, err := s.Prove(challenge)
		if err != nil {
			return err
		}
		_, g, err := x.Step(ctx, answer)
		if err != nil || g == nil {
			return fmt.Errorf("without a user name in CONNECT: %w", err)
		}
		return nil
	})
}

// unknownRunsOn checks that an exchange does not tell which names exist: who is
// unknown gets the same, and the same again, and is refused at the same step.
func unknownRunsOn(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		known := NewSCRAM(c.Credentials.Username, "wrong")
		g, _, want := known.run(ctx, w.Verifier, c.Credentials)
		if err := isRefusal(g, want, "a wrong password", errs.Unauthenticated, errs.Denied); err != nil || errors.As(want, new(early)) {
			return errors.Join(err, want)
		}
		seen := map[string]bool{known.salt: true}
		names := unknown(c)
		if c.Principal.Kind == auth.Application {
			names = names[1:] // the first contradicts itself, which may be told
		}
		for _, cr := range names {
			first, second := NewSCRAM(cr.Username, "wrong"), NewSCRAM(cr.Username, "wrong")
			for _, s := range []*SCRAM{first, second} {
				g, _, got := s.run(ctx, w.Verifier, cr)
				if err := isRefusal(g, got, "an unknown name", errs.CodeOf(want)); err != nil {
					return err
				}
				if errors.As(got, new(early)) || Bare(errs.Message(got)) != Bare(errs.Message(want)) {
					return fmt.Errorf("a wrong password is refused with %q, an unknown name with %q", want, got)
				}
			}
			if first.salt != second.salt || first.iterations != known.iterations || len(first.salt) != len(known.salt) {
				return fmt.Errorf("the salts of %q tell that it is unknown: %s, %s", cr.Username, first.salt, second.salt)
			}
			if seen[first.salt] && cr.Username != c.Credentials.Username {
				return errors.New("two names have one salt")
			}
			seen[first.salt] = true
		}
		again := NewSCRAM(c.Credentials.Username, "wrong")
		if _, _, err := again.run(ctx, w.Verifier, c.Credentials); err == nil || again.salt != known.salt {
			return fmt.Errorf("the salt of a known name changes: %s, %s", known.salt, again.salt)
		}
		if err := c.Rotate(ctx); err != nil {
			return err
		}
		if _, _, err := again.run(ctx, w.Verifier, c.Credentials); err == nil || again.salt != known.salt {
			return fmt.Errorf("the salt tells when a password was changed: %s, %s", known.salt, again.salt)
		}
		return nil
	})
}

// refusedScram checks that s is not let in.
func refusedScram(ctx context.Context, w World, s *SCRAM, cr auth.Credentials, why string) error {
	g, _, err := s.run(ctx, w.Verifier, cr)
	return isRefusal(g, err, why, errs.Unauthenticated, errs.Denied)
}

func badProofs(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		name, password := c.Credentials.Username, c.Credentials.Password.Reveal()
		for why, change := range map[string]func(*SCRAM, *auth.Credentials){
			"another password":                  func(s *SCRAM, _ *auth.Credentials) { s.password += "x" },
			"no password":                       func(s *SCRAM, _ *auth.Credentials) { s.password = "" },
			"another name":                      func(s *SCRAM, _ *auth.Credentials) { s.name += "x" },
			"a name that CONNECT contradicts":   func(_ *SCRAM, cr *auth.Credentials) { cr.Username += "x" },
			"somebody to act as":                func(s *SCRAM, _ *auth.Credentials) { s.gs2, s.binding = "n,a=root,", "n,a=root," },
			"channel binding":                   func(s *SCRAM, _ *auth.Credentials) { s.gs2, s.binding = "p=tls-exporter,,", "p=tls-exporter,," },
			"a changed header":                  func(s *SCRAM, _ *auth.Credentials) { s.gs2, s.binding = "n,,", "y,," },
			"a header that was changed back":    func(s *SCRAM, _ *auth.Credentials) { s.gs2, s.binding = "y,,", "n,," },
			"another client's identifier":       func(_ *SCRAM, cr *auth.Credentials) { cr.ClientID = swap(cr.ClientID, 1, "zzzzz0") },
			"a password beside the method":      nil,
			"the server name of somebody else":  func(_ *SCRAM, cr *auth.Credentials) { cr.ServerName = "zzzzz0.messaging.example.com" },
			"an extension that must be honored": func(s *SCRAM, _ *auth.Credentials) { s.gs2 = "n,,m=x," },
			"a nonce that is none":              func(s *SCRAM, _ *auth.Credentials) { s.nonce = "" },
		} {
			s, cr := NewSCRAM(name, password), c.Credentials
			if change == nil {
				x, err := w.Verifier.Begin(ctx, cr, auth.MethodSCRAM)
				if err != nil {
					return err
				}
				_, g, err := x.Step(ctx, s.Hello())
				if err := isRefusal(g, err, why, errs.Unauthenticated, errs.Denied); err != nil {
					return err
				}
				continue
			}
			change(s, &cr)
			if err := refusedScram(ctx, w, s, cr, why); err != nil {
				return err
			}
		}
		return replayed(ctx, w, c)
	})
}

// replayed records a good exchange and plays it again.
func replayed(ctx context.Context, w World, c Client) error {
	s := NewSCRAM(c.Credentials.Username, c.Credentials.Password.Reveal())
	if _, _, err := s.run(ctx, w.Verifier, c.Credentials); err != nil {
		return err
	}
	x, err := w.Verifier.Begin(ctx, withMethod(c.Credentials), auth.MethodSCRAM)
	if err != nil {
		return err
	}
	if _, _, err := x.Step(ctx, s.Hello()); err != nil {
		return err
	}
	_, g, err := x.Step(ctx, []byte(s.final))
	return isRefusal(g, err, "a replayed proof", errs.Unauthenticated, errs.Denied)
}

func unknownMethod(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		for _, method := range []string{"", "PLAIN", "scram-sha-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "SCRAM-SHA-256\x00", "EXTERNAL"} {
			x, err := w.Verifier.Begin(ctx, withMethod(c.Credentials), method)
			if x != nil || !errors.Is(err, auth.ErrMethod) {
				return fmt.Errorf("method %q: %v, %v", method, x, err)
			}
		}
		return nil
	})
}

// changedExchange checks that who was changed is refused by an exchange that
// began before.
func changedExchange(ctx context.Context, w World) error {
	for why, change := range map[string]func(Client) func(context.Context) error{
		"disabled": func(c Client) func(context.Context) error { return c.Disable },
		"rotated":  func(c Client) func(context.Context) error { return c.Rotate },
		"deleted":  func(c Client) func(context.Context) error { return c.Delete },
	} {
		for _, kind := range w.Kinds {
			c, err := w.Add(ctx, kind, 0, why)
			if err != nil {
				return err
			}
			x, err := w.Verifier.Begin(ctx, withMethod(c.Credentials), auth.MethodSCRAM)
			if err != nil {
				return err
			}
			s := NewSCRAM(c.Credentials.Username, c.Credentials.Password.Reveal())
			challenge, _, err := x.Step(ctx, s.Hello())
			if err != nil {
				return err
			}
			answer, err := s.Prove(challenge)
			if err != nil {
				return err
			}
			if err := change(c)(ctx); err != nil {
				return err
			}
			_, g, err := x.Step(ctx, answer)
			if err := isRefusal(g, err, fmt.Sprintf("%v that is %s meanwhile", kind, why), errs.Unauthenticated, errs.Denied); err != nil {
				return err
			}
		}
	}
	return nil
}

// brokenExchange checks that a proof that cannot be checked is refused, and not
// called wrong.
func brokenExchange(ctx context.Context, w World) error {
	if w.Break == nil {
		return nil
	}
	return each(ctx, w, func(c Client) error {
		repair := w.Break()
		defer repair()
		g, _, err := NewSCRAM(c.Credentials.Username, c.Credentials.Password.Reveal()).run(ctx, w.Verifier, c.Credentials)
		return isRefusal(g, err, "a proof that cannot be checked", errs.Internal, errs.Unavailable)
	})
}
