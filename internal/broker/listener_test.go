package broker

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
)

func dialRaw(addr string, conf *tls.Config) (net.Conn, error) {
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", addr, conf)
	if err != nil {
		return nil, err
	}
	// With TLS 1.3 a refusal of the server comes after the handshake.
	nc.SetReadDeadline(time.Now().Add(patience))
	if _, err := nc.Read(make([]byte, 1)); err != nil {
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
			nc.Close()
			return nil, err
		}
	}
	nc.SetReadDeadline(time.Time{})
	return nc, nil
}

// Nothing but TLS 1.2 or better is answered, whatever the configuration says.
func TestTLSOrNothing(t *testing.T) {
	w := start(t, func(c *Config) {
		own := c.TLS()
		c.TLS = func() *tls.Config {
			own.MinVersion, own.ClientAuth = tls.VersionTLS10, tls.NoClientCert
			own.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{Certificates: own.Certificates, ClientCAs: own.ClientCAs, MinVersion: tls.VersionTLS10}, nil
			}
			return own
		}
	})
	plain, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	c := newClient(t, plain, mqtt.V311)
	c.raw(hello(mqtt.V311, "c", nil).Append(nil, mqtt.V311))
	if p, err := c.packet(); err == nil {
		t.Errorf("plaintext was answered with %T", p)
	}
	old := w.tlsConfig()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if nc, err := dialRaw(w.addr, old); err == nil {
		nc.Close()
		t.Error("TLS 1.1 was accepted")
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conf := w.tlsConfig()
		conf.MinVersion, conf.MaxVersion = version, version
		c := newClient(t, w.dial(conf), mqtt.V311)
		c.send(hello(mqtt.V311, "c", nil))
		expect[*mqtt.Connack](c)
	}
	eventually(t, "handshakes counted", func() bool { return w.b.Snapshot().HandshakeFailed >= 2 })
}

func TestClientCertificate(t *testing.T) {
	w := start(t, nil)
	present := func(cert tls.Certificate) *tls.Config {
		conf := w.tlsConfig()
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return conf
	}
	c := newClient(t, w.dial(present(w.pki.issue("abc123/u", time.Hour))), mqtt.V5)
	c.send(hello(mqtt.V5, "c", func(p *mqtt.Connect) { p.Username, p.Password = mqtt.Opt[string]{}, nil }))
	if ack := expect[*mqtt.Connack](c); ack.Code != mqtt.Success {
		t.Errorf("our certificate: %v", ack.Code)
	}
	for name, cert := range map[string]tls.Certificate{
		"expired": w.pki.issue("abc123/u", -time.Hour),
		"foreign": newPKI().issue("abc123/u", time.Hour),
	} {
		if nc, err := dialRaw(w.addr, present(cert)); err == nil {
			nc.Close()
			t.Errorf("%s certificate was accepted", name)
		}
	}
}

// Clients that begin a handshake and then say nothing, or a byte at a time, do
// not keep others out for long, however many places they take.
func TestStalledHandshakes(t *testing.T) {
	w := start(t, func(c *Config) { c.MaxHandshakes, c.ConnectTimeout = 4, time.Minute })
	done := make(chan struct{})
	defer close(done)
	for i := range 6 {
		nc, err := net.Dial("tcp", w.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if i%2 == 0 {
			go func() {
				tick := time.NewTicker(50 * time.Millisecond)
				defer tick.Stop()
				for _, b := range append([]byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3}, make([]byte, 500)...) {
					select {
					case <-tick.C:
						nc.Write([]byte{b})
					case <-done:
						return
					}
				}
			}()
		} else {
			nc.Write([]byte{22})
		}
	}
	eventually(t, "the places taken", func() bool { return w.b.Snapshot().Door.Inside == 4 })
	began := time.Now()
	w.connect(mqtt.V5, "c", nil).ping()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("let in after %v", took)
	}
}

func TestUnknownProtocol(t *testing.T) {
	w := start(t, nil)
	c := newClient(t, w.dial(nil), mqtt.V5)
	c.raw([]byte("SSH-2.0-OpenSSH\r\n"))
	c.closed()
	if w.b.Snapshot().NotMQTT != 1 {
		t.Error("not counted")
	}
}

// The listener may be TLS already.
func TestTLSListener(t *testing.T) {
	w := start(t, nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.b.Serve(tls.NewListener(ln, w.b.TLS())) }()
	w.addr = ln.Addr().String()
	w.connect(mqtt.V5, "c", nil).ping()
	w.shutdown()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestSniff(t *testing.T) {
	for s, want := range map[string]protocol{
		"": speaksUnclear, "\x10": speaksMQTT, "\x10\x20": speaksMQTT, "G": speaksUnclear, "GET": speaksUnclear,
		"GET ": speaksHTTP, "POST /api": speaksHTTP, "PO": speaksUnclear, "PX": speaksOther, "\x16\x03": speaksOther,
		"\x00": speaksOther, "get ": speaksOther, "\x20": speaksOther, "CONNECT x": speaksOther,
	} {
		if got := sniff([]byte(s)); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for name, cfg := range map[string]Config{
		"nothing":   {},
		"no engine": {Verifier: newDirectory(), TLS: func() *tls.Config { return &tls.Config{} }},
		"no tls":    {Verifier: newDirectory(), Engine: engine.Engine(newMemory()), TLS: func() *tls.Config { return nil }},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzPreConnect feeds a stranger's bytes to a connection: whatever they are,
// the connection ends, and memory stays bounded.
func FuzzPreConnect(f *testing.F) {
	for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		f.Add(hello(v, "c", nil).Append(nil, v))
		f.Add((&mqtt.Publish{Topic: []byte("a"), QoS: 1, PacketID: 3}).Append(hello(v, "c", nil).Append(nil, v), v))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte{0x10, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		for n := range data {
			if a, b := sniff(data[:n]), sniff(data[:n+1]); a != speaksUnclear && a != b {
				t.Fatalf("%q is %v, then %v", data[:n+1], a, b)
			}
		}
		dir := newDirectory()
		dir.add(testOrg, "u", nil)
		b := newBroker(t, newMemory(), dir, nil)
		server, client := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.serve(newPeer(b, server), server)
		}()
		go func() {
			client.Write(data)
			client.Close()
		}()
		buf := make([]byte, 4096)
		for {
			if _, err := client.Read(buf); err != nil {
				break
			}
		}
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("the connection did not end")
		}
		b.stopWatch()
		b.stopLife()
	})
}

// newPeer wraps a connection as route would.
func newPeer(b *Broker, nc net.Conn) *peer {
	return &peer{Conn: nc, b: b, raw: nc, deadline: time.Now().Add(patience)}
}
