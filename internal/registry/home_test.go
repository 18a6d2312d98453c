package registry

import (
	"slices"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/authtest"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/topic"
)

// Whoever has a role in a home has its rights, until it has another.
func TestRolesInAHome(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfileHome)
	ann := userLogin(org, "ann", "any", w.newUser(t, User{Org: org, Name: "ann", Role: "provider"}))
	if w.mayPublish(t, ann, "desired/x/y") || !w.mayPublish(t, ann, "current/ann/y") || w.mayPublish(t, ann, "current/bob/y") {
		t.Error("ann is no provider")
	}
	check(t, w.SetUserRole(ctx, w.admin, org, "ann", "actor"))
	if !w.mayPublish(t, ann, "desired/x/y") || w.mayPublish(t, ann, "current/ann/y") || w.mayPublish(t, ann, "ann/y/set") {
		t.Error("ann is no actor")
	}
	yes := true
	_, err := w.SetHome(ctx, w.admin, org, HomeChange{V0: &yes})
	check(t, err)
	if !w.mayPublish(t, ann, "ann/y/set") {
		t.Error("version 0 is not there")
	}
	tenant, err := w.CreateOrg(ctx, w.admin, Org{Profile: ProfileHome, Home: HomeOptions{Prefix: true}})
	check(t, err)
	bob := userLogin(tenant.ID, "bob", "any", w.newUser(t, User{Org: tenant.ID, Name: "bob", Role: "bridge"}))
	if w.mayPublish(t, bob, "current/bob/y") || !w.mayPublish(t, bob, string(tenant.ID)+"/current/bob/y") || w.mayPublish(t, bob, string(org)+"/current/bob/y") {
		t.Error("the prefix is not what it should be")
	}
	if _, err := w.SetHome(ctx, w.admin, tenant.ID, HomeChange{Anonymous: &yes}); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("a home with a prefix lets in anonymous clients: %v", err)
	}
	homes, err := w.Homes(ctx)
	check(t, err)
	want := []auth.OrgID{org, tenant.ID}
	slices.Sort(want)
	if !slices.Equal(homes, want) {
		t.Errorf("homes %q, want %q", homes, want)
	}
}

// Nobody is let in without a name but where an organisation says so, and it may
// say otherwise later.
func TestAnonymous(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	house, plain, iot := w.newOrg(t, ProfileHome), w.newOrg(t, ProfilePlain), w.newOrg(t, ProfileIoT2)
	named := func(org auth.OrgID) auth.Credentials {
		return auth.Credentials{ClientID: "x", HasUsername: true, Username: string(org) + "/"}
	}
	hosted := func(org auth.OrgID) auth.Credentials {
		return auth.Credentials{ClientID: "x", ServerName: string(org) + ".messaging.example.com"}
	}
	refused := func(what string, c auth.Credentials) {
		t.Helper()
		if g, err := w.Verify(ctx, c); g != nil || errs.CodeOf(err) != errs.Unauthenticated || authtest.Bare(errs.Message(err)) != errs.Message(errRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, org := range []auth.OrgID{house, plain, iot, "nope00"} {
		refused("named "+string(org), named(org))
		refused("hosted "+string(org), hosted(org))
	}
	yes, no := true, false
	_, err := w.SetHome(ctx, w.admin, house, HomeChange{Anonymous: &yes})
	check(t, err)
	for _, org := range []auth.OrgID{plain, iot, "nope00"} {
		refused("another, named", named(org))
		refused("another, hosted", hosted(org))
	}
	for what, c := range map[string]auth.Credentials{
		"a password":     {ClientID: "x", HasUsername: true, Username: string(house) + "/", HasPassword: true},
		"no host":        {ClientID: "x"},
		"a device":       {ClientID: "d:" + string(house) + ":t:d", ServerName: string(house) + ".messaging.example.com"},
		"another's host": {ClientID: "x", HasUsername: true, Username: string(house) + "/", ServerName: string(plain) + ".messaging.example.com"},
		"a wildcard":     {ClientID: "x", HasUsername: true, Username: "+/"},
	} {
		refused(what, c)
	}
	var ref auth.Ref
	for _, c := range []auth.Credentials{named(house), hosted(house)} {
		g, err := w.Verify(ctx, c)
		check(t, err)
		n, err := topic.ParseName("current/ann/x")
		check(t, err)
		if g.Allow(auth.Publish, n) == nil || !g.Receives(n) || !g.Separate() || g.Principal().Kind != auth.Anonymous {
			t.Errorf("%v is not what an anonymous client may", g.Principal())
		}
		ref = g.Ref()
		_, err = w.Renew(ctx, ref)
		check(t, err)
	}
	check(t, w.SetOrgDisabled(ctx, w.admin, house, true))
	refused("disabled", named(house))
	check(t, w.SetOrgDisabled(ctx, w.admin, house, false))
	_, err = w.SetHome(ctx, w.admin, house, HomeChange{Anonymous: &no})
	check(t, err)
	refused("not any more", named(house))
	if _, err := w.Renew(ctx, ref); errs.CodeOf(err) != errs.Unauthenticated {
		t.Errorf("goes on: %v", err)
	}
	check(t, w.DeleteOrg(ctx, w.admin, house))
	if _, err := w.Renew(ctx, ref); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("of a deleted organisation: %v", err)
	}
}
