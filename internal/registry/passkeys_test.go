package registry

import (
	"slices"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// A passkey counts as a second factor and signs in by itself; it is its person's,
// and nobody else's.
func TestPasskeys(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	b := w.bootstrapped(t)
	_, a := w.signIn(t, b.CLICode)
	codes, err := w.AddPasskey(ctx, a, "blue", []byte("credential-1"), `{"n":1}`)
	if check(t, err); len(codes) != recoveries {
		t.Errorf("%d recovery codes", len(codes))
	}
	w.newPerson(t, "other")
	other := Actor{Principal: auth.Principal{Kind: auth.Person, ID: "other"}}
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
	}{
		"the same again":        {second(w.AddPasskey(ctx, other, "x", []byte("credential-1"), `{}`)), errs.Conflict},
		"no credential":         {second(w.AddPasskey(ctx, other, "x", nil, `{}`)), errs.Invalid},
		"long":                  {second(w.AddPasskey(ctx, other, "x", make([]byte, 1024), `{}`)), errs.Invalid},
		"a name to be seen":     {second(w.AddPasskey(ctx, other, "a\x1b", []byte("2"), `{}`)), errs.Invalid},
		"an API key":            {second(w.AddPasskey(ctx, Actor{Principal: auth.Principal{Kind: auth.Application, ID: "k"}}, "x", []byte("2"), `{}`)), errs.Denied},
		"a session without one": {second(w.AddPasskey(ctx, a, "second", []byte("credential-2"), `{}`)), errs.Denied}, // a is from before
		"may not begin":         {w.MayAddPasskey(ctx, a), errs.Denied},
		"unknown":               {second(w.FindPasskey(ctx, []byte("credential-9"))), errs.NotFound},
	} {
		if tc.err == nil || errs.CodeOf(tc.err) != tc.code {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
	find := func() Passkey {
		t.Helper()
		k, err := w.FindPasskey(ctx, []byte("credential-1"))
		check(t, err)
		return k
	}
	k := find()
	in := func(k Passkey, record string, cloned bool) (secret.String, Actor, error) {
		return w.SignInPasskey(ctx, k, record, cloned, "198.51.100.7", "Test")
	}
	token, _, err := in(k, `{"n":2}`, false)
	check(t, err)
	now, err := w.Session(ctx, token, "198.51.100.7")
	if check(t, err); !now.Verified || now.Principal.ID != k.Person {
		t.Errorf("%+v", now)
	}
	_, _, err = in(k, `{"n":2}`, false) // checked against what is not there any more
	wantCode(t, err, errs.NotFound)
	_, _, err = in(find(), `{"n":2}`, true)
	wantCode(t, err, errs.Denied)
	if !slices.Contains(w.records(t), "signin.refused") {
		t.Error("a copy is not on the record")
	}
	factors, _, err := w.Factors(ctx, now)
	if check(t, err); len(factors) != 1 || factors[0].Kind != FactorPasskey || factors[0].Name != "blue" || factors[0].Used.IsZero() {
		t.Errorf("%+v", factors)
	}
	for range maxPasskeys - 1 {
		check(t, second(w.AddPasskey(ctx, now, "more", []byte("more-"+random(letters, 8)), `{}`)))
	}
	wantCode(t, second(w.AddPasskey(ctx, now, "one too many", []byte("more"), `{}`)), errs.Exhausted)

	lock, err := w.CreateLock(ctx, w.admin, Lock{Kind: LockPrincipal, Target: "person:" + k.Person, Reason: "x"})
	check(t, err)
	_, _, err = in(find(), `{"n":3}`, false)
	wantCode(t, err, errs.Denied)
	check(t, w.DeleteLock(ctx, w.admin, "", lock.ID))
	wantCode(t, w.DeleteFactor(ctx, Actor{Principal: auth.Principal{Kind: auth.Person, ID: "other"}, Verified: true}, factors[0].ID), errs.NotFound)
	check(t, w.DeleteFactor(ctx, now, factors[0].ID))
	_, _, err = in(k, `{"n":3}`, false)
	wantCode(t, err, errs.NotFound)
	if strings.Contains(w.log.String(), "credential-1") {
		t.Error("a credential is in the log")
	}
}
