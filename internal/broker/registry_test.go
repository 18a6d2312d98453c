package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/authtest"
	"github.com/keepmq/keepmq/internal/auth/jwt"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/store/sqlite"
)

// A site is a broker with the real Verifier behind it: an organisation with the
// devices t:one and t:two, and an issuer whose tokens it accepts.
type site struct {
	*world
	reg    *registry.Registry
	admin  registry.Actor
	org    auth.OrgID
	tokens map[string]string
	key    *ecdsa.PrivateKey
}

const issuerURL = "https://id.example.com"

func newSite(t *testing.T) *site {
	t.Helper()
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "state.db"))
	must(err)
	t.Cleanup(func() { must(db.Close()) })
	ring, err := keyring.Open(ctx, dir, db)
	must(err)
	authority, err := ca.Open(ctx, db, ring)
	must(err)
	s := &site{
		reg:    registry.New(registry.Config{DB: db, Ring: ring, Issuer: authority, Log: slog.New(slog.NewTextHandler(testLog{t}, nil))}),
		admin:  registry.Actor{Principal: auth.Principal{Kind: auth.System, ID: "tester"}, Admin: true},
		tokens: map[string]string{},
	}
	org, err := s.reg.CreateOrg(ctx, s.admin, registry.Org{})
	must(err)
	s.org = org.ID
	_, err = s.reg.CreateDeviceType(ctx, s.admin, registry.DeviceType{Org: s.org, ID: "t"})
	must(err)
	for _, id := range []string{"one", "two"} {
		_, token, err := s.reg.CreateDevice(ctx, s.admin, registry.Device{Org: s.org, Type: "t", ID: id})
		must(err)
		s.tokens[id] = token.Reveal()
	}
	s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	document, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.key.Public(), KeyID: "k1"}}})
	must(err)
	keys, err := jwt.ParseKeys(document)
	must(err)
	_, err = s.reg.CreateIssuer(ctx, s.admin, registry.Issuer{Org: s.org, Name: "idp", Issuer: issuerURL, Audience: "keepmq",
		Algorithms: []string{"ES256"}, Keys: keys})
	must(err)
	s.world = start(t, func(c *Config) { c.Verifier, c.Refusals = s.reg, s.reg.Refusals })
	return s
}

func (s *site) clientID(device string) string { return "d:" + string(s.org) + ":t:" + device }

// token returns a signed token.
func (s *site) token(kid, subject string, change func(map[string]any)) string {
	s.t.Helper()
	claims := map[string]any{"iss": issuerURL, "aud": "keepmq", "sub": subject, "exp": time.Now().Add(time.Hour).Unix()}
	if change != nil {
		change(claims)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		s.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: s.key, KeyID: kid}}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		s.t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		s.t.Fatal(err)
	}
	return token
}

func bearing(token string) string { return "n,,\x01auth=Bearer " + token + "\x01\x01" }

// begin sends CONNECT with a method.
func (s *site) begin(device, method, data string, more ...func(*mqtt.Connect)) *client {
	s.t.Helper()
	c := newClient(s.t, s.dial(nil), mqtt.V5)
	c.send(hello(mqtt.V5, s.clientID(device), enhance(method, data, more...)))
	return c
}

// prove goes on with SCRAM until the client's proof is sent.
func (c *client) prove(x *authtest.SCRAM) []byte {
	c.t.Helper()
	answer, err := x.Prove([]byte(c.expectAuth(mqtt.ContinueAuthentication, auth.MethodSCRAM)))
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(authPacket(mqtt.ContinueAuthentication, auth.MethodSCRAM, string(answer)))
	return answer
}

func (s *site) scram(device string) (*client, *authtest.SCRAM) {
	s.t.Helper()
	x := authtest.NewSCRAM("use-token-auth", s.tokens[device])
	return s.begin(device, auth.MethodSCRAM, string(x.Hello())), x
}

func TestSCRAM(t *testing.T) {
	s := newSite(t)
	c, x := s.scram("one")
	c.prove(x)
	ack := expect[*mqtt.Connack](c)
	method, _ := ack.Properties.AuthMethod.Get()
	if ack.Code != mqtt.Success || method != auth.MethodSCRAM || !x.Proved(ack.Properties.AuthData) {
		t.Fatalf("%v, method %q: the server proves nothing", ack.Code, method)
	}
	c.publish("iot-2/evt/e/fmt/json", "{}")

	again := authtest.NewSCRAM("use-token-auth", s.tokens["one"])
	c.send(authPacket(mqtt.Reauthenticate, auth.MethodSCRAM, string(again.Hello())))
	c.prove(again)
	if last := c.expectAuth(mqtt.Success, auth.MethodSCRAM); !again.Proved([]byte(last)) {
		t.Errorf("the server proves nothing with %q", last)
	}
	c.publish("iot-2/evt/e/fmt/json", "{}")

	if _, err := s.reg.RotateToken(context.Background(), s.admin, auth.Principal{Org: s.org, Kind: auth.Device, ID: "t:one"}, registry.Rotation{}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if code := c.closed(); code != mqtt.NotAuthorized || time.Since(begun) > time.Second {
		t.Errorf("a new token ends it with %v after %v", code, time.Since(begun))
	}
	c, x = s.scram("one")
	c.prove(x)
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.BadUserNameOrPassword {
		t.Errorf("the old token: %v", ack.Code)
	}
}

// While two tokens are good, connections made with either live; the end of the
// overlap, or that of the token itself, ends those made with it, on time.
func TestOverlapEnds(t *testing.T) {
	s := newSite(t)
	ctx, who := context.Background(), auth.Principal{Org: s.org, Kind: auth.Device, ID: "t:one"}
	connect := func(token string) *client {
		c := newClient(t, s.dial(nil), mqtt.V5)
		c.send(hello(mqtt.V5, s.clientID("one"), func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Some("use-token-auth"), []byte(token) }))
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
			t.Fatal(ack.Code)
		}
		return c
	}
	rotate := func(x registry.Rotation) string {
		token, err := s.reg.RotateToken(ctx, s.admin, who, x)
		if err != nil {
			t.Fatal(err)
		}
		return token.Reveal()
	}
	old := connect(s.tokens["one"])
	begun := time.Now()
	const overlap = 1500 * time.Millisecond
	second := rotate(registry.Rotation{Overlap: overlap})
	old.publish("iot-2/evt/e/fmt/json", "{}")
	code := old.closed()
	if took := time.Since(begun); took < overlap-10*time.Millisecond || took > overlap+time.Second {
		t.Errorf("the overlap of %v ends it with %v after %v", overlap, code, took)
	}
	c := connect(second)
	rotate(registry.Rotation{Overlap: time.Hour})
	c.publish("iot-2/evt/e/fmt/json", "{}")
	begun = time.Now()
	if err := s.reg.RetireToken(ctx, s.admin, who); err != nil {
		t.Fatal(err)
	}
	if code := c.closed(); code != mqtt.NotAuthorized || time.Since(begun) > time.Second {
		t.Errorf("retired: %v after %v", code, time.Since(begun))
	}
	c = connect(rotate(registry.Rotation{}))
	begun = time.Now()
	if err := s.reg.SetTokenExpiry(ctx, s.admin, who, begun.Add(overlap)); err != nil {
		t.Fatal(err)
	}
	code = c.closed()
	if took := time.Since(begun); took < overlap-10*time.Millisecond || took > overlap+time.Second {
		t.Errorf("the end of its token ends it with %v after %v", code, took)
	}
}

func TestSCRAMRefused(t *testing.T) {
	s := newSite(t)
	recorded := func() string { // a good proof of another exchange
		c, x := s.scram("one")
		proof := c.prove(x)
		expect[*mqtt.Connack](c)
		return string(proof)
	}()
	for name, tt := range map[string]struct {
		device string
		change func(first string) string
		answer func(challenge, good string) string // of the client; nil: it is refused at once
	}{
		"wrong proof": {"one", nil, func(_, good string) string {
			at := strings.LastIndex(good, "p=") + 2
			p, _ := base64.StdEncoding.DecodeString(good[at:])
			p[0] ^= 1
			return good[:at] + base64.StdEncoding.EncodeToString(p)
		}},
		"another's password":     {"two", nil, func(_, good string) string { return good }},
		"nobody":                 {"three", nil, func(_, good string) string { return good }},
		"a replayed proof":       {"one", nil, func(_, _ string) string { return recorded }},
		"the challenge itself":   {"one", nil, func(challenge, _ string) string { return challenge }},
		"the first again":        {"one", nil, func(_, _ string) string { return "n,,n=use-token-auth,r=x" }},
		"no data":                {"one", nil, func(_, _ string) string { return "" }},
		"y where n was sent":     {"one", nil, func(_, good string) string { return strings.Replace(good, "c=biws", "c=eSws", 1) }},
		"n where y was sent":     {"one", func(f string) string { return "y" + f[1:] }, func(_, good string) string { return good }},
		"channel binding":        {"one", func(f string) string { return "p=tls-exporter" + f[1:] }, nil},
		"to act as another":      {"one", func(f string) string { return "n,a=x," + f[3:] }, nil},
		"an unknown user name":   {"one", func(f string) string { return strings.Replace(f, "use-token-auth", "x", 1) }, nil},
		"a mandatory extension":  {"one", func(f string) string { return "n,,m=x," + f[3:] }, nil},
		"not SCRAM at all":       {"one", func(string) string { return "sesame" }, nil},
		"a signed token instead": {"one", func(string) string { return bearing("x") }, nil},
	} {
		x := authtest.NewSCRAM("use-token-auth", s.tokens["one"])
		first := string(x.Hello())
		if tt.change != nil {
			first = tt.change(first)
		}
		c := s.begin(tt.device, auth.MethodSCRAM, first)
		if tt.answer != nil {
			challenge := c.expectAuth(mqtt.ContinueAuthentication, auth.MethodSCRAM)
			good, err := x.Prove([]byte(challenge))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c.send(authPacket(mqtt.ContinueAuthentication, auth.MethodSCRAM, tt.answer(challenge, string(good))))
		}
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.BadUserNameOrPassword || ack.Properties.AuthData != nil {
			t.Errorf("%s: %v", name, ack.Code)
		}
		c.closed()
	}
	for _, method := range []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-1", "PLAIN"} { // no way around it
		c := s.begin("one", method, "n,,n=use-token-auth,r=x")
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.BadAuthenticationMethod {
			t.Errorf("%s: %v", method, ack.Code)
		}
	}
}

// A client's packets may come one byte at a time, or all at once.
func TestSCRAMInPieces(t *testing.T) {
	s := newSite(t)
	x := authtest.NewSCRAM("use-token-auth", s.tokens["one"])
	c := newClient(t, s.dial(nil), mqtt.V5)
	slowly := func(p mqtt.Packet) {
		for _, b := range p.Append(nil, mqtt.V5) {
			c.raw([]byte{b})
		}
	}
	slowly(hello(mqtt.V5, s.clientID("one"), enhance(auth.MethodSCRAM, string(x.Hello()))))
	answer, err := x.Prove([]byte(c.expectAuth(mqtt.ContinueAuthentication, auth.MethodSCRAM)))
	if err != nil {
		t.Fatal(err)
	}
	slowly(authPacket(mqtt.ContinueAuthentication, auth.MethodSCRAM, string(answer)))
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
		t.Fatalf("%v", ack.Code)
	}
	again := authtest.NewSCRAM("use-token-auth", s.tokens["one"])
	c.send(&mqtt.Pingreq{}, authPacket(mqtt.Reauthenticate, auth.MethodSCRAM, string(again.Hello())), &mqtt.Pingreq{})
	seen := map[string]int{}
	for range 3 {
		switch p, err := c.packet(); p.(type) {
		case *mqtt.Pingresp:
			seen["ping"]++
		case *mqtt.Auth:
			seen["auth"]++
		default:
			t.Fatalf("%T, %v", p, err)
		}
	}
	if seen["ping"] != 2 || seen["auth"] != 1 {
		t.Errorf("answers %v", seen)
	}
}

// bear connects with a token and returns the answer.
func (s *site) bear(device, token string) (*client, *mqtt.Connack) {
	s.t.Helper()
	c := s.begin(device, auth.MethodBearer, bearing(token))
	return c, expect[*mqtt.Connack](c)
}

func TestBearer(t *testing.T) {
	s := newSite(t)
	end := time.Now().Add(5 * time.Second).Truncate(time.Second)
	c, ack := s.bear("one", s.token("k1", "t:one", func(m map[string]any) { m["exp"] = end.Unix() }))
	if method, _ := ack.Properties.AuthMethod.Get(); ack.Code != mqtt.Success || method != auth.MethodBearer || ack.Properties.AuthData != nil {
		t.Fatalf("%v, method %q", ack.Code, method)
	}
	other, ack := s.bear("two", s.token("k1", "t:two", func(m map[string]any) { m["exp"] = end.Unix() }))
	if ack.Code != mqtt.Success {
		t.Fatal(ack.Code)
	}
	c.send(authPacket(mqtt.Reauthenticate, auth.MethodBearer, bearing(s.token("k1", "t:one", nil))))
	c.expectAuth(mqtt.Success, auth.MethodBearer)
	if code := other.closed(); code != mqtt.NotAuthorized {
		t.Errorf("at its end: %v", code)
	}
	if time.Now().Before(end) {
		t.Errorf("it ended %v too early", time.Until(end))
	}
	c.publish("iot-2/evt/e/fmt/json", "{}") // it lives on by the later token
	if err := s.reg.DeleteIssuer(context.Background(), s.admin, s.org, "idp"); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if code := c.closed(); code != mqtt.NotAuthorized || time.Since(begun) > time.Second {
		t.Errorf("without its issuer: %v after %v", code, time.Since(begun))
	}
	if _, ack := s.bear("one", s.token("k1", "t:one", nil)); ack.Code != mqtt.BadUserNameOrPassword {
		t.Errorf("a token of an issuer that is gone: %v", ack.Code)
	}
}

func TestBearerRefused(t *testing.T) {
	s := newSite(t)
	good := s.token("k1", "t:one", nil)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"k1"}`)) + "." + parts[1] + "."
	with := func(name string, v any) string {
		return s.token("k1", "t:one", func(m map[string]any) { m[name] = v })
	}
	answers := map[string]bool{}
	for name, token := range map[string]string{
		"expired":        with("exp", time.Now().Unix()-1),
		"no end":         with("exp", nil),
		"for others":     with("aud", "other"),
		"of others":      with("iss", "https://other.example.com"),
		"alg none":       none,
		"no signature":   parts[0] + "." + parts[1] + ".",
		"unknown key":    s.token("k2", "t:one", nil),
		"another device": s.token("k1", "t:two", nil),
		"no device":      s.token("k1", "t:three", nil),
		"none":           "",
		"the password":   s.tokens["one"],
	} {
		c, ack := s.bear("one", token)
		reason, _ := ack.Properties.ReasonString.Get()
		answers[authtest.Bare(reason)] = true
		if ack.Code != mqtt.BadUserNameOrPassword {
			t.Errorf("%s: %v", name, ack.Code)
		}
		c.closed()
	}
	if len(answers) != 1 {
		t.Errorf("the client learns why: %v", answers)
	}
	for name, token := range map[string]string{"another's": s.token("k1", "t:two", nil), "expired": with("exp", time.Now().Unix()-1), "alg none": none} {
		c, ack := s.bear("one", good)
		if ack.Code != mqtt.Success {
			t.Fatal(ack.Code)
		}
		c.send(authPacket(mqtt.Reauthenticate, auth.MethodBearer, bearing(token)))
		if code := c.closed(); code != mqtt.NotAuthorized {
			t.Errorf("again with a token that is %s: %v", name, code)
		}
	}
	c, ack := s.bear("one", good)
	if ack.Code != mqtt.Success {
		t.Fatal(ack.Code)
	}
	x := authtest.NewSCRAM("use-token-auth", s.tokens["one"])
	c.send(authPacket(mqtt.Reauthenticate, auth.MethodSCRAM, string(x.Hello()))) // good, and not what was agreed
	if code := c.closed(); code != mqtt.ProtocolError {
		t.Errorf("another method: %v [MQTT-4.12.1-1]", code)
	}
}
