package running

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store/postgres/pgtest"
	"github.com/keepmq/keepmq/test/server"
)

// secretFile writes a file that only its owner can read.
func secretFile(t *testing.T, s secret.String) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte(s.Reveal()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keepmq.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The whole product with its state in PostgreSQL: from an empty database to a
// message, and once more after a restart that has no owner's URL.
func TestPostgreSQL(t *testing.T) {
	db := pgtest.Empty(t)
	dsn := secretFile(t, db.DSN)
	first := configFile(t, "store: {driver: postgres, dsn_file: "+dsn+", owner_dsn_file: "+secretFile(t, db.OwnerDSN)+"}\n")
	later := configFile(t, "store: {driver: postgres, dsn_file: "+dsn+"}\n")
	dir := filepath.Join(t.TempDir(), "data")
	s := server.Start(t, dir, "--config", first)
	api := s.SignIn()
	api.Call(http.MethodPost, "/orgs/"+s.Org+"/types", map[string]string{"id": "thermometer"}, nil)
	var made struct{ Token string }
	api.Call(http.MethodPost, "/orgs/"+s.Org+"/devices", map[string]string{"type": "thermometer", "id": "kitchen"}, &made)
	send := func(token string) error {
		return publish(s, "d:"+s.Org+":thermometer:kitchen", "use-token-auth", token, "iot-2/evt/status/fmt/json", "{}")
	}
	if err := send(made.Token); err != nil {
		t.Fatalf("publish: %v", err)
	}
	if err := send("wrong" + made.Token); err == nil {
		t.Error("a wrong token was let in")
	}
	if _, err := os.Stat(filepath.Join(dir, "keepmq.db")); err == nil {
		t.Error("there is a SQLite file too")
	}
	// A second server finds the database in use, and does not disturb the first.
	if _, err := server.Try(t, filepath.Join(t.TempDir(), "data"), "--config", later); err == nil || !strings.Contains(err.Error(), "another KeepMQ uses the database") {
		t.Errorf("a second server: %v", err)
	}
	org := s.Org
	s.Stop()

	s = server.Start(t, dir, "--config", later)
	if s.Org != org || s.LoginCode != "" {
		t.Errorf("it began anew: %+v", s.Welcome)
	}
	if err := send(made.Token); err != nil {
		t.Errorf("publish after a restart: %v", err)
	}
	api.On(s).Call(http.MethodDelete, "/orgs/"+s.Org+"/devices/thermometer/kitchen", nil, nil)
	if err := send(made.Token); err == nil {
		t.Error("a deleted device was let in")
	}
	s.Stop()
	if strings.Contains(string(pgtest.Dump(t, db)), made.Token) {
		t.Error("the device's token stands in the clear in the database")
	}
	if _, err := server.Try(t, dir); err == nil || !strings.Contains(err.Error(), "its state is not in the store") {
		t.Errorf("the folder went on with SQLite: %v", err)
	}
}

// serve --check says whether the database can be reached, and never its password.
func TestCheckPostgreSQL(t *testing.T) {
	check := func(text string) (string, error) {
		out, err := exec.CommandContext(t.Context(), server.Program(t), "serve", "--check", "--config", configFile(t, text)).CombinedOutput()
		return string(out), err
	}
	db := pgtest.New(t)
	if out, err := check("store: {driver: postgres, dsn_file: " + secretFile(t, db.DSN) + "}"); err != nil || !strings.Contains(out, "can be reached") {
		t.Errorf("a good one: %s, %v", out, err)
	}
	open := secretFile(t, db.DSN)
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ text, want string }{
		"nobody there": {"store: {driver: postgres, dsn_file: " + secretFile(t, secret.New("postgresql://keepmq:hiddenword@/keepmq?host="+t.TempDir())) + "}", "cannot be reached"},
		"without TLS":  {"store: {driver: postgres, dsn_file: " + secretFile(t, secret.New("postgresql://keepmq:hiddenword@127.0.0.1/keepmq?sslmode=require")) + "}", "verify-full"},
		"no URL":       {"store: {driver: postgres, dsn_file: " + secretFile(t, secret.New("hiddenword")) + "}", "must be like"},
		"open file":    {"store: {driver: postgres, dsn_file: " + open + "}", "chmod 600"},
		"no file":      {"store: {driver: postgres, dsn_file: /no/such/file}", "cannot be read"},
		"no key":       {"store: {driver: postgres}", "store.dsn_file"},
	} {
		out, err := check(tc.text)
		if err == nil || !strings.Contains(out, tc.want) || strings.Contains(out, "hiddenword") {
			t.Errorf("%s: %s, %v; want %q", name, out, err, tc.want)
		}
	}
}
