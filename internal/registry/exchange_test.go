package registry

import (
	"context"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/authtest"
	"github.com/keepmq/keepmq/internal/auth/sasl"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

// A token from before SCRAM still lets in as a password, and for SCRAM has to be
// replaced; the log tells its owner. To the client it is a refusal like another.
func TestTokenFromBeforeSCRAM(t *testing.T) {
	s := newScene(t)
	check(t, s.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE device SET scram = NULL`)
		return err
	}))
	_, err := s.Verify(t.Context(), deviceLogin(s.iot, "t:d", s.device))
	check(t, err)
	device := auth.Credentials{ClientID: "d:" + string(s.iot) + ":t:d"}
	old := s.scram(t, device, userDeviceToken, s.device.Reveal())
	wantCode(t, old, errs.Unauthenticated)
	wrong := s.scram(t, auth.Credentials{ClientID: "d:" + string(s.iot) + ":t:nope"}, userDeviceToken, "x")
	if authtest.Bare(old.Error()) != authtest.Bare(wrong.Error()) {
		t.Errorf("refused with %q, others with %q", old, wrong)
	}
	if !strings.Contains(s.log.String(), "has to be replaced first") {
		t.Error("the log does not say what to do")
	}
	token, err := s.RotateToken(t.Context(), s.admin, auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}, Rotation{})
	check(t, err)
	if err := s.scram(t, device, userDeviceToken, token.Reveal()); err != nil {
		t.Errorf("a new token: %v", err)
	}
}

// scram makes an exchange and returns how it was refused.
func (w *world) scram(t *testing.T, c auth.Credentials, name, password string) error {
	t.Helper()
	x, err := w.Begin(t.Context(), c, auth.MethodSCRAM)
	check(t, err)
	client := authtest.NewSCRAM(name, password)
	challenge, _, err := x.Step(t.Context(), client.Hello())
	check(t, err)
	final, err := client.Prove(challenge)
	check(t, err)
	_, _, err = x.Step(t.Context(), final)
	return err
}

// An exchange that the Verifier did not ask for more is over.
func TestExchangeIsOver(t *testing.T) {
	s := newScene(t)
	for _, method := range []string{auth.MethodSCRAM, auth.MethodBearer} {
		for name, messages := range map[string][]string{
			"malformed":     {"x", "n,,n=use-token-auth,r=x"},
			"empty, twice":  {"", "", "n,,n=use-token-auth,r=x"},
			"far too long":  {strings.Repeat("x", sasl.MaxMessage+1), "n,,n=use-token-auth,r=x"},
			"empty proof":   {"n,,n=use-token-auth,r=x", "", "c=biws,r=x,p=x"},
			"first, twice":  {"n,,n=use-token-auth,r=x", "n,,n=use-token-auth,r=x", "c=biws,r=x,p=x"},
			"after a token": {"n,,\x01auth=Bearer x\x01\x01", "n,,\x01auth=Bearer x\x01\x01"},
		} {
			x, err := s.Begin(t.Context(), auth.Credentials{ClientID: "d:" + string(s.iot) + ":t:d"}, method)
			check(t, err)
			for i, m := range messages {
				_, g, err := x.Step(context.Background(), []byte(m))
				if last := i == len(messages)-1; last && err == nil || g != nil {
					t.Errorf("%s, %s: goes on after %d messages", method, name, i+1)
				}
			}
		}
	}
}
