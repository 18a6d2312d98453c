// Package running tests the program as an operator runs it.
package running

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/test/server"
)

func TestMain(m *testing.M) { server.Main(m) }

// plaintexts are what clients send first when they believe there is no TLS.
var plaintexts = map[string]string{
	"mqtt 3.1.1": "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",
	"mqtt 5":     "\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00",
	"http":       "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"websocket":  "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
}

// TestEveryPortIsTLS scans the sockets of the running server: each that listens
// speaks TLS 1.2 or 1.3, and answers neither older versions nor plaintext.
func TestEveryPortIsTLS(t *testing.T) {
	s := server.Start(t, filepath.Join(t.TempDir(), "data"), "--edge")
	ports := listening(t, s.PID())
	for _, p := range []int{s.MQTTPort, s.HTTPSPort} {
		if !ports[p] {
			t.Errorf("port %d is not among those that listen: %v", p, ports)
		}
	}
	if len(ports) != 2 {
		t.Errorf("%d ports listen, want 2: %v", len(ports), ports)
	}
	for port := range ports {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		for name, hello := range plaintexts {
			if answer := say(t, address, hello); !isAlert(answer) {
				t.Errorf("port %d answered %s in plaintext with %q", port, name, answer)
			}
		}
		for _, v := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
			conf := s.TLS()
			conf.MinVersion, conf.MaxVersion = v, v
			c, err := tls.Dial("tcp", address, conf)
			if err == nil {
				c.Close()
			}
			if old := v < tls.VersionTLS12; old != (err != nil) {
				t.Errorf("port %d, %s: got %v", port, tls.VersionName(v), err)
			}
		}
		conf := s.TLS()
		conf.MaxVersion = tls.VersionTLS12
		conf.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		if c, err := tls.Dial("tcp", address, conf); err == nil {
			c.Close()
			t.Errorf("port %d accepts a cipher suite without authenticated encryption or forward secrecy", port)
		}
	}
}

// say sends hello without TLS and returns all of the answer.
func say(t *testing.T, address, hello string) []byte {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(server.StartTime))
	if _, err := io.WriteString(c, hello); err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(io.LimitReader(c, 4096))
	return answer
}

// isAlert reports whether an answer is nothing, or a TLS alert: the only thing a
// TLS server says to what is not TLS. Go's tells HTTP clients so in words.
func isAlert(answer []byte) bool {
	return len(answer) == 0 || answer[0] == 21 && len(answer) == 7 ||
		bytes.HasPrefix(answer, []byte("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server."))
}

// listening returns the TCP ports on which a process listens.
func listening(t *testing.T, pid int) map[int]bool {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("no open files of process %d: %v", pid, err)
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			inodes[strings.Trim(target[len("socket:"):], "[]")] = true
		}
	}
	ports := map[int]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			const listen = "0A"
			if len(f) < 10 || f[3] != listen || !inodes[f[9]] {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports[int(port)] = true
		}
	}
	for _, table := range []string{"udp", "udp6", "unix"} {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		for line := range strings.Lines(string(b)) {
			for f := range strings.FieldsSeq(line) {
				if inodes[f] && !strings.Contains(line, " 03 ") {
					t.Errorf("a socket beside TCP is open: %s: %s", table, line)
				}
			}
		}
	}
	return ports
}
