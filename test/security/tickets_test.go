package security

import (
	"crypto/tls"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/test/server"
)

// attempt connects, and reports whether TLS went on with an earlier session and
// whether CONNECT was accepted.
func (s *site) attempt(t *testing.T, conf *tls.Config, p *mqtt.Connect) (resumed, accepted bool) {
	t.Helper()
	c := s.dial(t, conf)
	defer c.nc.Close()
	c.send(p)
	ack, ok := c.next().(*mqtt.Connack)
	return c.nc.ConnectionState().DidResume, ok && ack.Code == mqtt.Success
}

// A session ticket saves a handshake, across a restart too. It is no credential:
// CONNECT is judged as ever, a certificate that came with the first handshake is
// asked about again, and once it is revoked its ticket opens nothing.
func TestSessionTickets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := &site{Server: server.Start(t, dir)}
	s.api = s.SignIn()
	s.ours = s.org()
	cert, err := s.enrol(t, s.invite(s.ours, "sensor/one"), newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, conf *tls.Config, p *mqtt.Connect, resumed, accepted bool) {
		t.Helper()
		if r, a := s.attempt(t, conf, p); r != resumed || a != accepted {
			t.Errorf("%s: resumed %v, accepted %v; want %v, %v", what, r, a, resumed, accepted)
		}
	}
	plain, certified := s.TLS(), s.TLS()
	plain.ClientSessionCache, certified.ClientSessionCache = tls.NewLRUClientSessionCache(1), tls.NewLRUClientSessionCache(1)
	withCert := certified.Clone()
	withCert.Certificates = []tls.Certificate{cert}
	byToken := s.ours.asDevice().packet()
	byCert := &mqtt.Connect{Version: mqtt.V5, CleanStart: true, KeepAlive: 60, ClientID: byToken.ClientID}
	wrong := s.ours.asDevice()
	wrong.password += "x"
	another := s.ours.asGateway().packet()
	another.Username, another.Password = byCert.Username, nil

	expect("the first, by token", plain, byToken, false, true)
	expect("the second", plain, byToken, true, true)
	expect("a ticket without a certificate, and no token", plain, byCert, true, false)
	expect("a ticket and a wrong token", plain, wrong.packet(), true, false)
	expect("the first, by certificate", withCert, byCert, false, true)
	// From here on by the ticket alone: the certificate is not shown again.
	expect("the second", certified, byCert, true, true)
	expect("under another name", certified, another, true, false)

	s.Stop()
	s.Server = server.Start(t, dir)
	s.api = s.api.On(s.Server)
	expect("by token, after a restart", plain, byToken, true, true)
	expect("by certificate, after a restart", certified, byCert, true, true)

	at := "/orgs/" + s.ours.id + "/devices/sensor/one/certificates"
	var list struct{ Items []struct{ Serial string } }
	s.api.Call(http.MethodGet, at, nil, &list)
	if len(list.Items) != 1 {
		t.Fatalf("%d certificates, want 1", len(list.Items))
	}
	s.api.Call(http.MethodDelete, at+"/"+list.Items[0].Serial, nil, nil)
	expect("a ticket of a revoked certificate", certified, byCert, true, false)
	expect("by token still", plain, byToken, true, true)
}
