package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
)

// An explanation names the rule that decides at MQTT.
func TestExplain(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	check(t, s.SetOrgRules(ctx, s.admin, s.plain, []Rule{{Action: "receive", Filter: "news/#"}, {Action: "publish", Filter: "all/%u"}}))
	check(t, s.SetUserRules(ctx, s.admin, s.plain, "ann", []Rule{{Action: "receive", Filter: "news/secret", Deny: true}, {Action: "publish", Filter: "by/%c/x"}}))
	for _, tt := range []struct {
		org                 auth.OrgID
		who, client, action string
		topic               string
		allowed             bool
		says                string
	}{
		{s.iot, "device:t:d", "", "publish", "iot-2/evt/e/fmt/json", true, "every device"},
		{s.iot, "device:t:d", "", "publish", "iot-2/type/t/id/behind/evt/e/fmt/json", false, "no rule"},
		{s.iot, "device:t:d", "", "receive", "iot-2/type/t/id/d/cmd/c/fmt/json", true, "every device"},
		{s.iot, "device:t:d", "", "receive", "iot-2/type/t/id/behind/cmd/c/fmt/json", false, "no rule"},
		{s.iot, "gateway:g:g", "", "publish", "iot-2/type/t/id/behind/evt/e/fmt/json", true, "t:behind attached to it"},
		{s.iot, "gateway:g:g", "", "receive", "iot-2/type/g/id/g/notify", true, "for itself"},
		{s.iot, "gateway:g:g", "", "publish", "iot-2/type/t/id/d/evt/e/fmt/json", false, "no rule"},
		{s.iot, "application:" + s.application.Key, "", "publish", "iot-2/type/t/id/d/cmd/c/fmt/json", true, "command:publish"},
		{s.iot, "application:" + s.application.Key, "", "subscribe", "iot-2/type/+/id/+/mon", true, "monitor:receive"},
		{s.iot, "person:" + s.person, "", "receive", "iot-2/type/t/id/d/evt/e/fmt/json", true, "event:receive"},
		{s.plain, "user:ann", "", "receive", "news/today", true, "rule 1 for every user of the organisation: allow receive news/#"},
		{s.plain, "user:ann", "", "receive", "news/secret", false, "rule 1 of the user: deny receive news/secret"},
		{s.plain, "user:ann", "", "publish", "all/ann", true, "rule 2 for every user"},
		{s.plain, "user:ann", "", "publish", "all/bob", false, "no rule"},
		{s.plain, "user:ann", "", "publish", "by/ann/x", true, "rule 2 of the user"},
		{s.plain, "user:ann", "stolen", "publish", "by/stolen/x", false, "no rule"},
	} {
		who, err := ParseWho(tt.who)
		check(t, err)
		action := map[string]auth.Action{"publish": auth.Publish, "subscribe": auth.Subscribe, "receive": auth.Receive}[tt.action]
		e, err := s.Explain(ctx, s.admin, Question{Org: tt.org, Who: who, Client: tt.client, Action: action, Topic: tt.topic})
		check(t, err)
		if e.Allowed != tt.allowed || !strings.Contains(e.Reason, tt.says) || e.Topic == "" {
			t.Errorf("%s %s %q: %+v", tt.who, tt.action, tt.topic, e)
		}
	}
	check(t, s.SetDeviceDisabled(ctx, s.admin, s.iot, "t", "d", true))
	e, err := s.Explain(ctx, s.admin, Question{Org: s.iot, Who: auth.Principal{Kind: auth.Device, ID: "t:d"}, Topic: "iot-2/evt/e/fmt/json"})
	if check(t, err); e.Allowed || !strings.Contains(e.Reason, "disabled") {
		t.Errorf("%+v", e)
	}
}

// Nobody learns anything of another organisation, and no more than they may.
func TestExplainIsForWhoMay(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	device := auth.Principal{Kind: auth.Device, ID: "t:d"}
	ask := func(a Actor, org auth.OrgID, who auth.Principal) error {
		_, err := s.Explain(ctx, a, Question{Org: org, Who: who, Topic: "a"})
		return err
	}
	s.newPerson(t, "reader")
	reader := s.join(t, s.iot, "reader", permission.Reader)
	other, _ := s.newApplication(t, s.twin)
	foreign := Actor{Principal: other.Principal()}
	wantCode(t, ask(reader, s.iot, device), errs.Denied)
	wantCode(t, ask(foreign, s.iot, device), errs.NotFound)
	wantCode(t, ask(s.admin, s.iot, auth.Principal{Kind: auth.Device, ID: "t:nobody"}), errs.NotFound)
	wantCode(t, ask(s.admin, s.iot, auth.Principal{Kind: auth.Person, ID: "nobody"}), errs.NotFound)
	wantCode(t, ask(s.admin, s.iot, other.Principal()), errs.NotFound) // the organisation of who is not believed
	for _, bad := range []string{"", "device", "device:", "system:x", "any:", "t:d"} {
		if _, err := ParseWho(bad); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []string{"", "a/#", "a\x00"} {
		_, err := s.Explain(ctx, s.admin, Question{Org: s.iot, Who: device, Topic: bad})
		wantCode(t, err, errs.Invalid)
		wantCode(t, third(s.Readers(ctx, s.admin, s.iot, bad, Page{})), errs.Invalid)
	}
	wantCode(t, third(s.Readers(ctx, reader, s.iot, "a", Page{})), errs.Denied)
	wantCode(t, third(s.Readers(ctx, foreign, s.iot, "a", Page{})), errs.NotFound)

	// The number of a refusal is of use to the organisation alone.
	_, err := s.Verify(ctx, deviceLogin(s.iot, "t:d", newToken()))
	wantCode(t, err, errs.Unauthenticated)
	msg := errs.Message(err)
	id := strings.TrimSuffix(msg[strings.LastIndex(msg, " ")+1:], ")")
	r, err := s.Refused(ctx, s.admin, s.iot, id)
	if check(t, err); r.Reason != "wrong token" || r.Principal != "device:"+string(s.iot)+":t:d" {
		t.Errorf("%+v", r)
	}
	wantCode(t, second(s.Refused(ctx, s.admin, s.twin, id)), errs.NotFound)
	wantCode(t, second(s.Refused(ctx, foreign, s.iot, id)), errs.NotFound)
	wantCode(t, second(s.Refused(ctx, reader, s.iot, id)), errs.Denied)
	wantCode(t, second(s.RefusedLately(ctx, reader, s.iot)), errs.Denied)
	// It does not tell that the device is gone.
	check(t, s.DeleteDevice(ctx, s.admin, s.iot, "t", "d"))
	_, err = s.Verify(ctx, deviceLogin(s.iot, "t:d", newToken()))
	if errs.Message(err) != msg {
		t.Errorf("%q, and before %q", errs.Message(err), msg)
	}
	if r, err := s.Refused(ctx, s.admin, s.iot, id); err != nil || r.Reason != "nobody has this name" || r.Count != 2 {
		t.Errorf("%+v %v", r, err)
	}
}

// All who may receive a topic are listed, on however many pages, and nobody else.
func TestReaders(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfilePlain)
	check(t, w.SetOrgRules(ctx, w.admin, org, []Rule{{Action: "receive", Filter: "u/%u"}}))
	const n = readersPerPage + 50
	for i := range n {
		rules := []Rule{}
		if i%100 == 0 {
			rules = []Rule{{Action: "receive", Filter: "a"}}
		}
		_, _, err := w.CreateUser(ctx, w.admin, User{Org: org, Name: fmt.Sprintf("u%04d", i), Rules: rules})
		check(t, err)
	}
	found := map[string]bool{}
	var p Page
	pages := 0
	for {
		all, next, err := w.Readers(ctx, w.admin, org, "a", p)
		check(t, err)
		for _, r := range all {
			if found[r.Who.String()] {
				t.Errorf("%v twice", r.Who)
			}
			found[r.Who.String()] = true
		}
		if pages++; next == "" {
			break
		}
		p.After = next
	}
	want := (n-1)/100 + 1 + 1 // and the owner
	if len(found) != want || pages < 2 {
		t.Errorf("%d readers on %d pages, want %d", len(found), pages, want)
	}
	all, _, err := w.Readers(ctx, w.admin, org, "u/u0007", Page{})
	if check(t, err); len(all) != 1 || all[0].Who.ID != "u0007" || !strings.Contains(all[0].Source, "for every user") {
		t.Errorf("%+v", all)
	}
}
