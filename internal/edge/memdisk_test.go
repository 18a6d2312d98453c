package edge

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
)

var errKilled = errors.New("killed")

// memDisk is a disk in memory that forgets at a crash what was not synced, and
// that can fail at any operation.
type memDisk struct {
	mu    sync.Mutex
	live  map[string]*memFile // what the process sees
	kept  map[string]*memFile // the names that survive a crash
	ops   int
	fail  func(op int, what string) error // nil: nothing fails
	limit int                             // bytes that fit; 0: any
}

type memFile struct{ data, kept []byte }

func newMemDisk() *memDisk {
	return &memDisk{live: map[string]*memFile{}, kept: map[string]*memFile{}}
}

// step counts an operation, which may fail.
func (d *memDisk) step(what string) error {
	d.ops++
	if d.fail != nil {
		return d.fail(d.ops, what)
	}
	return nil
}

// crash returns what a machine finds after it lost power: synced content, and
// of the rest as much as the disk happened to have written.
func (d *memDisk) crash(r *rand.Rand) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.kept
	if r.IntN(2) == 0 {
		names = d.live
	}
	n := newMemDisk()
	for name, f := range names {
		data := slices.Clone(f.kept)
		if len(f.data) > len(data) && slices.Equal(f.data[:len(data)], data) {
			data = append(data, f.data[len(data):len(data)+r.IntN(len(f.data)-len(data)+1)]...)
		}
		n.live[name] = &memFile{data, slices.Clone(data)}
	}
	for name, f := range n.live {
		n.kept[name] = f
	}
	return n
}

func (d *memDisk) used() (n int) {
	for _, f := range d.live {
		n += len(f.data)
	}
	return n
}

func (d *memDisk) Open(name string, flag int) (file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("open " + name); err != nil {
		return nil, err
	}
	f, ok := d.live[name]
	if !ok {
		if flag&os.O_CREATE == 0 {
			return nil, fs.ErrNotExist
		}
		f = &memFile{}
		d.live[name] = f
	}
	if flag&os.O_TRUNC != 0 {
		f.data = nil
	}
	return &memHandle{d, f, name}, nil
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("rename " + to); err != nil {
		return err
	}
	f, ok := d.live[from]
	if !ok {
		return fs.ErrNotExist
	}
	delete(d.live, from)
	d.live[to] = f
	return nil
}

func (d *memDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("remove " + name); err != nil {
		return err
	}
	if _, ok := d.live[name]; !ok {
		return fs.ErrNotExist
	}
	delete(d.live, name)
	return nil
}

func (d *memDisk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name := range d.live {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, d.step("list")
}

func (d *memDisk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("sync folder"); err != nil {
		return err
	}
	d.kept = map[string]*memFile{}
	for name, f := range d.live {
		d.kept[name] = f
	}
	return nil
}

type memHandle struct {
	d    *memDisk
	f    *memFile
	name string
}

func (h *memHandle) ReadAt(b []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if off >= int64(len(h.f.data)) {
		return 0, io.EOF
	}
	n := copy(b, h.f.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes a part of b when it fails, as a disk does.
func (h *memHandle) WriteAt(b []byte, off int64) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	err := h.d.step("write " + h.name)
	if grown := int(off) + len(b) - len(h.f.data); err == nil && h.d.limit > 0 && h.d.used()+grown > h.d.limit {
		err = syscall.ENOSPC
	}
	if err != nil {
		b = b[:len(b)/2]
	}
	if need := int(off) + len(b); need > len(h.f.data) {
		h.f.data = append(h.f.data, make([]byte, need-len(h.f.data))...)
	}
	h.f.data = slices.Clone(h.f.data)
	copy(h.f.data[off:], b)
	return len(b), err
}

func (h *memHandle) Truncate(size int64) error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.step("truncate " + h.name); err != nil {
		return err
	}
	h.f.data = slices.Clone(h.f.data[:size])
	return nil
}

func (h *memHandle) Sync() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.d.step("sync " + h.name); err != nil {
		return err
	}
	h.f.kept = slices.Clone(h.f.data)
	return nil
}

func (h *memHandle) Size() (int64, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	return int64(len(h.f.data)), nil
}

func (h *memHandle) Close() error { return nil }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func openTestSpool(t *testing.T, d disk, limit int64) (*spool, position) {
	t.Helper()
	s, p, err := openSpool(d, limit, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}
