package edge

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// segmentMagic opens every segment; its digit is the version of the format.
const segmentMagic = "KMQSPL1\n"

const segmentSuffix = ".seg"

// A segment is a file of records with rising numbers.
type segment struct {
	first uint64 // no record has a lower number; names the file
	last  uint64 // of the last record; first-1 if there is none
	size  int64  // what is durable and valid; the file may be longer
	lost  uint64 // readings gone with the segment if it is dropped
}

func (s segment) name() string { return fmt.Sprintf("%020d%s", s.first, segmentSuffix) }

func (s segment) empty() bool { return s.last < s.first }

// add counts one record in.
func (s *segment) add(r record, size int) {
	s.last = r.seq
	s.size += int64(size)
	s.lost += weight(r)
}

// weight is how many readings are lost with r: an event that reports a loss
// stands for those it reports.
func weight(r record) uint64 {
	var e struct{ Count uint64 }
	if r.source == sourceDropped && json.Unmarshal(r.payload, &e) == nil {
		return e.Count
	}
	return 1
}

// segmentFirst returns the number in a segment's file name.
func segmentFirst(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0
}

// scanSegment reads a whole segment, whose numbers must be below before. Torn
// is true if bytes follow the last valid record; they are for the caller to
// cut off.
func scanSegment(d disk, first, before uint64) (s segment, torn bool, err error) {
	s = segment{first: first, last: first - 1}
	f, err := d.Open(s.name(), os.O_RDONLY)
	if err != nil {
		return s, false, err
	}
	defer f.Close() //nolint:errcheck // read only
	size, err := f.Size()
	if err != nil {
		return s, false, err
	}
	b, err := readRange(f, 0, size)
	if err != nil {
		return s, false, fmt.Errorf("read %s: %w", s.name(), err)
	}
	if !bytes.HasPrefix(b, []byte(segmentMagic)) {
		if bytes.HasPrefix(b, []byte("KMQSPL")) && len(b) >= len(segmentMagic) && b[len("KMQSPL")] > '1' {
			return s, false, fmt.Errorf("%s: %w", s.name(), errVersion)
		}
		return s, true, nil // it was being made
	}
	s.size = int64(len(segmentMagic))
	for b = b[s.size:]; len(b) > 0; {
		r, n, err := decodeRecord(b)
		if errors.Is(err, errVersion) {
			return s, false, fmt.Errorf("%s: %w", s.name(), err)
		}
		if err != nil || r.seq <= s.last && !s.empty() || r.seq < s.first || r.seq >= before {
			return s, true, nil
		}
		s.add(r, n)
		b = b[n:]
	}
	return s, false, nil
}

// readSegment returns at most max records numbered from..upTo, reading from
// offset, and the offset that follows them.
func readSegment(d disk, s segment, offset int64, from, upTo uint64, max int) ([]record, int64, error) {
	f, err := d.Open(s.name(), os.O_RDONLY)
	if err != nil {
		return nil, offset, err
	}
	defer f.Close() //nolint:errcheck // read only
	var out []record
	for len(out) < max && offset < s.size {
		b, err := readRange(f, offset, min(s.size, offset+readSize))
		if err != nil {
			return out, offset, fmt.Errorf("read %s: %w", s.name(), err)
		}
		used := 0
		for len(out) < max {
			r, n, err := decodeRecord(b[used:])
			if err != nil {
				if used == 0 {
					return out, offset, fmt.Errorf("%s at byte %d: %w", s.name(), offset, err)
				}
				break // the next read begins with it
			}
			if r.seq > upTo {
				return out, offset + int64(used), nil
			}
			if used += n; r.seq >= from {
				out = append(out, r)
			}
			if used == len(b) {
				break
			}
		}
		offset += int64(used)
	}
	return out, offset, nil
}

// readSize is more than the largest record.
const readSize = 2 * maxBody
