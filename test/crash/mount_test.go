package crash

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// root reports whether file systems can be mounted. Who runs the tests without
// that right has TestWritesFail in place of what needs a disk of its own.
func root(t *testing.T) bool {
	if os.Geteuid() != 0 {
		t.Log("not root: no disk can be made; TestWritesFail covers failing writes")
		return false
	}
	return true
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// ramDisk mounts a small disk and returns a data folder on it.
func ramDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm", mib), "keepmq-test", dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return filepath.Join(dir, "data")
}

// A disk is a file with an ext4 file system in it, mounted.
type disk struct {
	t           testing.TB
	image, path string
}

func newDisk(t *testing.T, mib int64) *disk {
	t.Helper()
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "image"), path: t.TempDir()}
	f, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(f.Truncate(mib<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", d.image)
	d.mount()
	t.Cleanup(func() { _ = unix.Unmount(d.path, unix.MNT_DETACH) })
	return d
}

func (d *disk) data() string { return filepath.Join(d.path, "data") }

func (d *disk) mount() { run(d.t, "mount", "-o", "loop", d.image, d.path) }

// cut cuts the disk off from its power: nothing more is written, neither data
// nor journal.
func (d *disk) cut() {
	d.t.Helper()
	f, err := os.Open(d.path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	const ext4Shutdown, noLogFlush = 0x8004587d, 2
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		d.t.Fatalf("cut %s: %v", d.path, errno)
	}
}

// again mounts the disk as the machine does when its power is back.
func (d *disk) again() {
	d.t.Helper()
	run(d.t, "umount", d.path)
	d.mount()
}

// fill takes all room on the disk of dir but so many bytes.
func fill(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	name := filepath.Join(filepath.Dir(dir), "filler")
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := int64(st.Bavail)*st.Bsize - leave
	if leave == 0 {
		want += 64 << 20 // whatever is freed meanwhile, too
	}
	if _, err := io.CopyN(f, zeros{}, want); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
