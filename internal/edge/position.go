package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"strings"

	"github.com/keepmq/keepmq/internal/errs"
)

// A position says how far the uplink has come. All readings up to Completed
// are done with. The server has taken those in Received, which are above it,
// and has not been told yet that it may forget their packet ids.
type position struct {
	Version   int      `json:"version"`
	Completed uint64   `json:"completed"`
	Received  []uint64 `json:"received"`
}

const (
	positionFile    = "position"
	positionVersion = 1
	maxPosition     = 64 << 10
)

// encode returns two lines: the position and the checksum of that line.
func (p position) encode() ([]byte, error) {
	p.Version = positionVersion
	line, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s\n%08x\n", line, crc32.Checksum(line, crc32.MakeTable(crc32.Castagnoli))), nil
}

func decodePosition(b []byte) (position, error) {
	line, sum, ok := strings.Cut(string(b), "\n")
	if !ok || sum != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli))) {
		return position{}, errors.New("the checksum is wrong")
	}
	var p position
	if err := json.Unmarshal([]byte(line), &p); err != nil {
		return position{}, err
	}
	if p.Version != positionVersion {
		return position{}, fmt.Errorf("version %d is not known to this program", p.Version)
	}
	slices.Sort(p.Received)
	p.Received = slices.Compact(p.Received)
	switch n := len(p.Received); {
	case n > window:
		return position{}, fmt.Errorf("%d readings are under way, more than %d", n, window)
	case n > 0 && (p.Received[0] <= p.Completed || p.Received[n-1]-p.Completed > window):
		return position{}, errors.New("the readings under way do not follow those that are done")
	}
	return p, nil
}

// loadPosition reads the position; none yet is the beginning. A damaged one is
// an error: to go on from the beginning would publish readings twice.
func loadPosition(d disk) (position, error) {
	b, err := readFile(d, positionFile, maxPosition)
	if errors.Is(err, fs.ErrNotExist) {
		return position{}, nil
	}
	if err != nil {
		return position{}, fmt.Errorf("read spool position: %w", err)
	}
	p, err := decodePosition(b)
	if err != nil {
		return position{}, errs.Wrap(errs.Internal, err, "the file "+positionFile+
			" in the spool is damaged; remove it to send all that the spool holds, some of it perhaps a second time")
	}
	return p, nil
}
