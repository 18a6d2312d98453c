package security

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A TLS scanner that others wrote finds nothing to complain about. What it says
// that is not about us stands below, with the reason.
func TestScannerIsContent(t *testing.T) {
	if testing.Short() {
		t.Skip("short mode: a scan takes most of a minute")
	}
	if _, err := exec.LookPath("testssl"); err != nil {
		t.Fatal("testssl is missing: run scripts/setup-test")
	}
	notOurs := []string{
		"DNS_CAArecord",      // localhost has no DNS zone
		"HSTS",               // for browsers, which have no business at the MQTT port
		"security_headers",   // the same
		"cert_revocation",    // that of a server certificate of our own authority is replaced, and asked of nobody
		"TLS_session_ticket", // the hint in a ticket is seven days; ours are not accepted after one
	}
	s := start(t)
	out := filepath.Join(t.TempDir(), "found.json")
	scan := exec.Command("testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--add-ca", s.CAFile,
		"--jsonfile", out, fmt.Sprintf("localhost:%d", s.MQTTPort))
	said, _ := scan.CombinedOutput() // it ends with how much it found
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatalf("%v:\n%s", err, said)
	}
	var found []struct{ ID, Severity, Finding string }
	if err := json.Unmarshal(b, &found); err != nil {
		t.Fatal(err)
	}
	if len(found) < 80 {
		t.Fatalf("it looked at %d things only:\n%s", len(found), said)
	}
	seen := map[string]string{}
	for _, f := range found {
		seen[f.ID] = f.Finding
		// WARN says that the scanner itself had a problem, as on a busy machine.
		if f.Severity != "OK" && f.Severity != "INFO" && f.Severity != "WARN" && !slices.Contains(notOurs, f.ID) {
			t.Errorf("%s: %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	for id, want := range map[string]string{"TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "offered", "TLS1_3": "offered",
		"cert_chain_of_trust": "passed", "secure_client_renego": "not vulnerable"} {
		if !strings.HasPrefix(seen[id], want) && !strings.Contains(seen[id], want) {
			t.Errorf("%s: %q, want %q", id, seen[id], want)
		}
	}
}
