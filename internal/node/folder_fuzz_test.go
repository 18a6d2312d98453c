package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// FuzzFormat reads any bytes as the format of a data folder. Only a version that
// this program knows is accepted, and the file stays as it is.
func FuzzFormat(f *testing.F) {
	for _, s := range []string{"1\n", "1", "0", "-1", "2\n", "", "x", "1\x00", "+1", "9999999999999999999999"} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(dir, "format")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		err := (&folder{path: dir}).checkFormat()
		n, bad := strconv.Atoi(strings.TrimSpace(string(b)))
		if known := bad == nil && n >= 1 && n <= formatVersion; (err == nil) != known {
			t.Fatalf("%q: %v", b, err)
		}
		if after, err := os.ReadFile(name); err != nil || string(after) != string(b) {
			t.Fatalf("%q became %q, %v", b, after, err)
		}
	})
}
