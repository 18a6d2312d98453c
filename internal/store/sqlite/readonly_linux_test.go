package sqlite

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// asNobody runs fn without the right to write where only root may: the tests may
// run as root, whom no mode stops.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		fn()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		const nobody = 65534
		if err := syscall.Setfsuid(nobody); err != nil {
			t.Error(err)
			return
		}
		fn()
	}()
	<-done
}

// reachable opens the folders above dir for everybody.
func reachable(t *testing.T, dir string, mode os.FileMode) {
	t.Helper()
	for d := filepath.Dir(dir); d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
}

func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	reachable(t, dir, 0o555)
	asNobody(t, func() {
		_, err := Open(t.Context(), filepath.Join(dir, "keepmq.db"))
		refused(t, err, "cannot be written")
	})
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestReadOnlyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keepmq.db")
	if err := newDB(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	reachable(t, dir, 0o755)
	asNobody(t, func() {
		_, err := Open(t.Context(), path)
		refused(t, err, "cannot be written")
	})
}
