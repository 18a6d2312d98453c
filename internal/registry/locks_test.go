package registry

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
)

// from has credentials come from an address.
func from(c auth.Credentials, address string) auth.Credentials {
	c.Remote = netip.MustParseAddrPort(address)
	return c
}

// A lock keeps out what it is of and nothing else: new connections, those there
// are, and the API, until it expires or is deleted.
func TestLocks(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	good := s.good()
	authority := hex.EncodeToString(s.certificate.AuthorityKeyId)
	refs := map[string]auth.Ref{}
	for name, tc := range good {
		g, err := s.Verify(ctx, from(tc.c, "198.51.100.7:1000"))
		check(t, err)
		refs[name] = g.Ref()
	}
	inOrg := func(name string) bool { return good[name].want.Org == s.iot }
	is := func(kind auth.Kind, id string) func(string) bool {
		return func(name string) bool { return inOrg(name) && good[name].want.Kind == kind && good[name].want.ID == id }
	}
	for _, tt := range []struct {
		kind, target string
		hits         func(name string) bool
	}{
		{LockPrincipal, "device:t:d", is(auth.Device, "t:d")},
		{LockPrincipal, "gateway:g:g", is(auth.Gateway, "g:g")},
		{LockPrincipal, "application:" + s.application.Key, is(auth.Application, s.application.Key)},
		{LockPrincipal, "person:" + s.person, is(auth.Person, s.person)},
		{LockType, "t", is(auth.Device, "t:d")},
		{LockType, "other", func(string) bool { return false }},
		{LockAddress, "198.51.100.7", inOrg},
		{LockAddress, "198.51.100.0/24", inOrg},
		{LockAddress, "198.51.101.0/24", func(string) bool { return false }},
		{LockAuthority, strings.ToUpper(authority), func(name string) bool {
			return inOrg(name) && strings.Contains(refs[name].Credential, "cert:")
		}},
		{LockClient, "d:" + string(s.iot) + ":t:d", is(auth.Device, "t:d")},
	} {
		l, err := s.CreateLock(ctx, s.admin, Lock{Org: s.iot, Kind: tt.kind, Target: tt.target, Reason: "stolen", Expires: s.now().Add(time.Hour)})
		check(t, err)
		hit := 0
		for name, tc := range good {
			_, fresh := s.Verify(ctx, from(tc.c, "198.51.100.7:1001"))
			_, live := s.Renew(ctx, refs[name])
			for what, err := range map[string]error{"connect": fresh, "go on": live} {
				switch {
				case !tt.hits(name):
					if err != nil {
						t.Errorf("lock of %s %s: %s cannot %s: %v", tt.kind, tt.target, name, what, err)
					}
				case errs.CodeOf(err) != errs.Denied || !strings.Contains(errs.Message(err), "locked: stolen"):
					t.Errorf("lock of %s %s: %s may %s: %v", tt.kind, tt.target, name, what, err)
				default:
					hit++
				}
			}
		}
		if hit == 0 && tt.hits("device") {
			t.Errorf("lock of %s %s hits nobody", tt.kind, tt.target)
		}
		if tt.target == "device:t:d" { // who proves nothing learns nothing
			_, err := s.Verify(ctx, from(deviceLogin(s.iot, "t:d", newToken()), "198.51.100.7:1"))
			wantCode(t, err, errs.Unauthenticated)
			s.clock.move(time.Hour)
			if _, err := s.Verify(ctx, from(good["device"].c, "198.51.100.7:1")); err != nil {
				t.Errorf("a lock that has expired: %v", err)
			}
			s.clock.move(-time.Hour)
		}
		check(t, s.DeleteLock(ctx, s.admin, s.iot, l.ID))
	}
	for name := range good {
		if _, err := s.Renew(ctx, refs[name]); err != nil {
			t.Errorf("%s after all locks are gone: %v", name, err)
		}
	}
}

// Locks reach whoever works with the API and the console, too.
func TestLocksOfActors(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	lock := func(org auth.OrgID, kind, target string) func() {
		l, err := s.CreateLock(ctx, s.admin, Lock{Org: org, Kind: kind, Target: target, Reason: "because"})
		check(t, err)
		return func() { check(t, s.DeleteLock(ctx, s.admin, org, l.ID)) }
	}
	person := Actor{Principal: auth.Principal{Kind: auth.Person, ID: s.person}, Address: "198.51.100.7"}
	look := func() error { _, err := s.Device(ctx, person, s.iot, "t", "d"); return err }
	key := func() error {
		_, err := s.ApplicationActor(ctx, s.application.Key, s.applicationToken, "198.51.100.7")
		return err
	}
	session := func() error { _, err := s.Session(ctx, s.session, "198.51.100.7"); return err }
	for _, tt := range []struct {
		org                auth.OrgID
		kind, target       string
		look, key, session bool // refused
	}{
		{s.iot, LockPrincipal, "person:" + s.person, true, false, false},
		{s.iot, LockPrincipal, "application:" + s.application.Key, false, true, false},
		{s.iot, LockAddress, "198.51.100.0/28", true, true, false},
		{s.twin, LockAddress, "198.51.100.0/28", false, false, false},
		{"", LockPrincipal, "person:" + s.person, true, false, true},
		{"", LockAddress, "198.51.100.7/32", true, true, true},
	} {
		undo := lock(tt.org, tt.kind, tt.target)
		for what, x := range map[string]struct {
			do      func() error
			refused bool
		}{"look": {look, tt.look}, "key": {key, tt.key}, "session": {session, tt.session}} {
			if what == "look" && tt.org == "" {
				continue // it is the session that is refused
			}
			if err := x.do(); (errs.CodeOf(err) == errs.Denied && err != nil) != x.refused {
				t.Errorf("lock of %s in %q: %s: %v", tt.target, tt.org, what, err)
			}
		}
		undo()
	}
	// Where somebody is, is not known: in doubt, no.
	undo := lock(s.iot, LockAddress, "203.0.113.0/24")
	_, err := s.Device(ctx, Actor{Principal: person.Principal}, s.iot, "t", "d")
	wantCode(t, err, errs.Denied)
	undo()
}

// A lock that cannot be read locks.
func TestLocksInDoubt(t *testing.T) {
	s := newScene(t)
	g, err := s.Verify(t.Context(), s.good()["device"].c)
	check(t, err)
	s.locks.clear()
	s.db.fail(errDisk)
	_, err = s.Renew(t.Context(), g.Ref())
	wantCode(t, err, errs.Unavailable)
	s.db.fail(nil)
	set := newLockSet([]Lock{{Kind: LockAddress, Target: "garbled"}})
	if set.find(lockable{address: netip.MustParseAddr("192.0.2.1")}, time.Now()) == nil {
		t.Error("a range that cannot be read locks nobody")
	}
	set = newLockSet([]Lock{{Kind: LockAuthority, Target: "00"}})
	old := lockedRef(auth.Ref{Credential: "token:1,cert:1f"}) // from before authorities were noted
	if set.find(old, time.Now()) == nil || set.find(lockedRef(auth.Ref{Credential: "token:1"}), time.Now()) != nil {
		t.Error("a certificate of an unknown authority is let in, or no certificate is not")
	}
}

func TestLocksRefused(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	s.newPerson(t, "manager")
	manager := s.join(t, s.iot, "manager", permission.Manager)
	manager.Address = "203.0.113.9:1"
	reader := s.newPerson(t, "reader")
	s.join(t, s.iot, "reader", permission.Reader)
	create := func(a Actor, l Lock) error {
		if l.Reason == "" {
			l.Reason = "x"
		}
		_, err := s.CreateLock(ctx, a, l)
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
	}{
		"kind":                 {create(s.admin, Lock{Org: s.iot, Kind: "hat", Target: "x"}), errs.Invalid},
		"principal":            {create(s.admin, Lock{Org: s.iot, Kind: LockPrincipal, Target: "t:d"}), errs.Invalid},
		"type":                 {create(s.admin, Lock{Org: s.iot, Kind: LockType, Target: "a/b"}), errs.Invalid},
		"type of all":          {create(s.admin, Lock{Kind: LockType, Target: "t"}), errs.Invalid},
		"device of all":        {create(s.admin, Lock{Kind: LockPrincipal, Target: "device:t:d"}), errs.Invalid},
		"address":              {create(s.admin, Lock{Org: s.iot, Kind: LockAddress, Target: "example.com"}), errs.Invalid},
		"mapped range":         {create(s.admin, Lock{Org: s.iot, Kind: LockAddress, Target: "::ffff:192.0.2.0/120"}), errs.Invalid},
		"authority":            {create(s.admin, Lock{Org: s.iot, Kind: LockAuthority, Target: "Root CA"}), errs.Invalid},
		"client":               {create(s.admin, Lock{Org: s.iot, Kind: LockClient, Target: strings.Repeat("c", 257)}), errs.Invalid},
		"control character":    {create(s.admin, Lock{Org: s.iot, Kind: LockClient, Target: "a\x1b"}), errs.Invalid},
		"no reason":            {create(s.admin, Lock{Org: s.iot, Kind: LockClient, Target: "a", Reason: " "}), errs.Invalid},
		"long reason":          {create(s.admin, Lock{Org: s.iot, Kind: LockClient, Target: "a", Reason: strings.Repeat("r", 201)}), errs.Invalid},
		"expired":              {create(s.admin, Lock{Org: s.iot, Kind: LockClient, Target: "a", Expires: s.now()}), errs.Invalid},
		"oneself":              {create(manager, Lock{Org: s.iot, Kind: LockPrincipal, Target: "person:manager"}), errs.Invalid},
		"one's own address":    {create(manager, Lock{Org: s.iot, Kind: LockAddress, Target: "203.0.113.0/24"}), errs.Invalid},
		"everybody":            {create(manager, Lock{Org: s.iot, Kind: LockAddress, Target: "0.0.0.0/0"}), errs.Invalid},
		"an owner":             {create(manager, Lock{Org: s.iot, Kind: LockPrincipal, Target: "person:tester"}), errs.Denied},
		"not a member":         {create(manager, Lock{Org: s.iot, Kind: LockPrincipal, Target: "person:nobody"}), errs.NotFound},
		"without permission":   {create(reader, Lock{Org: s.iot, Kind: LockClient, Target: "a"}), errs.Denied},
		"of all, by a manager": {create(manager, Lock{Kind: LockClient, Target: "a"}), errs.Denied},
		"another organisation": {create(manager, Lock{Org: s.twin, Kind: LockClient, Target: "a"}), errs.NotFound},
		"list":                 {second(s.Locks(ctx, reader, s.iot)), errs.Denied},
		"list of all":          {second(s.Locks(ctx, manager, "")), errs.Denied},
		"delete of all":        {s.DeleteLock(ctx, manager, "", "x"), errs.Denied},
		"delete unknown":       {s.DeleteLock(ctx, manager, s.iot, "x"), errs.NotFound},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, tc.err, tc.code) })
	}
	l, err := s.CreateLock(ctx, manager, Lock{Org: s.iot, Kind: LockClient, Target: "a", Reason: "x"})
	check(t, err)
	wantCode(t, s.DeleteLock(ctx, s.admin, s.twin, l.ID), errs.NotFound)
	all, err := s.Locks(ctx, manager, s.iot)
	if check(t, err); len(all) != 1 || all[0].ID != l.ID || all[0].Maker != "person::manager" {
		t.Errorf("%+v", all)
	}
}

// A lock has those asked for again whom it concerns, and costs nobody their account.
func TestLocksAreTold(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	_, err := s.Verify(ctx, s.good()["device"].c)
	check(t, err)
	remembered := len(s.known.accounts)
	rd := s.changes.subscribe()
	for _, l := range []Lock{{Org: s.iot, Kind: LockPrincipal, Target: "device:t:d"}, {Org: s.iot, Kind: LockAddress, Target: "192.0.2.0/30"}} {
		l.Reason, l.Expires = "x", s.now().Add(time.Minute)
		_, err := s.CreateLock(ctx, systemActor("test"), l)
		check(t, err)
	}
	var heard []auth.Principal
	for len(rd.ch) > 0 {
		heard = append(heard, (<-rd.ch).Principal)
	}
	if want := []auth.Principal{{Org: s.iot, Kind: auth.Device, ID: "t:d"}, {Org: s.iot}}; !slices.Equal(heard, want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
	if len(s.known.accounts) != remembered || remembered == 0 {
		t.Errorf("%d accounts are remembered, before %d", len(s.known.accounts), remembered)
	}
	_, err = s.CreateLock(ctx, systemActor("test"), Lock{Kind: LockAddress, Target: "192.0.2.0/30", Reason: "x"})
	check(t, err)
	if _, open := <-rd.ch; open {
		t.Error("a lock of the installation has not everyone asked for again")
	}
}
