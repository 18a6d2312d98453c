package broker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A hijacked is the answer to a request that becomes a WebSocket.
type hijacked struct {
	p      *peer
	header http.Header
}

func (h *hijacked) Header() http.Header         { return h.header }
func (h *hijacked) Write(b []byte) (int, error) { return len(b), nil }
func (h *hijacked) WriteHeader(int)             {}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.p, bufio.NewReadWriter(bufio.NewReader(h.p), bufio.NewWriter(h.p)), nil
}

// The opcodes of RFC 6455, section 5.2.
const (
	frameContinue = 0
	frameText     = 1
	frameBinary   = 2
	frameClose    = 8
	framePing     = 9
	framePong     = 10
	frameFinal    = 0x80 // a bit of the first byte
)

// frame writes one masked frame. size says in how many bytes the length stands,
// if it fits.
func frame(dst []byte, first byte, mask [4]byte, payload []byte) []byte {
	dst = append(dst, first)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0x80|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 0x80|127), uint64(n))
	}
	dst = append(dst, mask[:]...)
	for i, c := range payload {
		dst = append(dst, c^mask[i%4])
	}
	return dst
}

// A framer divides a stream into frames as a plan says, three bytes at a time:
// what to send, how much, and the mask.
type framer struct {
	out     []byte
	open    bool // within a fragmented message
	carried int  // bytes of the stream that are sent before anything illegal
	illegal bool
}

func (w *framer) write(stream, plan []byte) {
	all := len(stream)
	for ; len(plan) >= 3 && !w.illegal; plan = plan[3:] {
		n, mask := int(plan[1]), [4]byte{plan[2], plan[2] * 3, plan[2] * 5, plan[2] * 7}
		control := bytes.Repeat([]byte{'p'}, n%126)
		switch kind := plan[0] % 8; kind {
		case 0:
			w.out = frame(w.out, frameFinal|framePing, mask, control)
		case 1:
			w.out = frame(w.out, frameFinal|framePong, mask, control)
		case 2:
			if plan[0] < 240 { // an illegal frame ends it all, so seldom
				continue
			}
			w.illegal = true
			w.out = frame(w.out, []byte{frameFinal | frameText, framePing, frameFinal | 3, frameFinal | 0x40 | frameBinary}[n%4], mask, stream)
			if n%4 == 0 && w.open {
				return // a message within a message
			}
		default:
			k := min(len(stream), n)
			first := byte(frameBinary)
			if w.open {
				first = frameContinue
			}
			w.open = kind >= 6 // the message goes on
			if !w.open {
				first |= frameFinal
			}
			w.out = frame(w.out, first, mask, stream[:k])
			stream = stream[k:]
		}
	}
	w.carried = all - len(stream)
	if w.illegal {
		return
	}
	first := byte(frameFinal | frameBinary)
	if w.open {
		first = frameFinal | frameContinue
	}
	w.out, w.carried = frame(w.out, first, [4]byte{}, stream), all
}

// unframe takes apart what came over a WebSocket, as RFC 6455 says a server must
// or a client must (masked): it returns the stream up to the first mistake.
func unframe(b []byte, masked bool) (stream []byte) {
	open := false
	for len(b) >= 2 {
		first, n, head := b[0], uint64(b[1]&0x7f), 2
		switch n {
		case 126:
			head = 4
		case 127:
			head = 10
		}
		if len(b) < head {
			return stream
		}
		switch n {
		case 126:
			n = uint64(binary.BigEndian.Uint16(b[2:]))
		case 127:
			n = binary.BigEndian.Uint64(b[2:])
		}
		op := first & 15
		control := op >= frameClose
		switch {
		case first&0x70 != 0, (b[1] >= 0x80) != masked, n >= 1<<63, // 5.2
			control && (first < 0x80 || n > 125 || op > framePong),                  // 5.5
			!control && (op == frameContinue) != open, op > frameBinary && !control, // 5.4
			op == frameText, op == frameClose: // [MQTT-6.0.0-1]; the end
			return stream
		}
		var key [4]byte
		if masked {
			if len(b) < head+4 {
				return stream
			}
			key, head = [4]byte(b[head:]), head+4
		}
		b = b[head:]
		k := min(uint64(len(b)), n)
		if !control {
			open = first < 0x80
			for i, c := range b[:k] {
				stream = append(stream, c^key[i%4])
			}
		}
		b = b[k:]
		if k < n {
			return stream
		}
	}
	return stream
}

// FuzzFrames divides a stream into WebSocket frames in any way, with control
// frames between. What is published is what it is without frames; if an illegal
// frame comes, what it is without what follows.
func FuzzFrames(f *testing.F) {
	addStreams(func(mode byte, data []byte) {
		f.Add(mode, data, []byte{3, 1, 0, 6, 2, 1, 0, 5, 2, 6, 0, 3, 1, 125, 4, 3, 9, 5}, []byte{1, 2, 200})
		f.Add(mode, data, []byte{3, 200, 0, 242, byte(len(data)), 1}, []byte{})
	})
	f.Fuzz(func(t *testing.T, mode byte, data, plan, pieces []byte) {
		stream := streamOf(mode, data)
		var w framer
		w.write(stream, plan)
		if got := unframe(w.out, true); !bytes.Equal(got, stream[:w.carried]) {
			t.Fatalf("the test is wrong: % x\nwant % x", got, stream[:w.carried])
		}
		want := plain(t, stream[:w.carried])
		sent, got := upgraded(t, cuts(w.out, pieces)...)
		if !slices.Equal(got, want) {
			t.Fatalf("over a WebSocket %q\nplain            %q", got, want)
		}
		checkAnswer(t, unframe(sent, false))
	})
}

// FuzzWebSocket sends any bytes after the upgrade. What is published is what the
// frames carry up to the first mistake.
func FuzzWebSocket(f *testing.F) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		connect := hello(v, "c", nil).Append(nil, v)
		whole := frame(nil, frameFinal|frameBinary, [4]byte{1, 2, 3, 4}, (&mqtt.Publish{Topic: []byte("a")}).Append(connect, v))
		f.Add(whole)
		f.Add(frame(whole, frameFinal|frameClose, [4]byte{}, []byte{3, 232}))
		f.Add(frame(whole, frameFinal|framePing, [4]byte{9}, []byte("ping")))
		f.Add(frame(whole, frameFinal|frameText, [4]byte{9}, []byte("text")))
		f.Add(frame(frame(nil, frameBinary, [4]byte{}, connect[:5]), frameFinal|frameContinue, [4]byte{}, connect[5:]))
	}
	f.Add([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1})
	f.Add([]byte{0x82, 0xfe, 0, 1, 0, 0, 0, 0, 0x10})
	f.Fuzz(func(t *testing.T, data []byte) {
		want := plain(t, unframe(data, true))
		sent, got := upgraded(t, data)
		if !slices.Equal(got, want) {
			t.Fatalf("over a WebSocket %q\nplain            %q", got, want)
		}
		checkAnswer(t, unframe(sent, false))
	})
}
