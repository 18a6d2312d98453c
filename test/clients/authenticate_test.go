package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/keepmq/keepmq/internal/auth/authtest"
)

// An auther answers AUTH for a Paho client.
type auther struct {
	t      *testing.T
	method string

	mu    sync.Mutex // guards scram
	scram *authtest.SCRAM
}

// Authenticate implements paho.Auther.
func (a *auther) Authenticate(p *paho.Auth) *paho.Auth {
	a.mu.Lock()
	defer a.mu.Unlock()
	answer, err := a.scram.Prove(p.Properties.AuthData)
	if err != nil {
		a.t.Errorf("challenge: %v", err)
	}
	return a.packet(packets.AuthContinueAuthentication, answer)
}

// Authenticated implements paho.Auther.
func (a *auther) Authenticated() {}

func (a *auther) packet(code byte, data []byte) *paho.Auth {
	return &paho.Auth{ReasonCode: code, Properties: &paho.AuthProperties{AuthMethod: a.method, AuthData: data}}
}

// hello begins a new exchange with SCRAM.
func (a *auther) hello(name, password string) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.scram = authtest.NewSCRAM(name, password)
	return a.scram.Hello()
}

func (a *auther) proved(last []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.scram.Proved(last)
}

// by has a client authenticate with a's method instead of a password.
func by(a *auther, data []byte) func(*paho.Connect, *paho.ClientConfig) {
	return func(p *paho.Connect, c *paho.ClientConfig) {
		p.UsernameFlag, p.Username, p.PasswordFlag, p.Password = false, "", false, nil
		p.Properties.AuthMethod, p.Properties.AuthData = a.method, data
		c.AuthHandler = a
	}
}

// again authenticates again.
func (c *client5) again(p *paho.Auth) *paho.AuthResponse {
	c.t.Helper()
	res, err := c.Authenticate(c.t.Context(), p)
	if err != nil {
		c.t.Fatalf("authenticate again: %v", err)
	}
	return res
}

// Paho's client for version 5 authenticates with SCRAM, over each transport and
// as each kind of client, and again in a live connection.
func TestPahoSCRAM(t *testing.T) {
	t.Parallel()
	s := start(t)
	o, plain := s.org(t, "iot-2"), s.org(t, "plain")
	device, app, user := o.sensors(t, "one")[0], o.app(t, "app"), plain.user(t, "ann")
	user.Client = "any"
	for name, who := range map[string]struct {
		account
		topic string
	}{
		"device":      {device, "iot-2/evt/e/fmt/json"},
		"application": {app, "iot-2/type/sensor/id/one/cmd/c/fmt/json"},
		"user":        {user, "a/b"},
	} {
		for _, transport := range []string{"tls", "wss"} {
			a := &auther{t: t, method: "SCRAM-SHA-256"}
			c := s.paho5(t, transport, who.account, by(a, a.hello(who.User, who.Password)))
			if c.connack.Properties.AuthMethod != a.method || !a.proved(c.connack.Properties.AuthData) {
				t.Errorf("%s, %s: the server proves nothing in CONNACK: %q", name, transport, c.connack.Properties.AuthData)
			}
			if code := c.send(who.topic, 1, "{}"); code >= 0x80 {
				t.Errorf("%s, %s: publish 0x%x", name, transport, code)
			}
			for range 2 {
				res := c.again(a.packet(packets.AuthReauthenticate, a.hello(who.User, who.Password)))
				if !res.Success || res.ReasonCode != packets.AuthSuccess { // Paho leaves out the data, which proves that the server knows the password
					t.Errorf("%s, %s: again: %+v", name, transport, res)
				}
			}
			if code := c.send(who.topic, 1, "{}"); code >= 0x80 {
				t.Errorf("%s, %s: publish after it 0x%x", name, transport, code)
			}
			if res := c.again(a.packet(packets.AuthReauthenticate, a.hello(who.User, "wrong"))); res.Success || res.ReasonCode != 0x87 {
				t.Errorf("%s, %s: again with a wrong password: %+v", name, transport, res)
			}
			wrong := &auther{t: t, method: a.method}
			if c, err := s.try5(t, transport, who.account, by(wrong, wrong.hello(who.User, who.Password+"x"))); err == nil || c.connack == nil || c.connack.ReasonCode != 0x86 {
				t.Errorf("%s, %s: a wrong password: %v", name, transport, err)
			}
		}
	}
}

// An identity provider that signs with ES256.
type provider struct {
	t   *testing.T
	key *ecdsa.PrivateKey
}

// provider makes one and has the organisation accept it.
func (o *org) provider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o.call(t, http.MethodPost, o.path("/issuers"), map[string]any{
		"name": "idp", "issuer": "https://id.example.com", "audience": "keepmq", "algorithms": []string{"ES256"},
		"jwks": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}},
	}, nil)
	return &provider{t, key}
}

// message returns the message of OAUTHBEARER with a token of subject.
func (p *provider) message(subject string, life time.Duration) []byte {
	p.t.Helper()
	claims, err := json.Marshal(map[string]any{"iss": "https://id.example.com", "aud": "keepmq", "sub": subject, "exp": time.Now().Add(life).Unix()})
	if err != nil {
		p.t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.key, KeyID: "k1"}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return []byte("n,,\x01auth=Bearer " + token + "\x01\x01")
}

// Paho's client for version 5 authenticates with signed tokens, lives on by a
// new one, and is gone within a second when the issuer is.
func TestPahoBearer(t *testing.T) {
	t.Parallel()
	s := start(t)
	o := s.org(t, "iot-2")
	device := o.sensors(t, "one", "two")[0]
	idp := o.provider(t)
	a := &auther{t: t, method: "OAUTHBEARER"}

	end := time.Now().Add(10 * time.Second)
	c := s.paho5(t, "tls", device, by(a, idp.message("sensor:one", time.Until(end))))
	if c.connack.Properties.AuthMethod != a.method {
		t.Errorf("method %q in CONNACK", c.connack.Properties.AuthMethod)
	}
	if code := c.send("iot-2/evt/e/fmt/json", 1, "{}"); code >= 0x80 {
		t.Errorf("publish 0x%x", code)
	}
	if res := c.again(a.packet(packets.AuthReauthenticate, idp.message("sensor:one", time.Hour))); !res.Success {
		t.Fatalf("again: %+v", res)
	}
	<-time.After(time.Until(end) + time.Second)
	if code := c.send("iot-2/evt/e/fmt/json", 1, "{}"); code >= 0x80 {
		t.Errorf("after the end of the first token: publish 0x%x", code)
	}
	if _, err := s.try5(t, "wss", device, by(a, idp.message("sensor:two", time.Hour))); err == nil {
		t.Error("another device's token is accepted")
	}
	o.call(t, http.MethodDelete, o.path("/issuers/idp"), nil, nil)
	select {
	case code := <-c.ended:
		if code != 0x87 {
			t.Errorf("ended with 0x%x", code)
		}
	case <-time.After(gone):
		t.Error("it is still there a second after its issuer was deleted")
	}
	if _, err := s.try5(t, "tls", device, by(a, idp.message("sensor:one", time.Hour))); err == nil {
		t.Error("a token of an issuer that is gone is accepted")
	}
}
