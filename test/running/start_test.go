package running

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

// A second start goes on with everything: the same authority, organisation,
// devices and access, and it shows no secret again.
func TestSecondStartGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := server.Start(t, dir)
	api := s.SignIn()
	api.Call(http.MethodPost, "/orgs/"+s.Org+"/types", map[string]string{"id": "thermometer"}, nil)
	var made struct{ Token string }
	api.Call(http.MethodPost, "/orgs/"+s.Org+"/devices", map[string]string{"type": "thermometer", "id": "kitchen"}, &made)
	before := read(t, s.CAFile)
	first := s.Welcome
	s.Stop()

	s = server.Start(t, dir)
	if !bytes.Equal(before, read(t, s.CAFile)) {
		t.Error("the authority changed")
	}
	if s.Org != first.Org {
		t.Errorf("organisation %q, was %q", s.Org, first.Org)
	}
	if s.LoginCode != "" || s.SignInURL != "" || s.Device.Token != "" || s.Application.Token != "" {
		t.Errorf("a second start showed a secret: %+v", s.Welcome)
	}
	api.On(s).Call(http.MethodGet, "/orgs/"+s.Org+"/devices/thermometer/kitchen", nil, nil)
	if err := publish(s, "d:"+s.Org+":thermometer:kitchen", "use-token-auth", made.Token, "iot-2/evt/status/fmt/json", "{}"); err != nil {
		t.Errorf("a device of the first start: %v", err)
	}
	s.Stop()
	for name, secret := range map[string]string{"login code": first.LoginCode, "device token": made.Token,
		"first device's token": first.Device.Token, "application's token": first.Application.Token, "access token": api.Token()} {
		if file := contains(t, dir, secret); file != "" {
			t.Errorf("the %s stands in the clear in %s", name, file)
		}
	}
}

// However early a first start is cut, the next one completes it.
func TestInterruptedFirstStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for pause := time.Millisecond; pause < 120*time.Millisecond; pause += 9 * time.Millisecond {
		var out bytes.Buffer
		cmd := exec.Command(server.Program(t), "serve", "--data", dir, "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0")
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(pause, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // it was killed
		if strings.Contains(out.String(), "keepmq:") {
			t.Fatalf("start that was cut after %v reported:\n%s", pause, out.String())
		}
	}
	s := server.Start(t, dir)
	if s.LoginCode == "" || s.SignInURL == "" {
		t.Fatalf("nobody has signed in yet, and there is no code to do so: %+v", s.Welcome)
	}
	s.SignIn().Call(http.MethodGet, "/orgs/"+s.Org+"/devices", nil, nil)
}

// Each obstacle has a message that says what to do, and leaves nothing broken.
func TestRefusedStarts(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	base := t.TempDir()
	holder := server.Start(t, filepath.Join(base, "held"))

	newer := filepath.Join(base, "newer")
	must(t, os.Mkdir(newer, 0o700))
	must(t, os.WriteFile(filepath.Join(newer, "format"), []byte("99\n"), 0o600))
	file := filepath.Join(base, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	open := filepath.Join(base, "open")
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o755))
	bad := filepath.Join(base, "bad.yaml")
	must(t, os.WriteFile(bad, []byte("mqtt: {tls: off}\nspeed: 1\n"), 0o600))
	wrong := filepath.Join(base, "wrong.yaml")
	must(t, os.WriteFile(wrong, []byte("domain: a..b\nmqtt: {max_keep_alive: -1s}\nlimits: {client.inflight: 0}\n"), 0o600))

	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"port in use", []string{"--data", filepath.Join(base, "p"), "--mqtt", busy.Addr().String()}, []string{"mqtt.listen", busy.Addr().String(), "another program"}},
		{"folder in use", []string{"--data", holder.Dir}, []string{holder.Dir, "another keepmq"}},
		{"newer folder", []string{"--data", newer}, []string{"newer KeepMQ", "backup"}},
		{"folder is a file", []string{"--data", file}, []string{"file of that name"}},
		{"open folder", []string{"--data", open}, []string{"chmod 700"}},
		{"unknown keys", []string{"--config", bad}, []string{"unknown key tls", "unknown key speed"}},
		{"wrong values", []string{"--config", wrong}, []string{"domain", "mqtt.max_keep_alive", "limits.client.inflight"}},
		{"wrong address", []string{"--data", filepath.Join(base, "a"), "--https", "elsewhere"}, []string{"https.listen", "address:port"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"serve", "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0"}, tt.args...)
			out, code := run(t, args...)
			if code == 0 {
				t.Fatalf("it started:\n%s", out)
			}
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
		})
	}
}

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keepmq.yaml")
	must(t, os.WriteFile(file, []byte("domain: example.org\n"), 0o600))
	if out, code := run(t, "serve", "--check", "--config", file); code != 0 {
		t.Errorf("a good file: exit code %d\n%s", code, out)
	}
	must(t, os.WriteFile(file, []byte("https: {listen: x}\nlog: {format: xml}\n"), 0o600))
	out, code := run(t, "serve", "--check", "--config", file)
	if code != 2 || !strings.Contains(out, "https.listen") || !strings.Contains(out, "log.format") {
		t.Errorf("a bad file: exit code %d\n%s", code, out)
	}
	if _, err := os.Stat("data"); err == nil {
		t.Error("--check made a data folder")
	}
}

// A file system that cannot be written to is named, and nothing is lost when it
// can be written to again.
func TestReadOnlyFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: a read-only mount cannot be made; the folder's mode is changed instead")
	}
	dir := filepath.Join(t.TempDir(), "data")
	s := server.Start(t, dir)
	org := s.Org
	s.Stop()
	restore := makeReadOnly(t, dir)
	out, code := run(t, "serve", "--data", dir, "--mqtt", "127.0.0.1:0", "--https", "127.0.0.1:0")
	restore()
	if code == 0 || !strings.Contains(out, "read-only") && !strings.Contains(out, "not allowed") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if s := server.Start(t, dir); s.Org != org {
		t.Errorf("organisation %q, was %q", s.Org, org)
	}
}

func makeReadOnly(t *testing.T, dir string) (restore func()) {
	t.Helper()
	if os.Geteuid() == 0 {
		must(t, syscall.Mount(dir, dir, "", syscall.MS_BIND, ""))
		must(t, syscall.Mount(dir, dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		return func() { must(t, syscall.Unmount(dir, 0)) }
	}
	must(t, os.Chmod(dir, 0o500))
	return func() { must(t, os.Chmod(dir, 0o700)) }
}

func run(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), server.StartTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, server.Program(t), args...)
	cmd.Dir = t.TempDir()
	b, _ := cmd.CombinedOutput()
	return string(b), cmd.ProcessState.ExitCode()
}

// publish sends one message with a client that others wrote.
func publish(s *server.Server, client, user, password, topic, payload string) error {
	cmd := exec.Command("mosquitto_pub", "--cafile", s.CAFile, "-h", "localhost", "-p", fmt.Sprint(s.MQTTPort),
		"-i", client, "-u", user, "-P", password, "-q", "1", "-t", topic, "-m", payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mosquitto_pub: %w: %s", err, out)
	}
	return nil
}

// contains returns the first file below dir that contains s.
func contains(t *testing.T, dir, s string) (file string) {
	t.Helper()
	if s == "" {
		t.Fatal("looking for nothing")
	}
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if bytes.Contains(read(t, p), []byte(s)) {
			file = p
		}
		return nil
	}))
	return file
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
