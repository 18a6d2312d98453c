package cli_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keepmq/keepmq/internal/cli"
	"github.com/keepmq/keepmq/internal/config"
	"github.com/keepmq/keepmq/internal/node"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keepmq": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}})
}

// Each script has a whole server of its own, started in this process.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(e *testscript.Env) error { return startServer(t, e) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"listen": listen, "heard": heard, "field": field, "mode": mode,
		},
	})
}

// startServer tells the script where its server is, and puts the secrets of the
// first start into files.
func startServer(t *testing.T, e *testscript.Env) error {
	c := config.Default()
	c.Data = filepath.Join(e.WorkDir, ".server")
	c.MQTT.Listen, c.HTTPS.Listen, c.Edge.Enabled = "127.0.0.1:0", "127.0.0.1:0", false
	n, err := node.Open(context.Background(), c, "test", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	e.Defer(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
	})
	e.Values[listenersKey{}] = new([]listening)
	first := n.First()
	for name, content := range map[string]string{
		"code":         first.CLICode.Reveal(),
		"token":        first.ApplicationToken.Reveal(),
		"device-token": first.DeviceToken.Reveal(),
	} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(content+"\n"), 0o600); err != nil {
			return err
		}
	}
	at := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	for k, v := range map[string]string{
		"SERVER": "https://" + at(n.HTTPSPort()), "PORT": strconv.Itoa(n.HTTPSPort()), "BROKER": at(n.MQTTPort()), "CA": n.CAFile(),
		"ORG": string(first.Org.ID), "KEY": first.Application.Key, "KEEPMQ_CONFIG_DIR": filepath.Join(e.WorkDir, "config"),
	} {
		e.Setenv(k, v)
	}
	return nil
}

type listening struct {
	cmd  *exec.Cmd
	done chan error
}

type listenersKey struct{}

// listeners are those that the script has started.
func listeners(ts *testscript.TestScript) *[]listening {
	return ts.Value(listenersKey{}).(*[]listening)
}

// listen FILE ARG… starts keepmq sub with its output into FILE, and goes on when
// it has subscribed.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: listen FILE ARG…")
	}
	program, err := exec.LookPath("keepmq")
	ts.Check(err)
	out, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"sub"}, args[1:]...)...)
	cmd.Dir, cmd.Stdout = ts.MkAbs("."), out
	for _, k := range []string{"PATH", "HOME", "KEEPMQ_CONFIG_DIR", "KEEPMQ_TOKEN", "KEEPMQ_BROKER", "KEEPMQ_ORG", "KEEPMQ_SERVER"} {
		if v := ts.Getenv(k); v != "" {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
	}
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.Contains(lines.Text(), "subscribed") {
		ts.Logf("%s", lines.Text())
	}
	l := listening{cmd, make(chan error, 1)}
	go func() {
		_, _ = io.Copy(io.Discard, stderr)
		_ = out.Close()
		l.done <- cmd.Wait()
	}()
	ts.Defer(func() { _ = cmd.Process.Kill() })
	*listeners(ts) = append(*listeners(ts), l)
}

// heard waits for every listen to end well.
func heard(ts *testscript.TestScript, neg bool, _ []string) {
	for _, l := range *listeners(ts) {
		if err := <-l.done; (err != nil) != neg {
			ts.Fatalf("keepmq sub ended: %v", err)
		}
	}
	*listeners(ts) = nil
}

// field NAME VAR sets an environment variable to a value of the facts that the
// command before printed.
func field(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == args[0] {
			ts.Setenv(args[1], strings.TrimSpace(value))
			return
		}
	}
	ts.Fatalf("nothing named %q was printed", args[0])
}

// mode FILE OCTAL checks permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := strconv.FormatInt(int64(info.Mode().Perm()), 8); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}
