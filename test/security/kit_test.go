// Package security attacks the whole program: each test is named after the class
// of fault it guards against.
package security

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// patience bounds everything that should happen at once.
const patience = 20 * time.Second

// A site is a server with two organisations that use the same names.
type site struct {
	*server.Server
	api    *server.API
	ours   *org
	theirs *org
}

// An org is an organisation of the iot-2 profile with a gateway "hub", a device
// "one" and an application of the same instance names as every other.
type org struct {
	id              string
	device, gateway string // tokens
	key, token      string // of the application
}

func start(t *testing.T, args ...string) *site {
	t.Helper()
	s := &site{Server: server.Start(t, filepath.Join(t.TempDir(), "data"), args...)}
	s.api = s.SignIn()
	s.ours, s.theirs = s.org(), s.org()
	t.Cleanup(func() {
		if log := s.Log(); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
			t.Errorf("the server panicked:\n%s", log)
		}
	})
	return s
}

func (s *site) org() *org {
	var made struct{ ID, Token, Key string }
	o := &org{}
	s.api.Call(http.MethodPost, "/orgs", map[string]string{"name": "Works", "profile": "iot-2"}, &made)
	o.id = made.ID
	at := "/orgs/" + o.id
	s.api.Call(http.MethodPost, at+"/types", map[string]string{"id": "sensor"}, nil)
	s.api.Call(http.MethodPost, at+"/types", map[string]string{"id": "hubs", "class": "Gateway"}, nil)
	s.api.Call(http.MethodPost, at+"/devices", map[string]string{"type": "sensor", "id": "one"}, &made)
	o.device = made.Token
	s.api.Call(http.MethodPost, at+"/devices", map[string]string{"type": "hubs", "id": "hub"}, &made)
	o.gateway = made.Token
	s.api.Call(http.MethodPost, at+"/apps", map[string]string{"name": "screen", "role": "manager"}, &made)
	o.key, o.token = made.Key, made.Token
	return o
}

// A login is what a client says it is.
type login struct{ client, user, password string }

func (o *org) asDevice() login  { return login{"d:" + o.id + ":sensor:one", "use-token-auth", o.device} }
func (o *org) asGateway() login { return login{"g:" + o.id + ":hubs:hub", "use-token-auth", o.gateway} }
func (o *org) asApp() login     { return login{"a:" + o.id + ":screen", o.key, o.token} }

func (l login) packet() *mqtt.Connect {
	return &mqtt.Connect{
		Version: mqtt.V5, CleanStart: true, KeepAlive: 600, ClientID: l.client,
		Username: mqtt.Some(l.user), Password: []byte(l.password),
	}
}

// A client speaks MQTT 5 packet by packet.
type client struct {
	t  testing.TB
	nc *tls.Conn
	r  *mqtt.Reader
}

func (s *site) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.MQTTPort)) }

func (s *site) dial(t testing.TB, conf *tls.Config) *client {
	t.Helper()
	if conf == nil {
		conf = s.TLS()
	}
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.address(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.NetConn().Close() })
	return &client{t: t, nc: nc, r: mqtt.NewReader(nc, 1<<20)}
}

// try connects and returns the reason code of CONNACK.
func (s *site) try(t testing.TB, p *mqtt.Connect) (*client, mqtt.ReasonCode) {
	t.Helper()
	c := s.dial(t, nil)
	c.send(p)
	ack, ok := c.next().(*mqtt.Connack)
	if !ok {
		t.Fatalf("%s: no CONNACK", p.ClientID)
	}
	return c, ack.Code
}

func (s *site) connect(t testing.TB, p *mqtt.Connect) *client {
	t.Helper()
	c, code := s.try(t, p)
	if code != mqtt.Success {
		t.Fatalf("%s: %v", p.ClientID, code)
	}
	return c
}

func (c *client) send(packets ...mqtt.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range packets {
		b = p.Append(b, mqtt.V5)
	}
	if err := c.raw(b); err != nil {
		c.t.Fatal(err)
	}
}

// raw writes bytes; an error is for the caller to judge.
func (c *client) raw(b []byte) error {
	_ = c.nc.SetWriteDeadline(time.Now().Add(patience))
	_, err := c.nc.Write(b)
	return err
}

// next returns the next packet, or nil when the connection has ended.
func (c *client) next() mqtt.Packet {
	c.t.Helper()
	return c.within(patience)
}

func (c *client) within(d time.Duration) mqtt.Packet {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(d))
	p, err := c.r.Packet(mqtt.V5)
	if err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() && d == patience {
			c.t.Fatal("neither a packet nor the end of the connection")
		}
		return nil
	}
	if pub, ok := p.(*mqtt.Publish); ok {
		return pub.Clone()
	}
	return p
}

// ended waits for the end of the connection.
func (c *client) ended() {
	c.t.Helper()
	for c.next() != nil {
	}
}

// ping proves that all before it has been served, and returns the messages that
// came in between.
func (c *client) ping() (got []*mqtt.Publish) {
	c.t.Helper()
	c.send(&mqtt.Pingreq{})
	for {
		switch p := c.next().(type) {
		case *mqtt.Publish:
			got = append(got, p)
		case *mqtt.Pingresp:
			return got
		case nil:
			c.t.Fatal("the connection ended")
		}
	}
}

// subscribe returns the answer to each filter.
func (c *client) subscribe(qos byte, filters ...string) []mqtt.ReasonCode {
	c.t.Helper()
	p := &mqtt.Subscribe{PacketID: 1}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, mqtt.Subscription{Filter: f, QoS: qos})
	}
	c.send(p)
	for {
		switch p := c.next().(type) {
		case *mqtt.Suback:
			return p.Codes
		case nil:
			return nil
		}
	}
}

// publish returns the answer to a message of QoS 1.
func (c *client) publish(topic string, payload string, retain bool) mqtt.ReasonCode {
	c.t.Helper()
	c.send(&mqtt.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: 1, PacketID: 7, Retain: retain})
	for {
		switch p := c.next().(type) {
		case *mqtt.Ack:
			return p.Code
		case *mqtt.Disconnect:
			return p.Code
		case nil:
			return mqtt.UnspecifiedError
		}
	}
}

// memory returns the resident bytes of the server, and files its open ones.
func (s *site) memory(t testing.TB) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(b), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

func (s *site) files(t testing.TB) int {
	t.Helper()
	e, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// healthy checks that a device's reading still reaches its application.
func (s *site) healthy(t testing.TB) {
	t.Helper()
	began := time.Now()
	app := s.connect(t, login{"a:" + s.ours.id + ":health", s.ours.key, s.ours.token}.packet())
	if codes := app.subscribe(0, "iot-2/type/sensor/id/one/evt/health/fmt/json"); codes[0] != 0 {
		t.Fatalf("subscribe: %v", codes)
	}
	d := s.connect(t, s.ours.asDevice().packet())
	if code := d.publish("iot-2/evt/health/fmt/json", "{}", false); code != mqtt.Success {
		t.Fatalf("publish: %v", code)
	}
	if got := app.ping(); len(got) != 1 {
		t.Fatalf("%d readings reached the application, want 1", len(got))
	}
	if took := time.Since(began); took > patience {
		t.Errorf("a reading took %v", took)
	}
	d.send(&mqtt.Disconnect{})
	app.send(&mqtt.Disconnect{})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(patience)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if ok() {
			tick.Stop()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}
