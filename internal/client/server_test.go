package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keepmq/keepmq/internal/mqtt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is the server's side of one connection.
type peer struct {
	t       *testing.T
	conn    *tls.Conn
	r       *mqtt.Reader
	v       mqtt.Version
	connect *mqtt.Connect
}

// read returns the next packet, or nil at the end of the connection.
func (p *peer) read() mqtt.Packet {
	pkt, err := p.r.Packet(p.v)
	if err != nil {
		return nil
	}
	if pub, ok := pkt.(*mqtt.Publish); ok {
		return pub.Clone()
	}
	return pkt
}

func (p *peer) write(pkts ...mqtt.Packet) {
	var b []byte
	for _, pkt := range pkts {
		b = pkt.Append(b, p.v)
	}
	p.conn.Write(b) //nolint:errcheck // the client's side tells
}

func expect[P mqtt.Packet](p *peer) P {
	pkt := p.read()
	got, ok := pkt.(P)
	if !ok {
		p.t.Errorf("server read %T, want %T", pkt, got)
	}
	return got
}

// accept reads CONNECT and answers it.
func (p *peer) accept(ack *mqtt.Connack) *mqtt.Connect {
	p.v = mqtt.V5
	pkt := p.read()
	c, ok := pkt.(*mqtt.Connect)
	if !ok {
		p.t.Errorf("server read %T, want CONNECT", pkt)
		return &mqtt.Connect{}
	}
	p.v, p.connect = c.Version, c
	p.write(ack)
	return c
}

// serve runs script for each connection and returns how to reach it.
func serve(t *testing.T, script func(*peer)) Config {
	t.Helper()
	cert, pool := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				script(&peer{t: t, conn: conn.(*tls.Conn), r: mqtt.NewReader(conn, mqtt.MaxPacketSize), v: mqtt.V5})
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return Config{Address: l.Addr().String(), TLS: &tls.Config{RootCAs: pool}, ClientID: "c1"}
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour),
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
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Dial(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	return c
}

// waitEnd waits for the connection to end and returns why.
func waitEnd(t *testing.T, c *Client) error {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection does not end")
	}
	return c.Err()
}
