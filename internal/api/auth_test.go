package api_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestSignIn(t *testing.T) {
	f := start(t)
	var me struct {
		Kind, Name string
		Admin      bool
	}
	f.ask(t, f.admin, "GET", "/api/v1/me", nil).is(t, 200).into(t, &me)
	if me.Kind != "person" || !me.Admin || me.Name == "" {
		t.Errorf("me: %+v", me)
	}
	used := map[string]string{"code": f.first.CLICode.Reveal()}
	f.ask(t, anonymous, "POST", "/api/v1/sign-in", used).is(t, 401)
	f.ask(t, anonymous, "POST", "/api/v1/sign-in", map[string]string{"code": "never-made"}).is(t, 401)

	var c struct{ Code, Expires string }
	f.ask(t, f.admin, "POST", "/api/v1/me/sign-in-codes", map[string]string{"purpose": "cli"}).is(t, 201).into(t, &c)
	var in struct{ Token string }
	f.ask(t, anonymous, "POST", "/api/v1/sign-in", map[string]string{"code": c.Code}).is(t, 200).into(t, &in)
	second := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+in.Token) }
	var l struct {
		Items []struct {
			ID      string
			Current bool
		}
	}
	f.ask(t, second, "GET", "/api/v1/me/sessions", nil).is(t, 200).into(t, &l)
	if len(l.Items) != 2 {
		t.Fatalf("sessions: %+v", l)
	}
	for _, s := range l.Items {
		if !s.Current { // the first token's: sign it out from here
			f.ask(t, second, "DELETE", "/api/v1/me/sessions/"+s.ID, nil).is(t, 204)
		}
	}
	f.ask(t, f.admin, "GET", "/api/v1/me", nil).is(t, 401)
	f.ask(t, second, "POST", "/api/v1/sign-out", nil).is(t, 204)
	f.ask(t, second, "GET", "/api/v1/me", nil).is(t, 401)
}

func TestBadCredentials(t *testing.T) {
	f := start(t)
	key, token := f.first.Application.Key, f.first.ApplicationToken.Reveal()
	set := func(v ...string) caller { return func(r *http.Request) { r.Header["Authorization"] = v } }
	for name, who := range map[string]caller{
		"none":                anonymous,
		"empty":               set(""),
		"bearer without":      set("Bearer "),
		"unknown token":       set("Bearer abcdefghijklmnopqrstuvwxyz"),
		"unknown scheme":      set("Digest x"),
		"two headers":         set("Bearer "+f.token, "Bearer "+f.token),
		"not base64":          set("Basic %%%"),
		"no key":              application("", token),
		"key of nobody":       application("a-"+string(f.first.Org.ID)+"-0000000000", token),
		"wrong token":         application(key, token+"x"),
		"empty token":         application(key, ""),
		"a device's":          application("use-token-auth", f.first.DeviceToken.Reveal()),
		"a person's as basic": application("use-access-token", f.token),
		"key in another org":  application(strings.Replace(key, string(f.first.Org.ID), "aaaaaa", 1), token),
		"colon in key":        application("a-x:y-z", token),
	} {
		a := f.ask(t, who, "GET", "/api/v1/orgs", nil).is(t, 401)
		if len(a.header.Values("Www-Authenticate")) != 2 {
			t.Errorf("%s: no WWW-Authenticate", name)
		}
	}
	f.ask(t, application(key, token), "GET", "/api/v1/orgs/"+string(f.first.Org.ID), nil).is(t, 200)
}

// Nothing of a request is looked at before its caller is known.
func TestAuthenticationComesFirst(t *testing.T) {
	f := start(t)
	f.ask(t, anonymous, "POST", "/api/v1/orgs", "{").is(t, 401)
	f.ask(t, anonymous, "GET", "/api/v1/orgs?limit=x", nil).is(t, 401)
	f.ask(t, anonymous, "GET", "/api/v1/orgs/UPPER!", nil).is(t, 401)
	f.ask(t, application(f.first.Application.Key, f.first.ApplicationToken.Reveal()), "POST", "/api/v1/orgs/zzzzzz/devices", "{").is(t, 404)
}

// An application sees its own organisation, and another one not at all: the
// answers are the same as for one that does not exist.
func TestApplicationStaysInItsOrganisation(t *testing.T) {
	f := start(t)
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "Other", "id": "other1"}).is(t, 201)
	who := application(f.first.Application.Key, f.first.ApplicationToken.Reveal())
	there := f.ask(t, who, "GET", "/api/v1/orgs/other1/devices", nil).is(t, 404).problem(t)
	absent := f.ask(t, who, "GET", "/api/v1/orgs/nobody/devices", nil).is(t, 404).problem(t)
	if strings.ReplaceAll(there.Detail, "other1", "") != strings.ReplaceAll(absent.Detail, "nobody", "") {
		t.Errorf("the answers tell %q from %q", there.Detail, absent.Detail)
	}
	f.ask(t, who, "GET", "/api/v1/audit?org=other1", nil).is(t, 404)
	f.ask(t, who, "POST", "/api/v1/orgs", map[string]any{"name": "Mine"}).is(t, 403)
	f.ask(t, who, "POST", "/api/v1/me/sign-in-codes", map[string]string{"purpose": "console"}).is(t, 403)
	f.ask(t, who, "POST", "/api/v1/sign-out", nil).is(t, 422)
	var l struct{ Items []struct{ ID string } }
	a := f.ask(t, who, "GET", "/api/v1/orgs", nil)
	if a.status == 200 {
		a.into(t, &l)
		if len(l.Items) != 1 || l.Items[0].ID != string(f.first.Org.ID) {
			t.Errorf("an application lists %+v", l)
		}
	} else if a.status != 403 {
		t.Errorf("status %d", a.status)
	}
}
