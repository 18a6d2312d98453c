package registry

import (
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/topic"
)

func (w *world) newUser(t testing.TB, u User) secret.String {
	t.Helper()
	_, password, err := w.CreateUser(t.Context(), w.admin, u)
	check(t, err)
	return password
}

func userLogin(org auth.OrgID, name, client string, password secret.String) auth.Credentials {
	return auth.Credentials{ClientID: client, HasUsername: true, Username: string(org) + "/" + name, HasPassword: true, Password: password}
}

// mayPublish reports whether the client may publish there; its grant must be
// the same whether it connects now or is asked for again.
func (w *world) mayPublish(t *testing.T, c auth.Credentials, name string) bool {
	t.Helper()
	g, err := w.Verify(t.Context(), c)
	check(t, err)
	again, err := w.Renew(t.Context(), g.Ref())
	check(t, err)
	n, err := topic.ParseName(name)
	check(t, err)
	first, second := g.Allow(auth.Publish, n) == nil, again.Allow(auth.Publish, n) == nil
	if first != second {
		t.Errorf("%s: %v, and %v when asked again", name, first, second)
	}
	return first
}

// Rules for all users hold for those that are there and those that come, at
// once and on the record, and for nobody of another organisation.
func TestRulesForAllUsers(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, other := w.newOrg(t, ProfilePlain), w.newOrg(t, ProfilePlain)
	own := []Rule{{Action: "publish", Filter: "own"}}
	ann := userLogin(org, "ann", "phone", w.newUser(t, User{Org: org, Name: "ann", Rules: own, Clients: []string{"phone"}}))
	far := userLogin(other, "ann", "phone", w.newUser(t, User{Org: other, Name: "ann", Rules: own}))
	if w.mayPublish(t, ann, "all/ann") || !w.mayPublish(t, ann, "own") {
		t.Fatal("before there are rules for all")
	}
	reader := w.changes.subscribe()
	defer w.changes.unsubscribe(reader)
	check(t, w.SetOrgRules(ctx, w.admin, org, []Rule{{Action: "publish", Filter: "all/%u"}, {Action: "publish", Filter: "dev/%c"}, {Action: "publish", Filter: "own", Deny: true}}))
	if c := <-reader.ch; c.Principal != (auth.Principal{Org: org}) {
		t.Errorf("told about %v", c)
	}
	bob := userLogin(org, "bob", "phone", w.newUser(t, User{Org: org, Name: "bob"}))
	for _, tc := range []struct {
		c    auth.Credentials
		name string
		want bool
	}{
		{ann, "all/ann", true}, {ann, "all/bob", false}, {ann, "own", true}, {ann, "dev/phone", true}, {ann, "x", false},
		{bob, "all/bob", true}, {bob, "all/ann", false}, {bob, "own", false}, {bob, "dev/phone", false}, {bob, "dev/bob", false}, {bob, "x", false},
		{far, "all/ann", false}, {far, "own", true}, {far, "dev/phone", false},
	} {
		if got := w.mayPublish(t, tc.c, tc.name); got != tc.want {
			t.Errorf("%s as %s on %s: %v", tc.c.Username, tc.c.ClientID, tc.name, got)
		}
	}
	// Taken away from one, a client identifier can be another's, at once.
	wantCode(t, w.SetUserClients(ctx, w.admin, org, "bob", []string{"phone"}), errs.Conflict)
	check(t, w.SetUserClients(ctx, w.admin, org, "ann", nil))
	check(t, w.SetUserClients(ctx, w.admin, org, "bob", []string{"phone"}))
	if w.mayPublish(t, ann, "dev/phone") || !w.mayPublish(t, bob, "dev/phone") {
		t.Error("the client id did not go over to bob")
	}
	check(t, w.DeleteUser(ctx, w.admin, org, "bob"))
	check(t, w.SetUserClients(ctx, w.admin, org, "ann", []string{"phone"}))
	check(t, w.SetOrgRules(ctx, w.admin, org, nil))
	if w.mayPublish(t, ann, "all/ann") || w.mayPublish(t, ann, "dev/phone") {
		t.Error("rules that are gone still hold")
	}
	u, err := w.User(ctx, w.admin, org, "ann")
	check(t, err)
	if len(u.Clients) != 1 || u.Clients[0] != "phone" {
		t.Errorf("client ids %q", u.Clients)
	}
}
