package edge

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// disk is what the agent needs of a folder; names are relative to it. Tests
// make it fail.
type disk interface {
	Open(name string, flag int) (file, error)
	Rename(from, to string) error
	Remove(name string) error
	List() ([]string, error) // in order
	Sync() error             // makes creations, renames and removals durable
}

type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	Size() (int64, error)
}

// folder is a disk in the file system. Nothing outside of it can be reached.
type folder struct{ root *os.Root }

// openFolder opens a folder, which it makes if it does not exist. Only its
// owner may enter it.
func openFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &folder{root}, nil
}

func (f *folder) Close() error { return f.root.Close() }

func (f *folder) Open(name string, flag int) (file, error) {
	h, err := f.root.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return handle{h}, nil
}

func (f *folder) Rename(from, to string) error { return f.root.Rename(from, to) }
func (f *folder) Remove(name string) error     { return f.root.Remove(name) }

func (f *folder) List() ([]string, error) {
	h, err := f.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer h.Close() //nolint:errcheck // read only
	names, err := h.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (f *folder) Sync() error {
	h, err := f.root.Open(".")
	if err != nil {
		return err
	}
	defer h.Close() //nolint:errcheck // read only
	return h.Sync()
}

type handle struct{ *os.File }

func (h handle) Size() (int64, error) {
	fi, err := h.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// newSuffix marks a file that is being written. After a crash it means nothing.
const newSuffix = ".new"

// writeAtomic replaces a file: after a crash it holds the old content or the
// new one, and after a return without an error the new one.
func writeAtomic(d disk, name string, content []byte) error {
	temp := name + newSuffix
	if err := writeNew(d, temp, content); err != nil {
		return errors.Join(err, ignoreMissing(d.Remove(temp))) // a full disk needs the room
	}
	if err := d.Rename(temp, name); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}

func writeNew(d disk, name string, content []byte) error {
	f, err := d.Open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// readFile returns a file's content, or an error that is fs.ErrNotExist. A
// file larger than max is an error.
func readFile(d disk, name string, max int64) ([]byte, error) {
	f, err := d.Open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > max {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d it may have", name, size, max)
	}
	return readRange(f, 0, size)
}

func readRange(f file, from, to int64) ([]byte, error) {
	b := make([]byte, to-from)
	if n, err := f.ReadAt(b, from); n < len(b) {
		return nil, err
	}
	return b, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
