package floor

import (
	"encoding/binary"
	"net"
)

// records lies between a connection and TLS. It hands over one TLS record at a
// time and knows whether the next has begun to arrive, so that a reader with
// more to do need not flush yet. Only the reader uses it.
type records struct {
	net.Conn
	ahead []byte
	i, n  int // ahead[i:n] was read and not handed over
	left  int // bytes of the record that was begun
}

// recordHeader is the size of a TLS record's header, whose last two bytes are
// the length of what follows.
const recordHeader = 5

// Read hands over bytes of one record.
func (r *records) Read(p []byte) (int, error) {
	if r.left == 0 {
		if err := r.fill(recordHeader); err != nil {
			return 0, err
		}
		r.left = recordHeader + int(binary.BigEndian.Uint16(r.ahead[r.i+recordHeader-2:]))
	}
	if err := r.fill(1); err != nil {
		return 0, err
	}
	n := copy(p, r.ahead[r.i:min(r.n, r.i+r.left)])
	r.i += n
	r.left -= n
	return n, nil
}

// fill reads until n bytes are there, which is never more than a header. A
// buffer that was full is too small.
func (r *records) fill(n int) error {
	if r.n-r.i >= n {
		return nil
	}
	have := r.ahead[r.i:r.n]
	if len(r.ahead) == 0 || r.n == len(r.ahead) && r.n < fullRead {
		r.ahead = make([]byte, max(firstRead, 2*len(r.ahead)))
	}
	r.n = copy(r.ahead, have)
	for r.i = 0; r.n < n; {
		k, err := r.Conn.Read(r.ahead[r.n:])
		if r.n += k; err != nil && r.n < n {
			return err
		}
	}
	return nil
}

// more reports whether another record has begun to arrive.
func (r *records) more() bool { return r.n > r.i }
