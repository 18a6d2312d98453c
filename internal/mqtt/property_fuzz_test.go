package mqtt

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// places are where a property section may stand; 0 is a will.
var places = []Type{
	0, CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT, AUTH,
}

// FuzzProperties reads any bytes as the properties of every packet. What is read
// stands where table 2-4 allows it, is written again as the same, and is read by
// the decoder that keeps views as by the one that copies.
func FuzzProperties(f *testing.F) {
	for _, v := range packets5() {
		wire := v.Append(nil, V5)
		x, ok := exhibitOf(wire, V5)
		if !ok {
			f.Fatalf("% x", wire)
		}
		for _, s := range x.sections {
			var section []byte
			for _, p := range s.props {
				section = append(append(section, p.id), p.value...)
			}
			f.Add(section)
		}
	}
	f.Add([]byte("\x01\x01\x02\x00\x00\x00\x05\x03\x00\x01x\x23\x00\x01\x26\x00\x01a\x00\x01b")) // of the hop between carried ones
	f.Fuzz(func(t *testing.T, section []byte) {
		for _, in := range places {
			before := bytes.Clone(section)
			var p Properties
			err := p.decode(section, at(in))
			if !bytes.Equal(before, section) {
				t.Fatal("decode changed the section")
			}
			x := &exhibit{v: V5, rest: append(appendVarint(nil, uint32(len(section))), section...)}
			x.section(in)
			if in == 0 || in == PUBLISH {
				checkMessageProperties(t, section, in, &p, err)
			}
			if err != nil {
				if l := explain(err); l != nil && !l.broken(x) || l == nil && !x.bad {
					t.Fatalf("%v: % x: nothing shows that %v", in, section, err)
				}
				continue
			}
			if x.bad || x.cut || x.misplaced() || x.repeated() || x.long() || x.text(hasZero) || x.text(notUTF8) {
				t.Fatalf("%v: % x is accepted: %+v", in, section, x)
			}
			checkAgain(t, &p, in)
		}
	})
}

// checkAgain checks that properties survive being written and read.
func checkAgain(t *testing.T, p *Properties, in Type) {
	wire := p.append(nil, at(in))
	var q Properties
	if err := q.decode(wire, at(in)); err != nil {
		t.Fatalf("%v: %+v is written as % x: %v", in, p, wire, err)
	}
	if !p.Equal(&q) || !bytes.Equal(wire, q.append(nil, at(in))) {
		t.Fatalf("%v: %+v becomes %+v", in, p, q)
	}
	c := p.Clone()
	if !p.Equal(&c) {
		t.Fatalf("%v: the clone of %+v is %+v", in, p, c)
	}
}

// checkMessageProperties checks that the decoder of PUBLISH and of wills agrees
// with the general one, which gave p or err.
func checkMessageProperties(t *testing.T, section []byte, in Type, p *Properties, err error) {
	m := messageProperties{scratch: []byte("of the packet before")}
	again := m.decode(section, at(in))
	if (err == nil) != (again == nil) || err != nil && err.Error() != again.Error() {
		t.Fatalf("%v: % x: %v, and %v", in, section, err, again)
	}
	if err != nil {
		return
	}
	carried := m.carried.Properties()
	want := p.Carried().Properties()
	if _, err := ParseCarried(m.carried); err != nil || !carried.Equal(&want) {
		t.Fatalf("%v: % x: carried % x: %v", in, section, []byte(m.carried), err)
	}
	if m.carried.PayloadFormat() != p.PayloadFormat.Or(0) || m.expiry != p.MessageExpiry || m.delay != p.WillDelay.Or(0) ||
		m.alias != p.TopicAlias.Or(0) || !slices.Equal(m.ids, p.SubscriptionIDs) {
		t.Fatalf("%v: % x: %+v, and %+v", in, section, m, p)
	}
}

// FuzzReader reads a stream whole and in pieces: the packets are the same, and so
// is the end. The buffer never outgrows what has arrived.
func FuzzReader(f *testing.F) {
	addSeeds(f, func(b []byte, _ Version) {
		f.Add(append(bytes.Clone(b), b...), byte(3))
	})
	f.Add(append([]byte{0x30, 0xe8, 0xfb, 3}, make([]byte, 5000)...), byte(1)) // much is announced
	f.Fuzz(func(t *testing.T, b []byte, step byte) {
		const limit = 1 << 16
		var want []Header
		rest, end := b, error(io.EOF)
		for {
			h, _, n, err := Frame(rest, limit)
			if err != nil {
				end = err
			} else if n == 0 && len(rest) > 0 {
				end = io.ErrUnexpectedEOF
			}
			if n == 0 {
				break
			}
			want, rest = append(want, h), rest[n:]
		}
		for name, in := range map[string]io.Reader{
			"whole": bytes.NewReader(b), "byte by byte": iotest.OneByteReader(bytes.NewReader(b)),
			"pieces": &stepReader{b, int(step)}, "end with data": iotest.DataErrReader(bytes.NewReader(b)),
		} {
			r := NewReader(in, limit)
			rest := b
			for _, h := range want {
				got, body, err := r.Next()
				if err != nil || got != h || !bytes.Equal(body, rest[h.Size()-int(h.Length):h.Size()]) {
					t.Fatalf("%s: %+v, % x, %v, want %+v", name, got, body, err, h)
				}
				rest = rest[h.Size():]
			}
			if h, _, err := r.Next(); err == nil || err.Error() != end.Error() {
				t.Fatalf("%s: at the end %+v, %v, want %v", name, h, err, end)
			}
			if cap(r.buf) > max(readerSize, 2*len(b)) {
				t.Fatalf("%s: a buffer of %d bytes for %d", name, cap(r.buf), len(b))
			}
		}
	})
}

// A stepReader reads n bytes more each time.
type stepReader struct {
	b []byte
	n int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(len(r.b), 1+r.n%7)])
	r.b, r.n = r.b[n:], r.n+1
	return n, nil
}
