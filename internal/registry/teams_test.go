package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
)

// What a team gives comes beside what its members have: each as far as it goes,
// from the moment they are of it and until they are not.
func TestTeamGives(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	_, err := h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "hall-crew", Role: "PD_OPERATOR_USER", Limited: true, Groups: []string{"hall"}})
	check(t, err)
	h.newPerson(t, "bob")
	bob := h.join(t, h.org, "bob", "PD_ANALYST_USER")
	key, token, err := h.CreateApplication(ctx, h.admin, Application{Org: h.org, Role: permission.Owner})
	check(t, err)
	// Bob stands behind it from now on, with whatever he has.
	check(t, h.exec(t, fmt.Sprintf(`UPDATE application SET maker_kind = %d, maker = 'bob' WHERE key = '%s'`, auth.Person, key.Key)))
	h.known.clear()
	see := func(id string) error { _, err := h.Device(ctx, bob, h.org, "t", id); return err }
	rotate := func(id string) error {
		_, err := h.RotateToken(ctx, bob, auth.Principal{Org: h.org, Kind: auth.Device, ID: "t:" + id}, Rotation{})
		return err
	}
	verdict := func() (all [4]bool) {
		g, err := h.Verify(ctx, applicationLogin(key, token))
		check(t, err)
		return [4]bool{allows(t, g, auth.Publish, eventOfD), allows(t, g, auth.Publish, eventOfOther),
			allows(t, g, auth.Receive, eventOfD), allows(t, g, auth.Receive, eventOfOther)}
	}
	wantCode(t, rotate("d"), errs.Denied)
	if got := verdict(); got != [4]bool{false, false, true, true} {
		t.Errorf("before: %v", got)
	}
	reader := h.changes.subscribe()
	defer h.changes.unsubscribe(reader)
	check(t, h.ChangeTeamMembers(ctx, h.admin, h.org, "hall-crew", []string{"bob"}, nil))
	heard := false
	for len(reader.ch) > 0 {
		c := <-reader.ch
		heard = heard || c.Covers(auth.Principal{Org: h.org, Kind: auth.Person, ID: "bob"})
	}
	if !heard {
		t.Error("whoever comes into a team is not asked for again")
	}
	check(t, rotate("d"))
	wantCode(t, rotate("other"), errs.NotFound) // as for everybody with that permission for a group only
	check(t, see("other"))                      // what is his own has no limit
	if got := verdict(); got != [4]bool{true, false, true, true} {
		t.Errorf("in the team: %v", got)
	}
	if all, _, err := h.Devices(ctx, bob, h.org, DeviceFilter{}, Page{}); err != nil || len(all) != 2 {
		t.Errorf("%d devices, %v", len(all), err)
	}
	_, err = h.CreateLock(ctx, bob, Lock{Org: h.org, Kind: LockType, Target: "t", Reason: "x"})
	wantCode(t, err, errs.Denied)
	m, err := h.Member(ctx, bob, h.org, "bob")
	check(t, err)
	if strings.Join(m.Teams, " ") != "hall-crew" {
		t.Errorf("teams %q", m.Teams)
	}
	why := func(a auth.Action, name string) Explanation {
		e, err := h.Explain(ctx, h.admin, Question{Org: h.org, Who: bob.Principal, Action: a, Topic: name})
		check(t, err)
		return e
	}
	if e := why(auth.Publish, eventOfD); !e.Allowed || !strings.Contains(e.Source, `the role "PD_OPERATOR_USER" of the team "hall-crew"`) {
		t.Errorf("%+v", e)
	}
	if e := why(auth.Receive, eventOfOther); !e.Allowed || strings.Contains(e.Source, "team") {
		t.Errorf("%+v", e)
	}
	if e := why(auth.Publish, eventOfOther); e.Allowed {
		t.Errorf("%+v", e)
	}
	// The team changes, and so do they.
	_, err = h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "hall-crew", Role: "PD_OPERATOR_USER"})
	check(t, err)
	check(t, rotate("other"))
	check(t, h.ChangeTeamMembers(ctx, h.admin, h.org, "hall-crew", nil, []string{"bob"}))
	wantCode(t, rotate("d"), errs.Denied)
	if got := verdict(); got != [4]bool{false, false, true, true} {
		t.Errorf("after: %v", got)
	}
	check(t, h.ChangeTeamMembers(ctx, h.admin, h.org, "hall-crew", []string{"bob"}, nil))
	yes := true
	_, err = h.SetMember(ctx, h.admin, h.org, "bob", MemberChange{Disabled: &yes})
	check(t, err)
	wantCode(t, rotate("d"), errs.NotFound) // who is no member has nothing from a team
	yes = false
	_, err = h.SetMember(ctx, h.admin, h.org, "bob", MemberChange{Disabled: &yes})
	check(t, err)
	check(t, h.DeleteTeam(ctx, h.admin, h.org, "hall-crew"))
	wantCode(t, rotate("d"), errs.Denied)
}

// Nobody gives or takes by way of a team what they do not have.
func TestNobodyClimbsByATeam(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	h.newPerson(t, "eve")
	eve := h.join(t, h.org, "eve", "manager")
	_, err := h.PutTeam(ctx, eve, Team{Org: h.org, ID: "kings", Role: permission.Owner})
	wantCode(t, err, errs.Denied)
	_, err = h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "kings", Role: permission.Owner})
	check(t, err)
	check(t, h.ChangeTeamMembers(ctx, h.admin, h.org, "kings", []string{"ann"}, nil))
	wantCode(t, h.ChangeTeamMembers(ctx, eve, h.org, "kings", []string{"eve"}, nil), errs.Denied)
	wantCode(t, h.ChangeTeamMembers(ctx, eve, h.org, "kings", nil, []string{"ann"}), errs.Denied)
	wantCode(t, h.DeleteTeam(ctx, eve, h.org, "kings"), errs.Denied)
	_, err = h.PutTeam(ctx, eve, Team{Org: h.org, ID: "kings", Role: "member"})
	wantCode(t, err, errs.Denied)
	role, yes := "PD_READER_USER", true
	_, err = h.SetMember(ctx, eve, h.org, "ann", MemberChange{Role: &role})
	wantCode(t, err, errs.Denied)
	_, err = h.SetMember(ctx, eve, h.org, "ann", MemberChange{Disabled: &yes})
	wantCode(t, err, errs.Denied)
	wantCode(t, h.RemoveMember(ctx, eve, h.org, "ann"), errs.Denied)
	_, err = h.CreateLock(ctx, eve, Lock{Org: h.org, Kind: LockPrincipal, Target: "person:ann", Reason: "x"})
	wantCode(t, err, errs.Denied)
	_, _, err = h.Invite(ctx, eve, Invitation{Org: h.org, Email: "x@example.com", Teams: []string{"kings"}}, 0)
	wantCode(t, err, errs.Denied)
	// Ann has it all by her team, but an organisation's owner is one by herself.
	_, err = h.SetMember(ctx, h.member, h.org, "tester", MemberChange{Role: &role})
	wantCode(t, err, errs.Conflict)
	wantCode(t, h.RemoveMember(ctx, h.member, h.org, "tester"), errs.Conflict)
	// What concerns one's own rights needs no more than those; others' need the permission.
	_, err = h.Teams(ctx, Actor{Principal: auth.Principal{Kind: auth.Person, ID: "stranger"}}, h.org)
	wantCode(t, err, errs.NotFound)
	for name, x := range map[string]struct {
		err  error
		code errs.Code
	}{
		"role":      {second(h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "x", Role: "nope"})), errs.NotFound},
		"support":   {second(h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "x", Role: permission.Support})), errs.NotFound},
		"name":      {second(h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "a b", Role: "member"})), errs.Invalid},
		"group":     {second(h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "x", Role: "member", Limited: true, Groups: []string{"nope"}})), errs.NotFound},
		"unlimited": {second(h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: "x", Role: "member", Groups: []string{"hall"}})), errs.Invalid},
		"person":    {h.ChangeTeamMembers(ctx, h.admin, h.org, "kings", []string{"nobody"}, nil), errs.NotFound},
		"team":      {h.ChangeTeamMembers(ctx, h.admin, h.org, "nope", nil, nil), errs.NotFound},
		"delete":    {h.DeleteTeam(ctx, h.admin, h.org, "nope"), errs.NotFound},
		"many":      {h.ChangeTeamMembers(ctx, h.admin, h.org, "kings", make([]string, maxTeamMembers+1), nil), errs.Invalid},
	} {
		if x.err == nil || errs.CodeOf(x.err) != x.code {
			t.Errorf("%s: %v", name, x.err)
		}
	}
	// Nobody is of more teams than there is room for.
	for i := range maxTeamsOf {
		id := fmt.Sprintf("t%d", i)
		_, err := h.PutTeam(ctx, h.admin, Team{Org: h.org, ID: id, Role: "member"})
		check(t, err)
		err = h.ChangeTeamMembers(ctx, h.admin, h.org, id, []string{"ann"}, nil)
		if full := i == maxTeamsOf-1; full != (errs.CodeOf(err) == errs.Exhausted && err != nil) {
			t.Errorf("team %d: %v", i, err)
		}
	}
}

func TestInvitedToATeam(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	h.newPerson(t, "eve")
	h.newPerson(t, "bob")
	eve := h.join(t, h.org, "eve", "manager")
	_, err := h.PutTeam(ctx, eve, Team{Org: h.org, ID: "crew", Role: "PD_OPERATOR_USER"})
	check(t, err)
	_, code, err := h.Invite(ctx, eve, Invitation{Org: h.org, Email: "bob@example.com", Teams: []string{"crew", "crew"}}, 0)
	check(t, err)
	_, late, err := h.Invite(ctx, eve, Invitation{Org: h.org, Email: "bob@example.com", Teams: []string{"crew"}}, 0)
	check(t, err)
	bob := Actor{Principal: auth.Principal{Kind: auth.Person, ID: "bob"}}
	m, err := h.Accept(ctx, bob, code)
	check(t, err)
	if strings.Join(m.Teams, " ") != "crew" {
		t.Errorf("%+v", m)
	}
	check(t, second(h.RotateToken(ctx, bob, auth.Principal{Org: h.org, Kind: auth.Device, ID: "t:d"}, Rotation{})))
	wantCode(t, second(h.CreateGroup(ctx, bob, Group{Org: h.org, ID: "x", Description: "\x00"})), errs.Invalid)
	all, err := h.TeamMembers(ctx, eve, h.org, "crew")
	check(t, err)
	if len(all) != 1 || all[0].Person != "bob" {
		t.Errorf("%+v", all)
	}
	check(t, h.RemoveMember(ctx, bob, h.org, "bob"))
	if n := h.count(t, "team_member"); n != 0 {
		t.Errorf("%d are left in teams", n)
	}
	// Who invited must be able to give it still, and the team must be there.
	role := "PD_READER_USER"
	_, err = h.SetMember(ctx, h.admin, h.org, "eve", MemberChange{Role: &role})
	check(t, err)
	_, err = h.Accept(ctx, bob, late)
	wantCode(t, err, errs.Unauthenticated)
	_, gone, err := h.Invite(ctx, h.admin, Invitation{Org: h.org, Email: "bob@example.com", Teams: []string{"crew"}}, 0)
	check(t, err)
	check(t, h.DeleteTeam(ctx, h.admin, h.org, "crew"))
	_, err = h.Accept(ctx, bob, gone)
	wantCode(t, err, errs.Unauthenticated)
}
