package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/keepmq/keepmq/internal/auth"
)

// storeFormat is the version of all that is in a folder. It is raised when a
// version of keys or records is added, so that an older KeepMQ refuses the
// folder rather than overlook what it does not know. Format 2 has what the
// queue of a session may hold in bytes, and how much each organisation retains.
const storeFormat = 2

// pebbleFormat is the version of Pebble's own files. It is raised on purpose,
// not by an upgrade of the library.
const pebbleFormat = pebble.FormatWALSyncChunks

// epochBits is how many numbers one run of the engine has to give. Every run
// begins a new epoch, so that no number is ever given twice, whatever the last
// run could not tell.
const epochBits = 40

const advice = "start the version of KeepMQ that wrote it, or restore a backup made by this version"

// openStore opens the Pebble store.
func (e *Engine) openStore() error {
	g := &guard{fs: e.fs, h: e.health}
	o := &pebble.Options{
		FS:                          g,
		CacheSize:                   e.limits.Cache,
		MemTableSize:                32 << 20,
		MemTableStopWritesThreshold: 4,
		FormatMajorVersion:          pebbleFormat,
		Logger:                      pebbleLogger{e.health},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				e.health.background(err)
				e.sweeper.collect() // it looks whether a full disk has room again
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				// Not i itself, which prints pages of stack, and keys.
				e.health.fail(fmt.Errorf("the file %s is damaged; put back a backup of the data folder: %w", i.Path, i.Details))
			},
			WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
				e.log.Warn("the message store cannot keep up; publishers wait", "why", i.Reason)
			},
		},
	}
	// What is sealed cannot be compressed, and the keys beside it are short.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	db, err := pebble.Open(e.dir, o)
	if err != nil {
		return openError(err)
	}
	e.db = db
	err = errors.Join(e.health.failure(), e.beginEpoch())
	g.armed.Store(true)
	if err != nil {
		return errors.Join(err, e.closeStore())
	}
	e.checkSpace()
	return nil
}

// openError says what can be done about a store that cannot be opened.
func openError(err error) error {
	var system syscall.Errno
	switch {
	case strings.Contains(err.Error(), "unknown format major version"):
		return fmt.Errorf("the folder was written by a newer version: %s: %w", advice, err)
	case errors.As(err, &system) && system != syscall.ENOENT: // the disk or the lock, not what is in the files
		return err
	}
	return fmt.Errorf("the store is damaged; put back a backup of the data folder: %w", err)
}

// beginEpoch checks the format of the folder and begins a new epoch of numbers.
func (e *Engine) beginEpoch() error {
	format, err := e.metaNumber("format")
	if err != nil {
		return err
	}
	if format > storeFormat {
		return fmt.Errorf("the folder has message format %d, and this version knows formats up to %d: %s", format, storeFormat, advice)
	}
	epoch, err := e.metaNumber("epoch")
	if err != nil {
		return err
	}
	epoch++
	if epoch >= 1<<(64-epochBits) {
		return errors.New("the folder was opened too often: no numbers are left")
	}
	b := e.db.NewBatch()
	defer b.Close()
	if format < 2 {
		if err := e.countRetained(b); err != nil {
			return err
		}
	}
	for name, v := range map[string]uint64{"format": storeFormat, "epoch": epoch} {
		if err := b.Set(metaKey(name), binary.BigEndian.AppendUint64(nil, v), nil); err != nil {
			return err
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	if err := e.health.failure(); err != nil {
		return err
	}
	e.numbers.Store(epoch << epochBits)
	return nil
}

// countRetained counts the retained messages of a folder that has them uncounted.
func (e *Engine) countRetained(b *pebble.Batch) error {
	totals := map[auth.OrgID]retainedTotals{}
	err := e.each(context.Background(), keyRetained, func(k parsedKey, v []byte) error {
		rec, err := parseSealed(v)
		t := totals[k.org]
		totals[k.org] = retainedTotals{t.count + 1, t.bytes + retainedSize(string(k.rest), rec.sealed)}
		return err
	})
	if err != nil {
		return fmt.Errorf("count retained messages: %w", err)
	}
	for org, t := range totals {
		if err := b.Set(orgKey(nil, keyTotals, org), t.append(nil), nil); err != nil {
			return err
		}
	}
	return nil
}

// metaNumber returns a number that concerns the whole store, 0 if it is not there.
func (e *Engine) metaNumber(name string) (uint64, error) {
	v, closer, err := e.db.Get(metaKey(name))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	defer closer.Close()
	r := reader{b: v}
	n := r.uint64()
	return n, r.end()
}

// closeStore closes the store. One that has failed is left to the end of the
// process: goroutines of it stand still, and may hold its locks.
func (e *Engine) closeStore() error {
	closed := make(chan error, 1)
	if err := e.health.failure(); err != nil {
		return err
	}
	go func() { closed <- e.db.Close() }()
	select {
	case err := <-closed:
		return errors.Join(err, e.health.failure())
	case <-e.health.failing():
		return e.health.failure()
	}
}

// checkSpace looks whether there is room on the disk, before it is too late: a
// store that meets a full disk while it writes has failed.
func (e *Engine) checkSpace() {
	u, err := e.fs.GetDiskUsage(e.dir)
	if err != nil {
		return // not every file system can tell
	}
	reserve := uint64(e.limits.Reserve)
	if e.health.full.Load() {
		reserve += reserve / 4 // so that it does not go to and fro
	}
	if full := u.AvailBytes < reserve; e.health.setFull(full, u.AvailBytes) && full {
		e.sweeper.collect() // it looks again from time to time
	}
}
