package edge

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// cursor remembers where the last read ended.
type cursor struct {
	segment uint64
	offset  int64
	seq     uint64
}

// read returns at most max readings numbered from..upTo, in order; none if
// there is none yet. Only one goroutine may read.
func (s *spool) read(from, upTo uint64, max int) ([]record, error) {
	for {
		g, ok := s.segmentWith(from)
		if !ok || g.first > upTo {
			return nil, nil
		}
		offset := int64(len(segmentMagic))
		if s.cursor.segment == g.first && s.cursor.seq <= from {
			offset = s.cursor.offset
		}
		got, offset, err := readSegment(s.disk, g, offset, from, upTo, max)
		last := from - 1
		if len(got) > 0 {
			last = got[len(got)-1].seq
		}
		switch {
		case errors.Is(err, errTorn):
			if err := s.cutDamage(g, last, offset, err); err != nil {
				return nil, err
			}
		case errors.Is(err, fs.ErrNotExist) && !s.has(g):
			continue // dropped in the meantime
		case err != nil:
			return nil, fmt.Errorf("read spool: %w", err)
		case len(got) == 0:
			return nil, nil // those that are left are above upTo
		}
		if len(got) > 0 {
			s.cursor = cursor{g.first, offset, last + 1}
			return got, nil
		}
	}
}

// nextSeq returns the number of the next reading.
func (s *spool) nextSeq() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// after returns the number of the first reading above seq.
func (s *spool) after(seq uint64) (uint64, bool, error) {
	got, err := s.read(seq+1, math.MaxUint64, 1)
	if err != nil || len(got) == 0 {
		return 0, false, err
	}
	return got[0].seq, true, nil
}

// segmentWith returns the first segment that holds readings numbered from or more.
func (s *spool) segmentWith(from uint64) (segment, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.segments, func(g segment) bool { return g.last >= from })
	if i < 0 {
		return segment{}, false
	}
	return s.segments[i], true
}

func (s *spool) has(g segment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.segments, func(h segment) bool { return h.first == g.first })
}

// cutDamage gives up what follows a record that the disk has not kept.
func (s *spool) cutDamage(g segment, last uint64, offset int64, cause error) error {
	s.commit.Lock() // no append may be under way in the segment
	defer s.commit.Unlock()
	s.mu.Lock()
	i := slices.IndexFunc(s.segments, func(h segment) bool { return h.first == g.first })
	if i < 0 {
		s.mu.Unlock()
		return nil
	}
	h := &s.segments[i]
	s.losses[lossDamaged] += h.last - last
	s.log.Error("spool: damaged on disk", "segment", g.name(), "readings", h.last-last, "err", cause)
	h.last, h.size = last, offset
	g = *h
	isTail := i == len(s.segments)-1
	s.rotate = s.rotate || isTail
	s.mu.Unlock()
	if isTail {
		s.closeTail()
	}
	if err := cut(s.disk, g); err != nil {
		return fmt.Errorf("cut damaged spool: %w", err)
	}
	return nil
}

// release forgets the segments whose readings are all done with. The last one
// stays: append writes to it.
func (s *spool) release(completed uint64) {
	var gone []segment
	s.mu.Lock()
	for len(s.segments) > 1 && s.segments[0].last <= completed {
		gone = append(gone, s.segments[0])
		s.segments = slices.Delete(s.segments, 0, 1)
	}
	s.mu.Unlock()
	s.remove(gone)
}

// savePosition makes p durable and then forgets what is done with.
func (s *spool) savePosition(p position) error {
	b, err := p.encode()
	if err != nil {
		return fmt.Errorf("encode spool position: %w", err)
	}
	if err := writeAtomic(s.disk, positionFile, b); err != nil {
		return fmt.Errorf("save spool position: %w", err)
	}
	s.protect.Store(p.Completed)
	s.release(p.Completed)
	return nil
}
