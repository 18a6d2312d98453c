package registry

import (
	"context"
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/authtest"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/topic"
)

// scene is a world with somebody of every kind in organisation iot and plain,
// and the same device id in organisation twin.
type scene struct {
	*world
	iot, plain, twin                     auth.OrgID
	device, gateway, twinDevice, user    secret.String
	application                          Application
	applicationToken, session            secret.String
	person                               string
	certificate, gatewayCert, twinDevCrt *x509.Certificate
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{world: newWorld(t)}
	ctx := t.Context()
	s.iot, s.device = s.simple(t)
	s.newType(t, s.iot, "g", ClassGateway)
	s.gateway = s.newDevice(t, Device{Org: s.iot, Type: "g", ID: "g"})
	s.newDevice(t, Device{Org: s.iot, Type: "t", ID: "behind", Gateway: "g:g"})
	s.twin, s.twinDevice = s.simple(t)
	s.plain = s.newOrg(t, ProfilePlain)
	var err error
	_, s.user, err = s.CreateUser(ctx, s.admin, User{Org: s.plain, Name: "ann"})
	check(t, err)
	s.application, s.applicationToken = s.newApplication(t, s.iot)
	b := s.bootstrapped(t)
	s.person = b.Administrator.ID
	s.join(t, s.iot, s.person, "member")
	s.session, _ = s.signIn(t, b.CLICode)
	s.certificate, s.twinDevCrt = s.enrolled(t, s.iot), s.enrolled(t, s.twin)
	chain, err := s.Enrol(ctx, s.newEnrolment(t, s.iot, "g", "g"), newCSR(t), "")
	check(t, err)
	s.gatewayCert = chain[0]
	return s
}

func login(client, user string, password secret.String) auth.Credentials {
	return auth.Credentials{ClientID: client, HasUsername: true, Username: user, HasPassword: true, Password: password}
}

// with changes credentials.
func with(c auth.Credentials, f func(*auth.Credentials)) auth.Credentials { f(&c); return c }

func (s *scene) good() map[string]struct {
	c    auth.Credentials
	want auth.Principal
} {
	iot := string(s.iot)
	type row = struct {
		c    auth.Credentials
		want auth.Principal
	}
	device := auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}
	return map[string]row{
		"device":             {deviceLogin(s.iot, "t:d", s.device), device},
		"same id in another": {deviceLogin(s.twin, "t:d", s.twinDevice), auth.Principal{Org: s.twin, Kind: auth.Device, ID: "t:d"}},
		"gateway":            {login("g:"+iot+":g:g", userDeviceToken, s.gateway), auth.Principal{Org: s.iot, Kind: auth.Gateway, ID: "g:g"}},
		"application":        {login("a:"+iot+":x", s.application.Key, s.applicationToken), s.application.Principal()},
		"scalable":           {login("A:"+iot+":x", s.application.Key, s.applicationToken), s.application.Principal()},
		"instance":           {login("A:"+iot+":x:i1", s.application.Key, s.applicationToken), s.application.Principal()},
		"plain user":         {login("anything at all", string(s.plain)+"/ann", s.user), auth.Principal{Org: s.plain, Kind: auth.User, ID: "ann"}},
		"no client id":       {login("", string(s.plain)+"/ann", s.user), auth.Principal{Org: s.plain, Kind: auth.User, ID: "ann"}},
		"person":             {login("a:"+iot+":cli", userAccessToken, s.session), auth.Principal{Org: s.iot, Kind: auth.Person, ID: s.person}},
		"certificate":        {certLogin(s.iot, "t:d", s.certificate), device},
		"certificate, name": {with(certLogin(s.iot, "t:d", s.certificate), func(c *auth.Credentials) {
			c.HasUsername, c.Username = true, userDeviceToken
		}), device},
		"certificate, token": {with(deviceLogin(s.iot, "t:d", s.device), func(c *auth.Credentials) { c.Certificate = s.certificate }), device},
		"gateway certificate": {auth.Credentials{ClientID: "g:" + iot + ":g:g", Certificate: s.gatewayCert},
			auth.Principal{Org: s.iot, Kind: auth.Gateway, ID: "g:g"}},
		"server name":       {with(deviceLogin(s.iot, "t:d", s.device), func(c *auth.Credentials) { c.ServerName = iot + ".messaging.example.org" }), device},
		"other server name": {with(deviceLogin(s.iot, "t:d", s.device), func(c *auth.Credentials) { c.ServerName = "mqtt.example.org" }), device},
	}
}

func TestVerifyLetsIn(t *testing.T) {
	s := newScene(t)
	for name, tc := range s.good() {
		t.Run(name, func(t *testing.T) {
			for range 2 { // from the store, and as remembered
				g, err := s.Verify(t.Context(), tc.c)
				check(t, err)
				if g.Principal() != tc.want {
					t.Fatalf("is %v, want %v", g.Principal(), tc.want)
				}
				again, err := s.Renew(t.Context(), g.Ref())
				check(t, err)
				if again.Ref() != g.Ref() {
					t.Fatalf("renewed as %+v, was %+v", again.Ref(), g.Ref())
				}
				if strings.Contains(g.Ref().Credential, tc.c.Password.Reveal()) && tc.c.HasPassword {
					t.Fatal("the reference holds the secret")
				}
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	s := newScene(t)
	iot, plain, key := string(s.iot), string(s.plain), s.application.Key
	device := deviceLogin(s.iot, "t:d", s.device)
	answers := map[string]bool{}
	for name, c := range map[string]auth.Credentials{
		"nothing":                  {},
		"no password":              {ClientID: device.ClientID, HasUsername: true, Username: userDeviceToken},
		"no user name":             with(device, func(c *auth.Credentials) { c.HasUsername, c.Username = false, "" }),
		"wrong token":              deviceLogin(s.iot, "t:d", newToken()),
		"empty token":              deviceLogin(s.iot, "t:d", secret.New("")),
		"token of the twin":        deviceLogin(s.iot, "t:d", s.twinDevice),
		"token of another":         deviceLogin(s.iot, "t:behind", s.device),
		"unknown device":           deviceLogin(s.iot, "t:nope", s.device),
		"unknown type":             deviceLogin(s.iot, "nope:d", s.device),
		"unknown organisation":     deviceLogin("nope00", "t:d", s.device),
		"device as gateway":        login("g:"+iot+":t:d", userDeviceToken, s.device),
		"gateway as device":        login("d:"+iot+":g:g", userDeviceToken, s.gateway),
		"device, key for a name":   login(device.ClientID, key, s.applicationToken),
		"device, access token":     login(device.ClientID, userAccessToken, s.session),
		"application, device name": login("a:"+iot+":x", userDeviceToken, s.applicationToken),
		"application elsewhere":    login("a:"+string(s.twin)+":x", key, s.applicationToken),
		"wrong application token":  login("a:"+iot+":x", key, newToken()),
		"unknown key":              login("a:"+iot+":x", "a-"+iot+"-0123456789", s.applicationToken),
		"malformed key":            login("a:"+iot+":x", "a-"+iot+"-012345678", s.applicationToken),
		"person, wrong token":      login("a:"+iot+":x", userAccessToken, newToken()),
		"person, no organisation":  login("a:nope00:x", userAccessToken, s.session),
		"plain, wrong password":    login("x", plain+"/ann", newToken()),
		"plain, unknown":           login("x", plain+"/bob", s.user),
		"plain, elsewhere":         login("x", iot+"/ann", s.user),
		"plain, malformed":         login("x", "/ann", s.user),
		"plain, no name":           login("x", plain+"/", s.user),
		"odd client id":            login("x", userDeviceToken, s.device),
		"server name of another":   with(device, func(c *auth.Credentials) { c.ServerName = string(s.twin) + ".messaging.example.org" }),
		"server name, upper case":  with(device, func(c *auth.Credentials) { c.ServerName = strings.ToUpper(string(s.twin)) + ".Messaging.example.org" }),
		"certificate of another":   certLogin(s.iot, "t:behind", s.certificate),
		"certificate of the twin":  certLogin(s.iot, "t:d", s.twinDevCrt),
		"certificate of a gateway": certLogin(s.iot, "g:g", s.gatewayCert),
		"certificate, wrong token": with(deviceLogin(s.iot, "t:d", newToken()), func(c *auth.Credentials) { c.Certificate = s.certificate }),
		"token, wrong certificate": with(device, func(c *auth.Credentials) { c.Certificate = s.twinDevCrt }),
		"server certificate":       certLogin(s.iot, "t:d", s.ca.Chain()[0]),
		"application, certificate": with(login("a:"+iot+":x", key, s.applicationToken), func(c *auth.Credentials) { c.Certificate = s.certificate }),
		"plain, certificate":       with(login("x", plain+"/ann", s.user), func(c *auth.Credentials) { c.Certificate = s.certificate }),
	} {
		for range 2 {
			g, err := s.Verify(t.Context(), c)
			if err == nil || g != nil {
				t.Errorf("%s: let in as %v", name, g.Principal())
				continue
			}
			if errs.CodeOf(err) != errs.Unauthenticated {
				t.Errorf("%s: %v has code %v", name, err, errs.CodeOf(err))
			}
			answers[authtest.Bare(err.Error())] = true
		}
	}
	if len(answers) != 1 {
		t.Errorf("answers tell refusals apart: %v", answers)
	}
}

// TestRevokedIsGone: after each change the credentials and the grants made with
// them are refused at once, and the change is heard within a second.
func TestRevokedIsGone(t *testing.T) {
	for name, tc := range map[string]struct {
		who    string // in good
		revoke func(ctx context.Context, s *scene) error
		undo   func(ctx context.Context, s *scene) error // nil: for good
	}{
		"disable device": {"device", func(ctx context.Context, s *scene) error {
			return s.SetDeviceDisabled(ctx, s.admin, s.iot, "t", "d", true)
		}, func(ctx context.Context, s *scene) error {
			return s.SetDeviceDisabled(ctx, s.admin, s.iot, "t", "d", false)
		}},
		"disable with certificate": {"certificate", func(ctx context.Context, s *scene) error {
			return s.SetDeviceDisabled(ctx, s.admin, s.iot, "t", "d", true)
		}, func(ctx context.Context, s *scene) error {
			return s.SetDeviceDisabled(ctx, s.admin, s.iot, "t", "d", false)
		}},
		"rotate device": {"device", func(ctx context.Context, s *scene) error {
			_, err := s.RotateToken(ctx, s.admin, auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}, Rotation{})
			return err
		}, nil},
		"rotate with both": {"certificate, token", func(ctx context.Context, s *scene) error {
			_, err := s.RotateToken(ctx, s.admin, auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}, Rotation{})
			return err
		}, nil},
		"delete device": {"device", func(ctx context.Context, s *scene) error {
			return s.DeleteDevice(ctx, s.admin, s.iot, "t", "d")
		}, nil},
		"delete with certificate": {"certificate", func(ctx context.Context, s *scene) error {
			return s.DeleteDevice(ctx, s.admin, s.iot, "t", "d")
		}, nil},
		"revoke certificate": {"certificate", func(ctx context.Context, s *scene) error {
			return s.RevokeCertificate(ctx, s.admin, s.iot, "t", "d", serialOf(s.certificate))
		}, nil},
		"disable organisation": {"device", func(ctx context.Context, s *scene) error {
			return s.SetOrgDisabled(ctx, s.admin, s.iot, true)
		}, func(ctx context.Context, s *scene) error { return s.SetOrgDisabled(ctx, s.admin, s.iot, false) }},
		"delete organisation": {"gateway", func(ctx context.Context, s *scene) error {
			return s.DeleteOrg(ctx, s.admin, s.iot)
		}, nil},
		"delete it with a person": {"person", func(ctx context.Context, s *scene) error {
			return s.DeleteOrg(ctx, s.admin, s.iot)
		}, nil},
		"disable application": {"application", func(ctx context.Context, s *scene) error {
			return s.SetApplicationDisabled(ctx, s.admin, s.iot, s.application.Key, true)
		}, func(ctx context.Context, s *scene) error {
			return s.SetApplicationDisabled(ctx, s.admin, s.iot, s.application.Key, false)
		}},
		"rotate application": {"instance", func(ctx context.Context, s *scene) error {
			_, err := s.RotateToken(ctx, s.admin, auth.Principal{Org: s.iot, Kind: auth.Application, ID: s.application.Key}, Rotation{})
			return err
		}, nil},
		"delete application": {"scalable", func(ctx context.Context, s *scene) error {
			return s.DeleteApplication(ctx, s.admin, s.iot, s.application.Key)
		}, nil},
		"disable user": {"plain user", func(ctx context.Context, s *scene) error {
			return s.SetUserDisabled(ctx, s.admin, s.plain, "ann", true)
		}, func(ctx context.Context, s *scene) error {
			return s.SetUserDisabled(ctx, s.admin, s.plain, "ann", false)
		}},
		"rotate user": {"plain user", func(ctx context.Context, s *scene) error {
			_, err := s.RotateToken(ctx, s.admin, auth.Principal{Org: s.plain, Kind: auth.User, ID: "ann"}, Rotation{})
			return err
		}, nil},
		"delete user": {"no client id", func(ctx context.Context, s *scene) error {
			return s.DeleteUser(ctx, s.admin, s.plain, "ann")
		}, nil},
		"sign out": {"person", func(ctx context.Context, s *scene) error { return s.SignOut(ctx, s.session) }, nil},
	} {
		t.Run(name, func(t *testing.T) { testRevoked(t, tc.who, tc.revoke, tc.undo) })
	}
}

func testRevoked(t *testing.T, who string, revoke, undo func(context.Context, *scene) error) {
	s := newScene(t)
	ctx := t.Context()
	c := s.good()[who].c
	g, err := s.Verify(ctx, c)
	check(t, err)
	// Somebody of the same name in the other organisation stays.
	other, err := s.Verify(ctx, deviceLogin(s.twin, "t:d", s.twinDevice))
	check(t, err)
	heard, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	changes := s.Changes(heard)
	check(t, revoke(ctx, s))
	_, err = s.Verify(ctx, c)
	wantCode(t, err, errs.Unauthenticated)
	code := errs.Unauthenticated
	if strings.HasPrefix(t.Name(), "TestRevokedIsGone/delete_") {
		code = errs.NotFound
	}
	_, err = s.Renew(ctx, g.Ref())
	wantCode(t, err, code)
	_, err = s.Renew(ctx, other.Ref())
	check(t, err)
	found := false
	for p, err := range changes {
		check(t, err)
		if p.Covers(other.Principal()) {
			t.Errorf("change of %v touches another organisation", p)
		}
		if found = p.Covers(g.Principal()); found {
			break
		}
	}
	if !found {
		t.Error("the change was not heard in time")
	}
	if undo == nil {
		return
	}
	check(t, undo(ctx, s))
	_, err = s.Verify(ctx, c)
	check(t, err)
	_, err = s.Renew(ctx, g.Ref())
	check(t, err)
}

// A new device with the name of a deleted one is another device.
func TestRecreatedIsAnother(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	token, err := s.Verify(ctx, deviceLogin(s.iot, "t:d", s.device))
	check(t, err)
	cert, err := s.Verify(ctx, certLogin(s.iot, "t:d", s.certificate))
	check(t, err)
	check(t, s.DeleteDevice(ctx, s.admin, s.iot, "t", "d"))
	s.newDevice(t, Device{Org: s.iot, Type: "t", ID: "d"})
	for _, ref := range []auth.Ref{token.Ref(), cert.Ref()} {
		_, err := s.Renew(ctx, ref)
		wantCode(t, err, errs.Unauthenticated)
	}
	for _, c := range []auth.Credentials{deviceLogin(s.iot, "t:d", s.device), certLogin(s.iot, "t:d", s.certificate)} {
		_, err := s.Verify(ctx, c)
		wantCode(t, err, errs.Unauthenticated)
	}
}

func TestRenewRefusesWhatItDidNotGive(t *testing.T) {
	s := newScene(t)
	g, err := s.Verify(t.Context(), deviceLogin(s.iot, "t:d", s.device))
	check(t, err)
	for _, credential := range []string{"", "token", "token:", "token:0", "token:2", "cert:", "cert:1", "session:1",
		g.Ref().Credential + ",", g.Ref().Credential + ",x"} {
		ref := g.Ref()
		ref.Credential = credential
		_, err := s.Renew(t.Context(), ref)
		wantCode(t, err, errs.Unauthenticated)
	}
	for p, code := range map[auth.Principal]errs.Code{
		{Org: s.iot}: errs.Unauthenticated,
		{Org: s.iot, Kind: auth.Person, ID: s.person}:    errs.Unauthenticated,
		{Org: s.iot, Kind: auth.System, ID: "x"}:         errs.Unauthenticated,
		{Org: s.iot, Kind: auth.Gateway, ID: "t:d"}:      errs.NotFound,
		{Org: s.iot, Kind: auth.Person, ID: "nobody"}:    errs.NotFound,
		{Org: "nope00", Kind: auth.Person, ID: s.person}: errs.NotFound,
		{Org: "nope00"}: errs.NotFound,
		{}:              errs.NotFound,
	} {
		_, err := s.Renew(t.Context(), auth.Ref{Principal: p})
		wantCode(t, err, code)
	}
	another := g.Ref()
	another.UID = "01890000-0000-7000-8000-000000000000"
	_, err = s.Renew(t.Context(), another)
	wantCode(t, err, errs.Unauthenticated)
	late := g.Ref()
	late.Expires = s.clock.now()
	_, err = s.Renew(t.Context(), late)
	wantCode(t, err, errs.Unauthenticated)
}

// A certificate or session that ends while its connection lives ends the grant.
func TestExpiry(t *testing.T) {
	s := newScene(t)
	for _, who := range []string{"certificate", "person"} {
		g, err := s.Verify(t.Context(), s.good()[who].c)
		check(t, err)
		s.clock.move(g.Ref().Expires.Sub(s.clock.now()))
		_, err = s.Renew(t.Context(), g.Ref())
		wantCode(t, err, errs.Unauthenticated)
		_, err = s.Verify(t.Context(), s.good()[who].c)
		wantCode(t, err, errs.Unauthenticated)
	}
}

// A gateway acts for the devices attached to it, and hears of each change.
func TestGatewayFollowsItsDevices(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	name, err := topic.ParseName("iot-2/type/t/id/behind/evt/e/fmt/json")
	check(t, err)
	may := func() bool {
		t.Helper()
		g, err := s.Verify(ctx, s.good()["gateway"].c)
		check(t, err)
		return g.Allow(auth.Publish, name) == nil
	}
	gateway := auth.Principal{Org: s.iot, Kind: auth.Gateway, ID: "g:g"}
	if !may() {
		t.Fatal("the gateway may not publish for its device")
	}
	for i, step := range []struct {
		do   func() error
		want bool
	}{
		{func() error { return s.SetDeviceDisabled(ctx, s.admin, s.iot, "t", "behind", true) }, false},
		{func() error { return s.SetDeviceDisabled(ctx, s.admin, s.iot, "t", "behind", false) }, true},
		{func() error { return s.SetDeviceGateway(ctx, s.admin, s.iot, "t", "behind", "") }, false},
		{func() error { return s.SetDeviceGateway(ctx, s.admin, s.iot, "t", "behind", "g:g") }, true},
		{func() error { return s.DeleteDevice(ctx, s.admin, s.iot, "t", "behind") }, false},
	} {
		rd := s.changes.subscribe()
		check(t, step.do())
		s.changes.unsubscribe(rd)
		close(rd.ch)
		var heard []auth.Principal
		for p := range rd.ch {
			heard = append(heard, p.Principal)
		}
		if !slices.Contains(heard, gateway) {
			t.Errorf("step %d: heard %v", i, heard)
		}
		if may() != step.want {
			t.Errorf("step %d: the gateway may: %v", i, !step.want)
		}
	}
}

// In doubt, no: a database that fails lets nobody in, and is not called a wrong
// password.
func TestFailingStoreLetsNobodyIn(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	var refs []auth.Ref
	for _, tc := range s.good() {
		g, err := s.Verify(ctx, tc.c)
		check(t, err)
		refs = append(refs, g.Ref())
	}
	s.known.clear()
	s.db.fail(errDisk)
	for name, tc := range s.good() {
		_, err := s.Verify(ctx, tc.c)
		if errs.CodeOf(err) != errs.Unavailable || err == nil || strings.Contains(errs.Message(err), "disk") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ref := range refs {
		_, err := s.Renew(ctx, ref)
		wantCode(t, err, errs.Unavailable)
	}
	_, err := s.Session(ctx, s.session, "")
	wantCode(t, err, errs.Unavailable)
}

func TestApplicationActor(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	a, err := s.ApplicationActor(ctx, s.application.Key, s.applicationToken, "192.0.2.4:1")
	check(t, err)
	if a != (Actor{Principal: s.application.Principal(), Address: "192.0.2.4:1"}) {
		t.Errorf("%+v", a)
	}
	for _, tc := range []struct {
		key   string
		token secret.String
	}{{s.application.Key, newToken()}, {"", s.applicationToken}, {"a-nope00-0123456789", s.applicationToken}, {s.application.Key, secret.String{}}} {
		_, err := s.ApplicationActor(ctx, tc.key, tc.token, "")
		wantCode(t, err, errs.Unauthenticated)
	}
	check(t, s.SetApplicationDisabled(ctx, s.admin, s.iot, s.application.Key, true))
	_, err = s.ApplicationActor(ctx, s.application.Key, s.applicationToken, "")
	wantCode(t, err, errs.Unauthenticated)
}

// While others verify without pause, nobody is let in after a change returned.
func TestNothingOldIsRemembered(t *testing.T) {
	s := newScene(t)
	ctx, stop := context.WithCancel(t.Context())
	c := deviceLogin(s.iot, "t:d", s.device)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.Verify(ctx, c)
			}
		})
	}
	for i := range 60 {
		disabled := i%2 == 0
		check(t, s.SetDeviceDisabled(t.Context(), s.admin, s.iot, "t", "d", disabled))
		for range 20 {
			if _, err := s.Verify(t.Context(), c); (err == nil) == disabled {
				t.Fatalf("disabled %v: %v", disabled, err)
			}
		}
	}
	stop()
	wg.Wait()
}

func FuzzClaim(f *testing.F) {
	f.Add("d:abc123:t:d", "use-token-auth", "", true, true)
	f.Add("A:abc123:x:i", "a-abc123-0123456789", "abc123.messaging.example.org", true, true)
	f.Add("", "abc123/ann", "", true, true)
	f.Add("a:abc123:x", "use-access-token", "", true, false)
	f.Fuzz(func(t *testing.T, client, user, server string, hasUser, hasPassword bool) {
		if !hasUser {
			user = ""
		}
		cl, err := parseClaim(auth.Credentials{ClientID: client, HasUsername: hasUser, Username: user,
			HasPassword: hasPassword, ServerName: server})
		if err != nil {
			return
		}
		if _, err := auth.ParseOrgID(string(cl.principal.Org)); err != nil || !cl.hasToken {
			t.Fatalf("claim %+v", cl)
		}
		if org, ok := orgOfServerName(server); ok && org != cl.principal.Org {
			t.Fatalf("claim %+v under server name %q", cl, server)
		}
		if name := string(cl.principal.Org); !strings.Contains(client, name) && !strings.Contains(user, name) {
			t.Fatalf("claim %+v comes from nowhere", cl)
		}
	})
}
