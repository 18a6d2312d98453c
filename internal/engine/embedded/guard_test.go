package embedded

import (
	"errors"
	"log/slog"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// unallocated is a file of a file system that cannot set room aside.
type unallocated struct{ vfs.File }

func (unallocated) Preallocate(_, _ int64) error { return syscall.EOPNOTSUPP }

// Setting room aside is an attempt: that it fails is no failure of the store.
func TestPreallocateMayFail(t *testing.T) {
	fs := vfs.NewMem()
	f, err := fs.Create("000001.log", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	h := newHealth(slog.New(slog.DiscardHandler))
	g := &guard{fs: fs, h: h}
	g.armed.Store(true)
	guarded := &guardedFile{f: unallocated{f}, g: g, name: "000001.log"}
	result := make(chan error, 1)
	go func() { result <- guarded.Preallocate(0, 1<<20) }()
	select {
	case err := <-result:
		if !errors.Is(err, syscall.EOPNOTSUPP) {
			t.Errorf("got %v", err)
		}
	case <-h.failing():
		t.Fatalf("the store has failed: %v", h.failure())
	}
	if err := h.failure(); err != nil {
		t.Error(err)
	}
}
