package clients

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

// What a first start prints for people to paste works when it is pasted, in the
// folder where the server was started.
func TestPrintedLines(t *testing.T) {
	t.Parallel()
	need(t, "sh", "mosquitto_pub", "mosquitto_sub")
	dir, home := t.TempDir(), t.TempDir()
	lines := printed(t, dir)
	paste := func(start string) *exec.Cmd {
		t.Helper()
		for _, line := range lines {
			if strings.HasPrefix(line, start) || strings.Contains(line, "/keepmq "+start) {
				ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
				t.Cleanup(cancel)
				cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+line)
				cmd.Dir = dir
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, "config")}
				return cmd
			}
		}
		t.Fatalf("no line %s… was printed:\n%s", start, strings.Join(lines, "\n"))
		return nil
	}
	if out, err := paste("login ").CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Signed in")) {
		t.Fatalf("login: %v: %s", err, out)
	}
	person := spawn(t, paste("sub "))
	person.line("subscribed")
	app := spawn(t, paste("mosquitto_sub "))
	publish := func() {
		t.Helper()
		if out, err := paste("mosquitto_pub ").CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v: %s", err, out)
		}
	}
	// Its line does not say when it is ready, so the device goes on sending.
	deadline := time.Now().Add(patience)
	for received := false; !received; {
		publish()
		select {
		case line, ok := <-app.lines:
			if !ok || !strings.HasSuffix(line, `/evt/status/fmt/json {"celsius": 21.5}`) {
				t.Fatalf("mosquitto_sub printed %q", line)
			}
			received = true
		case <-time.After(100 * time.Millisecond):
			if time.Now().After(deadline) {
				t.Fatal("mosquitto_sub received nothing")
			}
		}
	}
	if line := person.line("iot-2/type/"); !strings.HasSuffix(line, `/evt/status/fmt/json {"celsius": 21.5}`) {
		t.Errorf("keepmq sub printed %q", line)
	}
	// A one-time code is good once.
	if out, err := paste("login ").CombinedOutput(); err == nil {
		t.Errorf("the login line worked twice: %s", out)
	}
}

// printed starts a server in a folder and returns the lines it prints.
func printed(t *testing.T, dir string) (lines []string) {
	t.Helper()
	cmd := exec.Command(server.Program(t), "serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0")
	cmd.Dir = dir
	cmd.WaitDelay = patience
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 100)
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			read <- strings.TrimSpace(s.Text())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		for range read {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("keepmq serve ended with %v:\n%s", err, log.String())
		}
	})
	deadline := time.After(server.StartTime)
	for {
		select {
		case line, ok := <-read:
			if !ok {
				t.Fatalf("keepmq serve ended; it printed:\n%s", strings.Join(lines, "\n"))
			}
			lines = append(lines, line)
			if strings.HasPrefix(line, "mosquitto_pub ") {
				return lines
			}
		case <-deadline:
			t.Fatalf("no mosquitto_pub line in %v:\n%s", server.StartTime, strings.Join(lines, "\n"))
		}
	}
}
