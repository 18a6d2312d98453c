package security

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// say sends bytes over TLS and returns the first answer line, or "" if there is none.
func (s *site) say(t *testing.T, port int, text string) (line string, c *tls.Conn) {
	t.Helper()
	conf := s.TLS()
	conf.NextProtos = []string{"http/1.1"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.NetConn().Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write([]byte(text)) // it may be cut off before all is sent
	line, _ = bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), c
}

// Requests that are too large, or that two servers could understand in two
// ways, are refused on both ports.
func TestOddRequestsAreRefused(t *testing.T) {
	s := start(t)
	before := s.memory(t)
	const post = "POST /api/v1/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for name, req := range map[string]string{
		"header above 16 KiB":      "GET / HTTP/1.1\r\nHost: localhost\r\nX-Large: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
		"many headers":             "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-Many: x\r\n", 8000) + "\r\n",
		"long path":                "GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"length and chunked":       post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"two lengths":              post + "Content-Length: 4\r\nContent-Length: 40\r\n\r\n{}  ",
		"chunked, twice":           post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		"unknown transfer coding":  post + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"negative length":          post + "Content-Length: -1\r\n\r\n",
		"space before the colon":   "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length : 4\r\n\r\n",
		"folded header":            "GET / HTTP/1.1\r\nHost: localhost\r\n X: y\r\n\r\n",
		"two hosts":                "GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
		"body above every limit":   post + "Content-Length: 104857600\r\n\r\n" + strings.Repeat(" ", 2<<20),
		"chunk above every limit":  post + "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n" + strings.Repeat(" ", 1<<20),
		"proxy request":            "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
		"path that climbs":         "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"encoded path that climbs": "GET /assets/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"NUL in a header":          "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
	} {
		for _, port := range []int{s.MQTTPort, s.HTTPSPort} {
			line, c := s.say(t, port, req)
			if strings.Contains(line, " 200 ") {
				t.Errorf("%s, port %d: %s", name, port, line)
			}
			c.NetConn().Close()
		}
	}
	if more := s.memory(t) - before; more > 100<<20 {
		t.Errorf("the server grew by %d MiB", more>>20)
	}
	s.healthy(t)
}

// A message over HTTP may not be larger than a packet.
func TestPostedMessageIsBounded(t *testing.T) {
	s := start(t)
	line, _ := s.say(t, s.MQTTPort, fmt.Sprintf("POST /api/v0002/application/types/sensor/devices/one/events/e HTTP/1.1\r\nHost: localhost\r\nAuthorization: %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		basic(s.ours.key, s.ours.token), 3<<20, strings.Repeat("x", 3<<20)))
	if !strings.Contains(line, " 413 ") && line != "" {
		t.Errorf("3 MiB: %s", line)
	}
	line, _ = s.say(t, s.MQTTPort, fmt.Sprintf("POST /api/v0002/application/types/sensor/devices/one/events/e HTTP/1.1\r\nHost: %s.messaging.localhost\r\nAuthorization: %s\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx",
		s.theirs.id, basic(s.ours.key, s.ours.token)))
	t.Logf("our key under the other's host: %s", line)
	s.healthy(t)
}

const upgrade = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"

// A frame as a client sends it, with a mask of zeros.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	default:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// WebSocket is a transport for MQTT and gives no way around anything.
func TestOddWebSocketsAreClosed(t *testing.T) {
	t.Parallel()
	s := start(t)
	before := s.memory(t)
	for name, headers := range map[string]string{"none": "", "another": "Sec-WebSocket-Protocol: soap\r\n", "similar": "Sec-WebSocket-Protocol: mqttx\r\n"} {
		if line, _ := s.say(t, s.MQTTPort, upgrade+headers+"\r\n"); !strings.Contains(line, " 400 ") {
			t.Errorf("subprotocol %s: %s", name, line)
		}
	}
	hello := s.ours.asDevice().packet().Append(nil, mqtt.V5)
	const binary, text, ping, more = 0x82, 0x81, 0x89, 0x02
	for name, tt := range map[string]struct {
		frames []byte
		in     bool
	}{
		"whole":              {frame(binary, hello), true},
		"two messages":       {append(frame(binary, hello[:3]), frame(binary, hello[3:])...), true},
		"fragments":          {append(frame(more, hello[:1]), frame(0x80, hello[1:])...), true},
		"text":               {frame(text, hello), false},
		"unmasked":           {append([]byte{binary, byte(min(len(hello), 125))}, hello...), false},
		"compressed":         {frame(binary|0x40, hello), false},
		"continuation first": {frame(0x80, hello), false},
		"endless length":     {[]byte{binary, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x30}, false},
		"large ping":         {frame(ping, make([]byte, 1000)), false},
		"reserved opcode":    {frame(0x83, hello), false},
	} {
		line, c := s.say(t, s.MQTTPort, upgrade+"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
		if !strings.Contains(line, " 101 ") {
			t.Fatalf("%s: %s", name, line)
		}
		_, _ = c.Write(tt.frames)
		b := make([]byte, 512)
		n, _ := c.Read(b)
		if in := n > 2 && b[0] == binary && b[2] == 0x20; in != tt.in {
			t.Errorf("%s: let in %v, want %v (% x)", name, in, tt.in, b[:n])
		}
		c.NetConn().Close()
	}
	line, c := s.say(t, s.MQTTPort, upgrade+"Sec-WebSocket-Protocol: mqtt\r\n\r\n")
	if !strings.Contains(line, " 101 ") {
		t.Fatal(line)
	}
	for range 200 { // pings whose answers nobody reads
		_ = c.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(bytes.Repeat(frame(ping, []byte("x")), 1000)); err != nil {
			break
		}
	}
	if grown := s.memory(t) - before; grown > 100<<20 {
		t.Errorf("the server grew by %d MiB", grown>>20)
	}
	s.healthy(t)
}

// Many event streams and many streams that are reset at once leave the server well.
func TestHTTP2FloodLeavesServerWell(t *testing.T) {
	s := start(t)
	before := s.memory(t)
	tr := &http.Transport{TLSClientConfig: s.TLS(), ForceAttemptHTTP2: true}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr}
	began := time.Now()
	for range 3000 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Microsecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("https://localhost:%d/api/v1/openapi.json", s.HTTPSPort), nil)
		if err != nil {
			t.Fatal(err)
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
		}
		cancel()
	}
	t.Logf("3000 cancelled requests in %v, %d KiB more memory", time.Since(began), (s.memory(t)-before)>>10)
	if err := s.api.Do(http.MethodGet, "/me", nil, nil); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"/events", "/", "/devices"} { // the console of nobody
		nobody := &http.Client{Transport: tr, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("https://localhost:%d%s", s.HTTPSPort, path), nil)
		req.AddCookie(&http.Cookie{Name: "__Host-keepmq", Value: "x"})
		res, err := nobody.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Errorf("%s is shown to nobody", path)
		}
	}
	s.healthy(t)
}
