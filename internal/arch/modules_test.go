package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// direct lists the modules that go.mod may require directly. Each has its
// reason in docs/decisions/0001-dependencies.md.
var direct = strings.Fields(`
	github.com/cockroachdb/pebble/v2 github.com/coder/websocket github.com/danielgtaylor/huma/v2
	github.com/eclipse/paho.golang github.com/eclipse/paho.mqtt.golang github.com/coreos/go-oidc/v3 github.com/go-jose/go-jose/v4 github.com/go-webauthn/webauthn golang.org/x/oauth2 github.com/google/uuid github.com/jackc/pgx/v5
	github.com/oschwald/maxminddb-golang/v2 github.com/pquerna/otp github.com/pressly/goose/v3 github.com/rogpeppe/go-internal github.com/shirou/gopsutil/v4 github.com/spf13/cobra
	github.com/tink-crypto/tink-go/v2 github.com/wneessen/go-mail github.com/xdg-go/stringprep go.uber.org/goleak go.yaml.in/yaml/v3
	golang.org/x/crypto golang.org/x/mod golang.org/x/sys golang.org/x/term modernc.org/sqlite pgregory.net/rapid`)

type module struct {
	Path, Version, Dir, GoMod string
	Indirect, Main            bool
}

func modules(t *testing.T, args ...string) []module {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-m", "-json"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []module
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var m module
		switch err := d.Decode(&m); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatal(err)
		}
		all = append(all, m)
	}
}

func TestDirectModules(t *testing.T) {
	may := map[string]bool{}
	for _, p := range direct {
		may[p] = true
	}
	for _, m := range modules(t, "all") {
		if !m.Main && !m.Indirect && !may[m.Path] {
			t.Errorf("%s is required directly and has no reason in docs/decisions", m.Path)
		}
	}
}

// TestLicences reads the licence of every module that is linked into keepmq.
func TestLicences(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Dir}}{{end}}", "../../cmd/keepmq").Output()
	if err != nil {
		t.Fatal(err)
	}
	gpl := regexp.MustCompile(`(?i)GNU\s+(AFFERO\s+)?GENERAL\s+PUBLIC\s+LICENSE`)
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		path, dir, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || seen[path] || path+"/" == modulePath {
			continue
		}
		seen[path] = true
		files, err := filepath.Glob(filepath.Join(dir, "[LlCc][IiOo][CcPp][EeYy][NnIi]*"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no licence file", path)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err == nil && gpl.Match(b) && !strings.Contains(string(b), "Mozilla Public License") {
				t.Errorf("%s: %s is a GPL", path, filepath.Base(f))
			}
		}
	}
	if len(seen) < 10 {
		t.Errorf("only %d modules seen", len(seen))
	}
}

// TestLibc: modernc.org/sqlite is generated for one exact version of its libc.
func TestLibc(t *testing.T) {
	ms := modules(t, "modernc.org/sqlite", "modernc.org/libc")
	b, err := os.ReadFile(ms[0].GoMod)
	if err != nil {
		t.Fatal(err)
	}
	if want := "modernc.org/libc " + ms[1].Version; !strings.Contains(string(b), want) {
		t.Errorf("sqlite %s was made for another libc than %s", ms[0].Version, ms[1].Version)
	}
}
