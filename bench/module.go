package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// module is a broker built from its Go module: a program in bench/peers, which
// scripts/setup-bench builds.
type module struct {
	name, about, path string
	folder            bool // it is told where it may write
	queues            bool
}

// builtPeers is where the programs are.
const builtPeers = "bench/out/peers"

func newModule(m module) (module, error) {
	path, err := filepath.Abs(filepath.Join(builtPeers, m.path))
	if err != nil {
		return m, err
	}
	if _, err := os.Stat(path); err != nil {
		return m, fmt.Errorf("%s is not built: run scripts/setup-bench", m.name)
	}
	m.path = path
	return m, nil
}

func newMochi() (module, error) {
	return newModule(module{name: "mochi", path: "mochi", about: "mochi-mqtt 2.7.9 at its defaults; anonymous; nothing is written to disk"})
}

func newNATS() (module, error) {
	return newModule(module{name: "NATS", path: "nats", folder: true, about: "NATS server 2.15.2, its MQTT listener at its defaults; anonymous"})
}

func (m module) Name() string                 { return m.name }
func (m module) Queues() bool                 { return m.queues }
func (m module) About(context.Context) string { return m.about }

func (m module) Start(ctx context.Context, dir string) (*Broker, error) {
	id, err := newIdentity(dir)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	b := &Broker{Peer: m, Addr: fmt.Sprintf("127.0.0.1:%d", port), TLS: id.client, rootFile: id.rootFile}
	args := []string{b.Addr, id.cert, id.key}
	if m.folder {
		args = append(args, filepath.Join(dir, "store"))
	}
	if b.proc, err = launch(exec.Command(m.path, args...)); err != nil {
		return nil, err
	}
	if err := b.proc.await(ctx, b.accepts); err != nil {
		return nil, err
	}
	return b, nil
}
