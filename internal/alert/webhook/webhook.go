// Package webhook sends signed requests to receivers that organisations name,
// after Standard Webhooks (standardwebhooks.com).
//
// It promises that a request goes over TLS, to no address that its Guard
// refuses, follows no redirect, ends within Timeout, and tells nothing of what
// the receiver answered but its status. It keeps nothing and retries nothing.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

const (
	// Timeout bounds one request, with everything that belongs to it.
	Timeout = 15 * time.Second

	prefix    = "whsec_"
	keySize   = 32
	maxHeader = 16 << 10
	maxAnswer = 16 << 10 // of which nothing is used
)

// NewSecret draws the secret of a receiver.
func NewSecret() secret.String {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	return secret.New(prefix + base64.StdEncoding.EncodeToString(key))
}

// Sign returns the signature of a message with one secret.
func Sign(s secret.String, id string, at time.Time, body []byte) (string, error) {
	text, ok := strings.CutPrefix(s.Reveal(), prefix)
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) == 0 {
		return "", errors.New("sign: not a secret of a webhook")
	}
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s.%d.", id, at.Unix())
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil)), nil
}

// A Client sends. It may be used from any goroutine.
type Client struct {
	guard Guard
	http  *http.Client
}

// New returns a Client. It trusts the system's authorities if roots is nil.
func New(g Guard, roots *x509.CertPool) *Client {
	return &Client{guard: g, http: HTTP(g, roots)}
}

// HTTP returns a client for addresses that somebody else chose: it connects to
// nothing that g refuses, follows no redirect, and waits no longer than Timeout.
func HTTP(g Guard, roots *x509.CertPool) *http.Client {
	dialer := &net.Dialer{Timeout: Timeout, Control: g.control}
	return &http.Client{
		Timeout:       Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would resolve the name again, and ask no Guard
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    Timeout,
			DisableKeepAlives:      true, // so that every request has its address checked
			MaxResponseHeaderBytes: maxHeader,
		},
	}
}

// CheckURL is that of the Guard.
func (c *Client) CheckURL(s string) error { return c.guard.CheckURL(s) }

// A Message is what is sent. Its id is the same in every attempt, so that a
// receiver can tell that it has it already.
type Message struct {
	ID      string
	Body    []byte
	Secrets []secret.String // each signs; two while one replaces the other
}

// Send makes one attempt. An error says what the receiver's owner may know.
func (c *Client) Send(ctx context.Context, url string, m Message, now time.Time) error {
	if err := c.guard.CheckURL(url); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(m.Body))
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "url cannot be used")
	}
	var signatures []string
	for _, s := range m.Secrets {
		one, err := Sign(s, m.ID, now, m.Body)
		if err != nil {
			return err
		}
		signatures = append(signatures, one)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "KeepMQ-Webhook/1")
	req.Header.Set("Webhook-Id", m.ID)
	req.Header.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("Webhook-Signature", strings.Join(signatures, " "))
	res, err := c.http.Do(req)
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, reason(err))
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // the status is the answer
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return errs.E(errs.Unavailable, "the receiver answered with status %d", res.StatusCode)
	}
	return nil
}

// reason says why there was no answer, without saying what there is at an
// address that may not be asked.
func reason(err error) string {
	var resolve *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	switch {
	case errs.CodeOf(err) == errs.Denied:
		return errs.Message(err)
	case errors.As(err, &resolve):
		return "the receiver's name cannot be resolved"
	case errors.As(err, &unknown), errors.As(err, &host):
		return "the receiver's certificate is not one that is trusted for its name"
	case errors.Is(err, context.DeadlineExceeded):
		return "the receiver did not answer in time"
	}
	return "no connection to the receiver"
}
