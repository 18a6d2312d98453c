package registry

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/jwt"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// A mutation is one change that an actor may or may not make.
type mutation struct {
	action string // on the audit record
	need   permission.Permission
	do     func(ctx context.Context, a Actor) error
}

// administrator stands for what only an administrator of the installation may.
const administrator = permission.Permission(255)

// mutations returns every change there is, in an order in which each finds what
// it needs: organisation iot has type "t", gateway "g:g" and device "t:d".
func mutations(w *world, iot, plain auth.OrgID, key string) []mutation {
	return slices.Concat(orgMutations(w, iot, plain), deviceMutations(w, iot), otherMutations(w, iot, plain, key), issuerMutations(w, iot), certificateMutations(w, iot), providerMutations(w, iot), homeMutations(w),
		holderMutations(w, iot), lockMutations(w, iot), auditMutations(w))
}

func holderMutations(w *world, org auth.OrgID) []mutation {
	const person = "invited"
	role := "auditor"
	var code secret.String
	var invited Invitation
	return []mutation{
		{"role.create", permission.RoleWrite, func(ctx context.Context, a Actor) error {
			_, err := w.PutRole(ctx, a, Role{Org: org, Name: "night", Set: permission.Of(permission.DeviceRead)})
			return err
		}},
		{"role.update", permission.RoleWrite, func(ctx context.Context, a Actor) error {
			_, err := w.PutRole(ctx, a, Role{Org: org, Name: "night", Set: permission.Of(permission.TypeRead)})
			return err
		}},
		{"role.delete", permission.RoleWrite, func(ctx context.Context, a Actor) error { return w.DeleteRole(ctx, a, org, "night") }},
		{"group.create", permission.GroupWrite, func(ctx context.Context, a Actor) error {
			_, err := w.CreateGroup(ctx, a, Group{Org: org, ID: "hall"})
			return err
		}},
		{"group.devices", permission.GroupWrite, func(ctx context.Context, a Actor) error {
			return w.ChangeGroupDevices(ctx, a, org, "hall", []DeviceName{{"t", "d"}}, nil)
		}},
		{"group.delete", permission.GroupWrite, func(ctx context.Context, a Actor) error { return w.DeleteGroup(ctx, a, org, "hall") }},
		{"invitation.create", permission.MemberWrite, func(ctx context.Context, a Actor) (err error) {
			invited, code, err = w.Invite(ctx, a, Invitation{Org: org, Email: "ann@example.com"}, 0)
			return err
		}},
		{"invitation.delete", permission.MemberWrite, func(ctx context.Context, a Actor) error { return w.Uninvite(ctx, a, org, invited.ID) }},
		{"invitation.create", permission.MemberWrite, func(ctx context.Context, a Actor) (err error) {
			_, code, err = w.Invite(ctx, a, Invitation{Org: org, Email: "ann@example.com"}, 0)
			return err
		}},
		{"member.join", everybody, func(ctx context.Context, _ Actor) error {
			_, err := w.Accept(ctx, Actor{Principal: auth.Principal{Kind: auth.Person, ID: person}}, code)
			return err
		}},
		{"member.update", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			_, err := w.SetMember(ctx, a, org, person, MemberChange{Role: &role})
			return err
		}},
		{"team.create", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			_, err := w.PutTeam(ctx, a, Team{Org: org, ID: "crew", Role: "auditor"})
			return err
		}},
		{"team.update", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			_, err := w.PutTeam(ctx, a, Team{Org: org, ID: "crew", Role: "PD_READER_USER"})
			return err
		}},
		{"team.members", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			return w.ChangeTeamMembers(ctx, a, org, "crew", []string{person}, nil)
		}},
		{"team.delete", permission.MemberWrite, func(ctx context.Context, a Actor) error { return w.DeleteTeam(ctx, a, org, "crew") }},
		{"service.create", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			_, err := w.PutService(ctx, a, Service{Org: org, ID: "ci", Role: "auditor"})
			return err
		}},
		{"service.update", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			_, err := w.PutService(ctx, a, Service{Org: org, ID: "ci", Role: "PD_READER_USER"})
			return err
		}},
		{"service.disable", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			return w.SetServiceDisabled(ctx, a, org, "ci", true)
		}},
		{"service.enable", permission.MemberWrite, func(ctx context.Context, a Actor) error {
			return w.SetServiceDisabled(ctx, a, org, "ci", false)
		}},
		{"service.delete", permission.MemberWrite, func(ctx context.Context, a Actor) error { return w.DeleteService(ctx, a, org, "ci") }},
		{"person.disable", administrator, func(ctx context.Context, a Actor) error { return w.SetPersonDisabled(ctx, a, person, true) }},
		{"person.enable", administrator, func(ctx context.Context, a Actor) error { return w.SetPersonDisabled(ctx, a, person, false) }},
		{"member.remove", permission.MemberWrite, func(ctx context.Context, a Actor) error { return w.RemoveMember(ctx, a, org, person) }},
	}
}

// everybody stands for what takes no permission but a secret.
const everybody = permission.Permission(254)

// almost makes a person a member of every organisation, who may do everything but p.
func (w *world) almost(t *testing.T, p permission.Permission) Actor {
	t.Helper()
	a := Actor{Principal: auth.Principal{Kind: auth.Person, ID: "almost"}}
	check(t, w.db.DB.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		for _, q := range []string{
			`INSERT INTO role (org, name, description, permissions, created_at) SELECT id, 'almost', '', '', 1 FROM org WHERE TRUE ON CONFLICT (org, name) DO NOTHING`,
			`INSERT INTO member (org, person, role, created_at) SELECT id, 'almost', 'almost', 1 FROM org WHERE TRUE ON CONFLICT (org, person) DO NOTHING`,
			`UPDATE role SET permissions = '` + permission.All.Without(p).String() + `' WHERE name = 'almost'`,
		} {
			if _, err := tx.ExecContext(t.Context(), q); err != nil {
				return err
			}
		}
		return nil
	}))
	return a
}

func lockMutations(w *world, org auth.OrgID) []mutation {
	var made Lock
	lock := func(org auth.OrgID) func(context.Context, Actor) error {
		return func(ctx context.Context, a Actor) (err error) {
			made, err = w.CreateLock(ctx, a, Lock{Org: org, Kind: LockAddress, Target: "203.0.113.7", Reason: "x"})
			return err
		}
	}
	open := func(org auth.OrgID) func(context.Context, Actor) error {
		return func(ctx context.Context, a Actor) error { return w.DeleteLock(ctx, a, org, made.ID) }
	}
	return []mutation{
		{"lock.create", permission.LockWrite, lock(org)},
		{"lock.delete", permission.LockWrite, open(org)},
		{"network.update", permission.NetworkWrite, func(ctx context.Context, a Actor) error {
			_, err := w.SetNetwork(ctx, a, org, Network{Mode: NetworkDeny, Ranges: []string{"203.0.113.0/24"}})
			return err
		}},
		{"policy.update", permission.NetworkWrite, func(ctx context.Context, a Actor) error {
			_, err := w.SetPolicies(ctx, a, org, Policies{Default: PolicyToken})
			return err
		}},
		{"lock.create", administrator, lock("")},
		{"lock.delete", administrator, open("")},
	}
}

func auditMutations(w *world) []mutation {
	days := 30
	return []mutation{
		{"audit.retention", administrator, func(ctx context.Context, a Actor) error { return w.SetAuditDays(ctx, a, &days) }},
	}
}

func issuerMutations(w *world, org auth.OrgID) []mutation {
	const document = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	keys, _ := jwt.ParseKeys([]byte(document))
	return []mutation{
		{"issuer.create", permission.IssuerWrite, func(ctx context.Context, a Actor) error {
			_, err := w.CreateIssuer(ctx, a, Issuer{Org: org, Name: "idp", Issuer: "i", Audience: "a", Algorithms: []string{"EdDSA"}, Keys: keys})
			return err
		}},
		{"issuer.update", permission.IssuerWrite, func(ctx context.Context, a Actor) error {
			_, err := w.UpdateIssuer(ctx, a, Issuer{Org: org, Name: "idp", Audience: "b"})
			return err
		}},
		{"issuer.delete", permission.IssuerWrite, func(ctx context.Context, a Actor) error { return w.DeleteIssuer(ctx, a, org, "idp") }},
	}
}

func homeMutations(w *world) []mutation {
	const house auth.OrgID = "house1"
	yes := true
	return []mutation{
		{"org.create", administrator, func(ctx context.Context, a Actor) error {
			_, err := w.CreateOrg(ctx, a, Org{ID: house, Profile: ProfileHome})
			return err
		}},
		{"org.home", permission.OrgWrite, func(ctx context.Context, a Actor) error {
			_, err := w.SetHome(ctx, a, house, HomeChange{Anonymous: &yes})
			return err
		}},
		{"user.create", permission.UserWrite, func(ctx context.Context, a Actor) error {
			_, _, err := w.CreateUser(ctx, a, User{Org: house, Name: "ann", Role: "actor"})
			return err
		}},
		{"user.role", permission.UserWrite, func(ctx context.Context, a Actor) error {
			return w.SetUserRole(ctx, a, house, "ann", "bridge")
		}},
	}
}

func orgMutations(w *world, iot, plain auth.OrgID) []mutation {
	return []mutation{
		{"org.create", administrator, func(ctx context.Context, a Actor) error {
			_, err := w.CreateOrg(ctx, a, Org{ID: "made01"})
			return err
		}},
		{"org.update", permission.OrgWrite, func(ctx context.Context, a Actor) error {
			_, err := w.UpdateOrg(ctx, a, Org{ID: iot, Name: "New name"})
			return err
		}},
		{"org.disable", administrator, func(ctx context.Context, a Actor) error { return w.SetOrgDisabled(ctx, a, plain, true) }},
		{"org.enable", administrator, func(ctx context.Context, a Actor) error { return w.SetOrgDisabled(ctx, a, plain, false) }},
		{"org.limits", administrator, func(ctx context.Context, a Actor) error {
			_, err := w.SetOrgLimits(ctx, a, plain, map[string]any{"org.connections": 5, "client.queue": nil})
			return err
		}},
		{"org.delete", administrator, func(ctx context.Context, a Actor) error { return w.DeleteOrg(ctx, a, "made01") }},
	}
}

func providerMutations(w *world, org auth.OrgID) []mutation {
	p := SignInProvider{Org: org, Name: "corp", Issuer: "https://id.example.com", ClientID: "c", Roles: []GroupRole{{"g", permission.Reader}}}
	put := func(ctx context.Context, a Actor) error {
		return second(w.PutSignInProvider(ctx, a, p, secret.New("s")))
	}
	return []mutation{
		{"sign-in-provider.create", permission.IssuerWrite, put},
		{"sign-in-provider.update", permission.IssuerWrite, put},
		{"sign-in-provider.delete", permission.IssuerWrite, func(ctx context.Context, a Actor) error { return w.DeleteSignInProvider(ctx, a, org, "corp") }},
	}
}

func certificateMutations(w *world, org auth.OrgID) []mutation {
	const name = "mqtt.customer.example.com"
	var c ServerCertificate
	return []mutation{
		{"server-name.give", administrator, func(ctx context.Context, a Actor) error { return w.GiveServerName(ctx, a, org, name) }},
		{"server-certificate.request", permission.NetworkWrite, func(ctx context.Context, a Actor) (err error) {
			c, err = w.RequestServerCertificate(ctx, a, org)
			return err
		}},
		{"server-certificate.complete", permission.NetworkWrite, func(ctx context.Context, a Actor) error {
			_, err := w.CompleteServerCertificate(ctx, a, org, c.ID, signRequest(c.Request, name))
			return err
		}},
		{"server-certificate.delete", permission.NetworkWrite, func(ctx context.Context, a Actor) error { return w.DeleteServerCertificate(ctx, a, org, c.ID) }},
		{"server-certificate.upload", permission.NetworkWrite, func(ctx context.Context, a Actor) error {
			chain, key := serverPair(name)
			_, err := w.UploadServerCertificate(ctx, a, org, chain, key)
			return err
		}},
		{"server-name.take", administrator, func(ctx context.Context, a Actor) error { return w.TakeServerName(ctx, a, org, name) }},
	}
}

func deviceMutations(w *world, org auth.OrgID) []mutation {
	return []mutation{
		{"type.create", permission.TypeWrite, func(ctx context.Context, a Actor) error {
			_, err := w.CreateDeviceType(ctx, a, DeviceType{Org: org, ID: "new"})
			return err
		}},
		{"type.limits", permission.LimitWrite, func(ctx context.Context, a Actor) error {
			_, err := w.SetTypeLimits(ctx, a, org, "new", map[string]any{"client.queue": 5})
			return err
		}},
		{"type.delete", permission.TypeWrite, func(ctx context.Context, a Actor) error { return w.DeleteDeviceType(ctx, a, org, "new") }},
		{"device.create", permission.DeviceWrite, func(ctx context.Context, a Actor) error {
			_, _, err := w.CreateDevice(ctx, a, Device{Org: org, Type: "t", ID: "new"})
			return err
		}},
		{"device.disable", permission.DeviceWrite, func(ctx context.Context, a Actor) error {
			return w.SetDeviceDisabled(ctx, a, org, "t", "new", true)
		}},
		{"device.enable", permission.DeviceWrite, func(ctx context.Context, a Actor) error {
			return w.SetDeviceDisabled(ctx, a, org, "t", "new", false)
		}},
		{"device.rotate", permission.DeviceCredential, func(ctx context.Context, a Actor) error {
			_, err := w.RotateToken(ctx, a, auth.Principal{Org: org, Kind: auth.Device, ID: "t:new"}, Rotation{Overlap: time.Hour})
			return err
		}},
		{"device.retire", permission.DeviceCredential, func(ctx context.Context, a Actor) error {
			return w.RetireToken(ctx, a, auth.Principal{Org: org, Kind: auth.Device, ID: "t:new"})
		}},
		{"device.expiry", permission.DeviceCredential, func(ctx context.Context, a Actor) error {
			return w.SetTokenExpiry(ctx, a, auth.Principal{Org: org, Kind: auth.Device, ID: "t:new"}, time.Now().Add(time.Hour))
		}},
		{"device.attach", permission.DeviceWrite, func(ctx context.Context, a Actor) error {
			return w.SetDeviceGateway(ctx, a, org, "t", "new", "g:g")
		}},
		{"device.detach", permission.DeviceWrite, func(ctx context.Context, a Actor) error {
			return w.SetDeviceGateway(ctx, a, org, "t", "new", "")
		}},
		{"device.registers", permission.DeviceWrite, func(ctx context.Context, a Actor) error {
			return w.SetDeviceRegisters(ctx, a, org, "g", "g", true)
		}},
		{"enrolment.create", permission.DeviceCredential, func(ctx context.Context, a Actor) error {
			_, err := w.CreateEnrolment(ctx, a, org, "t", "new", 0)
			return err
		}},
		{"device.delete", permission.DeviceWrite, func(ctx context.Context, a Actor) error { return w.DeleteDevice(ctx, a, org, "t", "new") }},
	}
}

func otherMutations(w *world, iot, plain auth.OrgID, key string) []mutation {
	return []mutation{
		{"application.create", permission.ApplicationWrite, func(ctx context.Context, a Actor) error {
			_, _, err := w.CreateApplication(ctx, a, Application{Org: iot, Name: "n"})
			return err
		}},
		{"application.disable", permission.ApplicationWrite, func(ctx context.Context, a Actor) error {
			return w.SetApplicationDisabled(ctx, a, iot, key, true)
		}},
		{"application.enable", permission.ApplicationWrite, func(ctx context.Context, a Actor) error {
			return w.SetApplicationDisabled(ctx, a, iot, key, false)
		}},
		{"application.rights", permission.ApplicationWrite, func(ctx context.Context, a Actor) error {
			return w.SetApplicationRights(ctx, a, Application{Org: iot, Key: key, Role: permission.Application})
		}},
		{"application.rotate", permission.ApplicationWrite, func(ctx context.Context, a Actor) error {
			_, err := w.RotateToken(ctx, a, auth.Principal{Org: iot, Kind: auth.Application, ID: key}, Rotation{Overlap: time.Hour})
			return err
		}},
		{"application.retire", permission.ApplicationWrite, func(ctx context.Context, a Actor) error {
			return w.RetireToken(ctx, a, auth.Principal{Org: iot, Kind: auth.Application, ID: key})
		}},
		{"application.expiry", permission.ApplicationWrite, func(ctx context.Context, a Actor) error {
			return w.SetTokenExpiry(ctx, a, auth.Principal{Org: iot, Kind: auth.Application, ID: key}, time.Now().Add(time.Hour))
		}},
		{"application.delete", permission.ApplicationWrite, func(ctx context.Context, a Actor) error { return w.DeleteApplication(ctx, a, iot, key) }},
		{"user.create", permission.UserWrite, func(ctx context.Context, a Actor) error { // the API key at hand is the other organisation's
			_, _, err := w.CreateUser(ctx, a, User{Org: plain, Name: "ann"})
			return err
		}},
		{"user.disable", permission.UserWrite, func(ctx context.Context, a Actor) error { return w.SetUserDisabled(ctx, a, plain, "ann", true) }},
		{"user.enable", permission.UserWrite, func(ctx context.Context, a Actor) error { return w.SetUserDisabled(ctx, a, plain, "ann", false) }},
		{"user.rotate", permission.UserWrite, func(ctx context.Context, a Actor) error {
			_, err := w.RotateToken(ctx, a, auth.Principal{Org: plain, Kind: auth.User, ID: "ann"}, Rotation{Overlap: time.Hour})
			return err
		}},
		{"user.retire", permission.UserWrite, func(ctx context.Context, a Actor) error {
			return w.RetireToken(ctx, a, auth.Principal{Org: plain, Kind: auth.User, ID: "ann"})
		}},
		{"user.expiry", permission.UserWrite, func(ctx context.Context, a Actor) error {
			return w.SetTokenExpiry(ctx, a, auth.Principal{Org: plain, Kind: auth.User, ID: "ann"}, time.Now().Add(time.Hour))
		}},
		{"user.rules", permission.UserWrite, func(ctx context.Context, a Actor) error {
			return w.SetUserRules(ctx, a, plain, "ann", []Rule{{Action: "publish", Filter: "a/%u"}})
		}},
		{"user.clients", permission.UserWrite, func(ctx context.Context, a Actor) error {
			return w.SetUserClients(ctx, a, plain, "ann", []string{"phone"})
		}},
		{"org.rules", permission.RuleWrite, func(ctx context.Context, a Actor) error {
			return w.SetOrgRules(ctx, a, plain, []Rule{{Action: "publish", Filter: "all/%u"}})
		}},
		{"user.delete", permission.UserWrite, func(ctx context.Context, a Actor) error { return w.DeleteUser(ctx, a, plain, "ann") }},
	}
}

// prepare makes what mutations needs.
func prepare(t *testing.T, w *world) (iot, plain auth.OrgID, key string) {
	t.Helper()
	for _, id := range []string{"invited", "almost"} {
		w.newPerson(t, id)
	}
	iot, _ = w.simple(t)
	w.newType(t, iot, "g", ClassGateway)
	w.newDevice(t, Device{Org: iot, Type: "g", ID: "g"})
	plain = w.newOrg(t, ProfilePlain)
	p, _ := w.newApplication(t, iot)
	return iot, plain, p.Key
}

func TestWhoMayChangeWhatAndTheRecordOfIt(t *testing.T) {
	w := newWorld(t)
	iot, plain, key := prepare(t, w)
	other := w.newOrg(t, ProfileIoT2)
	foreigner := Actor{Principal: auth.Principal{Org: other, Kind: auth.Application, ID: "a-" + string(other) + "-0123456789"}}
	p, _, err := w.CreateApplication(t.Context(), w.admin, Application{Org: iot, Role: permission.Owner})
	check(t, err)
	own := Actor{Principal: p.Principal()}
	strangers := map[string]Actor{
		"nobody":        {},
		"device":        {Principal: auth.Principal{Org: iot, Kind: auth.Device, ID: "t:d"}},
		"gateway":       {Principal: auth.Principal{Org: iot, Kind: auth.Gateway, ID: "g:g"}},
		"plain user":    {Principal: auth.Principal{Org: plain, Kind: auth.User, ID: "ann"}},
		"plain person":  {Principal: auth.Principal{Kind: auth.Person, ID: "p"}},
		"its operator":  {Principal: auth.Principal{Kind: auth.Person, ID: "operator"}, Admin: true},
		"other's key":   foreigner,
		"key of no org": {Principal: auth.Principal{Kind: auth.Application, ID: "x"}},
	}
	for _, m := range mutations(w, iot, plain, key) {
		before := w.records(t)
		if m.need != everybody {
			for name, a := range strangers {
				if m.need == administrator && a.Admin {
					continue
				}
				err := m.do(t.Context(), a)
				if c := errs.CodeOf(err); err == nil || c != errs.Denied && c != errs.NotFound {
					t.Errorf("%s by %s: %v", m.action, name, err)
				}
			}
			wantCode(t, m.do(t.Context(), w.almost(t, m.need)), errs.Denied)
			w.known.clear()
			if got := w.records(t); len(got) != len(before) {
				t.Fatalf("%s: refusals left records %q", m.action, got[len(before):])
			}
		}
		if m.need == administrator {
			wantCode(t, m.do(t.Context(), own), errs.Denied)
		} else if m.need != everybody {
			wantCode(t, m.do(t.Context(), foreigner), errs.NotFound)
		}
		check(t, m.do(t.Context(), w.admin))
		if got := w.records(t)[len(before):]; !slices.Equal(got, []string{m.action}) {
			t.Fatalf("%s left records %q", m.action, got)
		}
	}
}

// A commit that fails leaves neither the change nor a record, and is not called
// a success.
func TestFailingStoreChangesNothing(t *testing.T) {
	w := newWorld(t)
	iot, plain, key := prepare(t, w)
	for _, m := range mutations(w, iot, plain, key) {
		before := w.records(t)
		w.db.fail(errDisk)
		wantCode(t, m.do(t.Context(), w.admin), errs.Unavailable)
		w.db.fail(nil)
		if got := w.records(t); len(got) != len(before) {
			t.Fatalf("%s: a failure left records %q", m.action, got[len(before):])
		}
		w.known.clear()
		check(t, m.do(t.Context(), w.admin)) // nothing of the failed one is in the way
	}
}

func TestRefusalsNameTheMistake(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	iot, plain, _ := prepare(t, w)
	device := func(d Device) error { d.Org = iot; _, _, err := w.CreateDevice(ctx, w.admin, d); return err }
	user := func(u User) error { _, _, err := w.CreateUser(ctx, w.admin, u); return err }
	org := func(o Org) error { _, err := w.CreateOrg(ctx, w.admin, o); return err }
	typ := func(d DeviceType) error { d.Org = iot; _, err := w.CreateDeviceType(ctx, w.admin, d); return err }
	check(t, user(User{Org: plain, Name: "ann", Clients: []string{"ann", "phone"}}))
	house := w.newOrg(t, ProfileHome)
	check(t, user(User{Org: house, Name: "ann", Role: "actor"}))
	home := func(o HomeOptions, profile string) error { return org(Org{Profile: profile, Home: o}) }
	change := func(id auth.OrgID) error { _, err := w.SetHome(ctx, w.admin, id, HomeChange{}); return err }
	check(t, w.DeleteOrg(ctx, w.admin, w.newOrgID(t, "gone01")))
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
	}{
		"org id":              {org(Org{ID: "ABC"}), errs.Invalid},
		"org profile":         {org(Org{Profile: "fancy"}), errs.Invalid},
		"org name":            {org(Org{Name: "a\x00"}), errs.Invalid},
		"org twice":           {org(Org{ID: iot}), errs.Conflict},
		"org id of a deleted": {org(Org{ID: "gone01"}), errs.Conflict},
		"org delete twice":    {w.DeleteOrg(ctx, w.admin, "gone01"), errs.NotFound},
		"org unknown":         {w.SetOrgDisabled(ctx, w.admin, "nope00", true), errs.NotFound},
		"type twice":          {typ(DeviceType{ID: "t"}), errs.Conflict},
		"type id":             {typ(DeviceType{ID: "a/b"}), errs.Invalid},
		"type in use":         {w.DeleteDeviceType(ctx, w.admin, iot, "t"), errs.Conflict},
		"type unknown":        {w.DeleteDeviceType(ctx, w.admin, iot, "nope"), errs.NotFound},
		"device twice":        {device(Device{Type: "t", ID: "d"}), errs.Conflict},
		"device id":           {device(Device{Type: "t", ID: "a:b"}), errs.Invalid},
		"device of no type":   {device(Device{Type: "nope", ID: "x"}), errs.NotFound},
		"gateway unknown":     {device(Device{Type: "t", ID: "x", Gateway: "g:nope"}), errs.Invalid},
		"gateway is a device": {device(Device{Type: "t", ID: "x", Gateway: "t:d"}), errs.Invalid},
		"gateway malformed":   {device(Device{Type: "t", ID: "x", Gateway: "g"}), errs.Invalid},
		"gateway of gateway":  {device(Device{Type: "g", ID: "x", Gateway: "g:g"}), errs.Invalid},
		"device unknown":      {w.DeleteDevice(ctx, w.admin, iot, "t", "nope"), errs.NotFound},
		"user twice":          {user(User{Org: plain, Name: "ann"}), errs.Conflict},
		"user name":           {user(User{Org: plain, Name: "a b"}), errs.Invalid},
		"user in iot-2":       {user(User{Org: iot, Name: "bob"}), errs.Invalid},
		"user rule action":    {user(User{Org: plain, Name: "bob", Rules: []Rule{{Action: "eat", Filter: "#"}}}), errs.Invalid},
		"user rule filter":    {user(User{Org: plain, Name: "bob", Rules: []Rule{{Action: "publish", Filter: "a#"}}}), errs.Invalid},
		"user rules":          {user(User{Org: plain, Name: "bob", Rules: make([]Rule, maxRules+1)}), errs.Invalid},
		"user clients":        {user(User{Org: plain, Name: "bob", Clients: make([]string, maxClients+1)}), errs.Invalid},
		"user client":         {user(User{Org: plain, Name: "bob", Clients: []string{"a+b"}}), errs.Invalid},
		"user client empty":   {user(User{Org: plain, Name: "bob", Clients: []string{""}}), errs.Invalid},
		"user client twice":   {user(User{Org: plain, Name: "bob", Clients: []string{"x", "x"}}), errs.Invalid},
		"user client taken":   {user(User{Org: plain, Name: "bob", Clients: []string{"ann"}}), errs.Conflict},
		"user name taken":     {user(User{Org: plain, Name: "phone"}), errs.Conflict},
		"org rules":           {w.SetOrgRules(ctx, w.admin, plain, []Rule{{Action: "publish", Filter: "a#"}}), errs.Invalid},
		"org rules in iot-2":  {w.SetOrgRules(ctx, w.admin, iot, nil), errs.Invalid},
		"org rules unknown":   {w.SetOrgRules(ctx, w.admin, "nope00", nil), errs.NotFound},
		"clients unknown":     {w.SetUserClients(ctx, w.admin, plain, "nope", nil), errs.NotFound},
		"role missing":        {user(User{Org: house, Name: "bob"}), errs.Invalid},
		"role of nobody":      {user(User{Org: house, Name: "bob", Role: "owner"}), errs.Invalid},
		"role in plain":       {user(User{Org: plain, Name: "bob", Role: "actor"}), errs.Invalid},
		"role and rules":      {user(User{Org: house, Name: "bob", Role: "actor", Rules: everything()}), errs.Invalid},
		"role and clients":    {user(User{Org: house, Name: "bob", Role: "actor", Clients: []string{"x"}}), errs.Invalid},
		"name of a topic":     {user(User{Org: house, Name: "desired", Role: "provider"}), errs.Invalid},
		"rules in a home":     {w.SetUserRules(ctx, w.admin, house, "ann", everything()), errs.Invalid},
		"clients in a home":   {w.SetUserClients(ctx, w.admin, house, "ann", []string{"x"}), errs.Invalid},
		"rules of a home":     {w.SetOrgRules(ctx, w.admin, house, everything()), errs.Invalid},
		"another role":        {w.SetUserRole(ctx, w.admin, house, "ann", "king"), errs.Invalid},
		"role of plain user":  {w.SetUserRole(ctx, w.admin, plain, "ann", "actor"), errs.Invalid},
		"role unknown":        {w.SetUserRole(ctx, w.admin, house, "nope", "actor"), errs.NotFound},
		"home in plain":       {home(HomeOptions{V0: true}, ProfilePlain), errs.Invalid},
		"anonymous in iot-2":  {home(HomeOptions{Anonymous: true}, ""), errs.Invalid},
		"prefix, anonymous":   {home(HomeOptions{Anonymous: true, Prefix: true}, ProfileHome), errs.Invalid},
		"home change":         {change(plain), errs.Invalid},
		"home unknown":        {change("nope00"), errs.NotFound},
		"user unknown":        {w.DeleteUser(ctx, w.admin, plain, "nope"), errs.NotFound},
		"key unknown":         {w.DeleteApplication(ctx, w.admin, iot, "a-nope00-0123456789"), errs.NotFound},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.err, tc.code) })
	}
	if _, err := w.UpdateOrg(ctx, w.admin, Org{ID: iot, Profile: ProfilePlain}); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("the profile was changed: %v", err)
	}
}

func (w *world) newOrgID(t *testing.T, id auth.OrgID) auth.OrgID {
	t.Helper()
	_, err := w.CreateOrg(t.Context(), w.admin, Org{ID: id})
	check(t, err)
	return id
}
