package edge

import (
	"fmt"
	"os"
)

// write appends the batch to the last segment and syncs it.
func (s *spool) write(batch []reading) error {
	s.mu.Lock()
	next := s.next
	var g segment
	if n := len(s.segments); n > 0 {
		g = s.segments[n-1]
	}
	fresh := g.first == 0 || s.rotate || g.size >= s.segmentLimit
	s.mu.Unlock()
	if fresh {
		s.closeTail()
		g = segment{first: next, last: next - 1}
	}
	var buf []byte
	for _, r := range batch {
		rec := record{seq: next, source: r.source, payload: r.payload}
		n := len(buf)
		buf = appendRecord(buf, rec)
		g.add(rec, len(buf)-n)
		next++
	}
	if err := s.writeTail(g, buf, fresh); err != nil {
		s.abandonTail(fresh)
		return fmt.Errorf("write spool: %w", err)
	}
	if fresh {
		g.size += int64(len(segmentMagic))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if fresh {
		s.segments, s.rotate = append(s.segments, g), false
	} else {
		s.segments[len(s.segments)-1] = g
	}
	s.next = next
	return nil
}

// writeTail writes buf so that the file then is as long as g says.
func (s *spool) writeTail(g segment, buf []byte, fresh bool) error {
	offset := g.size - int64(len(buf))
	if fresh {
		buf, offset = append([]byte(segmentMagic), buf...), 0
	}
	if s.tail == nil {
		flag := os.O_RDWR
		if fresh {
			flag |= os.O_CREATE | os.O_TRUNC
		}
		f, err := s.disk.Open(g.name(), flag)
		if err != nil {
			return err
		}
		s.tail = f
	}
	if _, err := s.tail.WriteAt(buf, offset); err != nil {
		return err
	}
	if err := s.tail.Sync(); err != nil {
		return err
	}
	if fresh {
		return s.disk.Sync()
	}
	return nil
}

// abandonTail gives up a segment that could not be written. What of it reached
// the disk is not known after a failed sync, so it is cut off and the next
// append makes a new segment.
func (s *spool) abandonTail(fresh bool) {
	s.closeTail()
	s.mu.Lock()
	s.rotate = true
	next := s.next
	var g segment
	if n := len(s.segments); n > 0 {
		g = s.segments[n-1]
	}
	s.mu.Unlock()
	var err error
	if fresh {
		err = ignoreMissing(s.disk.Remove(segment{first: next}.name()))
	} else {
		err = cut(s.disk, g)
	}
	if err != nil { // recovery cuts it: its records have the numbers of the next segment
		s.log.Warn("spool: a failed write could not be taken back", "err", err)
	}
}

func (s *spool) closeTail() {
	if s.tail != nil {
		if err := s.tail.Close(); err != nil {
			s.log.Warn("spool: close segment", "err", err)
		}
		s.tail = nil
	}
}

func (s *spool) close() {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.closeTail()
}
