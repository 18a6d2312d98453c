package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/keepmq/keepmq/bench/floor"
)

// relayArg is the argument with which this program starts itself as the floor.
const relayArg = "floor"

// relay is the floor as a process of its own.
type relay struct{}

func (relay) Name() string { return "floor" }
func (relay) Queues() bool { return false }
func (relay) About(context.Context) string {
	return "a relay in Go without MQTT semantics (bench/floor)"
}

func (r relay) Start(ctx context.Context, dir string) (*Broker, error) {
	id, err := newIdentity(dir)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the bench itself: %w", err)
	}
	cmd := exec.Command(self, relayArg, id.cert, id.key, id.rootFile)
	out, first := firstLine()
	cmd.Stdout = out
	b := &Broker{Peer: r, TLS: id.client, rootFile: id.rootFile, devices: func(_ context.Context, n int) ([]login, error) { return id.signDevices(n) }}
	if b.proc, err = launch(cmd); err != nil {
		return nil, err
	}
	err = b.proc.await(ctx, func(ctx context.Context) error {
		l, err := first(ctx)
		if err != nil {
			return err
		}
		b.Addr = strings.TrimSpace(string(l))
		return b.accepts(ctx)
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// serveRelay is the other process: it prints its address and relays until it
// is ended by a signal.
func serveRelay(stdout io.Writer, certFile, keyFile, rootFile string) error {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return err
	}
	root, err := os.ReadFile(rootFile)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(root) {
		return fmt.Errorf("no certificate in %s", rootFile)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(stdout, l.Addr()); err != nil {
		return err
	}
	return floor.Serve(l, asking(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}, pool))
}
