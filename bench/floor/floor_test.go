package floor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// relay serves a relay for one test, and returns how to reach it.
func relay(t *testing.T) (addr string, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- Serve(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	}()
	t.Cleanup(func() { // after the connections are closed: Serve waits for them
		l.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve fails when its listener is closed: %v", err)
		}
	})
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

func dial(t *testing.T, addr string, config *tls.Config) (net.Conn, *mqtt.Reader) {
	t.Helper()
	nc, err := tls.Dial("tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := mqtt.NewReader(nc, maxPacket)
	send(t, nc, &mqtt.Connect{Version: version, CleanStart: true, ClientID: "c"})
	want(t, r, mqtt.CONNACK)
	return nc, r
}

func send(t *testing.T, w io.Writer, p mqtt.Packet) {
	t.Helper()
	if _, err := w.Write(p.Append(nil, version)); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, r *mqtt.Reader, typ mqtt.Type) []byte {
	t.Helper()
	h, body, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	if h.Type != typ {
		t.Fatalf("got %v, want %v", h.Type, typ)
	}
	return append([]byte{h.Flags}, body...)
}

func wantPublish(t *testing.T, r *mqtt.Reader, topic, payload string, qos byte) {
	t.Helper()
	b := want(t, r, mqtt.PUBLISH)
	var p mqtt.Publish
	if err := p.Decode(b[0], b[1:], version); err != nil {
		t.Fatal(err)
	}
	if string(p.Topic) != topic || string(p.Payload) != payload || p.QoS != qos {
		t.Errorf("got %s %q with QoS %d, want %s %q with QoS %d", p.Topic, p.Payload, p.QoS, topic, payload, qos)
	}
}

func TestRelay(t *testing.T) {
	addr, config := relay(t)
	exact, exactIn := dial(t, addr, config)
	send(t, exact, &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "a/1", QoS: 1}}})
	want(t, exactIn, mqtt.SUBACK)
	all, allIn := dial(t, addr, config)
	send(t, all, &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "a/#"}}})
	want(t, allIn, mqtt.SUBACK)
	pub, pubIn := dial(t, addr, config)

	send(t, pub, &mqtt.Publish{Topic: []byte("a/1"), Payload: []byte("one"), QoS: 1, PacketID: 7})
	var ack mqtt.Ack
	if err := ack.Decode(mqtt.PUBACK, want(t, pubIn, mqtt.PUBACK)[1:], version); err != nil || ack.PacketID != 7 {
		t.Errorf("acknowledgement %d, %v; want 7", ack.PacketID, err)
	}
	wantPublish(t, exactIn, "a/1", "one", 1)
	wantPublish(t, allIn, "a/1", "one", 0)

	// A topic that nobody has goes nowhere; the next message shows it.
	send(t, pub, &mqtt.Publish{Topic: []byte("b"), Payload: []byte("lost")})
	send(t, pub, &mqtt.Publish{Topic: []byte("a/2"), Payload: []byte("two")})
	wantPublish(t, allIn, "a/2", "two", 0)
	send(t, pub, &mqtt.Publish{Topic: []byte("a/1"), Payload: []byte("three")})
	wantPublish(t, exactIn, "a/1", "three", 0)

	// A subscriber that leaves does not keep the others from their messages.
	send(t, exact, &mqtt.Disconnect{})
	if _, _, err := exactIn.Next(); err == nil {
		t.Error("the connection stays open after DISCONNECT")
	}
	wantPublish(t, allIn, "a/1", "three", 0)
	send(t, pub, &mqtt.Publish{Topic: []byte("a/1"), Payload: []byte("four")})
	wantPublish(t, allIn, "a/1", "four", 0)
}

// TestBatch sends many messages in one go, so that some arrive while others
// are handled and buffers grow: all must come, in order.
func TestBatch(t *testing.T) {
	addr, config := relay(t)
	sub, subIn := dial(t, addr, config)
	send(t, sub, &mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "b", QoS: 1}}})
	want(t, subIn, mqtt.SUBACK)
	pub, pubIn := dial(t, addr, config)
	const n = 5000
	go func() {
		for i := range n {
			m := &mqtt.Publish{Topic: []byte("b"), Payload: bytes.Repeat([]byte{byte(i)}, i%3000+1), QoS: 1, PacketID: uint16(i + 1)}
			if _, err := pub.Write(m.Append(nil, version)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	go func() { // or the relay could not go on
		for {
			if _, _, err := pubIn.Next(); err != nil {
				return
			}
		}
	}()
	for i := range n {
		wantPublish(t, subIn, "b", string(bytes.Repeat([]byte{byte(i)}, i%3000+1)), 1)
	}
}
