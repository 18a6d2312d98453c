package broker

import (
	"io"
	"sync"
)

// inbuf reads a connection. It owns no more than a few bytes while nothing is
// under way, or none if its reader need not wait: whoever is idle costs little.
type inbuf struct {
	r     io.Reader
	waits bool   // a read waits for the peer
	small []byte // what it reads into then
	buf   []byte // small, or a larger one; nil: none
	i, n  int    // buf[i:n] has been read and not consumed
	lent  *[]byte
}

// chunk is the size of the pooled buffers; few, that of the small ones.
const (
	chunk = 8 << 10
	few   = 256
)

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

func (b *inbuf) bytes() []byte { return b.buf[b.i:b.n] }

func (b *inbuf) skip(n int) { b.i += n }

// release gives back what is lent if everything is consumed.
func (b *inbuf) release() {
	if b.i < b.n {
		return
	}
	b.giveBack()
	b.buf, b.i, b.n = nil, 0, 0
}

func (b *inbuf) giveBack() {
	if b.lent != nil {
		chunks.Put(b.lent)
		b.lent = nil
	}
}

// owned has reads no longer wait for the peer.
func (b *inbuf) owned() {
	b.waits, b.small = false, nil
	b.release()
}

// park is called when nothing can be read for now.
func (b *inbuf) park() {
	b.release()
	have := b.n - b.i
	if have > 0 && have <= few && b.lent != nil { // the beginning of a packet
		own := make([]byte, few)
		copy(own, b.bytes())
		b.giveBack()
		b.buf, b.i, b.n = own, 0, have
	}
}

// fill reads once. need is the size of the packet that stands first, or 0 if
// that is not known yet. Memory follows the bytes that arrive, not those that
// a length promises.
func (b *inbuf) fill(need int) (int, error) {
	b.release()
	if b.buf == nil {
		b.begin()
	}
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
			b.giveBack()
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

// begin takes a buffer for what comes next.
func (b *inbuf) begin() {
	if b.waits {
		if b.small == nil {
			b.small = make([]byte, few)
		}
		b.buf = b.small
		return
	}
	b.lent = chunks.Get().(*[]byte)
	b.buf = *b.lent
}
