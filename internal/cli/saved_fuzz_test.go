package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzSaved reads any bytes as a sign-in that was saved. It is refused, or is
// saved again as the same.
func FuzzSaved(f *testing.F) {
	f.Add([]byte(`{"version":1,"server":"https://h:8443","broker":"h:8883","token":"t","person":"p"}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"token":["t"]}`))
	dir := f.TempDir()
	e := newEnv(nil, &bytes.Buffer{}, &bytes.Buffer{})
	e.getenv = func(string) string { return dir }
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "login.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := e.load()
		if err != nil {
			if s != (saved{}) {
				t.Fatalf("refused, and yet %+v", s)
			}
			return
		}
		if err := e.save(s); err != nil {
			t.Fatal(err)
		}
		if again, err := e.load(); err != nil || again != s {
			t.Fatalf("%+v becomes %+v, %v", s, again, err)
		}
	})
}
