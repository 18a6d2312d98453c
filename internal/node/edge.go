package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/registry"
	"github.com/keepmq/keepmq/internal/secret"
)

// The edge agent of this machine is a device like any other: it runs in a
// process of its own, so that its key never enters this one, and it is
// connected as all devices are.
const (
	edgeType     = "edge"
	edgeStop     = 10 * time.Second // for its last readings, at the end
	edgeMinPause = time.Second
	edgeMaxPause = time.Minute
	edgeTokenTTL = 10 * time.Minute
)

// keepEdge runs the edge agent of this machine until ctx ends, and starts it
// again when it ends by itself.
func (n *Node) keepEdge(ctx context.Context) {
	pause := edgeMinPause
	for ctx.Err() == nil {
		began := time.Now()
		err := n.runEdge(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > edgeMaxPause {
			pause = edgeMinPause
		}
		n.log.Warn("the edge agent ended; it is started again", "err", err, "pause", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, edgeMaxPause)
	}
}

// runEdge runs the agent once. It is given a one-time token, which it uses if
// it has no valid certificate yet, through its standard input: there it stands
// in no argument list and in no file.
func (n *Node) runEdge(ctx context.Context) error {
	token, err := n.edgeToken(ctx)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("edge agent: %w", err)
	}
	cmd := exec.CommandContext(ctx, program, "edge",
		"--server", "https://"+n.loopback(n.HTTPSPort()),
		"--broker", n.loopback(n.MQTTPort()),
		"--ca", n.CAFile(),
		"--dir", n.folder.join("edge"),
		"--interval", n.config.Edge.Interval.String(),
		"--token-stdin", "--until-eof")
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("edge agent: %w", err)
	}
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = edgeStop
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("edge agent: %w", err)
	}
	// The pipe stays open: its end tells the agent that this process is gone.
	_, err = io.WriteString(in, token.Reveal()+"\n")
	return errors.Join(err, cmd.Wait())
}

func (n *Node) loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// edgeToken makes sure that this machine is a registered device, and returns an
// enrolment token for it.
func (n *Node) edgeToken(ctx context.Context) (secret.String, error) {
	org := n.first.Org.ID
	actor := registry.Actor{Principal: auth.Principal{Org: org, Kind: auth.System, ID: "edge"}}
	id := edgeID()
	_, err := n.registry.CreateDeviceType(ctx, actor, registry.DeviceType{Org: org, ID: edgeType, Class: "Device", Description: "Computers that read their own sensors"})
	if err != nil && errs.CodeOf(err) != errs.Conflict {
		return secret.String{}, err
	}
	_, _, err = n.registry.CreateDevice(ctx, actor, registry.Device{Org: org, Type: edgeType, ID: id})
	if err != nil && errs.CodeOf(err) != errs.Conflict {
		return secret.String{}, err
	}
	return n.registry.CreateEnrolment(ctx, actor, org, edgeType, id, edgeTokenTTL)
}

// edgeID returns this machine's name as a device id.
func edgeID() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "this-machine"
	}
	id := []byte(host[:min(len(host), 36)])
	for i, c := range id {
		if auth.CheckName("", string(c)) != nil {
			id[i] = '-'
		}
	}
	return string(id)
}
