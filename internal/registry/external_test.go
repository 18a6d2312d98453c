package registry

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
)

func (s *scene) corp() SignInProvider {
	return SignInProvider{Org: s.iot, Name: "corp", Issuer: "https://id.example.com", ClientID: "keepmq",
		Roles: []GroupRole{{"admins", permission.Manager}, {"engineers", permission.Reader}}, SecondFactor: []string{"mfa"}}
}

func (s *scene) put(t *testing.T, p SignInProvider) SignInProvider {
	t.Helper()
	_, err := s.PutSignInProvider(t.Context(), s.admin, p, secret.New("client secret"))
	check(t, err)
	p, key, err := s.SignInThrough(t.Context(), p.Org, p.Name)
	if check(t, err); key.Reveal() != "client secret" {
		t.Errorf("the secret is %q", key.Reveal())
	}
	return p
}

// What somebody may do follows from their groups, at every sign-in, and holds in
// sessions that came from the provider, in its organisation.
func TestSignInExternal(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	p := s.put(t, s.corp())
	in := func(x External) (secret.String, Actor, error) {
		return s.SignInExternal(ctx, p, x, "198.51.100.7", "Test")
	}
	may := func(a Actor, org auth.OrgID, need permission.Permission) error {
		return second(s.may(ctx, a, org, need))
	}
	token, _, err := in(External{Subject: "1", Name: "Ann", Groups: []string{"engineers", "admins"}})
	check(t, err)
	a, err := s.Session(ctx, token, "198.51.100.7")
	check(t, err)
	if a.Within != s.iot || a.Verified || a.Admin {
		t.Errorf("%+v", a)
	}
	check(t, may(a, s.iot, permission.MemberWrite)) // admins stand first
	wantCode(t, may(a, s.twin, permission.DeviceRead), errs.NotFound)
	key, keyToken, err := s.CreateApplication(ctx, a, Application{Org: s.iot, Role: permission.Application})
	check(t, err)
	client := login("a:"+string(s.iot)+":x", key.Key, keyToken)
	check(t, second(s.Verify(ctx, client)))

	// The same person in another organisation, which invited them: not in this session.
	s.join(t, s.twin, a.Principal.ID, permission.Manager)
	wantCode(t, may(a, s.twin, permission.DeviceRead), errs.NotFound)
	// And by another way of signing in, not in this organisation.
	elsewhere := Actor{Principal: a.Principal, Address: "198.51.100.7"}
	check(t, may(elsewhere, s.twin, permission.DeviceRead))
	wantCode(t, may(elsewhere, s.iot, permission.DeviceRead), errs.NotFound)

	// Groups are looked at again; the provider's second factor counts if it is to.
	_, b, err := in(External{Subject: "1", Name: "Ann", Groups: []string{"engineers"}, Methods: []string{"pwd", "mfa"}})
	if check(t, err); b.Principal != a.Principal || !b.Verified {
		t.Errorf("%+v, before %+v", b, a)
	}
	wantCode(t, may(a, s.iot, permission.MemberWrite), errs.Denied)
	check(t, may(b, s.iot, permission.DeviceRead))
	check(t, s.SetSecondFactor(ctx, systemActor("test"), s.iot, true))
	wantCode(t, may(a, s.iot, permission.DeviceRead), errs.Denied) // that session has none
	check(t, may(b, s.iot, permission.DeviceRead))
	check(t, s.SetSecondFactor(ctx, systemActor("test"), s.iot, false))
	// The membership, and the keys that stand on it, end if nobody comes again.
	s.clock.move(31 * 24 * time.Hour)
	wantCode(t, second(s.Verify(ctx, client)), errs.Unauthenticated)
	s.clock.move(-31 * 24 * time.Hour)
	s.known.clear()
	check(t, second(s.Verify(ctx, client)))
	// Without a group there is no way in, nor for what was made before.
	_, _, err = in(External{Subject: "1", Name: "Ann", Groups: []string{"sales"}})
	wantCode(t, err, errs.Denied)
	wantCode(t, may(b, s.iot, permission.DeviceRead), errs.NotFound)
	wantCode(t, second(s.Verify(ctx, client)), errs.Unauthenticated)
	// Another subject is another person, whatever it calls itself.
	_, c, err := in(External{Subject: "2", Name: "Ann", Groups: []string{"engineers"}})
	if check(t, err); c.Principal == a.Principal {
		t.Error("two subjects are one person")
	}
	// Disabled here is disabled, whatever the provider says.
	yes := true
	check(t, second(s.SetMember(ctx, s.admin, s.iot, c.Principal.ID, MemberChange{Disabled: &yes})))
	_, _, err = in(External{Subject: "2", Groups: []string{"engineers"}})
	wantCode(t, err, errs.Denied)
	_, d, err := in(External{Subject: "3", Groups: []string{"engineers"}})
	check(t, err)
	check(t, s.SetPersonDisabled(ctx, s.admin, d.Principal.ID, true))
	_, _, err = in(External{Subject: "3", Groups: []string{"engineers"}})
	wantCode(t, err, errs.Denied)
	for _, bad := range []string{"", strings.Repeat("x", 256), "a\x00"} {
		_, _, err = in(External{Subject: bad, Groups: []string{"engineers"}})
		wantCode(t, err, errs.Invalid)
	}
	if strings.Contains(s.log.String(), "client secret") {
		t.Error("the secret is in the log")
	}
}

// A change that would let others in, or with other rights, ends what came from the
// provider; another one does not.
func TestChangedProvider(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	var p SignInProvider
	for name, tc := range map[string]struct {
		edit func(*SignInProvider)
		ends bool
	}{
		"days": {func(p *SignInProvider) { p.Days = 3 }, false}, "scopes": {func(p *SignInProvider) { p.Scopes = []string{"groups"} }, false},
		"issuer":   {func(p *SignInProvider) { p.Issuer = "https://other.example.com" }, true},
		"client":   {func(p *SignInProvider) { p.ClientID = "x" }, true},
		"roles":    {func(p *SignInProvider) { p.Roles = p.Roles[1:] }, true},
		"claim":    {func(p *SignInProvider) { p.GroupsClaim = "teams" }, true},
		"factor":   {func(p *SignInProvider) { p.SecondFactor = nil }, true},
		"disabled": {func(p *SignInProvider) { p.Disabled = true }, true},
	} {
		p = s.put(t, s.corp())
		token, a, err := s.SignInExternal(ctx, p, External{Subject: "1", Groups: []string{"engineers"}}, "", "")
		check(t, err)
		to := s.corp()
		tc.edit(&to)
		heard := s.heard(t, func() { check(t, second(s.PutSignInProvider(ctx, s.admin, to, secret.String{}))) })
		_, err = s.Session(ctx, token, "198.51.100.7")
		if (err != nil) != tc.ends || tc.ends && len(heard) == 0 {
			t.Errorf("%s: %v, heard %v", name, err, heard)
		}
		if _, err := s.may(ctx, a, s.iot, permission.DeviceRead); (err != nil) != tc.ends {
			t.Errorf("%s: the membership: %v", name, err)
		}
		// An attempt that began before does not come through.
		_, _, err = s.SignInExternal(ctx, p, External{Subject: "1", Groups: []string{"engineers"}}, "", "")
		if (err != nil) != tc.ends {
			t.Errorf("%s: an attempt from before: %v", name, err)
		}
		if _, _, err := s.SignInThrough(ctx, s.iot, "corp"); (err != nil) != to.Disabled {
			t.Errorf("%s: %v", name, err)
		}
	}
	p = s.put(t, s.corp())
	token, a, err := s.SignInExternal(ctx, p, External{Subject: "1", Groups: []string{"engineers"}}, "", "")
	check(t, err)
	check(t, s.DeleteSignInProvider(ctx, s.admin, s.iot, "corp"))
	wantCode(t, second(s.Session(ctx, token, "198.51.100.7")), errs.Unauthenticated)
	wantCode(t, second(s.may(ctx, a, s.iot, permission.DeviceRead)), errs.NotFound)
	// One of the same name later is another.
	p = s.put(t, s.corp())
	_, b, err := s.SignInExternal(ctx, p, External{Subject: "1", Groups: []string{"engineers"}}, "", "")
	if check(t, err); b.Principal == a.Principal {
		t.Error("a new provider signs in the people of the old one")
	}
}

func TestProvidersRefused(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	s.newPerson(t, "manager")
	manager := s.join(t, s.iot, "manager", permission.Manager)
	s.newPerson(t, "reader")
	reader := s.join(t, s.iot, "reader", permission.Reader)
	put := func(a Actor, edit func(*SignInProvider)) error {
		p := s.corp()
		edit(&p)
		return second(s.PutSignInProvider(ctx, a, p, secret.String{}))
	}
	owner := func(p *SignInProvider) { p.Roles = []GroupRole{{"all", permission.Owner}} }
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
	}{
		"without permission":  {put(reader, func(*SignInProvider) {}), errs.Denied},
		"more than they have": {put(manager, owner), errs.Denied},
		"no such role":        {put(s.admin, func(p *SignInProvider) { p.Roles[0].Role = "nope" }), errs.NotFound},
		"support":             {put(s.admin, func(p *SignInProvider) { p.Roles[0].Role = permission.Support }), errs.NotFound},
		"no roles":            {put(s.admin, func(p *SignInProvider) { p.Roles = nil }), errs.Invalid},
		"without TLS":         {put(s.admin, func(p *SignInProvider) { p.Issuer = "http://id.example.com" }), errs.Invalid},
		"a user in it":        {put(s.admin, func(p *SignInProvider) { p.Issuer = "https://u:p@id.example.com" }), errs.Invalid},
		"no client":           {put(s.admin, func(p *SignInProvider) { p.ClientID = "" }), errs.Invalid},
		"two scopes in one":   {put(s.admin, func(p *SignInProvider) { p.Scopes = []string{"a b"} }), errs.Invalid},
		"days":                {put(s.admin, func(p *SignInProvider) { p.Days = 91 }), errs.Invalid},
		"name":                {put(s.admin, func(p *SignInProvider) { p.Name = "a/b" }), errs.Invalid},
		"another's":           {put(reader, func(p *SignInProvider) { p.Org = s.twin }), errs.NotFound},
		"delete unknown":      {s.DeleteSignInProvider(ctx, s.admin, s.iot, "nope"), errs.NotFound},
		"list of another's":   {second(s.SignInProviders(ctx, reader, s.twin)), errs.NotFound},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.err, tc.code) })
	}
	// Who could not have given the roles does not change where people come from.
	check(t, put(s.admin, owner))
	wantCode(t, put(manager, func(p *SignInProvider) { p.Issuer = "https://mine.example.com" }), errs.Denied)
	if names, err := s.SignInNames(ctx, "zzzzzz"); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	_, _, err := s.SignInThrough(ctx, "zzzzzz", "corp")
	wantCode(t, err, errs.NotFound)
	check(t, s.SetOrgDisabled(ctx, s.admin, s.iot, true))
	_, _, err = s.SignInThrough(context.Background(), s.iot, "corp")
	wantCode(t, err, errs.NotFound)
}
