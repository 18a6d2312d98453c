package mail

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"net/textproto"

	"github.com/keepmq/keepmq/internal/secret"
)

// A server is an SMTP server on loopback (RFC 5321), with as much of it as a
// client needs to hand in one e-mail after another.
type server struct {
	listener net.Listener
	tls      *tls.Config
	roots    *x509.CertPool
	implicit bool // TLS from the first byte
	plain    bool // it offers no STARTTLS

	mu     sync.Mutex // guards the fields below
	got    [][]byte
	clear  []string // what a client said before TLS
	logins []string
}

func serve(t *testing.T, implicit, plain bool) *server {
	t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(web.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: l, implicit: implicit, plain: plain, roots: x509.NewCertPool(),
		tls: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}}
	s.roots.AddCert(web.Certificate())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.talk(c) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return s
}

func (s *server) talk(c net.Conn) {
	defer func() { c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	secure := s.implicit
	if secure {
		c = tls.Server(c, s.tls)
	}
	tp := textproto.NewConn(c)
	tp.PrintfLine("220 test ESMTP")
	for {
		line, err := tp.ReadLine()
		if err != nil {
			return
		}
		s.mu.Lock()
		if !secure {
			s.clear = append(s.clear, line)
		}
		s.mu.Unlock()
		switch verb, rest, _ := strings.Cut(line, " "); strings.ToUpper(verb) {
		case "EHLO":
			tp.PrintfLine("250-test")
			if !secure && !s.plain {
				tp.PrintfLine("250-STARTTLS")
			}
			tp.PrintfLine("250 AUTH PLAIN")
		case "STARTTLS":
			tp.PrintfLine("220 go on")
			c, secure = tls.Server(c, s.tls), true
			tp = textproto.NewConn(c)
		case "AUTH":
			b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			s.mu.Lock()
			s.logins = append(s.logins, string(b))
			s.mu.Unlock()
			tp.PrintfLine("235 welcome")
		case "DATA":
			tp.PrintfLine("354 go on")
			b, err := tp.ReadDotBytes()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.got = append(s.got, b)
			s.mu.Unlock()
			tp.PrintfLine("250 taken")
		case "QUIT":
			tp.PrintfLine("221 bye")
			return
		default:
			tp.PrintfLine("250 ok")
		}
	}
}

func (s *server) sender(t *testing.T) *Sender {
	t.Helper()
	m, err := New(Config{Server: s.listener.Addr().String(), Implicit: s.implicit, Username: "keepmq", Password: secret.New("pa55word"),
		From: "keepmq@example.com", Roots: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var message = Message{ID: "d-1", Org: "abc123", OrgName: "Pumps <b>", Rule: "sign-in.failures", Subject: "person:<script>",
	Summary: "20 sign-ins failed & more", At: time.Unix(1_700_000_000, 0)}

func TestSend(t *testing.T) {
	for name, implicit := range map[string]bool{"STARTTLS": false, "implicit": true} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, implicit, false)
			if err := s.sender(t).Send(t.Context(), "ops@example.com", message); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.got) != 1 || len(s.logins) != 1 || s.logins[0] != "\x00keepmq\x00pa55word" {
				t.Fatalf("%d e-mails, logins %q", len(s.got), s.logins)
			}
			for _, line := range s.clear {
				if !strings.HasPrefix(line, "EHLO") && line != "STARTTLS" {
					t.Errorf("in clear: %q", line)
				}
			}
			parts := read(t, s.got[0])
			if h := parts["text/html"]; !strings.Contains(h, "person:&lt;script&gt;") || strings.Contains(h, "<script>") || strings.Contains(h, "Pumps <b>") {
				t.Errorf("HTML: %s", h)
			}
			if p := parts["text/plain"]; !strings.Contains(p, "20 sign-ins failed & more") || !strings.Contains(p, "person:<script>") {
				t.Errorf("text: %s", p)
			}
		})
	}
}

// read takes an e-mail apart with the standard library.
func read(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	m, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if m.Header.Get("To") != "<ops@example.com>" || m.Header.Get("Message-Id") != "<d-1@keepmq.invalid>" {
		t.Errorf("headers: %v", m.Header)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err != nil {
			return parts
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		b, _ := io.ReadAll(quotedprintable.NewReader(p))
		parts[kind] = string(b)
	}
}

// Without TLS, or with a certificate nobody vouches for, nothing is said.
func TestNothingInClear(t *testing.T) {
	s := serve(t, false, true)
	if err := s.sender(t).Send(t.Context(), "ops@example.com", message); err == nil {
		t.Error("sent without TLS")
	}
	trusted := serve(t, false, false)
	other := trusted.sender(t)
	other.config.Roots = x509.NewCertPool()
	if err := other.Send(t.Context(), "ops@example.com", message); err == nil {
		t.Error("sent to a server that is not trusted")
	}
	for _, s := range []*server{s, trusted} {
		s.mu.Lock()
		if len(s.got) != 0 || len(s.logins) != 0 {
			t.Errorf("the server got %d e-mails and %q", len(s.got), s.logins)
		}
		s.mu.Unlock()
	}
}

func TestCheckAddress(t *testing.T) {
	for _, bad := range []string{"", "a", "a@", "A <a@example.com>", "a@example.com\r\nBcc: b@example.com", "a@example.com, b@example.com", "ä@example.com",
		strings.Repeat("a", 250) + "@b.example"} {
		if CheckAddress(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if err := CheckAddress("ops+1@example.com"); err != nil {
		t.Error(err)
	}
}
