package broker

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/mqtt"
)

// A script is a connection of which all that the other end sends is known
// before. What is written to it is kept.
type script struct {
	chunks [][]byte // each is what one Read returns at most
	mu     sync.Mutex
	out    bytes.Buffer  // guarded by mu
	gone   bool          // guarded by mu
	closed chan struct{} // when gone is true
}

func newScript(chunks ...[]byte) *script { return &script{chunks: chunks, closed: make(chan struct{})} }

func (s *script) Read(b []byte) (int, error) {
	for len(s.chunks) > 0 && len(s.chunks[0]) == 0 {
		s.chunks = s.chunks[1:]
	}
	if len(s.chunks) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.chunks[0])
	s.chunks[0] = s.chunks[0][n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return 0, net.ErrClosed
	}
	return s.out.Write(b)
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.gone = true
		close(s.closed)
	}
	return nil
}

func (s *script) written() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.out.Bytes())
}

func (*script) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (*script) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetReadDeadline(time.Time) error  { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }

// cuts divides b: each byte of plan says how long the next piece is.
func cuts(b, plan []byte) (pieces [][]byte) {
	for _, n := range plan {
		k := min(len(b), int(n)+1)
		pieces, b = append(pieces, bytes.Clone(b[:k])), b[k:]
	}
	return append(pieces, bytes.Clone(b))
}

// A ledger is an engine that notes what is published.
type ledger struct {
	*memory
	mu    sync.Mutex
	lines []string // guarded by mu
}

func (l *ledger) note(m *engine.Message, id uint16) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%s %q QoS %d id %d retain %v from %v: %s %s",
		m.Org, m.Topic, m.QoS, id, m.Retain, m.From, hex.EncodeToString(m.Properties), hex.EncodeToString(m.Payload)))
}

func (l *ledger) Publish(ctx context.Context, m *engine.Message, done func(error)) {
	l.note(m, 0)
	l.memory.Publish(ctx, m, done)
}

func (l *ledger) Claim(ctx context.Context, k engine.Claim) (engine.Claimed, error) {
	c, err := l.memory.Claim(ctx, k)
	if err == nil {
		c.Session = notedSession{c.Session, l}
	}
	return c, err
}

type notedSession struct {
	engine.Session
	l *ledger
}

func (s notedSession) Publish(ctx context.Context, m *engine.Message, id uint16, done func(error)) {
	s.l.note(m, id)
	s.Session.Publish(ctx, m, id, done)
}

// fuzzBroker is a broker for one connection over a script, and what it kept.
func fuzzBroker(t testing.TB) (*Broker, *ledger) {
	l := &ledger{memory: newMemory()}
	dir := newDirectory()
	dir.add(testOrg, "u", nil)
	b := newBroker(t, l, dir, nil)
	t.Cleanup(func() { stopFuzz(b) })
	return b, l
}

func stopFuzz(b *Broker) {
	b.stopWatch()
	b.stopLife()
	b.web.Close()
}

// streamOf puts a CONNECT that is accepted before data, unless mode says not to.
func streamOf(mode byte, data []byte) []byte {
	if mode&3 == 3 {
		return data
	}
	v := []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5}[mode&3]
	return append(hello(v, "c", func(p *mqtt.Connect) { p.CleanStart = mode&4 == 0 }).Append(nil, v), data...)
}

// addStreams seeds with packets that an accepted client may and may not send.
func addStreams(add func(mode byte, data []byte)) {
	for mode, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
		var all []byte
		for _, p := range []mqtt.Packet{
			&mqtt.Subscribe{PacketID: 1, Subscriptions: []mqtt.Subscription{{Filter: "a/#", QoS: 2}}},
			pub("a/b", "0", 0, 0), pub("a/b", "1", 1, 2), pub("a/b", "2", 2, 3), &mqtt.Ack{Type: mqtt.PUBREL, PacketID: 3},
			&mqtt.Pingreq{}, &mqtt.Ack{Type: mqtt.PUBACK, PacketID: 1}, &mqtt.Unsubscribe{PacketID: 4, Filters: []string{"a/#"}},
		} {
			all = p.Append(all, v)
		}
		add(byte(mode), all)
		add(byte(mode), (&mqtt.Disconnect{}).Append(all, v))
		add(byte(mode), append(all, 0x10, 0))
		add(byte(mode), append(all, 0x30, 0x80))
		add(byte(mode)|4, (&mqtt.Publish{Topic: []byte("r"), Retain: true, Payload: []byte("kept")}).Append(nil, v))
	}
	alias := (&mqtt.Publish{Topic: []byte("long/topic"), TopicAlias: 1}).Append(nil, mqtt.V5)
	add(2, (&mqtt.Publish{TopicAlias: 1, Payload: []byte("by alias")}).Append(alias, mqtt.V5))
	add(2, (&mqtt.Publish{TopicAlias: 2}).Append(alias, mqtt.V5))
	add(3, hello(mqtt.V5, "", nil).Append(nil, mqtt.V5))
	add(3, []byte("\x10\x0f\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x02c"))
	add(3, []byte{0x10, 0xff, 0xff, 0xff, 0x7f})
}

// plain serves a stream over a connection without frames and returns what was published.
func plain(t *testing.T, chunks ...[]byte) []string {
	b, l := fuzzBroker(t)
	s := newScript(chunks...)
	b.serve(newPeer(b, s), s)
	checkAnswer(t, s.written())
	return l.lines
}

// checkAnswer checks that what the broker sent are packets that a server sends,
// of one version or another. The last one may be cut.
func checkAnswer(t *testing.T, sent []byte) {
	for len(sent) > 0 {
		h, body, n, err := mqtt.Frame(sent, mqtt.MaxPacketSize)
		if err != nil || n == 0 {
			t.Fatalf("the broker sent % x: %v", sent, err)
		}
		err = nil
		for _, v := range []mqtt.Version{mqtt.V5, mqtt.V311, mqtt.V31} {
			if _, err = mqtt.Decode(h, body, v); err == nil {
				break
			}
		}
		switch h.Type {
		case mqtt.CONNECT, mqtt.SUBSCRIBE, mqtt.UNSUBSCRIBE, mqtt.PINGREQ:
			t.Fatalf("the broker sent %v", h.Type)
		}
		if err != nil {
			t.Fatalf("the broker sent % x: %v", sent[:n], err)
		}
		sent = sent[n:]
	}
}

// FuzzStream sends any bytes, before and after a CONNECT, whole and in pieces.
// The connection ends, and what it published is the same.
func FuzzStream(f *testing.F) {
	addStreams(func(mode byte, data []byte) { f.Add(mode, data, []byte{0, 0, 1, 2, 200}) })
	f.Fuzz(func(t *testing.T, mode byte, data, plan []byte) {
		stream := streamOf(mode, data)
		whole := plain(t, stream)
		if pieces := plain(t, cuts(stream, plan)...); !slices.Equal(whole, pieces) {
			t.Fatalf("whole  %q\npieces %q", whole, pieces)
		}
	})
}

// FuzzInbuf reads any bytes in any pieces through the buffer of a connection. The
// packets are those of the bytes as a whole, and memory follows what has arrived.
func FuzzInbuf(f *testing.F) {
	addStreams(func(_ byte, data []byte) { f.Add(data, []byte{0, 0, 1, 2, 200}, uint32(1<<20)) })
	f.Add(append([]byte{0x30, 0xff, 0xff, 0x0f}, make([]byte, 300)...), []byte{4}, uint32(1<<20)) // much is announced
	f.Add((&mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, 20_000)}).Append(nil, mqtt.V311), []byte{255, 255}, uint32(1<<20))
	b, _ := fuzzBroker(f)
	f.Fuzz(func(t *testing.T, data, plan []byte, limit uint32) {
		s := newScript(cuts(data, plan)...)
		c := newConn(b, newPeer(b, s), s)
		defer c.cancel()
		for rest := data; ; {
			h, body, n, end := mqtt.Frame(rest, limit)
			got, view, err := c.next(limit)
			if size := len(c.in.buf); size > max(chunk, 4*len(data)) {
				t.Fatalf("a buffer of %d bytes for %d", size, len(data))
			}
			if n == 0 {
				if end == nil {
					end = io.EOF
				}
				if err == nil || err.Error() != end.Error() {
					t.Fatalf("after %d bytes: %v, %v, want %v", len(data)-len(rest), got, err, end)
				}
				break
			}
			if err != nil || got != h || !bytes.Equal(body, view) {
				t.Fatalf("after %d bytes: %v, %v, want %v", len(data)-len(rest), got, err, h)
			}
			rest = rest[n:]
		}
	})
}

// FuzzHTTP sends any bytes to the part of the port that speaks HTTP. They are
// answered or the connection is closed, and what is published belongs to the
// sender and was answered with 200.
func FuzzHTTP(f *testing.F) {
	const basic = "Authorization: Basic " + "ZC9hYmMxMjMvdC9kOnNlY3JldC11" // d/abc123/t/d:secret-u
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /api/v0002/device/types/t/devices/d/events/e HTTP/1.1\r\nHost: abc123.messaging.example\r\nContent-Type: application/json\r\n" + basic + "\r\nContent-Length: 2\r\n\r\n{}",
		"POST /api/v0002/device/types/t/devices/d/events/e HTTP/1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" + basic + "\r\nContent-Length: 1\r\n\r\nx",
		"POST /api/v0002/application/types/t/devices/d/commands/c HTTP/1.1\r\nHost: h\r\nContent-Type: text/xml\r\n" + basic + "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
		"POST /api/v0002/device/types/%2e/devices/%2f/events/+ HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
		"HEAD * HTTP/1.1\r\n\r\n", "POST ", "\x16\x03\x01",
	} {
		f.Add([]byte(s), []byte{3, 100})
	}
	f.Fuzz(func(t *testing.T, data, plan []byte) {
		b, l := fuzzBroker(t)
		b.cfg.Verifier.(*directory).users["use-token-auth"] = b.cfg.Verifier.(*directory).users[string(testOrg)+"/u"]
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = b.http.Serve(b.web)
		}()
		s := newScript(cuts(data, plan)...)
		b.route(newPeer(b, s))
		select {
		case <-s.closed:
		case <-time.After(patience):
			t.Fatal("the connection did not end")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := b.http.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		<-ended
		b.wg.Wait() // for a WebSocket
		if upgraded := bytes.Contains(s.written(), []byte("HTTP/1.1 101")); upgraded || sniff(data) == speaksMQTT {
			return
		}
		ok := bytes.Count(s.written(), []byte("HTTP/1.1 200 OK")) + bytes.Count(s.written(), []byte("HTTP/1.0 200 OK"))
		if len(l.lines) < ok {
			t.Fatalf("%d messages are published, and %d requests answered with 200", len(l.lines), ok)
		}
		for _, line := range l.lines {
			if !strings.HasPrefix(line, string(testOrg)+` "iot-2/`) {
				t.Fatalf("published: %s", line)
			}
		}
	})
}

// upgraded serves a WebSocket on which chunks arrive, and returns what was sent
// and what was published.
func upgraded(t *testing.T, chunks ...[]byte) (sent []byte, published []string) {
	b, l := fuzzBroker(t)
	s := newScript(chunks...)
	p := newPeer(b, s)
	r, err := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, p), http.MethodGet, "https://localhost/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "mqtt",
	} {
		r.Header.Set(k, v)
	}
	b.upgrade(&hijacked{p: p, header: http.Header{}}, r)
	return s.written(), l.lines
}
