package arch

import (
	"os/exec"
	"strings"
	"testing"
)

const modulePath = "github.com/keepmq/keepmq/"

// allowed lists, for each package, the packages of this module it may import.
// A package that is not listed fails the test. "std" means it also may not
// import any other module. Two domain packages that meet are listed here one by one.
var allowed = map[string]string{
	// tools
	"internal/errs":     "std",
	"internal/secret":   "std",
	"internal/config":   "quota",
	"internal/door":     "std",
	"internal/arch":     "std",
	"internal/nettest":  "std",
	"internal/poll":     "",
	"internal/country":  "",
	"internal/password": "errs secret",
	// vocabulary
	"internal/topic":         "std errs",
	"internal/mqtt":          "std",
	"internal/quota":         "std errs",
	"internal/refusal":       "std",
	"internal/auth":          "std errs quota secret topic",
	"internal/auth/authtest": "std auth errs quota secret",
	"internal/auth/sasl":     "",
	"internal/auth/jwt":      "errs",
	"internal/permission":    "std errs",
	"internal/client":        "std errs mqtt secret",
	// seams and their drivers
	"internal/store":                 "std errs",
	"internal/store/migrations":      "std",
	"internal/store/sqlite":          "errs store store/migrations",
	"internal/store/postgres":        "errs secret store store/migrations",
	"internal/store/postgres/pgtest": "secret store/postgres",
	"internal/store/dbtest":          "store store/postgres store/postgres/pgtest store/sqlite",
	"internal/store/storetest":       "std errs store",
	"internal/keyring":               "auth errs secret store",
	"internal/engine":                "std auth mqtt quota topic",
	"internal/engine/embedded":       "auth engine errs mqtt quota topic",
	"internal/engine/enginetest":     "std auth engine errs mqtt quota topic",
	// domain
	"internal/audit":         "auth errs keyring secret store",
	"internal/ca":            "std audit auth errs keyring store",
	"internal/ca/catest":     "std auth ca errs",
	"internal/profile":       "std auth errs permission quota topic",
	"internal/home":          "std auth engine errs profile topic",
	"internal/alert/webhook": "std errs secret",
	"internal/alert/mail":    "errs secret",
	"internal/alert":         "alert/mail alert/webhook audit auth errs keyring permission registry secret store",
	"internal/oidc":          "errs secret",
	"internal/passkey":       "errs",
	"internal/oidc/oidctest": "",
	"internal/servercert":    "audit auth errs secret store",
	"internal/registry":      "audit auth auth/jwt auth/sasl ca errs keyring password permission profile quota refusal secret servercert store topic",
	// faces: they never import each other
	"internal/broker":       "auth door engine errs mqtt poll quota refusal secret topic",
	"internal/api":          "alert audit auth auth/jwt ca errs permission quota refusal registry secret servercert store",
	"internal/console":      "audit auth engine errs oidc passkey quota registry secret topic",
	"internal/edge":         "std client edge/sources errs mqtt secret",
	"internal/edge/sources": "",
	// the whole
	"internal/node": "alert alert/mail alert/webhook store/postgres api audit auth broker ca config console country door engine engine/embedded errs home keyring oidc quota refusal registry secret servercert store store/sqlite",
	"internal/cli":  "audit client config edge errs mqtt node secret topic",
	"cmd/keepmq":    "std cli",
	// proof
	"bench":            "std bench/floor mqtt secret",
	"bench/floor":      "std mqtt",
	"test/server":      "std",
	"test/running":     "std client mqtt secret test/server",
	"test/clients":     "test/server",
	"test/browser":     "std test/server",
	"test/soak":        "client mqtt secret test/server",
	"test/security":    "mqtt test/server",
	"test/crash":       "client errs mqtt secret test/server",
	"test/conformance": "mqtt test/server",
	"test/model":       "std",
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, modulePath+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		pkg := strings.TrimPrefix(f[0], modulePath)
		rule, ok := allowed[pkg]
		if !ok {
			t.Errorf("%s is not in the list: say what it may import", pkg)
			continue
		}
		may := map[string]bool{}
		for w := range strings.FieldsSeq(rule) {
			may[w] = true
		}
		for _, imp := range f[1:] {
			local, isLocal := strings.CutPrefix(imp, modulePath)
			local = strings.TrimPrefix(local, "internal/")
			switch {
			case isLocal && !may[local]:
				t.Errorf("%s must not import %s", pkg, local)
			case !isLocal && may["std"] && strings.Contains(strings.Split(imp, "/")[0], "."):
				t.Errorf("%s must not import another module (%s)", pkg, imp)
			}
		}
	}
}
