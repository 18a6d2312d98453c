package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/authtest"
	"github.com/keepmq/keepmq/internal/auth/jwt"
	"github.com/keepmq/keepmq/internal/errs"
)

// A provider is an identity provider.
type provider struct {
	t   testing.TB
	w   *world
	iss string
	kid string
	key *ecdsa.PrivateKey
}

// newProvider makes one that org accepts.
func (w *world) newProvider(t testing.TB, org auth.OrgID, name string) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	p := &provider{t: t, w: w, iss: "https://" + name + ".example.com", kid: "key of " + name, key: key}
	_, err = w.CreateIssuer(t.Context(), w.admin, Issuer{Org: org, Name: name, Issuer: p.iss, Audience: "keepmq",
		Algorithms: []string{"ES256"}, Keys: p.keys()})
	check(t, err)
	return p
}

func (p *provider) keys() jwt.Keys {
	p.t.Helper()
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: p.kid}}})
	check(p.t, err)
	k, err := jwt.ParseKeys(b)
	check(p.t, err)
	return k
}

// token returns a token of subject, with other claims as f wants them.
func (p *provider) token(subject string, f func(map[string]any)) string {
	p.t.Helper()
	claims := map[string]any{"iss": p.iss, "aud": "keepmq", "sub": subject, "exp": p.w.clock.now().Add(time.Hour).Unix()}
	if f != nil {
		f(claims)
	}
	b, err := json.Marshal(claims)
	check(p.t, err)
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: p.kid}}, nil)
	check(p.t, err)
	jws, err := s.Sign(b)
	check(p.t, err)
	token, err := jws.CompactSerialize()
	check(p.t, err)
	return token
}

// bear lets a client in with a token.
func (w *world) bear(ctx context.Context, c auth.Credentials, header, token string) (*auth.Grant, error) {
	x, err := w.Begin(ctx, c, auth.MethodBearer)
	if err != nil {
		return nil, err
	}
	reply, g, err := x.Step(ctx, []byte(header+"\x01auth=Bearer "+token+"\x01\x01"))
	if len(reply) > 0 {
		return nil, errs.E(errs.Internal, "replied %q", reply)
	}
	return g, err
}

func TestBearer(t *testing.T) {
	s := newScene(t)
	idp, plainIDP := s.newProvider(t, s.iot, "idp"), s.newProvider(t, s.plain, "idp")
	iot := string(s.iot)
	device := auth.Credentials{ClientID: "d:" + iot + ":t:d"}
	named := func(client, user string) auth.Credentials {
		return auth.Credentials{ClientID: client, HasUsername: true, Username: user}
	}
	for name, tc := range map[string]struct {
		c             auth.Credentials
		header, token string
		want          auth.Principal
	}{
		"device":             {device, "n,,", idp.token("t:d", nil), auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}},
		"device, y":          {device, "y,,", idp.token("t:d", nil), auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}},
		"device, user name":  {named(device.ClientID, userDeviceToken), "n,,", idp.token("t:d", nil), auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}},
		"device, to act as":  {device, "n,a=use-token-auth,", idp.token("t:d", nil), auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}},
		"gateway":            {auth.Credentials{ClientID: "g:" + iot + ":g:g"}, "n,,", idp.token("g:g", nil), auth.Principal{Org: s.iot, Kind: auth.Gateway, ID: "g:g"}},
		"application":        {named("a:"+iot+":x", s.application.Key), "n,,", idp.token(s.application.Key, nil), s.application.Principal()},
		"application, as":    {auth.Credentials{ClientID: "A:" + iot + ":x"}, "n,a=" + s.application.Key + ",", idp.token(s.application.Key, nil), s.application.Principal()},
		"user":               {named("any", string(s.plain)+"/ann"), "n,,", plainIDP.token("ann", nil), auth.Principal{Org: s.plain, Kind: auth.User, ID: "ann"}},
		"user, to act as":    {auth.Credentials{ClientID: "any"}, "n,a=" + string(s.plain) + "/ann,", plainIDP.token("ann", nil), auth.Principal{Org: s.plain, Kind: auth.User, ID: "ann"}},
		"device, both":       {with(device, func(c *auth.Credentials) { c.Certificate = s.certificate }), "n,,", idp.token("t:d", nil), auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}},
		"a list of audience": {device, "n,,", idp.token("t:d", func(c map[string]any) { c["aud"] = []string{"x", "keepmq"} }), auth.Principal{Org: s.iot, Kind: auth.Device, ID: "t:d"}},
	} {
		g, err := s.bear(t.Context(), tc.c, tc.header, tc.token)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		end := g.Ref().Expires
		if g.Principal() != tc.want || end.After(s.clock.now().Add(time.Hour)) || end.Before(s.clock.now().Add(59*time.Minute)) {
			t.Errorf("%s: is %v until %v", name, g.Principal(), end)
		}
		if strings.Contains(g.Ref().Credential, tc.token) {
			t.Errorf("%s: the reference holds the token", name)
		}
		again, err := s.Renew(t.Context(), g.Ref())
		check(t, err)
		if again.Ref() != g.Ref() {
			t.Errorf("%s: renewed as %+v, was %+v", name, again.Ref(), g.Ref())
		}
	}
	g, err := s.bear(t.Context(), device, "n,,", idp.token("t:d", nil))
	check(t, err)
	s.clock.move(2 * time.Hour)
	_, err = s.Renew(t.Context(), g.Ref())
	wantCode(t, err, errs.Unauthenticated)
}

func TestBearerRefused(t *testing.T) {
	s := newScene(t)
	idp, twin, stranger := s.newProvider(t, s.iot, "idp"), s.newProvider(t, s.twin, "idp"), s.newProvider(t, s.plain, "other")
	thief := *idp // who knows all but the key
	thief.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	iot := string(s.iot)
	device := auth.Credentials{ClientID: "d:" + iot + ":t:d"}
	good := idp.token("t:d", nil)
	claim := func(name string, v any) string {
		return idp.token("t:d", func(c map[string]any) { c[name] = v })
	}
	answers := map[string]bool{}
	for name, tc := range map[string]struct {
		c             auth.Credentials
		header, token string
	}{
		"another device's token":       {device, "n,,", idp.token("t:behind", nil)},
		"a gateway's token":            {device, "n,,", idp.token("g:g", nil)},
		"a token of the twin":          {device, "n,,", twin.token("t:d", nil)},
		"a token of another":           {device, "n,,", stranger.token("t:d", nil)},
		"a forged token":               {device, "n,,", thief.token("t:d", nil)},
		"an expired token":             {device, "n,,", claim("exp", s.clock.now().Unix()-1)},
		"a token without end":          {device, "n,,", claim("exp", nil)},
		"a token for others":           {device, "n,,", claim("aud", "other")},
		"a token of tomorrow":          {device, "n,,", claim("nbf", s.clock.now().Unix()+3600)},
		"a token of nobody":            {device, "n,,", idp.token("", nil)},
		"an unknown device's":          {auth.Credentials{ClientID: "d:" + iot + ":t:nope"}, "n,,", idp.token("t:nope", nil)},
		"an unknown organisation's":    {auth.Credentials{ClientID: "d:nope00:t:d"}, "n,,", good},
		"a device as a gateway":        {auth.Credentials{ClientID: "g:" + iot + ":t:d"}, "n,,", good},
		"no token":                     {device, "n,,", ""},
		"a device's own token":         {device, "n,,", s.device.Reveal()},
		"an access token":              {auth.Credentials{ClientID: "a:" + iot + ":x", HasUsername: true, Username: userAccessToken}, "n,,", s.session.Reveal()},
		"as a person":                  {auth.Credentials{ClientID: "a:" + iot + ":x", HasUsername: true, Username: userAccessToken}, "n,,", idp.token(s.person, nil)},
		"an application without name":  {auth.Credentials{ClientID: "a:" + iot + ":x"}, "n,,", idp.token(s.application.Key, nil)},
		"to act as somebody":           {device, "n,a=" + s.application.Key + ",", good},
		"two names":                    {with(device, func(c *auth.Credentials) { c.HasUsername, c.Username = true, userDeviceToken }), "n,a=x,", good},
		"a password beside it":         {deviceLogin(s.iot, "t:d", s.device), "n,,", good},
		"another's certificate":        {with(device, func(c *auth.Credentials) { c.Certificate = s.twinDevCrt }), "n,,", good},
		"another's server name":        {with(device, func(c *auth.Credentials) { c.ServerName = string(s.twin) + ".messaging.example.org" }), "n,,", good},
		"channel binding":              {device, "p=tls-exporter,,", good},
		"no header":                    {device, "", good},
		"a token that is far too long": {device, "n,,", strings.Repeat("x", 20<<10)},
	} {
		g, err := s.bear(t.Context(), tc.c, tc.header, tc.token)
		if err == nil || g != nil {
			t.Errorf("%s: let in as %v", name, g.Principal())
			continue
		}
		if errs.CodeOf(err) != errs.Unauthenticated {
			t.Errorf("%s: %v", name, err)
		}
		answers[authtest.Bare(err.Error())] = true
	}
	if len(answers) != 1 {
		t.Errorf("answers tell refusals apart: %v", answers)
	}
	for _, why := range []string{"its issuer is not registered here", "somebody else's", "signature is wrong", "has expired", "for somebody else"} {
		if !strings.Contains(s.log.String(), why) {
			t.Errorf("the log does not say: %s", why)
		}
	}
	if strings.Contains(s.log.String(), good) || strings.Contains(s.log.String(), good[:40]) {
		t.Error("a token is in the log")
	}
	_, err := s.bear(t.Context(), device, "n,,", good)
	check(t, err)
}

// When its issuer is changed or deleted, nobody stays by a token of it.
func TestIssuerChanges(t *testing.T) {
	for name, change := range map[string]func(*scene, context.Context, *provider) error{
		"other keys": func(s *scene, ctx context.Context, p *provider) error {
			p.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			_, err := s.UpdateIssuer(ctx, s.admin, Issuer{Org: s.iot, Name: "idp", Keys: p.keys()})
			return err
		},
		"another audience": func(s *scene, ctx context.Context, _ *provider) error {
			_, err := s.UpdateIssuer(ctx, s.admin, Issuer{Org: s.iot, Name: "idp", Audience: "x"})
			return err
		},
		"another claim": func(s *scene, ctx context.Context, _ *provider) error {
			_, err := s.UpdateIssuer(ctx, s.admin, Issuer{Org: s.iot, Name: "idp", Claim: "x"})
			return err
		},
		"other algorithms": func(s *scene, ctx context.Context, _ *provider) error {
			_, err := s.UpdateIssuer(ctx, s.admin, Issuer{Org: s.iot, Name: "idp", Algorithms: []string{"RS256"}})
			return err
		},
		"deleted": func(s *scene, ctx context.Context, _ *provider) error {
			return s.DeleteIssuer(ctx, s.admin, s.iot, "idp")
		},
		"deleted and made again": func(s *scene, ctx context.Context, p *provider) error {
			if err := s.DeleteIssuer(ctx, s.admin, s.iot, "idp"); err != nil {
				return err
			}
			_, err := s.CreateIssuer(ctx, s.admin, Issuer{Org: s.iot, Name: "idp", Issuer: p.iss, Audience: "keepmq", Algorithms: []string{"ES256"}, Keys: p.keys()})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			idp := s.newProvider(t, s.iot, "idp")
			device := auth.Credentials{ClientID: "d:" + string(s.iot) + ":t:d"}
			token := idp.token("t:d", nil)
			g, err := s.bear(t.Context(), device, "n,,", token)
			check(t, err)
			reader := s.changes.subscribe()
			defer s.changes.unsubscribe(reader)
			check(t, change(s, t.Context(), idp))
			_, err = s.Renew(t.Context(), g.Ref())
			wantCode(t, err, errs.Unauthenticated)
			if p := <-reader.ch; !p.Covers(g.Principal()) {
				t.Errorf("the change is told of %v", p)
			}
			if _, err := s.bear(t.Context(), device, "n,,", token); (err == nil) != (name == "deleted and made again") {
				t.Errorf("the token: %v", err)
			}
			_, err = s.Verify(t.Context(), deviceLogin(s.iot, "t:d", s.device))
			check(t, err) // who has a token of ours is not touched
		})
	}
}

// A token lets nobody in who is disabled or deleted.
func TestBearerOfTheGone(t *testing.T) {
	s := newScene(t)
	idp := s.newProvider(t, s.iot, "idp")
	device, token := auth.Credentials{ClientID: "d:" + string(s.iot) + ":t:d"}, idp.token("t:d", nil)
	g, err := s.bear(t.Context(), device, "n,,", token)
	check(t, err)
	refused := func(code errs.Code) {
		t.Helper()
		_, err := s.Renew(t.Context(), g.Ref())
		wantCode(t, err, code)
		_, err = s.bear(t.Context(), device, "n,,", token)
		wantCode(t, err, errs.Unauthenticated)
	}
	check(t, s.SetDeviceDisabled(t.Context(), s.admin, s.iot, "t", "d", true))
	refused(errs.Unauthenticated)
	check(t, s.SetDeviceDisabled(t.Context(), s.admin, s.iot, "t", "d", false))
	check(t, s.SetOrgDisabled(t.Context(), s.admin, s.iot, true))
	refused(errs.Unauthenticated)
	check(t, s.SetOrgDisabled(t.Context(), s.admin, s.iot, false))
	check(t, s.DeleteDevice(t.Context(), s.admin, s.iot, "t", "d"))
	refused(errs.NotFound)
	s.newDevice(t, Device{Org: s.iot, Type: "t", ID: "d"}) // another one of that name
	_, err = s.Renew(t.Context(), g.Ref())
	wantCode(t, err, errs.Unauthenticated)
}

// What cannot be checked is refused, and not called wrong.
func TestBearerUnchecked(t *testing.T) {
	s := newScene(t)
	idp := s.newProvider(t, s.iot, "idp")
	s.db.fail(errDisk)
	_, err := s.bear(t.Context(), auth.Credentials{ClientID: "d:" + string(s.iot) + ":t:d"}, "n,,", idp.token("t:d", nil))
	wantCode(t, err, errs.Unavailable)
}

func TestIssuerBounds(t *testing.T) {
	w := newWorld(t)
	org, other := w.newOrg(t, ProfileIoT2), w.newOrg(t, ProfileIoT2)
	p := w.newProvider(t, org, "one")
	w.newProvider(t, other, "one") // organisations do not meet
	good := Issuer{Org: org, Name: "two", Issuer: "https://two.example.com", Audience: "a", Algorithms: []string{"ES256"}, Keys: p.keys()}
	for why, f := range map[string]func(*Issuer){
		"name":       func(i *Issuer) { i.Name = "a b" },
		"no name":    func(i *Issuer) { i.Name = "" },
		"no issuer":  func(i *Issuer) { i.Issuer = "" },
		"issuer":     func(i *Issuer) { i.Issuer = "a\x00" },
		"audience":   func(i *Issuer) { i.Audience = strings.Repeat("x", 501) },
		"claim":      func(i *Issuer) { i.Claim = strings.Repeat("x", 101) },
		"algorithms": func(i *Issuer) { i.Algorithms = []string{"none"} },
		"keys":       func(i *Issuer) { i.Keys = jwt.Keys{} },
	} {
		i := good
		f(&i)
		_, err := w.CreateIssuer(t.Context(), w.admin, i)
		wantCode(t, err, errs.Invalid)
		if why == "name" || why == "no name" || why == "no issuer" || why == "keys" {
			continue // there is no way to ask for it
		}
		i.Name = "one"
		_, err = w.UpdateIssuer(t.Context(), w.admin, i)
		wantCode(t, err, errs.Invalid)
	}
	same := good
	same.Issuer = p.iss
	_, err := w.CreateIssuer(t.Context(), w.admin, same)
	wantCode(t, err, errs.Conflict)
	made, err := w.CreateIssuer(t.Context(), w.admin, good)
	check(t, err)
	made.Issuer = p.iss
	_, err = w.UpdateIssuer(t.Context(), w.admin, made)
	wantCode(t, err, errs.Conflict)
	for i := range maxIssuers - 2 {
		good.Name, good.Issuer = "n-"+string(rune('a'+i)), "https://"+string(rune('a'+i))
		_, err := w.CreateIssuer(t.Context(), w.admin, good)
		check(t, err)
	}
	good.Name, good.Issuer = "more", "https://more"
	_, err = w.CreateIssuer(t.Context(), w.admin, good)
	wantCode(t, err, errs.Exhausted)
	all, next, err := w.Issuers(t.Context(), w.admin, org, Page{Limit: 10})
	check(t, err)
	rest, _, err := w.Issuers(t.Context(), w.admin, org, Page{Limit: 10, After: next})
	check(t, err)
	if len(all) != 10 || len(rest) != maxIssuers-10 {
		t.Errorf("pages of %d and %d", len(all), len(rest))
	}
	check(t, w.DeleteOrg(t.Context(), w.admin, org))
}
