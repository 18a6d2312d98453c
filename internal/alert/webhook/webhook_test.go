package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

var loopback = Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}

// The example that standardwebhooks.com publishes for all implementations.
func TestSignPublishedExample(t *testing.T) {
	got, err := Sign(secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "msg_p5jXN8AQM9LWM0D4loKWxJek",
		time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	for _, bad := range []string{"", "MfKQ", "whsec_", "whsec_%%"} {
		if _, err := Sign(secret.New(bad), "a", time.Unix(1, 0), nil); err == nil {
			t.Errorf("signed with %q", bad)
		}
	}
}

func TestGuard(t *testing.T) {
	for _, a := range []string{
		"127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9", "192.88.99.1",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1",
		"2001:0:1::1", "2001:db8::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1", "3fff::1", "4000::1",
	} {
		addr := netip.MustParseAddr(a)
		if (Guard{}).Check(addr) == nil {
			t.Errorf("%s is let through", a)
		}
		if err := (Guard{}).control("tcp", netip.AddrPortFrom(addr, 443).String(), nil); err == nil {
			t.Errorf("%s is connected to", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "::ffff:8.8.8.8", "2606:4700:4700::1111", "2a00:1450::1"} {
		if err := (Guard{}).Check(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s is refused: %v", a, err)
		}
	}
	if loopback.Check(netip.MustParseAddr("::ffff:127.0.0.1")) != nil || loopback.Check(netip.MustParseAddr("10.0.0.1")) == nil {
		t.Error("what is allowed is not just what is let through")
	}
	if (Guard{}).Check(netip.Addr{}) == nil {
		t.Error("no address is let through")
	}
}

func TestCheckURL(t *testing.T) {
	for _, bad := range []string{"", "http://example.com/", "https://", "https:///x", "https://u:p@example.com/", "https://example.com/#x", "ftp://example.com",
		"https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://169.254.169.254/latest", "https://a b/", "https://exämple.com/", "https://x/" + strings.Repeat("a", maxURL), "javascript:alert(1)"} {
		if (Guard{}).CheckURL(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	for _, good := range []string{"https://example.com", "https://example.com:8443/a?b=c", "https://8.8.8.8/"} {
		if err := (Guard{}).CheckURL(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

// receiver is a real HTTPS server on loopback.
func receiver(t *testing.T, h http.HandlerFunc) (*httptest.Server, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s, roots
}

// verified checks a signature without any code of this package.
func verified(r *http.Request, body []byte, s secret.String) bool {
	key, _ := base64.StdEncoding.DecodeString(s.Reveal()[len("whsec_"):])
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, r.Header.Get("webhook-id")+"."+r.Header.Get("webhook-timestamp")+"."+string(body))
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	for _, got := range strings.Fields(r.Header.Get("webhook-signature")) {
		if got == want {
			return true
		}
	}
	return false
}

func TestSend(t *testing.T) {
	a, b, other := NewSecret(), NewSecret(), NewSecret()
	var seen atomic.Int32
	s, roots := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !verified(r, body, a) || !verified(r, body, b) || verified(r, body, other) || string(body) != `{"a":1}` {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		seen.Add(1)
		w.WriteHeader(http.StatusNoContent)
	})
	m := Message{ID: "d1", Body: []byte(`{"a":1}`), Secrets: []secret.String{a, b}}
	if err := New(loopback, roots).Send(t.Context(), s.URL, m, time.Now()); err != nil || seen.Load() != 1 {
		t.Fatalf("%v, received %d", err, seen.Load())
	}
	m.Secrets = []secret.String{other}
	if err := New(loopback, roots).Send(t.Context(), s.URL, m, time.Now()); err == nil {
		t.Error("another secret's signature is good")
	}
	if err := New(loopback, nil).Send(t.Context(), s.URL, m, time.Now()); err == nil || !strings.Contains(errs.Message(err), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
}

// Names that lead to this machine are refused when they are dialed, whatever
// they led to before.
func TestNamesToInsideAreRefused(t *testing.T) {
	var reached atomic.Int32
	s, roots := receiver(t, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), ":")
	err := New(Guard{}, roots).Send(t.Context(), "https://localhost:"+port+"/", Message{ID: "x", Secrets: []secret.String{NewSecret()}}, time.Now())
	if err == nil || reached.Load() != 0 || !strings.Contains(errs.Message(err), "public internet") {
		t.Errorf("reached %d times: %v", reached.Load(), err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var inside atomic.Int32
	s, roots := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inside" {
			inside.Add(1)
		}
		http.Redirect(w, r, "/inside", http.StatusTemporaryRedirect)
	})
	err := New(loopback, roots).Send(t.Context(), s.URL, Message{ID: "x", Secrets: []secret.String{NewSecret()}}, time.Now())
	if err == nil || inside.Load() != 0 || !strings.Contains(errs.Message(err), "307") {
		t.Errorf("redirect: %v, followed %d times", err, inside.Load())
	}
}

// A receiver that never ends its answer holds up nobody.
func TestEndlessAnswer(t *testing.T) {
	s, roots := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	start := time.Now()
	if err := New(loopback, roots).Send(t.Context(), s.URL, Message{ID: "x", Secrets: []secret.String{NewSecret()}}, start); err != nil {
		t.Error(err)
	}
	silent, roots := receiver(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := New(loopback, roots).Send(ctx, silent.URL, Message{ID: "x", Secrets: []secret.String{NewSecret()}}, start)
	if err == nil || !strings.Contains(errs.Message(err), "in time") || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
