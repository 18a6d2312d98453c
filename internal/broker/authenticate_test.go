package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/door"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// enhance makes a CONNECT one that names an authentication method.
func enhance(method, data string, more ...func(*mqtt.Connect)) func(*mqtt.Connect) {
	return func(p *mqtt.Connect) {
		p.Username, p.Password = mqtt.Opt[string]{}, nil
		p.Properties.AuthMethod = mqtt.Some(method)
		if data != "" {
			p.Properties.AuthData = []byte(data)
		}
		for _, f := range more {
			f(p)
		}
	}
}

func authPacket(code mqtt.ReasonCode, method, data string) *mqtt.Auth {
	p := &mqtt.Auth{Code: code}
	p.Properties.AuthMethod = mqtt.Some(method)
	if data != "" {
		p.Properties.AuthData = []byte(data)
	}
	return p
}

func further(data string) *mqtt.Auth {
	return authPacket(mqtt.ContinueAuthentication, "asking", data)
}
func again(data string) *mqtt.Auth { return authPacket(mqtt.Reauthenticate, "asking", data) }

// expectAuth returns the data of the next packet, which must be AUTH with that
// code [MQTT-4.12.0-2] and method [MQTT-4.12.0-5].
func (c *client) expectAuth(code mqtt.ReasonCode, method string) string {
	c.t.Helper()
	p := expect[*mqtt.Auth](c)
	if m, ok := p.Properties.AuthMethod.Get(); p.Code != code || !ok || m != method {
		c.t.Fatalf("AUTH %v %q, want %v %q", p.Code, m, code, method)
	}
	return string(p.Properties.AuthData)
}

// asked begins an exchange and returns the client that was asked for more.
func (w *world) asked(method, name string, more ...func(*mqtt.Connect)) *client {
	w.t.Helper()
	c := newClient(w.t, w.dial(nil), mqtt.V5)
	if w.ln != nil {
		c.listen()
	}
	c.send(hello(mqtt.V5, "c", enhance(method, string(testOrg)+"/"+name, more...)))
	c.expectAuth(mqtt.ContinueAuthentication, method)
	return c
}

// proved returns a client that was let in by an exchange.
func (w *world) proved(method, name string, more ...func(*mqtt.Connect)) *client {
	w.t.Helper()
	c := w.asked(method, name, more...)
	c.send(authPacket(mqtt.ContinueAuthentication, method, "secret-"+name))
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
		w.t.Fatalf("connack %v", ack.Code)
	}
	return c
}

func TestEnhanced(t *testing.T) {
	w := start(t, nil)
	c := newClient(t, w.dial(nil), mqtt.V5)
	c.send(hello(mqtt.V5, "c", enhance("asking", "abc123/u")))
	if got := c.expectAuth(mqtt.ContinueAuthentication, "asking"); got != "password of abc123/u" {
		t.Errorf("asked %q", got)
	}
	c.send(further("secret-u"))
	ack := expect[*mqtt.Connack](c)
	method, _ := ack.Properties.AuthMethod.Get()
	if ack.Code != mqtt.Success || method != "asking" || string(ack.Properties.AuthData) != "welcome" {
		t.Errorf("connack %v, method %q, data %q", ack.Code, method, []byte(ack.Properties.AuthData))
	}
	c.ping()
	plain, ack := w.try(hello(mqtt.V5, "plain", nil))
	if ack.Properties.AuthMethod.Present() || ack.Properties.AuthData != nil {
		t.Error("a client without a method is told one [MQTT-4.12.0-6]")
	}
	plain.ping()
}

func TestEnhancedRefused(t *testing.T) {
	w := start(t, nil)
	for method, want := range map[string]mqtt.ReasonCode{"": mqtt.BadAuthenticationMethod, "PLAIN": mqtt.BadAuthenticationMethod, "Asking": mqtt.BadAuthenticationMethod} {
		c, ack := w.try(hello(mqtt.V5, "c", enhance(method, "x")))
		if ack.Code != want {
			t.Errorf("method %q: %v [MQTT-4.12.0-1]", method, ack.Code)
		}
		c.closed()
	}
	c := w.asked("asking", "u")
	c.send(further("wrong"))
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.BadUserNameOrPassword {
		t.Errorf("wrong password: %v [MQTT-4.12.0-4]", ack.Code)
	}
	c.closed()
	w.dir.set(testOrg, "u", func(u *user) { u.refused = errs.E(errs.Unavailable, "try again") })
	c = w.asked("asking", "u")
	c.send(further("secret-u"))
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.ServerUnavailable {
		t.Errorf("a check that could not be made: %v", ack.Code)
	}
	c.closed()
}

// Before CONNACK the client may send AUTH and DISCONNECT [MQTT-3.1.2-30], and
// AUTH only with its method [MQTT-4.12.0-5] and to continue [MQTT-4.12.0-3].
func TestBetweenConnectAndConnack(t *testing.T) {
	w := start(t, nil)
	holder := w.connect(mqtt.V5, "c", nil) // an exchange takes no session over
	for name, send := range map[string]func(*client){
		"ping":    func(c *client) { c.send(&mqtt.Pingreq{}) },
		"publish": func(c *client) { c.send(pub("a", "x", 0, 0)) },
		"subscribe": func(c *client) {
			c.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "#"}}})
		},
		"connect":          func(c *client) { c.send(hello(mqtt.V5, "c", nil)) },
		"connect, method":  func(c *client) { c.send(hello(mqtt.V5, "c", enhance("asking", "abc123/u"))) },
		"puback":           func(c *client) { c.send(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: 1}) },
		"connack":          func(c *client) { c.send(&mqtt.Connack{}) },
		"another method":   func(c *client) { c.send(authPacket(mqtt.ContinueAuthentication, "slow", "secret-u")) },
		"method, no text":  func(c *client) { c.send(authPacket(mqtt.ContinueAuthentication, "", "secret-u")) },
		"empty auth":       func(c *client) { c.raw([]byte{0xF0, 0}) },
		"no method":        func(c *client) { c.raw([]byte{0xF0, 2, 0x18, 0}) },
		"success":          func(c *client) { c.send(authPacket(mqtt.Success, "asking", "secret-u")) },
		"re-authenticate":  func(c *client) { c.send(again("secret-u")) },
		"unknown code":     func(c *client) { c.send(authPacket(0x17, "asking", "secret-u")) },
		"method twice":     func(c *client) { c.raw([]byte{0xF0, 10, 0x18, 8, 0x15, 0, 1, 'a', 0x15, 0, 1, 'a'}) },
		"data twice":       func(c *client) { c.raw([]byte{0xF0, 10, 0x18, 8, 0x16, 0, 1, 'a', 0x16, 0, 1, 'a'}) },
		"sub, not allowed": func(c *client) { c.send(&mqtt.Unsubscribe{PacketID: 1, Filters: []string{"a"}}) },
	} {
		c := w.asked("asking", "u")
		send(c)
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.ProtocolError {
			t.Errorf("%s: %v", name, ack.Code)
		}
		c.closed()
	}
	for name, raw := range map[string][]byte{
		"truncated property": {0xF0, 4, 0x18, 2, 0x15, 0},
		"reserved flags":     {0xF1, 2, 0x18, 0},
		"length of section":  {0xF0, 2, 0x18, 9},
		"unknown property":   {0xF0, 4, 0x18, 2, 0x7F, 0},
		"misplaced property": {0xF0, 4, 0x18, 2, 0x01, 0},
	} {
		c := w.asked("asking", "u")
		c.raw(raw)
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.MalformedPacket {
			t.Errorf("%s: %v", name, ack.Code)
		}
		c.closed()
	}
	c := w.asked("asking", "u")
	c.send(&mqtt.Disconnect{})
	if p, err := c.packet(); err == nil {
		t.Errorf("DISCONNECT is answered with %T", p)
	}
	w.asked("asking", "u").cut()
	holder.ping()
	eventually(t, "nothing is left of unfinished exchanges", func() bool {
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
		return len(w.b.conns) == 1
	})
}

// An exchange is bounded in steps, in bytes and in time.
func TestExchangeBounds(t *testing.T) {
	bubble(t, func(c *Config) { c.ConnectTimeout = 2 * time.Second }, func(t *testing.T, w *world) {
		c := newClient(t, w.dial(nil), mqtt.V5)
		c.send(hello(mqtt.V5, "c", enhance("endless", "x")))
		for steps := 0; ; steps++ {
			p, err := c.packet()
			if err != nil || steps > maxSteps {
				t.Fatalf("step %d: %T, %v", steps, p, err)
			}
			if ack, ok := p.(*mqtt.Connack); ok {
				if ack.Code != mqtt.BadUserNameOrPassword {
					t.Errorf("endless: %v", ack.Code)
				}
				break
			}
			c.send(authPacket(mqtt.ContinueAuthentication, "endless", "x"))
		}
		c.closed()

		c = w.asked("asking", "u")
		c.raw([]byte{0xF0, 0xE0, 0xC5, 0x08}) // AUTH of 140,000 bytes
		if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.PacketTooLarge {
			t.Errorf("too many bytes: %v", ack.Code)
		}
		c.closed()

		begun := time.Now()
		c = w.asked("asking", "u")
		c.closed()
		c.came(begun.Add(2 * time.Second))
	})
}

// A client that accepts only small packets gets no larger AUTH [MQTT-3.1.2-24].
func TestAuthTooLarge(t *testing.T) {
	w := start(t, nil)
	c := newClient(t, w.dial(nil), mqtt.V5)
	c.send(hello(mqtt.V5, "c", enhance("asking", "abc123/u", func(p *mqtt.Connect) { p.Properties.MaximumPacketSize = mqtt.Some(uint32(30)) })))
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.PacketTooLarge || ack.Properties.ReasonString.Present() {
		t.Errorf("%v, %v", ack.Code, ack.Properties.ReasonString)
	}
	c.closed()
}

// AUTH without a method in CONNECT is a breach of the protocol [MQTT-4.12.0-7],
// and before MQTT 5 there is no such packet.
func TestAuthWithoutMethod(t *testing.T) {
	w := start(t, nil)
	for name, p := range map[string]*mqtt.Auth{"continue": further("x"), "again": again("x"), "success": authPacket(mqtt.Success, "asking", ""), "empty": {}} {
		c := w.connect(mqtt.V5, "c", nil)
		c.send(p)
		if code := c.closed(); code != mqtt.ProtocolError {
			t.Errorf("%s: %v", name, code)
		}
	}
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311} {
		c := w.connect(v, "c", nil)
		c.raw(again("x").Append(nil, mqtt.V5))
		c.closed()
	}
	c := newClient(t, w.dial(nil), mqtt.V5)
	c.send(again("x"))
	c.closed()
}

// Who is revoked during the exchange is not let in.
func TestRevokedDuringExchange(t *testing.T) {
	w := start(t, nil)
	w.dir.hold()
	c := w.asked("slow", "u")
	c.send(authPacket(mqtt.ContinueAuthentication, "slow", "secret-u"))
	w.dir.set(testOrg, "u", func(u *user) { u.refused = errs.E(errs.Denied, "disabled") })
	w.dir.release()
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.NotAuthorized {
		t.Errorf("%v", ack.Code)
	}
}

func TestReauthenticate(t *testing.T) {
	w := start(t, nil)
	c := w.proved("asking", "u")
	for range 3 {
		c.send(again("abc123/u"))
		c.expectAuth(mqtt.ContinueAuthentication, "asking")
		c.sub("a", 0) // other packets are served meanwhile
		c.ping()
		c.send(further("secret-u"))
		if got := c.expectAuth(mqtt.Success, "asking"); got != "welcome" {
			t.Errorf("data %q", got)
		}
	}
	c.send(pub("a", "x", 0, 0))
	c.receive("a", "x")
}

// While the Verifier thinks, the client is served.
func TestServedMeanwhile(t *testing.T) {
	w := start(t, nil)
	c := w.proved("slow", "u")
	w.dir.hold()
	c.send(authPacket(mqtt.Reauthenticate, "slow", "abc123/u"))
	c.expectAuth(mqtt.ContinueAuthentication, "slow")
	c.send(authPacket(mqtt.ContinueAuthentication, "slow", "secret-u"))
	c.sub("a", 1)
	c.publish("b", "x")
	c.ping()
	w.dir.release()
	c.expectAuth(mqtt.Success, "slow")
}

// AUTH out of order ends the connection.
func TestReauthenticateOutOfOrder(t *testing.T) {
	w := start(t, nil)
	w.dir.hold() // for ever, for "slow"
	slow := func(code mqtt.ReasonCode, data string) *mqtt.Auth { return authPacket(code, "slow", data) }
	for name, send := range map[string]func(*client){
		"continue what was not begun": func(c *client) { c.send(further("secret-u")) },
		"success from a client":       func(c *client) { c.send(authPacket(mqtt.Success, "asking", "")) },
		"empty":                       func(c *client) { c.raw([]byte{0xF0, 0}) },
		"no method":                   func(c *client) { c.raw([]byte{0xF0, 2, 0x19, 0}) },
		"another method":              func(c *client) { c.send(slow(mqtt.Reauthenticate, "abc123/u")) },
		"begin twice": func(c *client) {
			c.send(again("abc123/u"))
			c.expectAuth(mqtt.ContinueAuthentication, "asking")
			c.send(again("abc123/u"))
		},
		"success instead of an answer": func(c *client) {
			c.send(again("abc123/u"))
			c.expectAuth(mqtt.ContinueAuthentication, "asking")
			c.send(authPacket(mqtt.Success, "asking", "secret-u"))
		},
		"another method in between": func(c *client) {
			c.send(again("abc123/u"))
			c.expectAuth(mqtt.ContinueAuthentication, "asking")
			c.send(slow(mqtt.ContinueAuthentication, "secret-u"))
		},
		"continue after the end": func(c *client) {
			c.send(again("abc123/u"))
			c.expectAuth(mqtt.ContinueAuthentication, "asking")
			c.send(further("secret-u"))
			c.expectAuth(mqtt.Success, "asking")
			c.send(further("secret-u"))
		},
	} {
		c := w.proved("asking", "u")
		send(c)
		if code := c.closed(); code != mqtt.ProtocolError {
			t.Errorf("%s: %v [MQTT-4.12.1-1]", name, code)
		}
	}
	w.dir.release()
	c := w.proved("slow", "u")
	w.dir.hold()
	c.send(slow(mqtt.Reauthenticate, "abc123/u"))
	c.expectAuth(mqtt.ContinueAuthentication, "slow")
	c.send(slow(mqtt.ContinueAuthentication, "secret-u"), slow(mqtt.ContinueAuthentication, "secret-u"))
	if code := c.closed(); code != mqtt.ProtocolError {
		t.Errorf("two at once: %v", code)
	}
}

// A re-authentication that fails ends the connection [MQTT-4.12.1-2], and its
// will is published.
func TestReauthenticateFails(t *testing.T) {
	for name, tt := range map[string]struct {
		begin, answer string
		change        func(*world)
		want          mqtt.ReasonCode
	}{
		"wrong password": {"abc123/u", "wrong", nil, mqtt.NotAuthorized},
		"somebody else":  {"abc123/v", "secret-v", nil, mqtt.NotAuthorized},
		"a namesake":     {"other1/u", "secret-u", nil, mqtt.NotAuthorized},
		"nobody":         {"abc123/x", "secret-x", nil, mqtt.NotAuthorized},
		"an ended credential": {"abc123/u", "secret-u", func(w *world) {
			w.dir.quietly("u", func(u *user) { u.spec.Expires = time.Now().Add(-time.Second) })
		}, mqtt.NotAuthorized},
		"a later holder of the name": {"abc123/u", "secret-u", func(w *world) {
			w.dir.quietly("u", func(u *user) { u.spec.UID = "another" })
		}, mqtt.NotAuthorized},
		"a check that cannot be made": {"abc123/u", "secret-u", func(w *world) {
			w.dir.quietly("u", func(u *user) { u.refused = errs.E(errs.Unavailable, "try again") })
		}, mqtt.ImplementationSpecificError},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, nil)
			sub := w.connect(mqtt.V5, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v") })
			sub.sub("will", 0)
			c := w.proved("asking", "u", willed(0))
			c.send(again(tt.begin))
			c.expectAuth(mqtt.ContinueAuthentication, "asking")
			if tt.change != nil {
				tt.change(w)
			}
			c.send(further(tt.answer))
			if code := c.closed(); code != tt.want {
				t.Errorf("%v, want %v", code, tt.want)
			}
			if tt.change == nil {
				sub.receive("will", "gone")
			}
		})
	}
}

// An exchange that is not finished ends the connection in time.
func TestReauthenticateUnfinished(t *testing.T) {
	bubble(t, func(c *Config) { c.ConnectTimeout = time.Second }, func(t *testing.T, w *world) {
		c := w.proved("asking", "u")
		c.send(again("abc123/u"))
		c.expectAuth(mqtt.ContinueAuthentication, "asking")
		c.endsAt(time.Now().Add(time.Second), mqtt.NotAuthorized)
		c = w.proved("asking", "u")
		c.send(again("abc123/u"))
		c.expectAuth(mqtt.ContinueAuthentication, "asking")
		c.send(further("secret-u"))
		c.expectAuth(mqtt.Success, "asking")
		w.b.mu.Lock()
		defer w.b.mu.Unlock()
		for c := range w.b.conns {
			if c.enhanced.patience.Stop() {
				t.Error("it is finished, and the clock goes on")
			}
		}
	})
}

// A re-authentication brings new rights and a new end.
func TestReauthenticateReplaces(t *testing.T) {
	bubble(t, nil, func(t *testing.T, w *world) {
		end := time.Now().Add(2 * time.Second)
		w.dir.add(testOrg, "brief", func(s *auth.Spec) { s.Expires = end })
		c := w.proved("asking", "brief")
		c.sub("a", 0)
		c.sub("b", 0)
		w.dir.quietly("brief", func(u *user) {
			f := filter("b")
			u.spec.Expires = time.Now().Add(time.Hour)
			u.spec.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: f}, {Action: auth.Receive, Filter: f}}
		})
		c.send(again("abc123/brief"))
		c.expectAuth(mqtt.ContinueAuthentication, "asking")
		c.send(further("secret-brief"))
		c.expectAuth(mqtt.Success, "asking")
		w.mem.mu.Lock()
		for _, s := range w.mem.sessions {
			if len(s.subs) != 1 {
				t.Errorf("%d subscriptions are left, 1 is allowed", len(s.subs))
			}
		}
		w.mem.mu.Unlock()
		p := w.connect(mqtt.V5, "p", func(p *mqtt.Connect) { as(p, testOrg, "v") })
		p.publish("a", "no")
		p.publish("b", "yes")
		c.receive("b", "yes")
		c.send(pub("a", "x", 1, 5))
		c.expectAck(mqtt.PUBACK, 5, mqtt.NotAuthorized)
		time.Sleep(time.Until(end) + 1)
		c.silent()
		c.ping()
		end = time.Now().Add(time.Second)
		w.dir.quietly("brief", func(u *user) { u.spec.Expires = end })
		c.send(again("abc123/brief"))
		c.expectAuth(mqtt.ContinueAuthentication, "asking")
		c.send(further("secret-brief"))
		c.expectAuth(mqtt.Success, "asking")
		c.endsAt(end, mqtt.NotAuthorized)
	})
}

// A change that comes between the Verifier's answer and the new grant counts.
func TestRevokedWhileReauthenticating(t *testing.T) {
	w := start(t, nil)
	c := w.proved("slow", "u")
	w.dir.hold()
	c.send(authPacket(mqtt.Reauthenticate, "slow", "abc123/u"))
	c.expectAuth(mqtt.ContinueAuthentication, "slow")
	c.send(authPacket(mqtt.ContinueAuthentication, "slow", "secret-u"))
	w.dir.set(testOrg, "u", func(u *user) { u.refused = errs.E(errs.Denied, "disabled") })
	if code := c.closed(); code != mqtt.AdministrativeAction {
		t.Errorf("%v", code)
	}
	w.dir.release()
}

// A change that the Verifier's answer does not know, and that is not of the
// grant before, is asked for when the new grant is in place.
func TestChangeOfNewGrant(t *testing.T) {
	w := start(t, nil)
	c := w.proved("late", "u")
	w.dir.quietly("u", func(u *user) { u.spec.Credential = "password:2" })
	w.dir.hold()
	c.send(authPacket(mqtt.Reauthenticate, "late", "abc123/u"))
	c.expectAuth(mqtt.ContinueAuthentication, "late")
	c.send(authPacket(mqtt.ContinueAuthentication, "late", "secret-u"))
	eventually(t, "the answer waits", func() bool { return w.dir.waiting.Load() == 1 })
	renewed := func() int {
		w.dir.mu.Lock()
		defer w.dir.mu.Unlock()
		return w.dir.renewed
	}
	before := renewed()
	w.dir.set(testOrg, "u", func(u *user) { u.spec.Credential = "password:1" })
	eventually(t, "the connection and then the user are asked for", func() bool { return renewed() == before+2 })
	c.ping() // by the grant before it may stay
	w.dir.release()
	if code := c.closed(); code != mqtt.NotAuthorized {
		t.Errorf("%v", code)
	}
}

// A will is published by the credential of the last authentication.
func TestWillAfterReauthentication(t *testing.T) {
	for credential, want := range map[string]bool{"password:2": true, "password:3": false} {
		w := start(t, nil)
		sub := w.connect(mqtt.V5, "sub", func(p *mqtt.Connect) { as(p, testOrg, "v") })
		sub.sub("#", 0)
		c := w.proved("asking", "u", willed(0))
		w.dir.quietly("u", func(u *user) { u.spec.Credential = "password:2" })
		c.send(again("abc123/u"))
		c.expectAuth(mqtt.ContinueAuthentication, "asking")
		c.send(further("secret-u"))
		c.expectAuth(mqtt.Success, "asking")
		w.dir.quietly("u", func(u *user) { u.spec.Credential = credential })
		c.cut()
		eventually(t, "it is gone", func() bool { return w.b.Snapshot().Connected == 1 })
		if want {
			sub.receive("will", "gone")
		}
		sub.ping()
	}
}

// Who guesses in re-authentications pays as who guesses in CONNECT does, whatever
// it has proved before.
func TestReauthenticationIsCharged(t *testing.T) {
	bubble(t, func(c *Config) { c.Address = door.Address{FailureRate: 1, FailureBurst: 5} }, func(t *testing.T, w *world) {
		for i := range 12 {
			c := w.proved("asking", "u")
			c.send(again("abc123/v"))
			c.expectAuth(mqtt.ContinueAuthentication, "asking")
			c.send(further(fmt.Sprint("guess", i)))
			if code := c.closed(); code != mqtt.NotAuthorized {
				t.Errorf("%v", code)
			}
		}
		if n := w.b.Snapshot().Door.Slowed; n == 0 {
			t.Error("nobody was slowed down")
		}
	})
}
