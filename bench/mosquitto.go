package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mosquitto is Eclipse Mosquitto as Debian has it.
type mosquitto struct{ path string }

func newMosquitto() (mosquitto, error) {
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // not in everybody's path
	}
	if _, err := os.Stat(path); err != nil {
		return mosquitto{}, errors.New("mosquitto is not installed: run scripts/setup-bench")
	}
	return mosquitto{path}, nil
}

func (mosquitto) Name() string { return "Mosquitto" }
func (mosquitto) Queues() bool { return true }

func (m mosquitto) About(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, m.path, "-h").Output() // it ends with status 3
	version, _, _ := strings.Cut(string(out), "\n")
	return version + " from Debian, at its defaults but for an unlimited queue; anonymous; nothing is written to disk"
}

// Start writes a configuration. The queue is unlimited because its default of
// 1,000 messages would drop most of what the durable row acknowledges.
func (m mosquitto) Start(ctx context.Context, dir string) (*Broker, error) {
	id, err := newIdentity(dir)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := []string{
		fmt.Sprintf("listener %d 127.0.0.1", port),
		"certfile " + id.cert, "keyfile " + id.key,
		"allow_anonymous true", "max_queued_messages 0", "log_type error", "log_type warning",
	}
	if os.Geteuid() == 0 {
		config = append(config, "user root") // else it could not read the key
	}
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(strings.Join(config, "\n")+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	b := &Broker{Peer: m, Addr: fmt.Sprintf("127.0.0.1:%d", port), TLS: id.client, rootFile: id.rootFile}
	if b.proc, err = launch(exec.Command(m.path, "-c", file)); err != nil {
		return nil, err
	}
	if err := b.proc.await(ctx, b.accepts); err != nil {
		return nil, err
	}
	return b, nil
}

// freePort finds a port for a program that cannot say which one it took.
// Another program may take it meanwhile; then the start fails and says so.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
