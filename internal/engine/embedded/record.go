package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/topic"
)

// Every value begins with the version of its format. A changed format is a new
// version beside the old one.
const recordVersion = 1

// sessionVersion is the version of a sessionRecord. Version 1 has no queueBytes.
const sessionVersion = 2

var errRecord = errors.New("stored record is damaged")

// A reader reads the fields of a stored record. After the first mistake it
// yields zeros and keeps the error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errRecord, why)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("too short")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// uint32 reads a number that fits into 32 bits.
func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.fail("number too large")
		return 0
	}
	return uint32(v)
}

func (r *reader) int64() int64 {
	v := r.uvarint()
	if v > 1<<63-1 {
		r.fail("number too large")
		return 0
	}
	return int64(v)
}

func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail("too short")
		return nil
	}
	return r.take(int(n))
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) version() { r.upto(recordVersion) }

// upto reads a version that may be one of several.
func (r *reader) upto(latest byte) byte {
	v := r.byte()
	if (v < recordVersion || v > latest) && r.err == nil {
		r.fail(fmt.Sprintf("version %d is not known", v))
	}
	return v
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail("too long")
	}
	return r.err
}

func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendPrincipal(dst []byte, p auth.Principal) []byte {
	return appendText(appendText(append(dst, byte(p.Kind)), string(p.Org)), p.ID)
}

func (r *reader) principal() auth.Principal {
	return auth.Principal{Kind: auth.Kind(r.byte()), Org: auth.OrgID(r.text()), ID: r.text()}
}

// millis is how times are stored; 0 is the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 1)
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// A sessionRecord is what is stored of a session besides its queue.
type sessionRecord struct {
	id     engine.SessionID
	uid    string // of the owner that claimed it
	expiry time.Duration
	held   bool          // a connection has it, or had it at the crash
	closed time.Time     // when the last connection ended
	sent   engine.Offset // entries up to here may have been sent

	queue, queueBytes int64 // what its queue may hold; queueBytes 0: it was not recorded
	endWhenFull       bool
}

const (
	sessionHeld        = 1
	sessionEndWhenFull = 2
)

func (s *sessionRecord) append(dst []byte) []byte {
	dst = append(dst, sessionVersion)
	dst = appendPrincipal(dst, s.id.Owner)
	dst = appendText(dst, s.id.Client)
	dst = appendText(dst, s.uid)
	dst = binary.AppendUvarint(dst, uint64(s.expiry))
	dst = binary.AppendUvarint(dst, uint64(s.queue))
	dst = append(dst, flag(s.held, sessionHeld)|flag(s.endWhenFull, sessionEndWhenFull))
	dst = binary.AppendUvarint(dst, uint64(millis(s.closed)))
	dst = binary.AppendUvarint(dst, uint64(s.sent))
	return binary.AppendUvarint(dst, uint64(s.queueBytes))
}

func parseSession(b []byte) (s sessionRecord, err error) {
	r := reader{b: b}
	version := r.upto(sessionVersion)
	s.id.Owner = r.principal()
	s.id.Client = r.text()
	s.uid = r.text()
	s.expiry = time.Duration(r.int64())
	s.queue = r.int64()
	f := r.byte()
	s.held = f&sessionHeld != 0
	s.closed = fromMillis(r.int64())
	s.sent = engine.Offset(r.uvarint())
	if version >= 2 {
		s.endWhenFull = f&sessionEndWhenFull != 0
		s.queueBytes = r.int64()
	}
	return s, r.end()
}

// A cursor says where the queue of a session begins and ends.
type cursor struct {
	next  engine.Offset // of the next entry; never goes back, so no offset is used twice
	low   engine.Offset // no entry is below
	count int64
	bytes int64
}

func (c *cursor) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, uint64(c.next))
	dst = binary.AppendUvarint(dst, uint64(c.low))
	dst = binary.AppendUvarint(dst, uint64(c.count))
	return binary.AppendUvarint(dst, uint64(c.bytes))
}

func parseCursor(b []byte) (c cursor, err error) {
	r := reader{b: b}
	r.version()
	c.next = engine.Offset(r.uvarint())
	c.low = engine.Offset(r.uvarint())
	c.count = r.int64()
	c.bytes = r.int64()
	return c, r.end()
}

// retainedTotals are how many retained messages an organisation has, and how
// many bytes in them.
type retainedTotals struct{ count, bytes int64 }

func (t *retainedTotals) append(dst []byte) []byte {
	dst = binary.AppendUvarint(append(dst, recordVersion), uint64(t.count))
	return binary.AppendUvarint(dst, uint64(t.bytes))
}

func parseTotals(b []byte) (t retainedTotals, err error) {
	r := reader{b: b}
	r.version()
	t.count, t.bytes = r.int64(), r.int64()
	return t, r.end()
}

// An entryRecord is a stored queue entry.
type entryRecord struct {
	meta
	qos      byte
	retain   bool
	released bool
	ids      []uint32
	sealed   []byte // of an inline entry
}

// A meta is what must be known of an entry to remove it.
type meta struct {
	message uint64 // its number; 0: released, nothing is left of the message
	inline  bool   // the message stands in the entry
	size    int64  // what it counts against the queue's bytes
	expires int64  // in milliseconds; 0: never
}

const (
	entryQoS      = 3
	entryRetain   = 4
	entryReleased = 8
	entryInline   = 16
)

func (e *entryRecord) append(dst []byte) []byte {
	f := e.qos&entryQoS | flag(e.retain, entryRetain) | flag(e.released, entryReleased) | flag(e.inline, entryInline)
	dst = append(dst, recordVersion, f)
	dst = binary.AppendUvarint(dst, e.message)
	dst = binary.AppendUvarint(dst, uint64(e.size))
	dst = binary.AppendUvarint(dst, uint64(e.expires))
	dst = binary.AppendUvarint(dst, uint64(len(e.ids)))
	for _, id := range e.ids {
		dst = binary.AppendUvarint(dst, uint64(id))
	}
	return append(dst, e.sealed...)
}

func parseEntry(b []byte) (e entryRecord, err error) {
	r := reader{b: b}
	r.version()
	f := r.byte()
	e.qos, e.retain = f&entryQoS, f&entryRetain != 0
	e.released, e.inline = f&entryReleased != 0, f&entryInline != 0
	e.message = r.uvarint()
	e.size = r.int64()
	e.expires = r.int64()
	n := r.uvarint()
	if n > uint64(len(r.b)) {
		r.fail("too short")
		n = 0
	}
	for range n {
		e.ids = append(e.ids, r.uint32())
	}
	e.sealed = r.b
	return e, r.err
}

// A subName names a subscription within a session.
type subName struct{ group, filter string }

const (
	subQoS     = 3
	subNoLocal = 4
	subRAP     = 8
)

func appendSub(dst []byte, s *engine.Subscription) []byte {
	f := s.QoS&subQoS | flag(s.NoLocal, subNoLocal) | flag(s.RetainAsPublished, subRAP)
	return binary.AppendUvarint(append(dst, recordVersion, f), uint64(s.ID))
}

func parseSub(rest, b []byte) (s engine.Subscription, err error) {
	k := reader{b: rest}
	s.Group = k.text()
	if k.err != nil {
		return s, k.err
	}
	if s.Filter, err = topic.ParseFilter(string(k.b)); err != nil {
		return s, fmt.Errorf("%w: %w", errRecord, err)
	}
	r := reader{b: b}
	r.version()
	f := r.byte()
	s.QoS, s.NoLocal, s.RetainAsPublished = f&subQoS, f&subNoLocal != 0, f&subRAP != 0
	s.ID = r.uint32()
	return s, r.end()
}

// A sealedRecord is a sealed message of its own: shared by queues, retained, or
// a will.
type sealedRecord struct {
	message uint64
	expires int64
	sealed  []byte
}

func (s *sealedRecord) append(dst []byte) []byte {
	dst = append(dst, recordVersion)
	dst = binary.AppendUvarint(dst, s.message)
	dst = binary.AppendUvarint(dst, uint64(s.expires))
	return append(dst, s.sealed...)
}

func parseSealed(b []byte) (s sealedRecord, err error) {
	r := reader{b: b}
	r.version()
	s.message = r.uvarint()
	s.expires = r.int64()
	s.sealed = r.b
	return s, r.err
}

func appendNumber(dst []byte, n uint64) []byte {
	return binary.AppendUvarint(append(dst, recordVersion), n)
}

func parseNumber(b []byte) (uint64, error) {
	r := reader{b: b}
	r.version()
	n := r.uvarint()
	return n, r.end()
}

func flag(v bool, bit byte) byte {
	if v {
		return bit
	}
	return 0
}
