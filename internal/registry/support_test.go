package registry

import (
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
)

// The operator looks in by the organisation's leave, for a while, changes nothing,
// and sees no messages unless the leave says so.
func TestSupport(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	check(t, h.exec(t, `INSERT INTO person (id, name, admin, created_at) VALUES ('operator', 'Olga', TRUE, 1)`))
	operator := Actor{Principal: auth.Principal{Kind: auth.Person, ID: "operator"}, Admin: true}
	look := func() error { return third(h.Devices(ctx, operator, h.org, DeviceFilter{}, Page{})) }
	ask := func(messages bool) Support {
		t.Helper()
		s, err := h.AskSupport(ctx, operator, h.org, "ticket 7", time.Hour, messages)
		check(t, err)
		return s
	}
	wantCode(t, look(), errs.Denied)
	s := ask(true)
	if s.Name != "Olga" || s.State(h.now()) != "asked" {
		t.Errorf("%+v", s)
	}
	wantCode(t, look(), errs.Denied) // asking is not having
	wantCode(t, second(h.GrantSupport(ctx, operator, h.org, s.ID, false)), errs.Denied)
	wantCode(t, second(h.GrantSupport(ctx, h.member, h.org, s.ID, false)), errs.Denied)
	s, err := h.GrantSupport(ctx, h.admin, h.org, s.ID, false) // less than was asked for
	if check(t, err); s.State(h.now()) != "open" || s.Messages {
		t.Errorf("%+v", s)
	}
	check(t, look())
	wantCode(t, h.MayReceive(ctx, operator, h.org), errs.Denied)
	for name, err := range map[string]error{
		"change":   h.SetDeviceDisabled(ctx, operator, h.org, "t", "d", true),
		"key":      second(h.CreateApplicationRights(ctx, operator, Application{Org: h.org, Role: permission.Reader})),
		"invite":   third(h.Invite(ctx, operator, Invitation{Org: h.org, Email: "o@example.com"}, 0)),
		"lengthen": second(h.GrantSupport(ctx, operator, h.org, ask(true).ID, true)),
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, err, errs.Denied) })
	}
	open, err := h.OpenSupport(ctx, h.member, h.org)
	if check(t, err); len(open) != 1 || open[0].ID != s.ID || open[0].Reason != "ticket 7" {
		t.Errorf("the organisation sees %+v", open)
	}
	check(t, h.EndSupport(ctx, h.admin, h.org, s.ID))
	wantCode(t, look(), errs.Denied)
	wantCode(t, h.EndSupport(ctx, h.admin, h.org, s.ID), errs.Conflict)
	wantCode(t, second(h.GrantSupport(ctx, h.admin, h.org, s.ID, false)), errs.Conflict)

	s = ask(true)
	check(t, second(h.GrantSupport(ctx, h.admin, h.org, s.ID, true)))
	check(t, h.MayReceive(ctx, operator, h.org))
	h.clock.move(time.Hour)
	wantCode(t, look(), errs.Denied)
	s = ask(false)
	wantCode(t, second(h.GrantSupport(ctx, h.admin, h.org, s.ID, true)), errs.Invalid) // more than was asked for
	check(t, second(h.GrantSupport(ctx, h.admin, h.org, s.ID, false)))
	check(t, look())
	check(t, h.exec(t, `UPDATE person SET admin = FALSE WHERE id = 'operator'`))
	wantCode(t, third(h.Devices(ctx, Actor{Principal: operator.Principal}, h.org, DeviceFilter{}, Page{})), errs.NotFound)
	check(t, h.exec(t, `UPDATE person SET admin = TRUE WHERE id = 'operator'`))
	check(t, h.EndSupport(ctx, operator, h.org, s.ID)) // they may go by themselves
	all, err := h.Supports(ctx, operator, h.org)
	if check(t, err); len(all) < 3 {
		t.Errorf("%+v", all)
	}
	acts := strings.Join(h.records(t), " ")
	for _, want := range []string{"support.ask", "support.grant", "support.end"} {
		if !strings.Contains(acts, want) {
			t.Errorf("%s is not on the record", want)
		}
	}
}

func TestSupportRefused(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	other := h.newOrg(t, ProfileIoT2)
	s, err := h.AskSupport(ctx, h.admin, h.org, "x", time.Hour, false)
	check(t, err)
	ask := func(a Actor, org auth.OrgID, reason string, life time.Duration) error {
		_, err := h.AskSupport(ctx, a, org, reason, life, false)
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
	}{
		"not an administrator": {ask(h.member, h.org, "x", time.Hour), errs.Denied},
		"an API key":           {ask(h.actor(), h.org, "x", time.Hour), errs.Denied},
		"the system":           {ask(systemActor("x"), h.org, "x", time.Hour), errs.Denied},
		"no reason":            {ask(h.admin, h.org, " ", time.Hour), errs.Invalid},
		"too short":            {ask(h.admin, h.org, "x", time.Second), errs.Invalid},
		"too long":             {ask(h.admin, h.org, "x", 1000*time.Hour), errs.Invalid},
		"no organisation":      {ask(h.admin, "nope00", "x", time.Hour), errs.NotFound},
		"to oneself":           {second(h.GrantSupport(ctx, h.admin, h.org, s.ID, false)), errs.Denied},
		"another's":            {second(h.GrantSupport(ctx, h.admin, other, s.ID, false)), errs.NotFound},
		"unknown":              {h.EndSupport(ctx, h.admin, h.org, "x"), errs.NotFound},
		"ended by a member":    {h.EndSupport(ctx, h.member, h.org, s.ID), errs.Denied},
		"listed by a stranger": {second(h.Supports(ctx, h.newPerson(t, "stranger"), h.org)), errs.NotFound},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.err, tc.code) })
	}
}
