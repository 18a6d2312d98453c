// Package clients runs MQTT clients that others wrote against the real server:
// what works with them works in the field.
package clients

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

// patience is how long anything that should happen may take on a busy machine.
const patience = 30 * time.Second

func TestMain(m *testing.M) { server.Main(m) }

// need fails the test, with the remedy, where a tool is missing.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: run scripts/setup-test", tool)
		}
	}
}

// A site is a running server and the administrator's API.
type site struct {
	*server.Server
	api *server.API
}

func start(t *testing.T, args ...string) *site {
	t.Helper()
	s := server.Start(t, filepath.Join(t.TempDir(), "data"), args...)
	return &site{s, s.SignIn()}
}

func (s *site) call(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := s.api.Do(method, path, in, out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
}

// An org is an organisation of its own for one test.
type org struct {
	*site
	id string
}

func (s *site) org(t *testing.T, profile string) *org {
	t.Helper()
	var made struct{ ID string }
	s.call(t, http.MethodPost, "/orgs", map[string]string{"name": t.Name(), "profile": profile}, &made)
	return &org{s, made.ID}
}

func (o *org) path(part string) string { return "/orgs/" + o.id + part }

// An account is how a client connects.
type account struct {
	Client   string `json:"clientId"`
	User     string `json:"username"`
	Password string `json:"password"`
}

// sensor makes a type and devices of it.
func (o *org) sensors(t *testing.T, ids ...string) []account {
	t.Helper()
	o.call(t, http.MethodPost, o.path("/types"), map[string]string{"id": "sensor"}, nil)
	var all []account
	for _, id := range ids {
		all = append(all, o.device(t, "sensor", id, ""))
	}
	return all
}

func (o *org) device(t *testing.T, typ, id, gateway string) account {
	t.Helper()
	var made struct {
		Client string `json:"client_id"`
		Token  string
	}
	in := map[string]string{"type": typ, "id": id}
	if gateway != "" {
		in["gateway"] = gateway
	}
	o.call(t, http.MethodPost, o.path("/devices"), in, &made)
	return account{made.Client, "use-token-auth", made.Token}
}

func (o *org) app(t *testing.T, id string) account {
	t.Helper()
	var made struct{ Key, Token string }
	o.call(t, http.MethodPost, o.path("/apps"), map[string]string{"name": id}, &made)
	return account{"a:" + o.id + ":" + id, made.Key, made.Token}
}

func (o *org) user(t *testing.T, name string) account {
	t.Helper()
	var made struct{ Username, Password string }
	o.call(t, http.MethodPost, o.path("/users"), map[string]string{"name": name}, &made)
	return account{"", made.Username, made.Password}
}

func (s *site) mqttAddress() string { return net.JoinHostPort("localhost", strconv.Itoa(s.MQTTPort)) }

// A process is a client program that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string   // of its output; closed at the end
	over  chan struct{} // closed when it has ended
}

// spawn starts a program that ends with the test at the latest.
func spawn(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p := &process{t: t, cmd: cmd, lines: make(chan string, 10_000), over: make(chan struct{})}
	go func() {
		defer close(p.over)
		defer r.Close()
		for s := bufio.NewScanner(io.LimitReader(r, 64<<20)); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
		_ = cmd.Wait() // the exit code is asked for by exit
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for range p.lines {
	}
	<-p.over
}

// line returns the next line that begins with prefix, without it.
func (p *process) line(prefix string) string {
	p.t.Helper()
	deadline := time.After(patience)
	var seen []string
	for {
		select {
		case s, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s ended without a line %q:\n%s", p.cmd.Args[0], prefix, strings.Join(seen, "\n"))
			}
			if rest, ok := strings.CutPrefix(s, prefix); ok {
				return rest
			}
			seen = append(seen, s)
		case <-deadline:
			p.t.Fatalf("%s gave no line %q in %v, but:\n%s", p.cmd.Args[0], prefix, patience, strings.Join(seen, "\n"))
		}
	}
}

// exit waits for the end and returns the exit code and the lines not yet read.
func (p *process) exit() (code int, rest []string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s, ok := <-p.lines:
			if !ok {
				<-p.over
				return p.cmd.ProcessState.ExitCode(), rest
			}
			rest = append(rest, s)
		case <-deadline:
			p.t.Fatalf("%s did not end in %v:\n%s", p.cmd.Args[0], patience, strings.Join(rest, "\n"))
		}
	}
}

// A script is a Node program that reports facts as lines of JSON, which the
// tests judge.
type script struct{ *process }

// A fact is one line of a script.
type fact struct {
	Name string          `json:"name"`
	Got  json.RawMessage `json:"got"`
}

// node starts a script of this folder with its parameters. Flags of Node may
// stand before the name of the script.
func node(t *testing.T, s *site, params map[string]any, args ...string) script {
	t.Helper()
	need(t, "node")
	if _, err := os.Stat("node_modules/.installed-lock"); err != nil {
		t.Fatal("the JavaScript clients are not installed: run scripts/setup-test")
	}
	params["port"], params["ca"] = s.MQTTPort, s.CAFile
	b, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Env = append(os.Environ(), "PARAMS="+string(b), "NODE_EXTRA_CA_CERTS="+s.CAFile, "KEEPMQ_PORT="+strconv.Itoa(s.MQTTPort))
	return script{spawn(t, cmd)}
}

// next returns the next fact, which must have the name.
func (s script) next(name string) json.RawMessage {
	s.t.Helper()
	line := s.line(`{"name":`)
	var f fact
	if err := json.Unmarshal([]byte(`{"name":`+line), &f); err != nil {
		s.t.Fatalf("the script wrote %q: %v", line, err)
	}
	if f.Name != name {
		s.t.Fatalf("the script reports %s %s, want %s", f.Name, f.Got, name)
	}
	return f.Got
}

// check reads all facts up to the end and compares them with those wanted, each
// given as JSON. A "*" stands for a fact that is judged elsewhere.
func (s script) check(want map[string]string) map[string]json.RawMessage {
	s.t.Helper()
	code, lines := s.exit()
	got := map[string]json.RawMessage{}
	for _, line := range lines {
		var f fact
		if json.Unmarshal([]byte(line), &f) != nil || f.Name == "" {
			s.t.Logf("the script said: %s", line)
			continue
		}
		got[f.Name] = f.Got
		w, ok := want[f.Name]
		if !ok {
			s.t.Errorf("%s: the script reports %s, which nothing is expected of", f.Name, f.Got)
		} else if w != "*" && compact(s.t, f.Got) != compact(s.t, json.RawMessage(w)) {
			s.t.Errorf("%s:\n got %s\nwant %s", f.Name, f.Got, w)
		}
	}
	for name := range want {
		if got[name] == nil {
			s.t.Errorf("%s: the script does not report it", name)
		}
	}
	if code != 0 {
		s.t.Errorf("the script ended with code %d", code)
	}
	return got
}

// compact returns JSON in one form: no spaces, keys in order.
func compact(t *testing.T, b json.RawMessage) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// eventually waits until f succeeds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", patience, err)
		}
		<-tick.C
	}
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}
