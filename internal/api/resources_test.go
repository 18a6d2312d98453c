package api_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestOrganisations(t *testing.T) {
	f := start(t)
	var o struct {
		ID, Name, Profile string
		Disabled          bool
	}
	a := f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "North plant", "id": "north1"}).is(t, 201)
	a.into(t, &o)
	if o.ID != "north1" || o.Name != "North plant" || o.Profile != "iot-2" || o.Disabled {
		t.Errorf("created %+v", o)
	}
	if got := a.header.Get("Location"); got != "/api/v1/orgs/north1" {
		t.Errorf("Location %q", got)
	}
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "Again", "id": "north1"}).is(t, 409)
	f.ask(t, f.admin, "PATCH", "/api/v1/orgs/north1", map[string]any{"name": "South", "disabled": true}).is(t, 200).into(t, &o)
	if o.Name != "South" || !o.Disabled {
		t.Errorf("after the change: %+v", o)
	}
	f.ask(t, f.admin, "GET", "/api/v1/orgs/north1", nil).is(t, 200).into(t, &o)
	if o.Name != "South" || !o.Disabled {
		t.Errorf("read again: %+v", o)
	}
	f.ask(t, f.admin, "DELETE", "/api/v1/orgs/north1", nil).is(t, 204)
	f.ask(t, f.admin, "GET", "/api/v1/orgs/north1", nil).is(t, 404)
	f.ask(t, f.admin, "DELETE", "/api/v1/orgs/north1", nil).is(t, 404)
}

func TestDevices(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	f.ask(t, f.admin, "POST", org+"/types", map[string]any{"id": "pump", "description": "water"}).is(t, 201)
	f.ask(t, f.admin, "POST", org+"/types", map[string]any{"id": "gw", "class": "Gateway"}).is(t, 201)
	f.ask(t, f.admin, "POST", org+"/devices", map[string]any{"type": "gw", "id": "g1"}).is(t, 201)
	var d struct {
		Type, ID, Class, Token, Gateway string
		ClientID                        string `json:"client_id"`
		Disabled                        bool
	}
	f.ask(t, f.admin, "POST", org+"/devices", map[string]any{"type": "pump", "id": "p-1", "gateway": "gw:g1"}).is(t, 201).into(t, &d)
	if len(d.Token) < 20 || d.ClientID != "d:"+string(f.first.Org.ID)+":pump:p-1" || d.Class != "Device" || d.Gateway != "gw:g1" {
		t.Errorf("created %+v", d)
	}
	one := org + "/devices/pump/p-1"
	if body := string(f.ask(t, f.admin, "GET", one, nil).is(t, 200).body); strings.Contains(body, "token") {
		t.Errorf("a device shows its token again: %s", body)
	}
	f.ask(t, f.admin, "PATCH", one, map[string]any{"disabled": true}).is(t, 200).into(t, &d)
	if !d.Disabled || d.Gateway != "gw:g1" {
		t.Errorf("disabling changed something else: %+v", d)
	}
	d.Gateway = "?"
	f.ask(t, f.admin, "PATCH", one, map[string]any{"disabled": false, "gateway": ""}).is(t, 200)
	var r struct{ Token string }
	f.ask(t, f.admin, "POST", one+"/token", nil).is(t, 200).into(t, &r)
	if r.Token == d.Token || len(r.Token) < 20 {
		t.Errorf("rotated %q to %q", d.Token, r.Token)
	}
	f.ask(t, f.admin, "DELETE", org+"/types/pump", nil).is(t, 409)
	f.ask(t, f.admin, "DELETE", one, nil).is(t, 204)
	f.ask(t, f.admin, "GET", one, nil).is(t, 404)
	f.ask(t, f.admin, "DELETE", org+"/types/pump", nil).is(t, 204)
	f.ask(t, f.admin, "POST", org+"/devices", map[string]any{"type": "pump", "id": "p-2"}).is(t, 404)
}

func TestListsPageAndFilter(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	f.ask(t, f.admin, "POST", org+"/types", map[string]any{"id": "lamp"}).is(t, 201)
	for i := range 7 {
		f.ask(t, f.admin, "POST", org+"/devices", map[string]any{"type": "lamp", "id": fmt.Sprintf("l-%d", i)}).is(t, 201)
	}
	f.ask(t, f.admin, "PATCH", org+"/devices/lamp/l-3", map[string]any{"disabled": true}).is(t, 200)
	page := func(query string) (ids []string, next string) {
		var l struct {
			Items []struct{ ID string }
			Next  string
		}
		f.ask(t, f.admin, "GET", org+"/devices?"+query, nil).is(t, 200).into(t, &l)
		for _, i := range l.Items {
			ids = append(ids, i.ID)
		}
		return ids, l.Next
	}
	var all []string
	after := ""
	for range 10 {
		ids, next := page("type=lamp&limit=3&after=" + after)
		all = append(all, ids...)
		if after = next; next == "" {
			break
		}
	}
	if got := strings.Join(all, " "); got != "l-0 l-1 l-2 l-3 l-4 l-5 l-6" {
		t.Errorf("pages held %q", got)
	}
	if ids, _ := page("type=lamp&disabled=true"); strings.Join(ids, " ") != "l-3" {
		t.Errorf("disabled: %v", ids)
	}
	if ids, _ := page("prefix=l-5"); strings.Join(ids, " ") != "l-5" {
		t.Errorf("prefix: %v", ids)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "limit=x", "after=%21", "after=AAAA", "disabled=perhaps", "unknown=1", "type=" + strings.Repeat("x", 40)} {
		f.ask(t, f.admin, "GET", org+"/devices?"+bad, nil).is(t, 422)
	}
}

func TestApplicationsAndUsers(t *testing.T) {
	f := start(t)
	org := "/api/v1/orgs/" + string(f.first.Org.ID)
	var app struct{ Key, Name, Token string }
	f.ask(t, f.admin, "POST", org+"/apps", map[string]any{"name": "dashboard"}).is(t, 201).into(t, &app)
	who := application(app.Key, app.Token)
	var me struct{ Kind, ID, Org string }
	f.ask(t, who, "GET", "/api/v1/me", nil).is(t, 200).into(t, &me)
	if me.Kind != "application" || me.ID != app.Key || me.Org != string(f.first.Org.ID) {
		t.Errorf("me: %+v", me)
	}
	f.ask(t, who, "GET", org+"/devices", nil).is(t, 200)
	var r struct{ Token string }
	f.ask(t, f.admin, "POST", org+"/apps/"+app.Key+"/token", nil).is(t, 200).into(t, &r)
	f.ask(t, who, "GET", org+"/devices", nil).is(t, 401) // the old token, at once
	who = application(app.Key, r.Token)
	f.ask(t, who, "GET", org+"/devices", nil).is(t, 200)
	f.ask(t, f.admin, "PATCH", org+"/apps/"+app.Key, map[string]any{"disabled": true}).is(t, 200)
	f.ask(t, who, "GET", org+"/devices", nil).is(t, 401)
	f.ask(t, f.admin, "DELETE", org+"/apps/"+app.Key, nil).is(t, 204)
	f.ask(t, f.admin, "GET", org+"/apps/"+app.Key, nil).is(t, 404)

	f.home(t)
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "Plain", "id": "plain1", "profile": "plain"}).is(t, 201)
	var u struct{ Name, Username, Password string }
	f.ask(t, f.admin, "POST", "/api/v1/orgs/plain1/users", map[string]any{"name": "ann@x"}).is(t, 201).into(t, &u)
	if u.Username != "plain1/ann@x" || len(u.Password) < 20 {
		t.Errorf("user: %+v", u)
	}
	one := "/api/v1/orgs/plain1/users/ann@x"
	f.ask(t, f.admin, "PATCH", one, map[string]any{"disabled": true}).is(t, 200)
	rules := []map[string]any{{"action": "publish", "filter": "a/%u/#"}, {"action": "receive", "filter": "#", "deny": true}}
	var changed struct {
		Disabled bool
		Rules    []struct {
			Action, Filter string
			Deny           bool
		}
	}
	f.ask(t, f.admin, "PATCH", one, map[string]any{"rules": rules}).is(t, 200).into(t, &changed)
	if r := changed.Rules; !changed.Disabled || len(r) != 2 || r[0].Filter != "a/%u/#" || !r[1].Deny {
		t.Errorf("after PATCH: %+v", changed)
	}
	for _, bad := range []string{"a/#/b", "", strings.Repeat("a", 257)} {
		f.ask(t, f.admin, "PATCH", one, map[string]any{"rules": []map[string]any{{"action": "publish", "filter": bad}}}).is(t, 422)
	}
	f.ask(t, f.admin, "PATCH", one, map[string]any{"rules": []map[string]any{{"action": "read", "filter": "a"}}}).is(t, 422)
	f.ask(t, f.admin, "PATCH", one+"x", map[string]any{"rules": rules}).is(t, 404)
	f.ask(t, f.admin, "POST", one+"/password", nil).is(t, 200)
	if body := string(f.ask(t, f.admin, "GET", "/api/v1/orgs/plain1/users", nil).is(t, 200).body); strings.Contains(body, "password") {
		t.Errorf("a list shows a password: %s", body)
	}
	f.ask(t, f.admin, "DELETE", one, nil).is(t, 204)
	f.ask(t, f.admin, "GET", one, nil).is(t, 404)
}

// home makes a home and what it has, and what it must not have.
func (f *fixture) home(t *testing.T) {
	t.Helper()
	var o struct {
		Profile string
		Home    *struct{ Anonymous, Prefix, V0 bool }
	}
	const at = "/api/v1/orgs/house1"
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"name": "Home", "id": "house1", "profile": "home", "home": map[string]any{"v0": true}}).is(t, 201).into(t, &o)
	if o.Profile != "home" || o.Home == nil || !o.Home.V0 || o.Home.Anonymous {
		t.Errorf("home: %+v", o)
	}
	f.ask(t, f.admin, "PATCH", at, map[string]any{"home": map[string]any{"anonymous": true}}).is(t, 200).into(t, &o)
	if !o.Home.V0 || !o.Home.Anonymous {
		t.Errorf("after PATCH: %+v", o.Home)
	}
	f.ask(t, f.admin, "PATCH", at, map[string]any{"home": map[string]any{"prefix": true}}).is(t, 422)
	f.ask(t, f.admin, "POST", "/api/v1/orgs", map[string]any{"id": "house2", "profile": "plain", "home": map[string]any{"v0": true}}).is(t, 422)
	var u struct{ Role string }
	f.ask(t, f.admin, "POST", at+"/users", map[string]any{"name": "ann", "role": "provider"}).is(t, 201).into(t, &u)
	if u.Role != "provider" {
		t.Errorf("role %q", u.Role)
	}
	f.ask(t, f.admin, "PATCH", at+"/users/ann", map[string]any{"role": "bridge"}).is(t, 200).into(t, &u)
	if u.Role != "bridge" {
		t.Errorf("role %q", u.Role)
	}
	for _, bad := range []map[string]any{{"role": "king"}, {"role": ""}, {"rules": []any{}}, {"clients": []string{"x"}}} {
		f.ask(t, f.admin, "PATCH", at+"/users/ann", bad).is(t, 422)
	}
	f.ask(t, f.admin, "POST", at+"/users", map[string]any{"name": "bob"}).is(t, 422)
	f.ask(t, f.admin, "PATCH", at+"/rules", map[string]any{"rules": []any{}}).is(t, 422)
}
