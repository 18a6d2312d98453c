package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFolderIsHeldOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	f, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data folder: %v, %v; want mode 0700", info.Mode(), err)
	}
	if _, err := openFolder(dir); err == nil || !strings.Contains(err.Error(), "another keepmq") {
		t.Errorf("second holder: got %v", err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	f, err = openFolder(dir)
	if err != nil {
		t.Fatalf("after close: %v", err)
	}
	f.close()
}

func TestFolderRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		make       func(t *testing.T, dir string) string
	}{
		{"newer version", "newer KeepMQ", func(t *testing.T, dir string) string {
			return dir + write(t, dir, "format", "2\n")
		}},
		{"damaged format", "damaged", func(t *testing.T, dir string) string {
			return dir + write(t, dir, "format", "one\n")
		}},
		{"readable by others", "chmod 700", func(t *testing.T, dir string) string {
			if err := os.Chmod(dir, 0o750); err != nil {
				t.Fatal(err)
			}
			return dir
		}},
		{"a file", "file of that name", func(t *testing.T, dir string) string {
			write(t, dir, "data", "")
			return filepath.Join(dir, "data")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			f, err := openFolder(tt.make(t, dir))
			if err == nil {
				f.close()
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
		})
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ""
}

// A file of the folder is replaced wholly, and leaves nothing beside it.
func TestFolderWrite(t *testing.T) {
	f, err := openFolder(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for _, text := range []string{"first, and longer", "second"} {
		if err := f.write("ca.pem", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.join("ca.pem"))
		if err != nil || string(b) != text {
			t.Errorf("got %q, %v", b, err)
		}
	}
	if left, _ := filepath.Glob(f.join("*.new")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
