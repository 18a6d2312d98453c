package servercert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/keepmq/keepmq/internal/errs"
)

// maxStaple bounds an OCSP response.
const maxStaple = 1 << 16

// A staple is an OCSP response that says that a certificate is good (RFC 6960).
type staple struct {
	response []byte
	until    time.Time // when it is worth nothing
	renew    time.Time // when the next one is asked for
}

func stapleKey(c *x509.Certificate) string {
	return c.SerialNumber.Text(16) + " " + c.Issuer.String()
}

// stapled returns c with what is stapled to it. The caller holds mu.
func (s *Server) stapled(c *tls.Certificate) *tls.Certificate {
	x, ok := s.staples[stapleKey(c.Leaf)]
	if !ok || !time.Now().Before(x.until) {
		return c
	}
	with := *c
	with.OCSPStaple = x.response
	return &with
}

// staple asks for the OCSP responses whose time has come. One that cannot be had
// leaves the former one until its end, and then none: it is for the client to
// decide what that means.
func (s *Server) staple(ctx context.Context) {
	now := time.Now()
	kept := map[string]staple{}
	for _, c := range s.inUse() {
		key := stapleKey(c.Leaf)
		s.mu.Lock()
		x, ok := s.staples[key]
		s.mu.Unlock()
		if len(c.Certificate) < 2 || len(c.Leaf.OCSPServer) == 0 {
			continue
		}
		if !ok || !now.Before(x.renew) {
			fresh, err := s.askOCSP(ctx, c)
			switch {
			case err == nil:
				x, ok = fresh, true
			case ctx.Err() == nil:
				s.config.Log.Warn("no OCSP response for a server certificate", "names", c.Leaf.DNSNames, "err", err)
			}
		}
		if ok && now.Before(x.until) {
			kept[key] = x
		}
	}
	s.mu.Lock()
	s.staples = kept
	s.mu.Unlock()
}

func (s *Server) askOCSP(ctx context.Context, c *tls.Certificate) (staple, error) {
	issuer, err := x509.ParseCertificate(c.Certificate[1])
	if err != nil {
		return staple{}, fmt.Errorf("read issuer: %w", err)
	}
	ask, err := ocsp.CreateRequest(c.Leaf, issuer, nil)
	if err != nil {
		return staple{}, fmt.Errorf("make request: %w", err)
	}
	where, err := url.Parse(c.Leaf.OCSPServer[0])
	if err != nil || where.Scheme != "http" && where.Scheme != "https" || where.Host == "" {
		return staple{}, errs.E(errs.Invalid, "the certificate names no usable OCSP responder")
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, where.String(), bytes.NewReader(ask))
	if err != nil {
		return staple{}, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	res, err := s.web.Do(req)
	if err != nil {
		return staple{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxStaple+1))
	if err != nil || res.StatusCode != http.StatusOK || len(body) > maxStaple {
		return staple{}, fmt.Errorf("the responder answered with status %d and %d bytes: %w", res.StatusCode, len(body), err)
	}
	return readStaple(body, c.Leaf, issuer, time.Now())
}

// readStaple checks an OCSP response: that it is of the certificate, signed for
// its issuer, and good now.
func readStaple(body []byte, leaf, issuer *x509.Certificate, now time.Time) (staple, error) {
	r, err := ocsp.ParseResponseForCert(body, leaf, issuer)
	if err != nil {
		return staple{}, fmt.Errorf("read OCSP response: %w", err)
	}
	switch {
	case r.Status != ocsp.Good:
		return staple{}, errs.E(errs.Denied, "the certificate is not good any more: get another one")
	case now.Before(r.ThisUpdate.Add(-5 * time.Minute)):
		return staple{}, errs.E(errs.Invalid, "the response begins in the future")
	case r.NextUpdate.IsZero() || !now.Before(r.NextUpdate):
		return staple{}, errs.E(errs.Invalid, "the response has ended, or says no end")
	}
	return staple{body, r.NextUpdate, r.ThisUpdate.Add(r.NextUpdate.Sub(r.ThisUpdate) / 2)}, nil
}
