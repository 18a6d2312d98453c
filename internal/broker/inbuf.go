package broker

import (
	"io"
	"sync"
)

// inbuf reads a connection. While nothing is under way it owns no more than a
// few bytes: whoever is idle costs little.
type inbuf struct {
	r     io.Reader
	small [256]byte
	buf   []byte // small[:], or a larger one
	i, n  int    // buf[i:n] has been read and not consumed
	lent  *[]byte
}

// chunk is the size of the pooled buffers.
const chunk = 8 << 10

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

func (b *inbuf) bytes() []byte { return b.buf[b.i:b.n] }

func (b *inbuf) skip(n int) { b.i += n }

// release gives back what is lent if everything is consumed.
func (b *inbuf) release() {
	if b.i < b.n {
		return
	}
	if b.lent != nil {
		chunks.Put(b.lent)
		b.lent = nil
	}
	b.buf, b.i, b.n = b.small[:], 0, 0
}

// fill reads once. need is the size of the packet that stands first, or 0 if
// that is not known yet. Memory follows the bytes that arrive, not those that
// a length promises.
func (b *inbuf) fill(need int) (int, error) {
	b.release()
	if have := b.n - b.i; b.i > 0 || have == len(b.buf) {
		switch {
		case have < len(b.buf)/2 && need <= len(b.buf):
			copy(b.buf, b.buf[b.i:b.n])
		case have < chunk/2 && need <= chunk && b.lent == nil:
			lent := chunks.Get().(*[]byte)
			copy(*lent, b.buf[b.i:b.n])
			b.lent, b.buf = lent, *lent
		default:
			larger := make([]byte, max(chunk, min(max(need, chunk), 4*have)))
			copy(larger, b.buf[b.i:b.n])
			if b.lent != nil {
				chunks.Put(b.lent)
				b.lent = nil
			}
			b.buf = larger
		}
		b.i, b.n = 0, have
	}
	n, err := b.r.Read(b.buf[b.n:])
	b.n += n
	if n > 0 {
		err = nil // it comes again
	}
	return n, err
}
