package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testBroker is the server's side of QoS 2, as the standard has it. It can cut
// the connection at any border between two packets.
type testBroker struct {
	t       *testing.T
	address string
	roots   *x509.CertPool

	mu         sync.Mutex
	present    bool            // there is a session
	held       map[uint16]bool // received and not released
	delivered  []string
	topics     []string
	clients    []string                             // who connected, as whom
	serials    []string                             // with which certificate
	released   map[string]bool                      // payloads whose PUBREL came
	payloads   map[uint16]string                    // of the ids in held
	connects   int                                  // connections accepted so far
	cutAt      func(connect int) int                // after so many steps; 0: never
	refuse     func(payload string) mqtt.ReasonCode // nil: nothing is refused
	loseAt     int                                  // the connection before which the session is lost
	receiveMax uint16
	changed    chan struct{} // closed and replaced at each change
}

func newBroker(t *testing.T) *testBroker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	b := listen(t, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	})
	b.roots = x509.NewCertPool()
	b.roots.AddCert(root)
	return b
}

// newBrokerOf makes a broker that asks for certificates of a.
func newBrokerOf(t *testing.T, a *testAuthority) *testBroker {
	c := a.serverTLS(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return listen(t, c)
}

func listen(t *testing.T, c *tls.Config) *testBroker {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	b := &testBroker{
		t: t, address: l.Addr().String(), held: map[uint16]bool{}, payloads: map[uint16]string{},
		released: map[string]bool{}, receiveMax: 5, changed: make(chan struct{}),
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer conn.Close(); b.serve(conn.(*tls.Conn)) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return b
}

func (b *testBroker) dial(ctx context.Context) (*client.Client, error) {
	return client.Dial(ctx, client.Config{
		Address: b.address, TLS: &tls.Config{RootCAs: b.roots}, ClientID: "d:org123:t:1", SessionExpiry: client.Never,
	})
}

// serve counts a step before each packet is handled, before it is answered and
// after it has been answered.
func (b *testBroker) serve(conn *tls.Conn) {
	r := mqtt.NewReader(conn, mqtt.MaxPacketSize)
	b.mu.Lock()
	b.connects++
	left := 0
	if b.cutAt != nil {
		left = b.cutAt(b.connects)
	}
	if b.connects == b.loseAt {
		b.present = false
	}
	b.mu.Unlock()
	cut := func() bool { left--; return left == 0 }
	for {
		p, err := r.Packet(mqtt.V5)
		if err != nil || cut() {
			return
		}
		if c, ok := p.(*mqtt.Connect); ok {
			b.note(conn, c)
		}
		answer, over := b.handle(p)
		if over || cut() {
			return
		}
		if answer != nil {
			if _, err := conn.Write(answer.Append(nil, mqtt.V5)); err != nil {
				return
			}
		}
		if cut() {
			return
		}
	}
}

// note remembers with which certificate a client came.
func (b *testBroker) note(conn *tls.Conn, c *mqtt.Connect) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, leaf := range conn.ConnectionState().PeerCertificates {
		b.clients = append(b.clients, leaf.Subject.CommonName+" as "+c.ClientID)
		b.serials = append(b.serials, leaf.SerialNumber.String())
	}
}

func (b *testBroker) handle(p mqtt.Packet) (answer mqtt.Packet, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer func() {
		close(b.changed)
		b.changed = make(chan struct{})
	}()
	switch p := p.(type) {
	case *mqtt.Connect:
		if p.CleanStart || p.Properties.SessionExpiry.Or(0) != mqtt.SessionNeverExpires {
			b.t.Errorf("CONNECT is %+v", p)
		}
		was := b.present
		if b.present = true; !was {
			clear(b.held)
			clear(b.payloads)
		}
		return &mqtt.Connack{SessionPresent: was, Properties: mqtt.Properties{ReceiveMaximum: mqtt.Some(b.receiveMax)}}, false
	case *mqtt.Publish:
		return b.publish(p), false
	case *mqtt.Ack:
		if p.Type != mqtt.PUBREL {
			b.t.Errorf("unexpected %v", p.Type)
		}
		code := mqtt.Success
		if !b.held[p.PacketID] {
			code = mqtt.PacketIdentifierNotFound
		}
		delete(b.held, p.PacketID)
		b.released[b.payloads[p.PacketID]] = true
		return &mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: p.PacketID, Code: code}, false
	case *mqtt.Pingreq:
		return &mqtt.Pingresp{}, false
	}
	return nil, true
}

func (b *testBroker) publish(p *mqtt.Publish) mqtt.Packet {
	payload := string(p.Payload)
	a := &mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID}
	switch {
	case p.QoS != 2:
		b.t.Errorf("QoS is %d", p.QoS)
	case b.held[p.PacketID]:
		if b.payloads[p.PacketID] != payload || !p.Dup {
			b.t.Errorf("packet id %d means %s and now %s, dup %v", p.PacketID, b.payloads[p.PacketID], payload, p.Dup)
		}
		return a // a copy of what is there
	case len(b.held) >= int(b.receiveMax):
		b.t.Errorf("more than %d in flight", b.receiveMax)
	}
	if b.refuse != nil {
		if a.Code = b.refuse(payload); a.Code.IsError() {
			return a
		}
	}
	b.held[p.PacketID], b.payloads[p.PacketID] = true, payload
	b.delivered = append(b.delivered, payload)
	b.topics = append(b.topics, string(p.Topic))
	return a
}

// wait waits until want is delivered and nothing is held.
func (b *testBroker) wait(done func() bool) {
	b.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		b.mu.Lock()
		ok, changed := done(), b.changed
		b.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			b.mu.Lock()
			b.t.Errorf("delivered only %v, holds %v", b.delivered, b.held)
			b.mu.Unlock()
			b.t.FailNow()
		}
	}
}

func (b *testBroker) waitFor(n int) []string {
	b.t.Helper()
	b.wait(func() bool { return len(b.delivered) >= n && len(b.held) == 0 })
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.delivered)
}

// set changes how the broker behaves.
func (b *testBroker) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *testBroker) seen() (delivered, topics []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.delivered), slices.Clone(b.topics)
}

// start runs an uplink from d to b; stop ends it as gracefully as d allows and
// returns it.
func (b *testBroker) start(s *spool, p position) (stop func() *uplink) {
	u := newUplink(s, p, uplink{
		dial: b.dial, topic: func(source string) string { return "iot-2/evt/" + source + "/fmt/json" },
		renewed: make(chan struct{}), log: quiet(), backoff: backoff{least: time.Millisecond, most: 2 * time.Millisecond},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { u.run(ctx) })
	return func() *uplink {
		cancel()
		wg.Wait()
		s.close()
		return u
	}
}
