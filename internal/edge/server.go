package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	answerIn  = 30 * time.Second
	maxAnswer = 256 << 10
)

// A server is where certificates come from: the REST API, over TLS that trusts
// the given authorities only.
type server struct {
	url   string // https://host:port
	roots *x509.CertPool
	now   func() time.Time
}

// A refusal is an answer of the server that is no.
type refusal struct {
	status int
	detail string
}

func (r *refusal) Error() string { return r.detail }

// post sends in as JSON and decodes the answer into out. With a certificate it
// is mutual TLS.
func (s *server) post(ctx context.Context, path string, in, out any, cert *tls.Certificate) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client(cert).Do(req)
	if err != nil {
		return unreachable(s.url, err, s.now())
	}
	defer res.Body.Close() //nolint:errcheck // read only
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unreachable(s.url, err, s.now())
	}
	if res.StatusCode/100 != 2 {
		return refused(res.StatusCode, answer)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the answer of %s makes no sense: %w", s.url, err)
	}
	return nil
}

// client makes one connection and keeps none: requests are hours apart.
func (s *server) client(cert *tls.Certificate) *http.Client {
	c := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.roots}
	if cert != nil {
		c.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: c, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		// A redirect would carry the token to somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func refused(status int, body []byte) error {
	var p struct{ Title, Detail string }
	if json.Unmarshal(body, &p) != nil || p.Detail == "" {
		p.Detail = fmt.Sprintf("the server answered %d %s", status, http.StatusText(status))
	}
	return &refusal{status, p.Detail}
}

// status returns the HTTP status of a refusal, or 0.
func status(err error) int {
	if r := new(refusal); errors.As(err, &r) {
		return r.status
	}
	return 0
}
