package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
)

// The API keys of a service account outlive whoever made them, and end with it.
func TestServiceKeysOutliveTheirMaker(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	h.newPerson(t, "eve")
	eve := h.join(t, h.org, "eve", "manager")
	s, err := h.PutService(ctx, eve, Service{Org: h.org, ID: "ci", Role: "PD_DEVELOPER_USER", Description: "deploys"})
	check(t, err)
	make := func(p Application) (Application, secret.String) {
		t.Helper()
		p.Org, p.Maker = h.org, auth.Principal{Kind: auth.Service, ID: "ci"}
		made, token, err := h.CreateApplication(ctx, eve, p)
		check(t, err)
		return made, token
	}
	first, token := make(Application{Name: "runner"})
	other, otherToken := make(Application{Role: "PD_STANDARD_APP", Permissions: []string{"device:read"}, Expires: h.now().Add(time.Hour)})
	if first.Role != s.Role || first.Maker != s.principal() || other.Role != "PD_STANDARD_APP" {
		t.Fatalf("%+v %+v", first, other)
	}
	below, belowToken, err := h.CreateApplication(ctx, Actor{Principal: first.Principal()}, Application{Org: h.org})
	check(t, err)
	good := func(what string, p Application, token secret.String, want bool) {
		t.Helper()
		_, api := h.ApplicationActor(ctx, p.Key, token, "192.0.2.1:1")
		if (api == nil) != want {
			t.Errorf("%s: %s at the API: %v, want it in: %v", what, p.Key, api, want)
		}
		if len(p.Permissions) > 0 {
			return
		}
		if _, err := h.Verify(ctx, applicationLogin(p, token)); (err == nil) != want {
			t.Errorf("%s: %s: %v, want it in: %v", what, p.Key, err, want)
		}
	}
	all := func(what string, want bool) {
		t.Helper()
		good(what, first, token, want)
		good(what, other, otherToken, want)
		good(what, below, belowToken, want)
	}
	all("made", true)
	g, err := h.Verify(ctx, applicationLogin(first, token))
	check(t, err)
	check(t, h.RemoveMember(ctx, h.admin, h.org, "eve"))
	all("its maker left", true)
	_, err = h.Renew(ctx, g.Ref())
	check(t, err)
	check(t, h.SetServiceDisabled(ctx, h.admin, h.org, "ci", true))
	all("disabled", false)
	wantCode(t, second(h.Renew(ctx, g.Ref())), errs.Unauthenticated)
	check(t, h.SetServiceDisabled(ctx, h.admin, h.org, "ci", false))
	all("enabled", true)
	reader := h.changes.subscribe()
	defer h.changes.unsubscribe(reader)
	lock, err := h.CreateLock(ctx, h.admin, Lock{Org: h.org, Kind: LockPrincipal, Target: "service:ci", Reason: "its runner was broken into"})
	check(t, err)
	all("locked", false)
	heard := map[string]bool{}
	for len(reader.ch) > 0 {
		heard[(<-reader.ch).ID] = true
	}
	if !heard[first.Key] || !heard[other.Key] || !heard[below.Key] {
		t.Errorf("a lock is told of %v", heard)
	}
	check(t, h.DeleteLock(ctx, h.admin, h.org, lock.ID))
	all("unlocked", true)
	// What it may do is what it was given, now.
	manage := func() error {
		return second(h.CreateDeviceType(ctx, Actor{Principal: first.Principal()}, DeviceType{Org: h.org, ID: "by-ci"}))
	}
	_, err = h.PutService(ctx, h.admin, Service{Org: h.org, ID: "ci", Role: "PD_ANALYST_USER"})
	check(t, err)
	wantCode(t, manage(), errs.Denied)
	_, err = h.PutService(ctx, h.admin, Service{Org: h.org, ID: "ci", Role: "PD_DEVELOPER_USER"})
	check(t, err)
	check(t, manage())
	// Rights of one of its keys change; it stays one of the account's.
	check(t, h.SetApplicationRights(ctx, h.admin, Application{Org: h.org, Key: first.Key, Role: permission.Owner}))
	p, err := h.Application(ctx, h.admin, h.org, first.Key)
	check(t, err)
	if p.Maker != s.principal() {
		t.Errorf("%v stands behind it", p.Maker)
	}
	wantCode(t, third(h.Members(ctx, Actor{Principal: first.Principal()}, h.org, Page{})), errs.Denied) // an owner within what the account has
	h.clock.move(time.Hour + time.Second)
	good("its end", other, otherToken, false)
	good("its end", first, token, true)
	e, err := h.Explain(ctx, h.admin, Question{Org: h.org, Who: first.Principal(), Action: auth.Publish, Topic: eventOfD})
	check(t, err)
	if !e.Allowed || !strings.Contains(e.Source, `the service account "ci"`) {
		t.Errorf("%+v", e)
	}
	wantCode(t, h.DeleteService(ctx, h.admin, h.org, "ci"), errs.Conflict)
	for _, key := range []string{below.Key, first.Key, other.Key} {
		check(t, h.DeleteApplication(ctx, h.admin, h.org, key))
	}
	check(t, h.DeleteService(ctx, h.admin, h.org, "ci"))
}

// Nobody gets by way of a service account what they do not have, and nobody who
// steals an API key leaves something behind.
func TestNobodyClimbsByAServiceAccount(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	h.newPerson(t, "eve")
	eve := h.join(t, h.org, "eve", "manager")
	_, err := h.PutService(ctx, eve, Service{Org: h.org, ID: "king", Role: permission.Owner})
	wantCode(t, err, errs.Denied)
	_, err = h.PutService(ctx, h.admin, Service{Org: h.org, ID: "king", Role: permission.Owner})
	check(t, err)
	of := func(a Actor, name string, p Application) error {
		p.Org, p.Maker = h.org, auth.Principal{Kind: auth.Service, ID: name}
		return third(h.CreateApplication(ctx, a, p))
	}
	wantCode(t, of(eve, "king", Application{}), errs.Denied)
	wantCode(t, of(h.member, "king", Application{Role: permission.Owner}), errs.Denied)
	check(t, of(eve, "king", Application{Role: "member"})) // no more than Eve has
	wantCode(t, second(h.PutService(ctx, eve, Service{Org: h.org, ID: "king", Role: "member"})), errs.Denied)
	check(t, h.SetServiceDisabled(ctx, eve, h.org, "king", true)) // in an emergency nothing is in the way
	wantCode(t, h.SetServiceDisabled(ctx, eve, h.org, "king", false), errs.Denied)
	lock, err := h.CreateLock(ctx, eve, Lock{Org: h.org, Kind: LockPrincipal, Target: "service:king", Reason: "x"})
	check(t, err)
	wantCode(t, h.DeleteLock(ctx, eve, h.org, lock.ID), errs.Denied)
	owner, _, err := h.CreateApplication(ctx, h.admin, Application{Org: h.org, Role: permission.Owner})
	check(t, err)
	key := Actor{Principal: owner.Principal()}
	wantCode(t, second(h.PutService(ctx, key, Service{Org: h.org, ID: "left-behind", Role: "member"})), errs.Denied)
	wantCode(t, of(key, "king", Application{Role: "member"}), errs.Denied)
	for name, x := range map[string]struct {
		err  error
		code errs.Code
	}{
		"unknown":   {of(h.admin, "nope", Application{}), errs.NotFound},
		"groups":    {of(h.admin, "king", Application{Limited: true}), errs.Invalid},
		"end":       {of(h.admin, "king", Application{Expires: h.now()}), errs.Invalid},
		"name":      {second(h.PutService(ctx, h.admin, Service{Org: h.org, ID: "a b", Role: "member"})), errs.Invalid},
		"role":      {second(h.PutService(ctx, h.admin, Service{Org: h.org, ID: "x", Role: "nope"})), errs.NotFound},
		"disable":   {h.SetServiceDisabled(ctx, h.admin, h.org, "nope", true), errs.NotFound},
		"delete":    {h.DeleteService(ctx, h.admin, h.org, "nope"), errs.NotFound},
		"stranger":  {second(h.Services(ctx, Actor{Principal: auth.Principal{Kind: auth.Person, ID: "x"}}, h.org)), errs.NotFound},
		"developer": {second(h.Services(ctx, h.member, h.org)), errs.Denied},
	} {
		if x.err == nil || errs.CodeOf(x.err) != x.code {
			t.Errorf("%s: %v", name, x.err)
		}
	}
	// It is nobody who connects, or asks for anything.
	if _, err := h.Verify(ctx, auth.Credentials{ClientID: "service:" + string(h.org) + ":king"}); err == nil {
		t.Error("a service account is let in")
	}
	if _, err := h.Device(ctx, Actor{Principal: auth.Principal{Org: h.org, Kind: auth.Service, ID: "king"}}, h.org, "t", "d"); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("%v", err)
	}
}
