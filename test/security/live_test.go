package security

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// from connects a client from another address of this machine.
func (s *site) from(t testing.TB, address string, p *mqtt.Connect) (*client, mqtt.ReasonCode) {
	t.Helper()
	d := &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	nc, err := tls.DialWithDialer(d, "tcp", s.address(), s.TLS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.NetConn().Close() })
	c := &client{t: t, nc: nc, r: mqtt.NewReader(nc, 1<<20)}
	c.send(p)
	ack, ok := c.next().(*mqtt.Connack)
	if !ok {
		t.Fatalf("%s: no CONNACK", p.ClientID)
	}
	return c, ack.Code
}

// What keeps a client out also ends what it has open, in under a second and over
// every transport; it says why, and leaves everybody else alone.
func TestRulesEndWhatTheyForbid(t *testing.T) {
	s := start(t)
	at := "/orgs/" + s.ours.id
	s.api.Call(http.MethodPost, at+"/devices", map[string]string{"type": "sensor", "id": "web"}, nil)
	cert, err := s.enrol(t, s.invite(s.ours, "sensor/web"), newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID, Password string }
	s.api.Call(http.MethodPost, "/orgs", map[string]string{"name": "Pub", "profile": "plain"}, &made)
	pub := "/orgs/" + made.ID
	s.api.Call(http.MethodPost, pub+"/users", map[string]string{"name": "ann"}, &made)
	ann := login{"ann's phone", strings.TrimPrefix(pub, "/orgs/") + "/ann", made.Password}

	// A connection is known by who has it: "token" comes from 127.0.0.2 over TCP,
	// "certificate" from 127.0.0.1 over WebSocket.
	type live struct {
		read func() (mqtt.Packet, error)
		ping func()
	}
	everybody := []string{"token", "certificate", "application", "user"}
	connect := func(who string) (live, mqtt.ReasonCode) {
		switch who {
		case "certificate":
			r, ok := s.overWebSocket(t, cert, "d:"+s.ours.id+":sensor:web")
			if !ok {
				return live{}, mqtt.NotAuthorized
			}
			return live{read: func() (mqtt.Packet, error) { return r.Packet(mqtt.V5) }}, mqtt.Success
		case "token":
			c, code := s.from(t, "127.0.0.2", s.ours.asDevice().packet())
			return live{func() (mqtt.Packet, error) { return c.r.Packet(mqtt.V5) }, func() { c.ping() }}, code
		}
		l := s.ours.asApp()
		if who == "user" {
			l = ann
		}
		c, code := s.from(t, "127.0.0.3", l.packet())
		return live{func() (mqtt.Packet, error) { return c.r.Packet(mqtt.V5) }, func() { c.ping() }}, code
	}
	lock := func(org, kind, target string, more map[string]any) func() func() {
		return func() func() {
			body := map[string]any{"kind": kind, "target": target, "reason": "call us"}
			for k, v := range more {
				body[k] = v
			}
			var made struct{ ID string }
			s.api.Call(http.MethodPost, org+"/locks", body, &made)
			return func() { s.api.Call(http.MethodDelete, org+"/locks/"+made.ID, nil, nil) }
		}
	}
	put := func(method, path string, do, undo any) func() func() {
		return func() func() {
			s.api.Call(method, at+path, do, nil)
			return func() { s.api.Call(method, at+path, undo, nil) }
		}
	}
	type m = map[string]any
	for _, tt := range []struct {
		name   string
		do     func() (undo func())
		ends   []string
		reason string
	}{
		{"network deny", put(http.MethodPut, "/network", m{"mode": "deny", "ranges": []string{"127.0.0.2"}}, m{"mode": "off"}), []string{"token"}, "network"},
		{"network allow", put(http.MethodPut, "/network", m{"mode": "allow", "ranges": []string{"127.0.0.2/31"}}, m{"mode": "off"}), []string{"certificate"}, "network"},
		{"policy certificate", put(http.MethodPatch, "/policies", m{"default": "certificate"}, m{"default": "either"}), []string{"token"}, "certificate"},
		{"policy token", put(http.MethodPatch, "/policies", m{"types": m{"sensor": "token"}}, m{"types": m{"sensor": ""}}), []string{"certificate"}, "token"},
		{"policy both", put(http.MethodPatch, "/policies", m{"types": m{"sensor": "both"}}, m{"types": m{"sensor": ""}}), []string{"token", "certificate"}, "asks for"},
		{"lock of an authority", lock(at, "authority", hex.EncodeToString(leaf.AuthorityKeyId), nil), []string{"certificate"}, "locked: call us"},
		{"lock of an application", lock(at, "principal", "application:"+s.ours.key, nil), []string{"application"}, "locked: call us"},
		{"lock of a user", lock(pub, "principal", "user:ann", nil), []string{"user"}, "locked: call us"},
		{"lock of a type", lock(at, "type", "sensor", nil), []string{"token", "certificate"}, "locked: call us"},
		{"lock of addresses", lock("", "address", "127.0.0.2/31", nil), []string{"token", "application", "user"}, "locked: call us"},
	} {
		all := map[string]live{}
		for _, who := range everybody {
			c, code := connect(who)
			if code != mqtt.Success {
				t.Fatalf("before %s: %s: %v", tt.name, who, code)
			}
			all[who] = c
		}
		undo := tt.do()
		begun := time.Now()
		for _, who := range tt.ends {
			p, err := all[who].read()
			took := time.Since(begun)
			d, ok := p.(*mqtt.Disconnect)
			if err != nil || !ok || d.Code != mqtt.AdministrativeAction && d.Code != mqtt.NotAuthorized || took > time.Second ||
				!strings.Contains(d.Properties.ReasonString.Or(""), tt.reason) {
				t.Errorf("%s: %s: %+v, %v after %v", tt.name, who, p, err, took)
			}
			if _, code := connect(who); code == mqtt.Success {
				t.Errorf("%s: %s connects", tt.name, who)
			}
		}
		for _, who := range everybody {
			if !slices.Contains(tt.ends, who) && all[who].ping != nil {
				all[who].ping()
			}
		}
		undo()
	}
	// It ends by itself, too.
	lock(at, "principal", "device:sensor:one", m{"expires": time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)})()
	if _, code := connect("token"); code == mqtt.Success {
		t.Error("a lock with an end keeps nobody out")
	}
	eventually(t, "the lock ends", func() bool { _, code := connect("token"); return code == mqtt.Success })
}
