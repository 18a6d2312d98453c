package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/config"
	"github.com/keepmq/keepmq/internal/quota"
)

// state returns a node that has what it keeps, and no sockets.
func state(t *testing.T, dir string) *Node {
	t.Helper()
	n := &Node{config: config.Default(), log: slog.New(slog.DiscardHandler), limitLog: quota.NewLog(nil)}
	n.mqttTickets.purpose, n.httpsTickets.purpose = "mqtt", "https"
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	var err error
	if n.folder, err = openFolder(dir); err != nil {
		t.Fatal(err)
	}
	if err := n.openState(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.openCertificates(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.renewCertificate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// resumes makes a connection and reports whether it went on with a session.
func resumes(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	ln, err := listen(t.Context(), "test", "127.0.0.1:0", server, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan bool, 1)
	go func() {
		defer close(got)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		if c := nc.(*tls.Conn); c.Handshake() == nil {
			got <- c.ConnectionState().DidResume
			_, _ = c.Write([]byte("."))
		}
	}()
	d := tls.Dialer{Config: client, NetDialer: &net.Dialer{Timeout: 10 * time.Second}}
	nc, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if n, err := nc.Read(make([]byte, 1)); n == 0 { // the ticket comes before it
		t.Fatal(err)
	}
	did, ok := <-got
	if mine := nc.(*tls.Conn).ConnectionState().DidResume; !ok || did != mine {
		t.Fatalf("the server says %v, the client %v", did, mine)
	}
	return did
}

// A ticket is good while its key is kept, in this process or the next; after that
// the handshake is a full one. TLS 1.2 sessions end with the process, and those
// of one port are nothing to the other.
func TestTickets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	now := time.Now()
	client := func(n *Node, max uint16) *tls.Config {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(n.ca.RootPEM())
		return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12, MaxVersion: max, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	}
	at := func(n *Node, later time.Duration) {
		t.Helper()
		if err := n.renewTickets(context.Background(), now.Add(later)); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, want bool, server, client *tls.Config) {
		t.Helper()
		if got := resumes(t, server, client); got != want {
			t.Errorf("%s: resumed: %v, want %v", what, got, want)
		}
	}
	n := state(t, dir)
	at(n, 0)
	mqtt, https := n.tlsConfig(&n.mqttTickets), n.tlsConfig(&n.httpsTickets)
	new13, old12 := client(n, tls.VersionTLS13), client(n, tls.VersionTLS12)
	for _, c := range []*tls.Config{new13, old12} {
		expect("the first", false, mqtt, c)
		expect("the second", true, mqtt, c)
	}
	expect("at the other port", false, https, new13)
	expect("first again", false, mqtt, new13) // its ticket is of the other port now
	expect("then resumed", true, mqtt, new13)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}

	n = state(t, dir)
	at(n, 0)
	mqtt = n.tlsConfig(&n.mqttTickets)
	expect("TLS 1.3 after a restart", true, mqtt, new13)
	expect("TLS 1.2 after a restart", false, mqtt, old12)
	at(n, 24*time.Hour)
	expect("TLS 1.3 after a day", true, mqtt, new13) // and gets a ticket of then
	at(n, 24*time.Hour+36*time.Hour)
	expect("TLS 1.3 when the key is gone", false, mqtt, new13)
	expect("and once more", true, mqtt, new13)
}
