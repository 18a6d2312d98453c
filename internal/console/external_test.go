package console_test

import (
	"context"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/oidc/oidctest"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// through follows a sign-in through the provider to where it sends the browser
// back to.
func (f *fixture) through(t *testing.T, org auth.OrgID) string {
	t.Helper()
	a := f.do(t, "GET", "/sign-in/with/"+string(org)+"/corp").is(t, http.StatusSeeOther)
	web := f.provider.Client()
	web.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := web.Get(a.header.Get("Location"))
	must(t, err)
	res.Body.Close()
	back, err := url.Parse(res.Header.Get("Location"))
	must(t, err)
	if base := back.Scheme + "://" + back.Host + back.Path; base != f.url+"/sign-in/callback" {
		t.Fatalf("sent back to %s", base)
	}
	return back.RequestURI()
}

// Somebody signs in through the provider of their organisation, once for each
// attempt and in the browser that began it.
func TestSignInThroughProvider(t *testing.T) {
	f := start(t)
	ctx := context.Background()
	org := f.first.Org.ID
	admin := registry.Actor{Principal: auth.Principal{Kind: auth.System, ID: "test"}, Admin: true}
	p := registry.SignInProvider{Org: org, Name: "corp", Issuer: f.provider.URL, ClientID: oidctest.ClientID, Roles: []registry.GroupRole{{Group: "engineers", Role: permission.Reader}}}
	_, err := f.registry.PutSignInProvider(ctx, admin, p, secret.New(oidctest.Secret))
	must(t, err)

	page := f.do(t, "GET", "/sign-in/organisation?org="+string(org)).is(t, http.StatusOK).body
	if !strings.Contains(page, `href="/sign-in/with/`+string(org)+`/corp"`) {
		t.Errorf("no way to the provider: %s", page)
	}
	none := f.do(t, "GET", "/sign-in/organisation?org=zzzzzz").is(t, http.StatusOK).body
	if !strings.Contains(none, "There is no such organisation") {
		t.Errorf("an unknown organisation: %s", none)
	}
	for _, path := range []string{"/sign-in/with/zzzzzz/corp", "/sign-in/with/" + string(org) + "/nope", "/sign-in/with/!/corp"} {
		f.do(t, "GET", path).is(t, http.StatusNotFound)
	}
	f.do(t, "GET", "/sign-in/callback?code=x&state=y").is(t, http.StatusUnauthorized)

	back := f.through(t, org)
	jar := f.client.Jar
	f.client.Jar, err = cookiejar.New(nil)
	must(t, err)
	f.do(t, "GET", back).is(t, http.StatusUnauthorized) // another browser
	f.client.Jar = jar
	in := f.do(t, "GET", back).is(t, http.StatusOK)
	if in.header.Get("Refresh") != "0; url=/" || !strings.Contains(in.body, "You are signed in") {
		t.Errorf("%v: %s", in.header, in.body)
	}
	home := f.do(t, "GET", "/").is(t, http.StatusOK).body
	if !strings.Contains(home, "Ann Example") || !strings.Contains(home, string(org)) {
		t.Errorf("the first page: %s", home)
	}
	f.post(t, "/sign-out", nil).is(t, http.StatusSeeOther)
	f.do(t, "GET", back).is(t, http.StatusUnauthorized) // a second time

	// A cookie that was kept is good once, too.
	back = f.through(t, org)
	here, _ := url.Parse(f.url)
	kept := jar.Cookies(here)
	f.do(t, "GET", back).is(t, http.StatusOK)
	jar.SetCookies(here, kept)
	f.do(t, "GET", back).is(t, http.StatusUnauthorized)

	// Who has lost the group is told so, and out.
	f.provider.Set(map[string]any{"sub": "subject-1", "groups": []string{"others"}}, nil, nil, nil, nil)
	if page := f.do(t, "GET", f.through(t, org)).is(t, http.StatusUnauthorized).body; !strings.Contains(page, "None of your groups") {
		t.Error(page)
	}
	f.provider.Close()
	if page := f.do(t, "GET", "/sign-in/with/"+string(org)+"/corp"); page.status == http.StatusSeeOther {
		f.do(t, "GET", "/sign-in/callback?code=x&state=y").is(t, http.StatusUnauthorized)
	}
}
