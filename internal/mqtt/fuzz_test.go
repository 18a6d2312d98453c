package mqtt

import (
	"bytes"
	"testing"
)

// addSeeds feeds every packet the other tests know, good and bad.
func addSeeds(f *testing.F, add func(packet []byte, v Version)) {
	for _, tt := range vectors {
		add(unhex(f, tt.hex), tt.v)
	}
	for _, v := range versions {
		for _, p := range packets(v) {
			if b := p.Append(nil, v); len(b) < 1000 {
				add(b, v)
			}
		}
	}
	for _, list := range [][]badPacket{badFrames, badConnects, badPublishes, badAcks, badRequests} {
		for _, tt := range list {
			add([]byte(tt.packet), tt.v)
		}
	}
}

func FuzzFrame(f *testing.F) {
	addSeeds(f, func(b []byte, _ Version) { f.Add(b, uint32(MaxPacketSize)); f.Add(b, uint32(10)) })
	f.Fuzz(func(t *testing.T, b []byte, limit uint32) {
		h, body, n, err := Frame(b, limit)
		switch {
		case err != nil:
			if _, ok := err.(*Error); !ok || n != 0 || body != nil {
				t.Fatalf("n %d, body %v, error %T", n, body, err)
			}
		case n == 0:
			if h.Type != 0 && h.Size() <= len(b) {
				t.Fatal("asked for more than the packet")
			}
		case n > len(b) || uint64(n) > uint64(limit) || n != h.Size() || len(body) != int(h.Length):
			t.Fatalf("n %d of %d, header %+v, body %d", n, len(b), h, len(body))
		case !bytes.Equal(b[n-len(body):n], body):
			t.Fatal("body is not the end of the packet")
		}
		// A prefix never gives another verdict, only an earlier or a later one.
		for i := range min(len(b), 6) {
			if _, _, m, early := Frame(b[:i], limit); m != 0 && m != n || early != nil && err == nil {
				t.Fatalf("prefix of %d: n %d, %v; whole: n %d, %v", i, m, early, n, err)
			}
		}
	})
}

func FuzzDecodeV31(f *testing.F)  { fuzzDecode(f, V31) }
func FuzzDecodeV311(f *testing.F) { fuzzDecode(f, V311) }
func FuzzDecodeV5(f *testing.F)   { fuzzDecode(f, V5) }

// fuzzDecode checks that what decodes encodes to bytes that decode to the same
// packet, and from then on to the same bytes.
func fuzzDecode(f *testing.F, v Version) {
	addSeeds(f, func(packet []byte, _ Version) {
		if h, body, n, _ := Frame(packet, MaxPacketSize); n > 0 {
			f.Add(byte(h.Type)<<4|h.Flags, body)
		}
	})
	f.Fuzz(func(t *testing.T, first byte, body []byte) {
		h := Header{Type(first >> 4), first & 15, uint32(len(body))}
		before := bytes.Clone(body)
		p, err := Decode(h, body, v)
		if !bytes.Equal(before, body) {
			t.Fatal("Decode changed the body")
		}
		if err != nil {
			if _, ok := err.(*Error); !ok || p != nil {
				t.Fatalf("packet %v, error %T", p, err)
			}
			return
		}
		wire := p.Append(nil, v)
		q, err := parse(wire, v)
		if err != nil {
			t.Fatalf("% x\nencoded % x: %v", body, wire, err)
		}
		if !same(p, q) {
			t.Fatalf("first  %+v\nsecond %+v", p, q)
		}
		if again := q.Append(nil, v); !bytes.Equal(wire, again) {
			t.Fatalf("first  % x\nsecond % x", wire, again)
		}
		if p, ok := p.(*Publish); ok {
			checkPublish(t, p, v, len(wire))
		}
	})
}

// checkPublish checks what a PUBLISH promises beyond its bytes.
func checkPublish(t *testing.T, p *Publish, v Version, size int) {
	if p.Size(v) != size {
		t.Fatalf("Size %d, encoded %d", p.Size(v), size)
	}
	if _, err := ParseCarried(p.Carried); err != nil {
		t.Fatalf("carried % x: %v", []byte(p.Carried), err)
	}
	all := p.Properties()
	var q Publish
	q.SetProperties(&all)
	back := q.Properties()
	if !all.Equal(&back) {
		t.Fatalf("properties %+v\nbecame     %+v", all, back)
	}
}
