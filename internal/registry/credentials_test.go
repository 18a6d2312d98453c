package registry

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// tokenHolders are one of each kind that has a token, and how it logs in.
func (s *scene) tokenHolders() map[auth.Principal]func(secret.String) auth.Credentials {
	return map[auth.Principal]func(secret.String) auth.Credentials{
		{Org: s.iot, Kind: auth.Device, ID: "t:d"}: func(x secret.String) auth.Credentials { return deviceLogin(s.iot, "t:d", x) },
		{Org: s.iot, Kind: auth.Gateway, ID: "g:g"}: func(x secret.String) auth.Credentials {
			return login("g:"+string(s.iot)+":g:g", userDeviceToken, x)
		},
		s.application.Principal():                  func(x secret.String) auth.Credentials { return applicationLogin(s.application, x) },
		{Org: s.plain, Kind: auth.User, ID: "ann"}: func(x secret.String) auth.Credentials { return login("x", string(s.plain)+"/ann", x) },
	}
}

// Both tokens are good during an overlap, and never more than two; each ends in
// every way in which it can.
func TestTwoTokens(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	for who, in := range s.tokenHolders() {
		rotate := func(x Rotation) secret.String {
			t.Helper()
			token, err := s.RotateToken(ctx, s.admin, who, x)
			check(t, err)
			return token
		}
		let := func(token secret.String, want bool) *auth.Grant {
			t.Helper()
			g, err := s.Verify(ctx, in(token))
			if (err == nil) != want {
				t.Fatalf("%v: let in %v, want %v: %v", who.Kind, err == nil, want, err)
			}
			return g
		}
		renewed := func(g *auth.Grant, want bool) *auth.Grant {
			t.Helper()
			g, err := s.Renew(ctx, g.Ref())
			if (err == nil) != want {
				t.Fatalf("%v: renewed %v, want %v: %v", who.Kind, err == nil, want, err)
			}
			return g
		}
		first := rotate(Rotation{})
		before := let(first, true)
		begun := s.now()
		second := rotate(Rotation{Overlap: time.Hour})
		let(second, true)
		let(first, true)
		old := renewed(before, true)
		if end := old.Ref().Expires; end.Before(begun.Add(time.Hour)) || end.After(s.now().Add(time.Hour)) {
			t.Errorf("%v: what came in with the old token ends %v", who.Kind, end)
		}
		_, err := s.RotateToken(ctx, s.admin, who, Rotation{Overlap: time.Hour})
		wantCode(t, err, errs.Conflict)
		s.clock.move(time.Hour + time.Second)
		let(first, false)
		renewed(old, false)
		fresh := let(second, true)
		if !fresh.Ref().Expires.IsZero() {
			t.Errorf("%v: a token without an end ends %v", who.Kind, fresh.Ref().Expires)
		}
		// The old one is retired.
		third := rotate(Rotation{Overlap: MaxOverlap})
		renewed(fresh, true)
		check(t, s.RetireToken(ctx, s.admin, who))
		let(second, false)
		renewed(fresh, false)
		let(third, true)
		wantCode(t, s.RetireToken(ctx, s.admin, who), errs.Conflict)
		// In an emergency both go at once.
		fourth := rotate(Rotation{Overlap: time.Hour})
		fifth := rotate(Rotation{})
		let(third, false)
		let(fourth, false)
		last := let(fifth, true)
		// The token itself ends.
		check(t, s.SetTokenExpiry(ctx, s.admin, who, s.now().Add(time.Hour)))
		last = renewed(last, true)
		if last.Ref().Expires.IsZero() {
			t.Errorf("%v: what came in with the token does not end with it", who.Kind)
		}
		check(t, s.SetTokenExpiry(ctx, s.admin, who, s.now().Add(2*time.Hour)))
		last = renewed(last, true)
		s.clock.move(time.Hour + time.Second)
		last = renewed(last, true) // it lives longer than it was to
		s.clock.move(time.Hour)
		let(fifth, false)
		renewed(last, false)
		check(t, s.SetTokenExpiry(ctx, s.admin, who, time.Time{}))
		let(fifth, true)
		// What follows a token with an end lives as long, unless told otherwise.
		rotate(Rotation{Expires: s.now().Add(time.Hour)})
		s.clock.move(30 * time.Minute)
		sixth := rotate(Rotation{})
		if left := let(sixth, true).Ref().Expires.Sub(s.now()); left < 59*time.Minute || left > time.Hour {
			t.Errorf("%v: it lives for %v", who.Kind, left)
		}
		// An overlap does not lengthen the life of the old token.
		rotate(Rotation{Overlap: MaxOverlap, Forever: true})
		s.clock.move(time.Hour)
		let(sixth, false)
		if at, err := s.Verify(ctx, in(rotate(Rotation{}))); err != nil || !at.Ref().Expires.IsZero() {
			t.Errorf("%v: %v %v", who.Kind, at, err)
		}
	}
	for name, x := range map[string]Rotation{"long": {Overlap: MaxOverlap + 1}, "negative": {Overlap: -1}, "past": {Expires: s.now()},
		"both": {Expires: s.now().Add(time.Hour), Forever: true}} {
		if _, err := s.RotateToken(ctx, s.admin, s.application.Principal(), x); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantCode(t, s.SetTokenExpiry(ctx, s.admin, s.application.Principal(), s.now()), errs.Invalid)
	wantCode(t, s.RetireToken(ctx, s.admin, auth.Principal{Org: s.iot, Kind: auth.Person, ID: s.person}), errs.Invalid)
}

func TestTwoTokensElsewhere(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	who := auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}
	second, err := s.RotateToken(ctx, s.admin, who, Rotation{Overlap: time.Hour})
	check(t, err)
	device := auth.Credentials{ClientID: "d:" + string(s.iot) + ":t:d"}
	for name, token := range map[string]secret.String{"old": s.device, "new": second} {
		if err := s.scram(t, device, userDeviceToken, token.Reveal()); err != nil {
			t.Errorf("SCRAM with the %s token: %v", name, err)
		}
	}
	wantCode(t, s.scram(t, device, userDeviceToken, "x"), errs.Unauthenticated)
	// At the API, an API key's token ends, too.
	key := s.application.Principal()
	check(t, s.SetTokenExpiry(ctx, s.admin, key, s.now().Add(time.Hour)))
	_, err = s.ApplicationActor(ctx, key.ID, s.applicationToken, "192.0.2.9:1")
	check(t, err)
	s.clock.move(time.Hour + time.Minute)
	_, err = s.ApplicationActor(ctx, key.ID, s.applicationToken, "192.0.2.9:1")
	wantCode(t, err, errs.Unauthenticated)
	wantCode(t, s.scram(t, device, userDeviceToken, s.device.Reveal()), errs.Unauthenticated)
	check(t, s.scram(t, device, userDeviceToken, second.Reveal()))
	// A password that was imported and never used is no token to keep.
	_, err = s.ImportUser(ctx, s.admin, User{Org: s.plain, Name: "bob"}, secret.New("$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"))
	check(t, err)
	bob := auth.Principal{Org: s.plain, Kind: auth.User, ID: "bob"}
	_, err = s.RotateToken(ctx, s.admin, bob, Rotation{Overlap: time.Hour})
	wantCode(t, err, errs.Conflict)
	_, err = s.RotateToken(ctx, s.admin, bob, Rotation{})
	check(t, err)
}

// holdersOf reads a whole report, page by page.
func (w *world) report(t *testing.T, a Actor, org auth.OrgID, f CredentialFilter, limit int) (names []string, all []Credential) {
	t.Helper()
	p := Page{Limit: limit}
	for range 100 {
		page, next, err := w.Credentials(t.Context(), a, org, f, p)
		check(t, err)
		if len(page) > limit {
			t.Fatalf("a page of %d has %d", limit, len(page))
		}
		for _, c := range page {
			names, all = append(names, c.Holder.ID), append(all, c)
		}
		if p.After = next; next == "" {
			return names, all
		}
	}
	t.Fatal("the report has no end")
	return nil, nil
}

// When tokens were used is not written at a connect, survives a store that fails
// and a restart, and is gone with its holder.
func TestLastUse(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	in := deviceLogin(s.iot, "t:d", s.device)
	_, err := s.Verify(ctx, in)
	check(t, err)
	_, err = s.Verify(ctx, certLogin(s.iot, "t:d", s.certificate))
	check(t, err)
	_, err = s.ApplicationActor(ctx, s.application.Key, s.applicationToken, "192.0.2.9:1234")
	check(t, err)
	_, err = s.Verify(ctx, deviceLogin(s.iot, "t:d", newToken()))
	wantCode(t, err, errs.Unauthenticated)
	if n := s.count(t, "credential_use"); n != 0 {
		t.Fatalf("%d uses were written at the connect", n)
	}
	s.db.fail(errDisk)
	if err := s.StoreUses(ctx); err == nil {
		t.Fatal("a failing store stores")
	}
	s.db.fail(nil)
	check(t, s.StoreUses(ctx))
	if n := s.count(t, "credential_use"); n != 3 {
		t.Fatalf("%d uses are stored, want those of a token, a certificate and an API key", n)
	}
	s.Registry = New(Config{DB: s.db, Ring: s.ring, Issuer: s.ca, Now: s.clock.now, Log: s.Registry.log}) // a restart
	who := auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}
	second, err := s.RotateToken(ctx, s.admin, who, Rotation{Overlap: time.Hour})
	check(t, err)
	_, all := s.report(t, s.system(), s.iot, CredentialFilter{Two: true}, 10)
	if len(all) != 1 || all[0].Holder != who || !all[0].Last.At.IsZero() || all[0].LastBefore.At.IsZero() || all[0].LastWithout.At.IsZero() || all[0].Before.IsZero() {
		t.Fatalf("%+v", all)
	}
	s.clock.move(time.Minute)
	_, err = s.Verify(ctx, deviceLogin(s.iot, "t:d", second))
	check(t, err)
	_, again := s.report(t, s.system(), s.iot, CredentialFilter{Two: true}, 10)
	if !again[0].Last.At.After(again[0].LastBefore.At) || !again[0].LastBefore.At.Equal(all[0].LastBefore.At) {
		t.Errorf("%+v", again)
	}
	_, keys := s.report(t, s.system(), s.iot, CredentialFilter{Kind: auth.Application}, 10)
	if len(keys) != 1 || keys[0].Last.Address != "192.0.2.9" || keys[0].Name != "app" {
		t.Errorf("%+v", keys)
	}
	// Rows of tokens that are no more go; a deleted holder leaves none behind.
	_, err = s.RotateToken(ctx, s.admin, who, Rotation{})
	check(t, err)
	_, err = s.Verify(ctx, certLogin(s.iot, "t:d", s.certificate))
	check(t, err)
	check(t, s.DeleteDevice(ctx, s.admin, s.iot, "t", "d"))
	check(t, s.DeleteApplication(ctx, s.admin, s.iot, s.application.Key))
	check(t, s.StoreUses(ctx))
	if n := s.count(t, "credential_use"); n != 0 {
		t.Errorf("%d uses are left", n)
	}
}

// Many uses are stored in transactions of a bounded size.
func TestManyUses(t *testing.T) {
	w := newWorld(t)
	org := w.newOrg(t, ProfileIoT2)
	w.newType(t, org, "t", ClassDevice)
	const n = usesAtOnce*2 + 10
	check(t, w.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		const q = `INSERT INTO device (org, type, id, uid, class, token_hash, token_version, created_at) VALUES ($1, 't', $2, $2, 'Device', $3, 1, 1)`
		for i := range n {
			if _, err := tx.ExecContext(t.Context(), q, org, fmt.Sprintf("d%05d", i), []byte{1}); err != nil {
				return err
			}
		}
		return nil
	}))
	for i := range n {
		id := fmt.Sprintf("d%05d", i)
		w.uses.note(&account{principal: auth.Principal{Org: org, Kind: auth.Device, ID: "t:" + id}, uid: id}, 1, w.now(), "192.0.2.1")
	}
	w.uses.note(&account{principal: auth.Principal{Org: "gone00", Kind: auth.Device, ID: "t:x"}, uid: "x"}, 1, w.now(), "")
	check(t, w.StoreUses(t.Context()))
	if got := w.count(t, "credential_use"); got != n {
		t.Errorf("%d uses are stored of %d", got, n)
	}
	names, all := w.report(t, w.system(), org, CredentialFilter{}, 1000)
	if len(names) != n || names[0] != "t:d00000" || names[n-1] != fmt.Sprintf("t:d%05d", n-1) || all[7].Last.Address != "192.0.2.1" {
		t.Errorf("%d in the report", len(names))
	}
}

func (w *world) system() Actor {
	return Actor{Principal: auth.Principal{Kind: auth.System, ID: "test"}}
}

func TestCredentialReport(t *testing.T) {
	h := newScene(t)
	ctx := t.Context()
	all, _ := h.report(t, h.system(), h.iot, CredentialFilter{}, 1000)
	for _, limit := range []int{1, 2} {
		if got, _ := h.report(t, h.system(), h.iot, CredentialFilter{}, limit); strings.Join(got, " ") != strings.Join(all, " ") {
			t.Errorf("by %d: %q, want %q", limit, got, all)
		}
	}
	h.clock.move(48 * time.Hour)
	_, _, err := h.CreateApplication(ctx, h.admin, Application{Org: h.iot, Name: "new"})
	check(t, err)
	count := func(f CredentialFilter) int { got, _ := h.report(t, h.system(), h.iot, f, 3); return len(got) }
	if n := count(CredentialFilter{OlderThan: 24 * time.Hour}); n != len(all) {
		t.Errorf("%d are older than a day, want %d", n, len(all))
	}
	if n := count(CredentialFilter{OlderThan: 24 * time.Hour, Kind: auth.Gateway}); n != 1 {
		t.Errorf("%d gateways", n)
	}
	if n := count(CredentialFilter{Never: true}); n != len(all)+1 {
		t.Errorf("%d were never used", n)
	}
	if n := count(CredentialFilter{Unused: 24 * time.Hour}); n != len(all) {
		t.Errorf("%d are unused for a day", n)
	}
	who := auth.Principal{Org: h.iot, Kind: auth.Device, ID: all[0]}
	check(t, h.SetTokenExpiry(ctx, h.admin, who, h.now().Add(time.Hour)))
	if n := count(CredentialFilter{Ending: 2 * time.Hour}); n != 1 {
		t.Errorf("%d end within two hours", n)
	}
	if n := count(CredentialFilter{Ending: time.Minute}); n != 0 {
		t.Errorf("%d end within a minute", n)
	}
	for name, x := range map[string]struct {
		f CredentialFilter
		p Page
	}{"kind": {CredentialFilter{Kind: auth.Person}, Page{}}, "negative": {CredentialFilter{Unused: -1}, Page{}},
		"cursor": {p: Page{After: "x"}}, "source": {p: Page{After: cursor("credential", "9", "", "")}}, "size": {p: Page{Limit: 1001}}} {
		if _, _, err := h.Credentials(ctx, h.system(), h.iot, x.f, x.p); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.newPerson(t, "almost")
	// Who may not, and whose rights are for some devices only, see nothing.
	_, _, err = h.Credentials(ctx, h.almost(t, permission.CredentialRead), h.iot, CredentialFilter{}, Page{})
	wantCode(t, err, errs.Denied)
	_, err = h.CreateGroup(ctx, h.admin, Group{Org: h.iot, ID: "some"})
	check(t, err)
	p, _, err := h.CreateApplication(ctx, h.admin, Application{Org: h.iot, Role: permission.Owner, Limited: true, Groups: []string{"some"}})
	check(t, err)
	_, _, err = h.Credentials(ctx, Actor{Principal: p.Principal()}, h.iot, CredentialFilter{}, Page{})
	wantCode(t, err, errs.Denied)
	_, _, err = h.Credentials(ctx, Actor{Principal: auth.Principal{Kind: auth.Person, ID: "stranger"}}, h.iot, CredentialFilter{}, Page{})
	wantCode(t, err, errs.NotFound)
}
