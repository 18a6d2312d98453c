package registry

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/topic"
)

// A household of rights: an organisation with a device in a group and one that is
// in none, an owner, and a member who made an API key.
type held struct {
	*world
	org    auth.OrgID
	member Actor
	key    Application
	token  secret.String
}

func newHeld(t *testing.T) *held {
	t.Helper()
	h := &held{world: newWorld(t)}
	ctx := t.Context()
	h.org, _ = h.simple(t)
	h.newDevice(t, Device{Org: h.org, Type: "t", ID: "other"})
	_, err := h.CreateGroup(ctx, h.admin, Group{Org: h.org, ID: "hall"})
	check(t, err)
	check(t, h.ChangeGroupDevices(ctx, h.admin, h.org, "hall", []DeviceName{{"t", "d"}}, nil))
	h.newPerson(t, "ann")
	h.member = h.join(t, h.org, "ann", "PD_DEVELOPER_USER")
	h.key, h.token, err = h.CreateApplication(ctx, h.member, Application{Org: h.org})
	check(t, err)
	return h
}

func (h *held) actor() Actor { return Actor{Principal: h.key.Principal()} }

// grant returns what the key may do at MQTT.
func (h *held) grant(t *testing.T) (*auth.Grant, error) {
	t.Helper()
	return h.Verify(t.Context(), applicationLogin(h.key, h.token))
}

func allows(t *testing.T, g *auth.Grant, a auth.Action, name string) bool {
	t.Helper()
	n, err := topic.ParseName(name)
	check(t, err)
	return g.Allow(a, n) == nil
}

const (
	eventOfD     = "iot-2/type/t/id/d/evt/e/fmt/json"
	eventOfOther = "iot-2/type/t/id/other/evt/e/fmt/json"
	commandToD   = "iot-2/type/t/id/d/cmd/c/fmt/json"
)

// An API key never may do more than whoever made it may do now.
func TestAKeyStaysWithinItsMaker(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	may := func() (manage, command, event bool) {
		_, err := h.Device(ctx, h.actor(), h.org, "t", "d")
		g, refused := h.grant(t)
		if refused != nil {
			return err == nil, false, false
		}
		return err == nil, allows(t, g, auth.Publish, commandToD), allows(t, g, auth.Receive, eventOfD)
	}
	role := func(name string) error {
		_, err := h.SetMember(ctx, h.admin, h.org, "ann", MemberChange{Role: &name})
		return err
	}
	disabled := func(yes bool) error {
		_, err := h.SetMember(ctx, h.admin, h.org, "ann", MemberChange{Disabled: &yes})
		return err
	}
	until := func(at time.Time) error {
		_, err := h.SetMember(ctx, h.admin, h.org, "ann", MemberChange{Expires: &at})
		return err
	}
	type three [3]bool
	for _, step := range []struct {
		what string
		do   func() error
		want three
	}{
		{"as made", func() error { return nil }, three{true, true, true}},
		{"maker an analyst", func() error { return role("PD_ANALYST_USER") }, three{true, false, true}},
		{"maker a reader", func() error { return role("PD_READER_USER") }, three{true, false, false}},
		{"maker a developer again", func() error { return role("PD_DEVELOPER_USER") }, three{true, true, true}},
		{"maker disabled", func() error { return disabled(true) }, three{}},
		{"maker enabled", func() error { return disabled(false) }, three{true, true, true}},
		{"maker's time is over", func() error {
			if err := until(h.now().Add(time.Minute)); err != nil {
				return err
			}
			if g, err := h.grant(t); err != nil || g.Ref().Expires.IsZero() {
				t.Errorf("its connection does not end with the membership: %v", err)
			}
			h.clock.move(time.Hour)
			return nil
		}, three{}},
		{"maker has no end", func() error { return until(time.Time{}) }, three{true, true, true}},
		{"maker shut out of the installation", func() error { return h.SetPersonDisabled(ctx, h.admin, "ann", true) }, three{}},
		{"maker let in again", func() error { return h.SetPersonDisabled(ctx, h.admin, "ann", false) }, three{true, true, true}},
		{"taken over by the owner", func() error {
			if err := h.SetApplicationRights(ctx, h.admin, Application{Org: h.org, Key: h.key.Key, Role: permission.Owner}); err != nil {
				return err
			}
			return h.RemoveMember(ctx, h.admin, h.org, "ann")
		}, three{true, true, true}},
	} {
		check(t, step.do())
		if m, c, e := may(); (three{m, c, e}) != step.want {
			t.Errorf("%s: manages %v, commands %v, receives %v, want %v", step.what, m, c, e, step.want)
		}
	}
}

// Keys made with keys stand on all before them, and their number has an end.
func TestKeysMadeWithKeys(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	maker := h.actor()
	wantCode(t, second(h.CreateApplicationRights(ctx, maker, Application{Org: h.org})), errs.Denied) // a standard key makes none
	role := "PD_BACKEND_APP"
	check(t, h.SetApplicationRights(ctx, h.admin, Application{Org: h.org, Key: h.key.Key, Role: role}))
	keys := []Application{h.key}
	for range maxMakers {
		p, _, err := h.CreateApplication(ctx, Actor{Principal: keys[len(keys)-1].Principal()}, Application{Org: h.org, Role: role})
		check(t, err)
		keys = append(keys, p)
	}
	last := Actor{Principal: keys[len(keys)-1].Principal()}
	wantCode(t, second(h.CreateApplicationRights(ctx, last, Application{Org: h.org, Role: role})), errs.Denied)
	if _, err := h.Device(ctx, last, h.org, "t", "d"); err != nil {
		t.Error(err)
	}
	wantCode(t, h.DeleteApplication(ctx, h.admin, h.org, keys[1].Key), errs.Conflict)
	check(t, h.SetApplicationDisabled(ctx, h.admin, h.org, keys[1].Key, true))
	_, err := h.Device(ctx, last, h.org, "t", "d")
	wantCode(t, err, errs.Denied)
	check(t, h.SetApplicationDisabled(ctx, h.admin, h.org, keys[1].Key, false))
	// Neither itself nor one that stands on it.
	wantCode(t, h.SetApplicationRights(ctx, Actor{Principal: keys[0].Principal()}, Application{Org: h.org, Key: keys[0].Key, Role: role}), errs.Denied)
	wantCode(t, h.SetApplicationRights(ctx, last, Application{Org: h.org, Key: keys[0].Key, Role: role}), errs.Denied)
	if _, err := h.Device(ctx, last, h.org, "t", "d"); err != nil {
		t.Error(err)
	}
}

// CreateApplicationRights is CreateApplication for who looks at the error alone.
func (h *held) CreateApplicationRights(ctx context.Context, a Actor, p Application) (Application, error) {
	p, _, err := h.CreateApplication(ctx, a, p)
	return p, err
}

// Nobody gives rights that they do not have, nor takes over what has more.
func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	h.newPerson(t, "manager")
	manager := h.join(t, h.org, "manager", permission.Manager)
	h.newPerson(t, "limited")
	owner, yes := permission.Owner, true
	strong, _, err := h.CreateApplication(ctx, h.admin, Application{Org: h.org, Role: owner})
	check(t, err)
	rotate := func(a Actor) error {
		_, err := h.RotateToken(ctx, a, auth.Principal{Org: h.org, Kind: auth.Application, ID: strong.Key}, Rotation{})
		return err
	}
	member := func(a Actor, person string, c MemberChange) error {
		_, err := h.SetMember(ctx, a, h.org, person, c)
		return err
	}
	invite := func(a Actor, role string) error {
		_, _, err := h.Invite(ctx, a, Invitation{Org: h.org, Email: "x@example.com", Role: role}, 0)
		return err
	}
	groups := []string{"hall"}
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
	}{
		"key":                         {second(h.CreateApplicationRights(ctx, h.member, Application{Org: h.org, Role: owner})), errs.Denied},
		"key of a role that is none":  {second(h.CreateApplicationRights(ctx, h.admin, Application{Org: h.org, Role: "king"})), errs.NotFound},
		"key of the operator's role":  {second(h.CreateApplicationRights(ctx, h.admin, Application{Org: h.org, Role: permission.Support})), errs.NotFound},
		"key beyond its role":         {second(h.CreateApplicationRights(ctx, h.admin, Application{Org: h.org, Permissions: []string{"audit:read"}})), errs.Invalid},
		"key of no permission":        {second(h.CreateApplicationRights(ctx, h.admin, Application{Org: h.org, Permissions: []string{"fly"}})), errs.Invalid},
		"key of a group that is none": {second(h.CreateApplicationRights(ctx, h.admin, Application{Org: h.org, Limited: true, Groups: []string{"x"}})), errs.NotFound},
		"key with groups, unlimited":  {second(h.CreateApplicationRights(ctx, h.admin, Application{Org: h.org, Groups: groups})), errs.Invalid},
		"a stronger key's token":      {rotate(manager), errs.Denied},
		"a stronger key let in":       {h.SetApplicationDisabled(ctx, manager, h.org, strong.Key, false), errs.Denied},
		"a stronger key's rights":     {h.SetApplicationRights(ctx, manager, Application{Org: h.org, Key: strong.Key}), errs.Denied},
		"role":                        {second(h.PutRole(ctx, manager, Role{Org: h.org, Name: "all", Set: permission.All})), errs.Denied},
		"member made more":            {member(manager, "ann", MemberChange{Role: &owner}), errs.Denied},
		"oneself made more":           {member(manager, "manager", MemberChange{Role: &owner}), errs.Denied},
		"owner made less":             {member(manager, "tester", MemberChange{Disabled: &yes}), errs.Denied},
		"owner removed":               {h.RemoveMember(ctx, manager, h.org, "tester"), errs.Denied},
		"invitation to more":          {invite(manager, owner), errs.Denied},
		"last owner made less":        {member(h.admin, "tester", MemberChange{Limited: &yes}), errs.Conflict},
		"last owner leaves":           {h.RemoveMember(ctx, h.admin, h.org, "tester"), errs.Conflict},
		"maker of a key leaves":       {h.RemoveMember(ctx, h.member, h.org, "ann"), errs.Conflict},
		"person unknown":              {h.SetPersonDisabled(ctx, h.admin, "nobody", true), errs.NotFound},
		"oneself shut out":            {h.SetPersonDisabled(ctx, h.admin, "tester", true), errs.Invalid},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.err, tc.code) })
	}
	check(t, h.SetApplicationDisabled(ctx, manager, h.org, strong.Key, true)) // to take is always possible
	check(t, h.DeleteApplication(ctx, manager, h.org, strong.Key))
	check(t, h.RemoveMember(ctx, manager, h.org, "manager")) // and to leave
}

// Rights that are limited to resource groups end at their devices: elsewhere there
// is nothing.
func TestResourceGroups(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	check(t, h.SetApplicationRights(ctx, h.admin, Application{Org: h.org, Key: h.key.Key, Role: permission.Manager, Limited: true, Groups: []string{"hall"}}))
	key := h.actor()
	listed := func() (ids []string) {
		all, _, err := h.Devices(ctx, key, h.org, DeviceFilter{Prefix: ""}, Page{})
		check(t, err)
		for _, d := range all {
			ids = append(ids, d.ID)
		}
		return ids
	}
	if got := listed(); !slices.Equal(got, []string{"d"}) {
		t.Errorf("listed %q", got)
	}
	if _, err := h.Device(ctx, key, h.org, "t", "d"); err != nil {
		t.Error(err)
	}
	rotate := func(id string) error {
		_, err := h.RotateToken(ctx, key, auth.Principal{Org: h.org, Kind: auth.Device, ID: "t:" + id}, Rotation{})
		return err
	}
	check(t, rotate("d"))
	for name, err := range map[string]error{
		"see":    second(h.Device(ctx, key, h.org, "t", "other")),
		"rotate": rotate("other"),
		"delete": h.DeleteDevice(ctx, key, h.org, "t", "other"),
		"enrol":  second(h.CreateEnrolment(ctx, key, h.org, "t", "other", 0)),
		"certs":  second(h.Certificates(ctx, key, h.org, "t", "other")),
		"group":  h.ChangeGroupDevices(ctx, key, h.org, "hall", []DeviceName{{"t", "other"}}, nil),
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, err, errs.NotFound) })
	}
	_, _, err := h.CreateDevice(ctx, key, Device{Org: h.org, Type: "t", ID: "new"})
	wantCode(t, err, errs.Denied)
	wantCode(t, h.MayReceive(ctx, key, h.org), errs.Denied)

	may := func() [4]bool {
		g, err := h.grant(t)
		check(t, err)
		return [4]bool{allows(t, g, auth.Receive, eventOfD), allows(t, g, auth.Receive, eventOfOther),
			allows(t, g, auth.Publish, commandToD), allows(t, g, auth.Publish, strings.Replace(commandToD, "/d/", "/other/", 1))}
	}
	if got := may(); got != [4]bool{true, false, true, false} {
		t.Errorf("in the group: %v", got)
	}
	check(t, h.ChangeGroupDevices(ctx, h.admin, h.org, "hall", []DeviceName{{"t", "other"}}, []DeviceName{{"t", "d"}}))
	if got := may(); got != [4]bool{false, true, false, true} || !slices.Equal(listed(), []string{"other"}) {
		t.Errorf("after the devices changed: %v, %q", got, listed())
	}
	check(t, h.DeleteDevice(ctx, h.admin, h.org, "t", "other"))
	h.newDevice(t, Device{Org: h.org, Type: "t", ID: "other"})
	if got := may(); got != [4]bool{} {
		t.Errorf("a later device of the same name: %v", got)
	}
	check(t, h.DeleteGroup(ctx, h.admin, h.org, "hall"))
	if got := may(); got != [4]bool{} || len(listed()) != 0 {
		t.Errorf("without a group: %v", got)
	}
	// A maker who is limited limits what they made.
	groups, yes := []string{}, true
	for _, a := range []Actor{h.admin, h.member} {
		check(t, h.SetApplicationRights(ctx, a, Application{Org: h.org, Key: h.key.Key}))
	}
	if len(listed()) != 2 {
		t.Errorf("unlimited again: %q", listed())
	}
	check(t, second(h.SetMember(ctx, h.admin, h.org, "ann", MemberChange{Limited: &yes, Groups: &groups})))
	if len(listed()) != 0 {
		t.Errorf("with a limited maker: %q", listed())
	}
}

// What limits there are for groups, the hundredth device finds out.
func TestGroupLimits(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	for i := range maxGroupsOf + 1 {
		id := "g" + string(rune('a'+i))
		_, err := w.CreateGroup(ctx, w.admin, Group{Org: org, ID: id})
		check(t, err)
		err = w.ChangeGroupDevices(ctx, w.admin, org, id, []DeviceName{{"t", "d"}}, nil)
		if i < maxGroupsOf {
			check(t, err)
		} else {
			wantCode(t, err, errs.Exhausted)
		}
	}
	many := make([]DeviceName, 2*maxGroupDevices+1)
	wantCode(t, w.ChangeGroupDevices(ctx, w.admin, org, "ga", many, nil), errs.Invalid)
	wantCode(t, w.ChangeGroupDevices(ctx, w.admin, org, "ga", []DeviceName{{"t", "x"}}, nil), errs.NotFound)
	wantCode(t, second(w.CreateGroup(ctx, w.admin, Group{Org: org, ID: "a b"})), errs.Invalid)
	wantCode(t, second(w.CreateGroup(ctx, w.admin, Group{Org: org, ID: "ga"})), errs.Conflict)
	for i := range maxRoles + 1 {
		_, err := w.PutRole(ctx, w.admin, Role{Org: org, Name: "r" + string(rune('a'+i)), Set: permission.Of(permission.OrgRead)})
		if i < maxRoles {
			check(t, err)
		} else {
			wantCode(t, err, errs.Exhausted)
		}
	}
}

// An invitation is good once, for a while, and no more than whoever invited.
func TestInvitations(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	h.newPerson(t, "boss")
	boss := h.join(t, h.org, "boss", permission.Manager)
	invite := func(role string) secret.String {
		_, code, err := h.Invite(ctx, boss, Invitation{Org: h.org, Email: "bob@example.com", Role: role}, 0)
		check(t, err)
		return code
	}
	code := invite("auditor")
	token, a, err := h.Enter(ctx, code, "Bob", ForCLI, "192.0.2.7:1", "test")
	check(t, err)
	signedIn, err := h.Session(ctx, token, "192.0.2.7:1")
	check(t, err)
	if signedIn.Admin || signedIn.Principal != a.Principal {
		t.Errorf("%+v", signedIn)
	}
	if orgs, _, err := h.Orgs(ctx, signedIn, Page{}); err != nil || len(orgs) != 1 || orgs[0].ID != h.org {
		t.Errorf("%+v %v", orgs, err)
	}
	if mine, err := h.Memberships(ctx, signedIn); err != nil || len(mine) != 1 || mine[0].Role != "auditor" || mine[0].Name != "Bob" {
		t.Errorf("%+v %v", mine, err)
	}
	enter := func(code secret.String) error {
		_, _, err := h.Enter(ctx, code, "Carl", ForCLI, "", "")
		return err
	}
	wantCode(t, enter(code), errs.Unauthenticated) // used
	wantCode(t, enter(secret.New("guess")), errs.Unauthenticated)
	late := invite("auditor")
	h.clock.move(DefaultInvitation)
	wantCode(t, enter(late), errs.Unauthenticated)
	weaker := invite("auditor")
	reader := permission.Reader
	check(t, second(h.SetMember(ctx, h.admin, h.org, "boss", MemberChange{Role: &reader})))
	wantCode(t, enter(weaker), errs.Unauthenticated)
	for name, tc := range map[string]Invitation{
		"email": {Email: "Bob <bob@example.com>"}, "none": {}, "role": {Email: "b@example.com", Role: "king"},
	} {
		tc.Org = h.org
		if _, _, err := h.Invite(ctx, h.admin, tc, 0); errs.CodeOf(err) != errs.Invalid && errs.CodeOf(err) != errs.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err = h.Invite(ctx, h.admin, Invitation{Org: h.org, Email: "b@example.com"}, time.Minute)
	wantCode(t, err, errs.Invalid)
	people := func() (n int) { return h.count(t, "person") }
	before := people()
	wantCode(t, enter(secret.New("guess")), errs.Unauthenticated)
	if people() != before {
		t.Error("a refused invitation made a person")
	}
}

// An administrator of the installation oversees organisations, and does not look
// into them.
func TestAdministratorsDoNotLookIn(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	operator := h.newPerson(t, "operator")
	operator.Admin = true
	if _, err := h.Org(ctx, operator, h.org); err != nil {
		t.Error(err)
	}
	if _, err := h.OrgLimits(ctx, operator, h.org); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"devices": third(h.Devices(ctx, operator, h.org, DeviceFilter{}, Page{})),
		"device":  second(h.Device(ctx, operator, h.org, "t", "d")),
		"members": third(h.Members(ctx, operator, h.org, Page{})),
		"invite":  third(h.Invite(ctx, operator, Invitation{Org: h.org, Email: "o@example.com", Role: permission.Owner}, 0)),
		"receive": h.MayReceive(ctx, operator, h.org),
		"key":     second(h.CreateApplicationRights(ctx, operator, Application{Org: h.org})),
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, err, errs.Denied) })
	}
	_, err := h.Org(ctx, operator, "nope00")
	wantCode(t, err, errs.NotFound)
	stranger := h.newPerson(t, "stranger")
	_, err = h.Org(ctx, stranger, h.org)
	wantCode(t, err, errs.NotFound)
}
