// Package browser uses the console of a real server with a real browser, as a
// person does.
package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// scriptTime bounds a script; it ends itself before that.
const scriptTime = 2 * time.Minute

// run runs a script against a server and returns the facts that it reports.
func run(t *testing.T, s *server.Server, script string, params map[string]any) map[string]string {
	t.Helper()
	for _, tool := range []string{"node", "/usr/bin/chromium"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing: run scripts/setup-test", tool)
		}
	}
	if _, err := os.Stat("../clients/node_modules/.installed-lock"); err != nil {
		t.Fatal("the browser driver is not installed: run scripts/setup-test")
	}
	shots, err := os.MkdirTemp("", "keepmq-screenshots-")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("screenshots are in %s", shots) // they stay there
	params["console"], params["signIn"], params["port"], params["shots"] = s.ConsoleURL, s.SignInURL, s.MQTTPort, shots
	b, err := json.Marshal(params)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script)
	cmd.Env = append(os.Environ(), "PARAMS="+string(b), "NODE_EXTRA_CA_CERTS="+s.CAFile, "HOME="+t.TempDir())
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", script, err)
	}
	facts := map[string]string{}
	for line := range bytes.Lines(out) {
		var f struct {
			Name string
			Got  any
		}
		if json.Unmarshal(line, &f) != nil || f.Name == "" {
			t.Logf("the script said: %s", bytes.TrimSpace(line))
			continue
		}
		facts[f.Name] = text(t, f.Got)
	}
	return facts
}

// text returns JSON in one form, with markup as it is.
func text(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, w := range want {
		var v any
		if err := json.Unmarshal([]byte(w), &v); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if g, ok := got[name]; !ok {
			t.Errorf("%s: the script does not report it", name)
		} else if g != text(t, v) {
			t.Errorf("%s:\n got %s\nwant %s", name, g, text(t, v))
		}
	}
}

func TestConsole(t *testing.T) {
	t.Parallel()
	s := server.Start(t, filepath.Join(t.TempDir(), "data"))
	got := run(t, s, "console.mjs", map[string]any{
		"org": s.Org, "token": s.SignIn().Token(),
		"device": map[string]string{"type": s.Device.Type, "id": s.Device.ID, "token": s.Device.Token},
	})
	compare(t, got, map[string]string{
		"before signing in":         `["/sign-in","Sign in"]`,
		"cookie":                    `[true,true,"Strict",1]`,
		"line":                      `true`,
		"seen":                      `true`,
		"hostile markup":            `[null,0]`,
		"found":                     `["late"]`,
		"too wide":                  `[]`,
		"colour schemes":            `2`,
		"page was not loaded again": `true`,
		"second use of the link":    `[true,"This link did not work",0]`,
		"a stranger":                `"/sign-in"`,
		"the other tab":             `"You are signed out; reload the page"`,
		"after signing out":         `["/sign-in",0]`,
		"with the old cookie":       `"/sign-in"`,
		"complaints":                `[]`,
		"hostile text": `{"status":[["humidity","41"]],"plain":[["value","<svg onload=window.pwned=4>"]],
			"<img src=x onerror=\"window.pwned=3\">":[["value","empty"]],
			"hostile":[["<b>name</b>","</dd></dl><h1>title</h1>"],
				["<img src=x onerror=\"window.pwned=1\"><script>window.pwned=2</script>","<img src=x onerror=\"window.pwned=1\"><script>window.pwned=2</script>"],
				["a&amp;b","&lt;i&gt;"]]}`,
	})
	if !strings.HasPrefix(got["after signing in"], `["/","`) {
		t.Errorf("after signing in: got %s", got["after signing in"])
	}
}

// The server's own machine appears with its sensors, without being asked for.
func TestEdge(t *testing.T) {
	t.Parallel()
	s := server.Start(t, filepath.Join(t.TempDir(), "data"), "--edge")
	got := run(t, s, "edge.mjs", map[string]any{})
	compare(t, got, map[string]string{"edge devices": `1`, "fresh": `true`, "page was not loaded again": `true`, "complaints": `[]`})
	var fields []string
	if err := json.Unmarshal([]byte(got["fields"]), &fields); err != nil {
		t.Fatalf("fields: %v", err)
	}
	for _, want := range []string{"cpu", "memory"} {
		if !slices.ContainsFunc(fields, func(f string) bool { return strings.Contains(f, want) }) {
			t.Errorf("no reading of the %s among %q", want, fields)
		}
	}
}
