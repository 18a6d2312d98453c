package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/mqtt"
	"github.com/keepmq/keepmq/internal/nettest"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 5 * time.Second

const testOrg auth.OrgID = "abc123"

// directory is a Verifier over a table: user name → what it may do.
type directory struct {
	mu      sync.Mutex // guards the fields below
	users   map[string]*user
	readers map[chan change]struct{}
	asked   int
	held    chan struct{} // not nil: "slow" exchanges wait until it is closed
	waiting atomic.Int64  // slow and late exchanges that wait
	renewed int
	refused error                   // not nil: what Limits says
	limits  map[string]quota.Limits // by "organisation/device type"

	hangs   bool        // Verify and Renew answer when they are given up
	unheard []time.Time // not nil: Changes fails at once; when it was called
}

type user struct {
	password string
	spec     auth.Spec
	refused  error // not nil: what Verify and Renew say
}

type change struct {
	p   auth.Principal
	of  *string // not nil: the limits of the organisation, or of this device type
	err error
}

func newDirectory() *directory {
	return &directory{users: map[string]*user{}, readers: map[chan change]struct{}{}}
}

func filter(s string) topic.Filter {
	f, err := topic.ParseFilter(s)
	if err != nil {
		panic(err)
	}
	return f
}

// all are the rules that allow everything.
func all() []auth.Rule {
	f := filter("#")
	return []auth.Rule{{Action: auth.Publish, Filter: f}, {Action: auth.Subscribe, Filter: f}, {Action: auth.Receive, Filter: f}}
}

// add adds a user that may do everything in the organisation, unless f says otherwise.
func (d *directory) add(org auth.OrgID, name string, f func(*auth.Spec)) {
	spec := auth.Spec{Ref: auth.Ref{Principal: auth.Principal{Org: org, Kind: auth.User, ID: name}, Credential: "password:1"}, Rules: all(), Retain: true}
	if f != nil {
		f(&spec)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users[string(org)+"/"+name] = &user{password: "secret-" + name, spec: spec}
}

// set changes a user and tells the broker.
func (d *directory) set(org auth.OrgID, name string, f func(*user)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.users[string(org)+"/"+name]
	f(u)
	for r := range d.readers {
		r <- change{p: u.spec.Principal}
	}
}

// setLimits sets the limits of an organisation or of a device type of it, and
// tells the broker.
func (d *directory) setLimits(org auth.OrgID, typ string, l quota.Limits) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limits == nil {
		d.limits = map[string]quota.Limits{}
	}
	d.limits[string(org)+"/"+typ] = l
	for _, u := range d.users {
		of, _ := u.spec.Principal.TypeAndID()
		switch {
		case u.spec.Principal.Org != org:
		case typ == "":
			u.spec.OrgLimits = l
		case of == typ:
			u.spec.TypeLimits = l
		}
	}
	for r := range d.readers {
		r <- change{p: auth.Principal{Org: org}, of: &typ}
	}
}

func (d *directory) Limits(_ context.Context, org auth.OrgID, typ string) (quota.Limits, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refused != nil {
		return quota.Limits{}, d.refused
	}
	return d.limits[string(org)+"/"+typ], nil
}

func (d *directory) grant(u *user, client string) (*auth.Grant, error) {
	if u.refused != nil {
		return nil, u.refused
	}
	s := u.spec
	s.Client = client
	return auth.NewGrant(s), nil
}

// wait hangs if the directory does.
func (d *directory) wait(ctx context.Context) error {
	d.mu.Lock()
	hangs := d.hangs
	d.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (d *directory) Verify(ctx context.Context, c auth.Credentials) (*auth.Grant, error) {
	if err := d.wait(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	name := c.Username
	if c.Certificate != nil {
		name = c.Certificate.Subject.CommonName
	}
	u := d.users[name]
	if u == nil || c.Certificate == nil && u.password != c.Password.Reveal() {
		return nil, errs.E(errs.Unauthenticated, "not accepted")
	}
	return d.grant(u, c.ClientID)
}

func (d *directory) Renew(ctx context.Context, r auth.Ref) (*auth.Grant, error) {
	if err := d.wait(ctx); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.renewed++
	u := d.users[string(r.Principal.Org)+"/"+r.Principal.ID]
	if u == nil {
		return nil, errs.E(errs.NotFound, "no such user")
	}
	if r.Credential != u.spec.Credential {
		return nil, errs.E(errs.Unauthenticated, "another credential")
	}
	return d.grant(u, r.Client)
}

func (d *directory) Changes(ctx context.Context) iter.Seq2[auth.Change, error] {
	ch := make(chan change, 100)
	d.mu.Lock()
	if d.unheard != nil {
		d.unheard = append(d.unheard, time.Now())
		ch <- change{err: errors.New("cannot listen")}
	}
	d.readers[ch] = struct{}{}
	d.mu.Unlock()
	return func(yield func(auth.Change, error) bool) {
		defer func() {
			d.mu.Lock()
			delete(d.readers, ch)
			d.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case k := <-ch:
				ch := auth.Change{Principal: k.p, Limits: k.of != nil}
				if ch.Limits {
					ch.Type = *k.of
				}
				if !yield(ch, k.err) {
					return
				}
			}
		}
	}
}

// world is a running broker with its surroundings.
type world struct {
	t    *testing.T
	b    *Broker
	dir  *directory
	mem  *memory
	eng  engine.Engine
	addr string
	pki  *pki
	seen *quota.Log        // of a durable world: who reached a limit
	ln   *nettest.Listener // not nil: the broker is in a bubble, see bubble_test.go
}

// pki is an authority, and what it issued to the server.
type pki struct {
	roots  *x509.CertPool
	ca     *x509.Certificate
	key    *ecdsa.PrivateKey
	server tls.Certificate
}

var sharedPKI = sync.OnceValue(newPKI)

// ancient is before the time at which a bubble of testing/synctest begins.
var ancient = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)

func newPKI() *pki {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: ancient, NotAfter: ancient.AddDate(200, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	p := &pki{roots: x509.NewCertPool(), key: key}
	p.ca, _ = x509.ParseCertificate(der)
	p.roots.AddCert(p.ca)
	p.server = p.issue("localhost", 100*365*24*time.Hour)
	return p
}

func (p *pki) issue(name string, life time.Duration) tls.Certificate {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: ancient, NotAfter: time.Now().Add(life),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.ca, &key.PublicKey, p.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// newBroker makes a broker that is not serving.
func newBroker(t testing.TB, e engine.Engine, dir *directory, f func(*Config)) *Broker {
	t.Helper()
	p := sharedPKI()
	cfg := Config{
		Verifier: dir, Engine: e, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
		TLS: func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{p.server}, ClientCAs: p.roots} },
	}
	if f != nil {
		f(&cfg)
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) {
	if testing.Verbose() {
		fmt.Print(string(p))
	}
	return len(p), nil
}

// start runs a broker on a free port until the test ends.
func start(t *testing.T, f func(*Config)) *world {
	t.Helper()
	mem := newMemory()
	w := &world{t: t, dir: newDirectory(), mem: mem, eng: mem, pki: sharedPKI()}
	for _, n := range []string{"u", "v"} {
		w.dir.add(testOrg, n, nil)
		w.dir.add("other1", n, nil)
	}
	t.Cleanup(mem.waiting.Wait)
	w.serve(f)
	return w
}

func (w *world) serve(f func(*Config)) {
	w.t.Helper()
	w.b = newBroker(w.t, w.eng, w.dir, f)
	ln := w.listen()
	served := make(chan error, 1)
	b := w.b
	go func() { served <- b.Serve(ln) }()
	w.t.Cleanup(func() {
		w.stop(b)
		if err := <-served; err != nil {
			w.t.Errorf("serve: %v", err)
		}
	})
}

func (w *world) listen() net.Listener {
	w.t.Helper()
	if w.ln != nil {
		w.ln = nettest.Listen()
		w.addr = w.ln.Addr().String()
		return w.ln
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.addr = ln.Addr().String()
	return ln
}

func (w *world) shutdown() { w.stop(w.b) }

func (w *world) stop(b *Broker) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		w.t.Errorf("shutdown: %v", err)
	}
}

// client is a raw MQTT client.
type client struct {
	t  testing.TB
	nc net.Conn
	r  *mqtt.Reader
	v  mqtt.Version

	heard chan heard // not nil: in a bubble, what was read
	at    time.Time  // in a bubble, when the last packet came
}

func (w *world) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: w.pki.roots, ServerName: "localhost"}
}

// dial opens a TLS connection.
func (w *world) dial(conf *tls.Config) net.Conn {
	w.t.Helper()
	if conf == nil {
		conf = w.tlsConfig()
	}
	var nc *tls.Conn
	var err error
	if w.ln != nil {
		nc, err = w.dialMemory(conf)
	} else {
		nc, err = tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", w.addr, conf)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { nc.Close() })
	return nc
}

func newClient(t testing.TB, nc net.Conn, v mqtt.Version) *client {
	return &client{t: t, nc: nc, r: mqtt.NewReader(nc, mqtt.MaxPacketSize), v: v}
}

// hello returns a CONNECT of user u.
func hello(v mqtt.Version, id string, f func(*mqtt.Connect)) *mqtt.Connect {
	p := &mqtt.Connect{
		Version: v, ClientID: id, CleanStart: true, KeepAlive: 60,
		Username: mqtt.Some(string(testOrg) + "/u"), Password: []byte("secret-u"),
	}
	if f != nil {
		f(p)
	}
	return p
}

// as makes a CONNECT one of another user.
func as(p *mqtt.Connect, org auth.OrgID, name string) {
	p.Username, p.Password = mqtt.Some(string(org)+"/"+name), []byte("secret-"+name)
}

// try connects and returns what the server answers.
func (w *world) try(p *mqtt.Connect) (*client, *mqtt.Connack) {
	w.t.Helper()
	c := newClient(w.t, w.dial(nil), p.Version)
	if w.ln != nil {
		c.listen()
	}
	c.send(p)
	return c, expect[*mqtt.Connack](c)
}

// connect connects and requires success.
func (w *world) connect(v mqtt.Version, id string, f func(*mqtt.Connect)) *client {
	w.t.Helper()
	c, ack := w.try(hello(v, id, f))
	if ack.Code != mqtt.Success {
		w.t.Fatalf("connect %s: %v", id, ack.Code)
	}
	return c
}

func (c *client) send(ps ...mqtt.Packet) {
	c.t.Helper()
	var b []byte
	for _, p := range ps {
		b = p.Append(b, c.v)
	}
	c.raw(b)
}

func (c *client) raw(b []byte) {
	c.t.Helper()
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// packet returns the next packet, with memory of its own.
func (c *client) packet() (mqtt.Packet, error) {
	if c.heard != nil {
		return c.hear()
	}
	c.nc.SetReadDeadline(time.Now().Add(patience))
	p, err := c.r.Packet(c.v)
	if q, ok := p.(*mqtt.Publish); ok {
		return q.Clone(), err
	}
	return p, err
}

// expect returns the next packet, which must be a P.
func expect[P mqtt.Packet](c *client) P {
	c.t.Helper()
	p, err := c.packet()
	if err != nil {
		c.t.Fatalf("expected %T, got error %v", *new(P), err)
	}
	q, ok := p.(P)
	if !ok {
		c.t.Fatalf("expected %T, got %T %+v", *new(P), p, p)
	}
	return q
}

// expectAck returns the next packet, which must acknowledge id.
func (c *client) expectAck(typ mqtt.Type, id uint16, code mqtt.ReasonCode) {
	c.t.Helper()
	a := expect[*mqtt.Ack](c)
	if a.Type != typ || a.PacketID != id || a.Code != code {
		c.t.Fatalf("got %v %d %v, want %v %d %v", a.Type, a.PacketID, a.Code, typ, id, code)
	}
}

// closed requires that the server closes, and returns the code of the
// DISCONNECT before it.
func (c *client) closed() mqtt.ReasonCode {
	c.t.Helper()
	code := mqtt.ReasonCode(0)
	for {
		p, err := c.packet()
		if d, ok := p.(*mqtt.Disconnect); ok {
			code = d.Code
		}
		if err == nil {
			continue
		}
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			c.t.Fatal("the server did not close")
		}
		return code
	}
}

// ping requires that the connection is alive and that nothing else waits.
func (c *client) ping() {
	c.t.Helper()
	c.send(&mqtt.Pingreq{})
	expect[*mqtt.Pingresp](c)
}

// subscribe subscribes and returns the codes.
func (c *client) subscribe(subs ...mqtt.Subscription) []mqtt.ReasonCode {
	c.t.Helper()
	c.send(&mqtt.Subscribe{PacketID: 1, Subscriptions: subs})
	return expect[*mqtt.Suback](c).Codes
}

func (c *client) sub(f string, qos byte) {
	c.t.Helper()
	if codes := c.subscribe(mqtt.Subscription{Filter: f, QoS: qos}); codes[0] != mqtt.ReasonCode(qos) {
		c.t.Fatalf("subscribe %s: %v", f, codes[0])
	}
}

func pub(name, payload string, qos byte, id uint16) *mqtt.Publish {
	return &mqtt.Publish{Topic: []byte(name), Payload: []byte(payload), QoS: qos, PacketID: id}
}

// publish publishes with QoS 1 and waits until it is kept.
func (c *client) publish(name, payload string) {
	c.t.Helper()
	c.send(pub(name, payload, 1, 77))
	c.expectAck(mqtt.PUBACK, 77, mqtt.Success)
}

// receive requires a message.
func (c *client) receive(name, payload string) *mqtt.Publish {
	c.t.Helper()
	p := expect[*mqtt.Publish](c)
	if string(p.Topic) != name || string(p.Payload) != payload {
		c.t.Fatalf("received %q on %q, want %q on %q", p.Payload, p.Topic, payload, name)
	}
	return p
}

// bye disconnects without a will.
func (c *client) bye() {
	c.t.Helper()
	c.send(&mqtt.Disconnect{})
	if _, err := c.packet(); err == nil || !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "closed") {
		c.t.Fatalf("after DISCONNECT: %v", err)
	}
}

// cut ends the connection without a word.
func (c *client) cut() { c.nc.(*tls.Conn).NetConn().Close() }

// small keeps the system from reading ahead for a client that does not read.
func (c *client) small() { c.readAhead(4 << 10) }

func (c *client) readAhead(n int) {
	c.nc.(*tls.Conn).NetConn().(interface{ SetReadBuffer(int) error }).SetReadBuffer(n)
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// both runs a test in both protocol versions.
func both(t *testing.T, f func(t *testing.T, v mqtt.Version)) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		t.Run(v.String(), func(t *testing.T) { f(t, v) })
	}
}
