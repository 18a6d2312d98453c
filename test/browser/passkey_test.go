package browser

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/keepmq/keepmq/test/server"
)

// spki names the key of a server's certificate, as a browser is told whom to trust.
func spki(t *testing.T, s *server.Server) string {
	t.Helper()
	conf := s.TLS()
	conf.ServerName = "localhost"
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPSPort), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sum := sha256.Sum256(c.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// A person makes a passkey, signs in with it, and with nothing that is not it.
func TestPasskey(t *testing.T) {
	t.Parallel()
	s := server.Start(t, filepath.Join(t.TempDir(), "data"))
	facts := run(t, s, "passkey.mjs", map[string]any{"spki": spki(t, s)})
	for _, name := range []string{"the same device again", "not verified"} { // in the browser's own words
		if len(facts[name]) < 10 {
			t.Errorf("%s: %s", name, facts[name])
		}
		delete(facts, name)
	}
	compare(t, facts, map[string]string{
		"made":                      `"The passkey counts from now on. These are your recovery codes: each is good once, and they are shown this once."`,
		"recovery codes":            "10",
		"listed":                    `"passkey"`,
		"signed in":                 "1",
		"asked for a second factor": "0",
		"used":                      "1",
		"a copy":                    `"This passkey may be there twice and is not accepted; sign in another way, and remove it."`,
		"removed":                   `"It is removed."`,
		"with a removed one":        `"The passkey's answer is not good; begin again."`,
		"where":                     `"/sign-in"`,
		"violations":                "[]",
	})
}
