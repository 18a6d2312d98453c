package embedded

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// guard stands between Pebble and the disk. Pebble ends the process when it
// cannot write its log or its manifest, from places where a panic cannot be
// recovered, and after a failed manifest write it must not write another. So
// such an error does not reach it: the engine fails, which is what its callers
// are told, and the goroutine that met the error goes no further.
//
// Errors of other files do reach Pebble, which knows how to try again.
type guard struct {
	fs    vfs.FS
	h     *health
	armed atomic.Bool // false while the store is being opened: then errors are returned
}

var _ vfs.FS = (*guard)(nil)

// critical reports whether Pebble does not survive an error of a file.
func (g *guard) critical(name string) bool {
	base := g.fs.PathBase(name)
	return strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST-") || strings.HasPrefix(base, "marker.")
}

// check returns err, or never returns if Pebble must not see it.
func (g *guard) check(critical bool, what, name string, err error) error {
	if err == nil || !critical || !g.armed.Load() {
		return err
	}
	g.h.fail(fmt.Errorf("%s %s: %w", what, g.fs.PathBase(name), err))
	select {} // until the end of the process
}

func (g *guard) file(f vfs.File, name string, critical bool, what string, err error) (vfs.File, error) {
	if err = g.check(critical, what, name, err); err != nil || !critical {
		return f, err
	}
	return &guardedFile{f: f, g: g, name: name}, nil
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.fs.Create(name, c)
	return g.file(f, name, g.critical(name), "create", err)
}

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := g.fs.OpenReadWrite(name, c, o...)
	return g.file(f, name, g.critical(name), "open", err)
}

func (g *guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := g.fs.ReuseForWrite(from, to, c)
	return g.file(f, to, g.critical(to), "reuse", err)
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.fs.OpenDir(name)
	return g.file(f, name, true, "open", err)
}

func (g *guard) Rename(from, to string) error {
	return g.check(g.critical(to), "rename", to, g.fs.Rename(from, to))
}

func (g *guard) Link(from, to string) error {
	return g.check(g.critical(to), "link", to, g.fs.Link(from, to))
}

func (g *guard) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	return g.fs.Open(name, o...)
}
func (g *guard) Remove(name string) error                        { return g.fs.Remove(name) }
func (g *guard) RemoveAll(name string) error                     { return g.fs.RemoveAll(name) }
func (g *guard) MkdirAll(dir string, perm os.FileMode) error     { return g.fs.MkdirAll(dir, perm) }
func (g *guard) Lock(name string) (io.Closer, error)             { return g.fs.Lock(name) }
func (g *guard) List(dir string) ([]string, error)               { return g.fs.List(dir) }
func (g *guard) Stat(name string) (vfs.FileInfo, error)          { return g.fs.Stat(name) }
func (g *guard) PathBase(path string) string                     { return g.fs.PathBase(path) }
func (g *guard) PathJoin(elem ...string) string                  { return g.fs.PathJoin(elem...) }
func (g *guard) PathDir(path string) string                      { return g.fs.PathDir(path) }
func (g *guard) GetDiskUsage(path string) (vfs.DiskUsage, error) { return g.fs.GetDiskUsage(path) }
func (g *guard) Unwrap() vfs.FS                                  { return g.fs }

// A guardedFile is a file whose errors Pebble does not survive.
type guardedFile struct {
	f    vfs.File
	g    *guard
	name string
}

func (f *guardedFile) check(what string, err error) error {
	return f.g.check(true, what, f.name, err)
}

func (f *guardedFile) Write(p []byte) (int, error) {
	n, err := f.f.Write(p)
	return n, f.check("write", err)
}

func (f *guardedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(p, off)
	return n, f.check("write", err)
}

func (f *guardedFile) SyncTo(length int64) (bool, error) {
	full, err := f.f.SyncTo(length)
	return full, f.check("sync", err)
}

func (f *guardedFile) Sync() error     { return f.check("sync", f.f.Sync()) }
func (f *guardedFile) SyncData() error { return f.check("sync", f.f.SyncData()) }
func (f *guardedFile) Close() error    { return f.check("close", f.f.Close()) }

// Preallocate may fail: not every file system can, nor has the room. A file is
// written without it as well.
func (f *guardedFile) Preallocate(off, length int64) error { return f.f.Preallocate(off, length) }

func (f *guardedFile) Read(p []byte) (int, error)                { return f.f.Read(p) }
func (f *guardedFile) ReadAt(p []byte, off int64) (int, error)   { return f.f.ReadAt(p, off) }
func (f *guardedFile) Stat() (vfs.FileInfo, error)               { return f.f.Stat() }
func (f *guardedFile) Prefetch(offset int64, length int64) error { return f.f.Prefetch(offset, length) }
func (f *guardedFile) Fd() uintptr                               { return f.f.Fd() }
