package mqtt

import (
	"errors"
	"io"
)

// Reader reads packets from a stream, for clients and tests. The broker reads
// into buffers of its own and calls [Frame].
type Reader struct {
	r    io.Reader
	max  uint32
	buf  []byte
	next int // buf[next:] has not been handed out
}

// readerSize is what a Reader starts with, and what it asks a stream for.
const readerSize = 4096

// NewReader returns a Reader that accepts packets of at most max bytes.
func NewReader(r io.Reader, max uint32) *Reader { return &Reader{r: r, max: max} }

// Next returns the next packet. The body is valid until the next call. The
// error is io.EOF if the stream ends between two packets,
// io.ErrUnexpectedEOF if it ends within one, and an [*Error] if the bytes are
// no packet; after an error the Reader is of no more use.
func (r *Reader) Next() (Header, []byte, error) {
	for {
		h, body, n, err := Frame(r.buf[r.next:], r.max)
		if err != nil {
			return h, nil, err
		}
		if n > 0 {
			r.next += n
			return h, body, nil
		}
		need := MinPacketSize
		if h.Type != 0 {
			need = h.Size()
		}
		if err := r.fill(need); err != nil {
			return h, nil, err
		}
	}
}

// Packet returns the next packet decoded. A *Publish is valid until the next
// call.
func (r *Reader) Packet(v Version) (Packet, error) {
	h, body, err := r.Next()
	if err != nil {
		return nil, err
	}
	return Decode(h, body, v)
}

// fill reads once, after making room. The buffer at most doubles, however long
// the packet claims to be: memory follows the bytes that arrive.
func (r *Reader) fill(need int) error {
	r.buf = append(r.buf[:0], r.buf[r.next:]...)
	r.next = 0
	have := len(r.buf)
	if have == cap(r.buf) {
		size := max(readerSize, min(2*have, need))
		r.buf = append(make([]byte, 0, size), r.buf...)
	}
	for range 100 { // a reader that returns nothing for ever is broken
		n, err := r.r.Read(r.buf[have:cap(r.buf)])
		r.buf = r.buf[:have+n]
		switch {
		case n > 0:
			return nil // an error with it comes again
		case errors.Is(err, io.EOF) && have > 0:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}
