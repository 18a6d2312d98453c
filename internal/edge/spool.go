package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
)

// window is how many readings may be under way to the server at once. What is
// within the window behind the durable position may have been sent, also by a
// process that has crashed since: it is never dropped, and its numbers are
// never used again.
const window = 256

// segmentsAtLeast is into how many segments a full spool is divided. The
// oldest one is dropped as a whole.
const segmentsAtLeast = 16

const maxSegment = 4 << 20

// A spool keeps readings in order on disk until the server has them.
//
// Durability: append returns when its whole batch is synced, and only then can
// any of it be read; a batch is one interval's readings, so a crash loses at
// most the interval that was being written. The folder is synced when a
// segment is made. Opening cuts off what a crash left half written.
//
// What cannot be kept, because the spool or the disk is full, is counted, and
// the count is a reading of its own as soon as one can be written.
type spool struct {
	disk         disk
	limit        int64
	segmentLimit int64
	log          *slog.Logger
	wake         chan struct{} // told when there is something new to read
	protect      atomic.Uint64 // the durable position: see window
	cursor       cursor        // of the one reader

	commit sync.Mutex // a committer's own: held by append over its I/O
	tail   file       // guarded by commit; nil: the next append makes a segment

	mu       sync.Mutex // guards the fields below
	segments []segment  // in order; append writes to the last
	doomed   []segment  // dropped; their files go when the loss is on disk
	next     uint64     // the number of the next reading
	losses   map[string]uint64
	rotate   bool // the last segment must not be written to any more
}

// A reading is what append keeps.
type reading struct {
	source  string
	payload []byte
}

// openSpool opens a spool and the position of its uplink.
func openSpool(d disk, limit int64, log *slog.Logger) (*spool, position, error) {
	p, err := loadPosition(d)
	if err != nil {
		return nil, p, err
	}
	s := &spool{
		disk: d, limit: limit, segmentLimit: min(maxSegment, limit/segmentsAtLeast), log: log,
		wake: make(chan struct{}, 1), next: p.Completed + 1, losses: map[string]uint64{},
	}
	if n := len(p.Received); n > 0 {
		s.next = p.Received[n-1] + 1
	}
	if err := s.recover(); err != nil {
		return nil, p, fmt.Errorf("open spool: %w", err)
	}
	s.protect.Store(p.Completed)
	s.release(p.Completed)
	return s, p, nil
}

// recover finds the segments and cuts off what is not whole.
func (s *spool) recover() error {
	names, err := s.disk.List()
	if err != nil {
		return err
	}
	var firsts []uint64
	for _, name := range names {
		if n, ok := segmentFirst(name); ok {
			firsts = append(firsts, n)
		} else if strings.HasSuffix(name, newSuffix) {
			if err := s.disk.Remove(name); err != nil {
				return err
			}
		}
	}
	for i, first := range firsts {
		before := uint64(math.MaxUint64)
		if i+1 < len(firsts) {
			before = firsts[i+1]
		}
		if err := s.recoverSegment(first, before); err != nil {
			return err
		}
	}
	return nil
}

func (s *spool) recoverSegment(first, before uint64) error {
	g, torn, err := scanSegment(s.disk, first, before)
	if err != nil {
		return err
	}
	isLast := before == math.MaxUint64
	if !isLast && before > g.last+1 && torn {
		s.lose(lossDamaged, before-g.last-1)
	}
	s.next = max(s.next, g.last+1)
	if torn && isLast {
		// Should the bytes have been whole once, the server may know the
		// numbers that were in them.
		s.next += window
	}
	if g.empty() {
		return s.disk.Remove(g.name()) // append would make it again
	}
	if torn {
		s.log.Warn("spool: cut off what was not written whole", "segment", g.name(), "bytes_kept", g.size)
		if err := cut(s.disk, g); err != nil {
			return err
		}
	}
	s.segments = append(s.segments, g)
	return nil
}

// cut makes the file as long as its segment.
func cut(d disk, g segment) error {
	f, err := d.Open(g.name(), os.O_RDWR)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(g.size), f.Sync(), f.Close())
}

// Why readings are lost.
const (
	lossFull     = "spool full"
	lossDisk     = "disk error"
	lossDamaged  = "spool damaged"
	lossRejected = "rejected by the server"
)

// lose counts readings that are gone. The count is a reading of the next append.
func (s *spool) lose(reason string, n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.losses[reason] += n
}

// append makes the readings durable, together with an event for each reason
// for which readings have been lost. After an error the readings are lost and
// counted.
func (s *spool) append(now time.Time, readings []reading) error {
	s.commit.Lock()
	defer s.commit.Unlock()
	for _, r := range readings {
		if !storable(r.source, r.payload) {
			s.lose(lossDisk, uint64(len(readings)))
			return errs.E(errs.Invalid, "a reading of source %q cannot be stored: it has %d bytes", r.source, len(r.payload))
		}
	}
	if err := s.commitBatch(now, readings); err != nil {
		s.lose(lossDisk, uint64(len(readings)))
		return err
	}
	return nil
}

func (s *spool) commitBatch(now time.Time, readings []reading) error {
	size := int64(0)
	for _, r := range readings {
		size += int64(recordHead + recordFixed + len(r.source) + len(r.payload))
	}
	s.makeRoom(size)
	reported, doomed := s.unreported()
	batch := append(lossReadings(now, reported), readings...)
	if len(batch) == 0 {
		return nil
	}
	err := s.write(batch)
	if err == nil {
		s.forget(reported)
	}
	// Not before the event of their loss is written, so that a crash hides
	// nothing; but on a full disk they may be what keeps it from being written.
	s.remove(doomed)
	if err != nil {
		return err
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// makeRoom drops the oldest segments until size bytes fit.
func (s *spool) makeRoom(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes()+size > s.limit {
		done := s.protect.Load()
		i := slices.IndexFunc(s.segments, func(g segment) bool { return g.first > done+window || g.last <= done })
		if i < 0 || i >= len(s.segments)-1 {
			return // only what may be under way, and the segment being written: a little above the limit
		}
		g := s.segments[i]
		if g.last > done {
			s.losses[lossFull] += g.lost
		}
		s.doomed = append(s.doomed, g)
		s.segments = slices.Delete(s.segments, i, i+1)
		s.log.Warn("spool: full, dropped the oldest readings", "readings", g.lost)
	}
}

func (s *spool) bytes() (n int64) {
	for _, g := range s.segments {
		n += g.size
	}
	return n
}

// unreported returns the losses that are not on disk yet, and the segments
// whose files can go then.
func (s *spool) unreported() (map[string]uint64, []segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	doomed := s.doomed
	s.doomed = nil
	return maps.Clone(s.losses), doomed
}

// forget is called when the losses are on disk as readings.
func (s *spool) forget(reported map[string]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for reason, n := range reported {
		if s.losses[reason] -= n; s.losses[reason] == 0 {
			delete(s.losses, reason)
		}
	}
}

func (s *spool) remove(gone []segment) {
	for _, g := range gone {
		if err := ignoreMissing(s.disk.Remove(g.name())); err != nil {
			s.log.Warn("spool: a segment that is done with stays", "segment", g.name(), "err", err)
		}
	}
}
