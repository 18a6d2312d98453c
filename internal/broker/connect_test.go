package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/quota"
)

// Every refusal of a 3.1.1 client that has to do with who it is answers 5, for
// after another code clients come back every second. MQTT 5 is told precisely.
func TestRefusedConnect(t *testing.T) {
	w := start(t, nil)
	for name, err := range map[string]error{
		"denied":      errs.E(errs.Denied, "disabled"),
		"invalid":     errs.E(errs.Invalid, "client id is malformed"),
		"unavailable": errs.E(errs.Unavailable, "try again"),
		"broken":      errs.Wrap(errs.Internal, errs.E(errs.Denied, "the cause is nobody's business"), ""),
	} {
		w.dir.add(testOrg, name, nil)
		w.dir.users[string(testOrg)+"/"+name].refused = err
	}
	w.dir.add(testOrg, "expired", func(s *auth.Spec) { s.Expires = time.Now().Add(-time.Second) })
	for _, tt := range []struct {
		name string
		edit func(*mqtt.Connect)
		v5   mqtt.ReasonCode
		v3   mqtt.ReturnCode
	}{
		{"wrong password", func(p *mqtt.Connect) { p.Password = []byte("wrong") }, mqtt.BadUserNameOrPassword, 5},
		{"no password", func(p *mqtt.Connect) { p.Password = nil }, mqtt.BadUserNameOrPassword, 5},
		{"nobody", func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Opt[string]{}, nil }, mqtt.BadUserNameOrPassword, 5},
		{"unknown user", func(p *mqtt.Connect) { as(p, testOrg, "nobody") }, mqtt.BadUserNameOrPassword, 5},
		{"disabled", func(p *mqtt.Connect) { as(p, testOrg, "denied") }, mqtt.NotAuthorized, 5},
		{"client id", func(p *mqtt.Connect) { as(p, testOrg, "invalid") }, mqtt.ClientIdentifierNotValid, 5},
		{"expired", func(p *mqtt.Connect) { as(p, testOrg, "expired") }, mqtt.BadUserNameOrPassword, 5},
		{"check failed", func(p *mqtt.Connect) { as(p, testOrg, "unavailable") }, mqtt.ServerUnavailable, 3},
		{"check broke", func(p *mqtt.Connect) { as(p, testOrg, "broken") }, mqtt.ServerUnavailable, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
				c, ack := w.try(hello(v, "c", tt.edit))
				want := tt.v5
				if v < mqtt.V5 {
					want = mqtt.ReasonCode(tt.v3)
				}
				if ack.Code != want || ack.SessionPresent {
					t.Errorf("%v: got %d, want %d", v, ack.Code, want)
				}
				if s, _ := ack.Properties.ReasonString.Get(); strings.Contains(s, "business") {
					t.Errorf("the cause was told: %q", s)
				}
				c.closed()
			}
		})
	}
	if s := w.b.Snapshot(); s.Refused[errs.Unauthenticated] == 0 || s.Connects != 0 {
		t.Errorf("counters: %+v", s)
	}
}

func TestClientID(t *testing.T) {
	w := start(t, nil)
	for _, tt := range []struct {
		v     mqtt.Version
		clean bool
		code  mqtt.ReasonCode
	}{
		{mqtt.V31, true, 2}, {mqtt.V311, true, 0}, {mqtt.V311, false, 2}, // [MQTT-3.1.3-8]
		{mqtt.V5, true, 0}, {mqtt.V5, false, 0}, // [MQTT-3.1.3-6]
	} {
		_, ack := w.try(hello(tt.v, "", func(p *mqtt.Connect) { p.CleanStart = tt.clean }))
		if ack.Code != tt.code {
			t.Errorf("%v clean=%v: code %d, want %d", tt.v, tt.clean, ack.Code, tt.code)
		}
		id, assigned := ack.Properties.AssignedClientID.Get()
		if assigned != (tt.v == mqtt.V5) || assigned && id == "" {
			t.Errorf("%v: assigned %q %v", tt.v, id, assigned)
		}
	}
}

func TestMalformedConnect(t *testing.T) {
	w := start(t, nil)
	good := func(v mqtt.Version) []byte { return hello(v, "c", nil).Append(nil, v) }
	edit := func(b []byte, i int, v byte) []byte { b[i] = v; return b }
	for _, tt := range []struct {
		name string
		v    mqtt.Version
		send []byte
		code int // of CONNACK; -1: closed without one
	}{
		{"3.1.1 reserved flag", mqtt.V311, edit(good(mqtt.V311), 9, 3), -1},
		{"5 reserved flag", mqtt.V5, edit(good(mqtt.V5), 9, 3), 0x81},
		{"level 6", mqtt.V5, edit(good(mqtt.V5), 8, 6), 0x84},
		{"level 2", mqtt.V311, edit(good(mqtt.V311), 8, 2), 1},
		{"bridge bit", mqtt.V311, edit(good(mqtt.V311), 8, 0x84), 1},
		{"other name", mqtt.V311, edit(good(mqtt.V311), 4, 'X'), -1},
		{"old name, new level", mqtt.V311, []byte("\x10\x0e\x00\x06MQIsdp\x04\x02\x00\x3c\x00\x00"), 1},
		{"5 double property", mqtt.V5, []byte("\x10\x19\x00\x04MQTT\x05\x02\x00\x3c\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x02\x00\x00"), 0x82},
		{"not CONNECT", mqtt.V5, []byte{0xc0, 0}, -1},
		{"larger than a CONNECT may be", mqtt.V5, []byte{0x10, 0x80, 0x80, 0x08}, -1},
		{"PUBLISH after PINGREQ", mqtt.V5, []byte{0x30, 0, 0, 0}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "5 double property" {
				tt.send[1] = byte(len(tt.send) - 2)
			}
			c := newClient(t, w.dial(nil), tt.v)
			c.raw(tt.send)
			if tt.code >= 0 {
				if ack := expect[*mqtt.Connack](c); int(ack.Code) != tt.code {
					t.Errorf("code 0x%02X, want 0x%02X", byte(ack.Code), tt.code)
				}
			} else if p, err := c.packet(); err == nil {
				t.Errorf("answered %T", p)
			}
			c.closed()
		})
	}
}

func TestConnectTwice(t *testing.T) {
	both(t, func(t *testing.T, v mqtt.Version) {
		w := start(t, nil)
		c := w.connect(v, "c", nil)
		c.send(hello(v, "c", nil))
		if code := c.closed(); v == mqtt.V5 && code != mqtt.ProtocolError {
			t.Errorf("code %v", code)
		}
	})
}

func TestEnhancedAuthentication(t *testing.T) {
	w := start(t, nil)
	_, ack := w.try(hello(mqtt.V5, "c", func(p *mqtt.Connect) { p.Properties.AuthMethod = mqtt.Some("SCRAM-SHA-256") }))
	if ack.Code != mqtt.BadAuthenticationMethod {
		t.Errorf("CONNECT: %v", ack.Code)
	}
	c := w.connect(mqtt.V5, "c", nil)
	c.send(&mqtt.Auth{Code: mqtt.Reauthenticate, Properties: mqtt.Properties{AuthMethod: mqtt.Some("x")}})
	if code := c.closed(); code != mqtt.ProtocolError {
		t.Errorf("AUTH: %v", code)
	}
	c3 := w.connect(mqtt.V311, "c3", nil)
	c3.raw([]byte{0xf0, 0})
	c3.closed()
}

func TestCapabilities(t *testing.T) {
	w := start(t, func(c *Config) {
		c.Limits = c.Limits.With(quota.ClientPacket, 5000).With(quota.ClientInflight, 20)
		c.TopicAliases = 7
		c.MaxKeepAlive, c.MaxSessionExpiry = 30*time.Second, time.Hour
	})
	w.dir.add(testOrg, "plain", func(s *auth.Spec) { s.Retain = false })
	_, ack := w.try(hello(mqtt.V5, "c1", func(p *mqtt.Connect) {
		as(p, testOrg, "plain")
		p.Properties.SessionExpiry = mqtt.Some[uint32](mqtt.SessionNeverExpires)
		p.Properties.RequestResponseInfo = mqtt.Some(true)
	}))
	q := ack.Properties
	if q.MaximumPacketSize.Or(0) != 5000 || q.ReceiveMaximum.Or(0) != 20 || q.TopicAliasMaximum.Or(0) != 7 ||
		q.ServerKeepAlive.Or(0) != 30 || q.SessionExpiry.Or(0) != 3600 || q.RetainAvailable.Or(true) ||
		q.ResponseInfo.Or("") != "response/c1/" || q.MaximumQoS.Present() {
		t.Errorf("got %+v", q)
	}
	_, ack = w.try(hello(mqtt.V5, "c2", func(p *mqtt.Connect) { p.KeepAlive = 20 }))
	q = ack.Properties
	if q.ServerKeepAlive.Present() || q.SessionExpiry.Present() || q.RetainAvailable.Present() || q.ResponseInfo.Present() || q.AssignedClientID.Present() {
		t.Errorf("told without need: %+v", q)
	}
	// Whoever may not subscribe there is not told where responses go.
	w.dir.add(testOrg, "narrow", func(s *auth.Spec) {
		s.Rules = []auth.Rule{{Action: auth.Subscribe, Filter: filter("only/#")}}
	})
	_, ack = w.try(hello(mqtt.V5, "c3", func(p *mqtt.Connect) {
		as(p, testOrg, "narrow")
		p.Properties.RequestResponseInfo = mqtt.Some(true)
	}))
	if ack.Properties.ResponseInfo.Present() {
		t.Error("response information for a topic that is not allowed")
	}
}

func TestVersion31(t *testing.T) {
	w := start(t, nil)
	c := w.connect(mqtt.V31, "c", nil)
	c.sub("a", 1)
	c.publish("b", "x")
	c.bye()
}

func TestMaxConnections(t *testing.T) {
	w := start(t, func(c *Config) { c.MaxConnections = 1 })
	first := w.connect(mqtt.V5, "c", nil)
	tc := w.tlsConfig()
	if nc, err := dialRaw(w.addr, tc); err == nil {
		nc.Close()
		t.Error("a second connection was let in")
	}
	first.ping()
	first.bye()
	eventually(t, "room again", func() bool { return w.b.Snapshot().Open == 0 })
	w.connect(mqtt.V5, "c", nil).ping()
}
