package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keepmq/keepmq/internal/errs"
)

// formatVersion is the version of the data folder's layout. Never change what a
// version means: add the next.
const formatVersion = 1

// A folder is the data folder, held by this process alone.
type folder struct {
	path string
	lock *os.File
}

// openFolder makes the data folder if it is not there, and holds it. Nobody
// else may read it: it contains the master key.
func openFolder(path string) (*folder, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, folderError(path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, folderError(path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, errs.E(errs.Invalid, "data folder %s: others may read or write it (mode %04o); run: chmod 700 %s", path, info.Mode().Perm(), path)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, folderError(path, err)
	}
	f := &folder{path: path, lock: lock}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errs.E(errs.Conflict, "data folder %s: another keepmq is using it; stop that one, or name another folder with --data", path)
		}
		return nil, folderError(path, err)
	}
	if err := f.checkFormat(); err != nil {
		lock.Close()
		return nil, err
	}
	return f, nil
}

func (f *folder) close() error { return f.lock.Close() }

func (f *folder) join(name string) string { return filepath.Join(f.path, name) }

// checkFormat refuses a folder of a newer program, and marks a new one.
func (f *folder) checkFormat() error {
	b, err := os.ReadFile(f.join("format"))
	if errors.Is(err, fs.ErrNotExist) {
		return f.write("format", []byte(strconv.Itoa(formatVersion)+"\n"), 0o600)
	}
	if err != nil {
		return folderError(f.path, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil || n < 1:
		return errs.E(errs.Invalid, "data folder %s: the file format is damaged; restore a backup", f.path)
	case n > formatVersion:
		return errs.E(errs.Invalid, "data folder %s: it was written by a newer KeepMQ (format %d, this program knows %d); start the newer program, or restore a backup of before", f.path, n, formatVersion)
	}
	return nil
}

// write replaces a file of the folder, wholly or not at all.
func (f *folder) write(name string, b []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(f.path, name+".*.new")
	if err != nil {
		return folderError(f.path, err)
	}
	defer os.Remove(tmp.Name()) // does nothing once it is renamed
	_, err = tmp.Write(b)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), f.join(name))
	}
	if err == nil {
		err = syncFolder(f.path)
	}
	if err != nil {
		return folderError(f.path, err)
	}
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// folderError says what the operator can do about an error of the data folder.
func folderError(path string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return errs.Wrap(errs.Unavailable, err, fmt.Sprintf("data folder %s: the disk is full; make room and start again, nothing is lost", path))
	case errors.Is(err, syscall.EROFS):
		return errs.Wrap(errs.Unavailable, err, fmt.Sprintf("data folder %s: the file system is read-only; mount it writable, or name another folder with --data", path))
	case errors.Is(err, fs.ErrPermission):
		return errs.Wrap(errs.Denied, err, fmt.Sprintf("data folder %s: not allowed to write there; change its owner, or name another folder with --data", path))
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return errs.Wrap(errs.Invalid, err, fmt.Sprintf("data folder %s: there is a file of that name", path))
	}
	return fmt.Errorf("data folder %s: %w", path, err)
}
