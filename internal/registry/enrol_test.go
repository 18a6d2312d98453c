package registry

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/ca"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

var errDisk = errors.New("the disk is gone")

func (w *world) newEnrolment(t testing.TB, org auth.OrgID, typ, id string) secret.String {
	t.Helper()
	token, err := w.CreateEnrolment(t.Context(), w.admin, org, typ, id, 0)
	check(t, err)
	return token
}

// enrolled returns a certificate of device "t:d" of org.
func (w *world) enrolled(t testing.TB, org auth.OrgID) *x509.Certificate {
	t.Helper()
	chain, err := w.Enrol(t.Context(), w.newEnrolment(t, org, "t", "d"), newCSR(t), "192.0.2.9:1")
	check(t, err)
	return chain[0]
}

// certLogin is what a device with a certificate presents.
func certLogin(org auth.OrgID, id string, cert *x509.Certificate) auth.Credentials {
	return auth.Credentials{ClientID: "d:" + string(org) + ":" + id, Certificate: cert}
}

func TestEnrol(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	token, csr := w.newEnrolment(t, org, "t", "d"), newCSR(t)
	before := len(w.records(t))
	chain, err := w.Enrol(ctx, token, csr, "192.0.2.9:1")
	check(t, err)
	got := slices.DeleteFunc(w.records(t)[before:], func(a string) bool { return strings.HasPrefix(a, "ca.") })
	if !slices.Contains(got, "enrolment.use") || !slices.Contains(got, "certificate.issue") {
		t.Errorf("records %q", got)
	}
	middle := x509.NewCertPool()
	for _, c := range chain[1:] {
		middle.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: w.ca.Roots(), Intermediates: middle,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	check(t, err)
	g, err := w.Verify(ctx, certLogin(org, "t:d", chain[0]))
	check(t, err)
	if g.Ref().Credential != "cert:"+serialOf(chain[0])+":"+hex.EncodeToString(chain[0].AuthorityKeyId) || !g.Ref().Expires.Equal(chain[0].NotAfter) {
		t.Errorf("%+v", g.Ref())
	}
	again, err := w.Enrol(ctx, token, csr, "192.0.2.9:1") // the answer got lost
	check(t, err)
	_, err = w.Verify(ctx, certLogin(org, "t:d", again[0]))
	check(t, err)
	_, err = w.Enrol(ctx, token, newCSR(t), "192.0.2.9:1")
	wantCode(t, err, errs.Conflict)
	if !strings.Contains(errs.Message(err), "already used with another key") {
		t.Error(err)
	}
}

func TestEnrolRefusals(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	enrol := func(token secret.String, csr []byte) error {
		t.Helper()
		before := len(w.records(t))
		_, err := w.Enrol(ctx, token, csr, "192.0.2.9:1")
		if got := w.records(t)[before:]; len(got) != 0 {
			t.Errorf("a refusal left records %q", got)
		}
		return err
	}
	csr := newCSR(t)
	broken := append([]byte(nil), csr...)
	broken[len(broken)-1] ^= 1
	token := w.newEnrolment(t, org, "t", "d")
	wantCode(t, enrol(newToken(), csr), errs.Unauthenticated)
	wantCode(t, enrol(secret.String{}, csr), errs.Unauthenticated)
	wantCode(t, enrol(token, []byte("no request")), errs.Invalid)
	wantCode(t, enrol(token, nil), errs.Invalid)
	wantCode(t, enrol(token, broken), errs.Invalid)
	wantCode(t, enrol(token, make([]byte, 1<<20)), errs.Invalid)
	check(t, w.SetDeviceDisabled(ctx, w.admin, org, "t", "d", true))
	wantCode(t, enrol(token, csr), errs.Denied)
	check(t, w.SetDeviceDisabled(ctx, w.admin, org, "t", "d", false))
	check(t, w.SetOrgDisabled(ctx, w.admin, org, true))
	wantCode(t, enrol(token, csr), errs.Denied)
	check(t, w.SetOrgDisabled(ctx, w.admin, org, false))
	w.clock.move(DefaultEnrolment)
	err := enrol(token, csr)
	wantCode(t, err, errs.Unauthenticated)
	if !strings.Contains(errs.Message(err), "expired") {
		t.Error(err)
	}
	token = w.newEnrolment(t, org, "t", "d")
	check(t, w.DeleteDevice(ctx, w.admin, org, "t", "d"))
	wantCode(t, enrol(token, csr), errs.Unauthenticated)
	for _, ttl := range []time.Duration{time.Second, MaxEnrolment + 1, -1} {
		w.newDevice(t, Device{Org: org, Type: "t", ID: "x" + ttl.String()[:2]})
		_, err := w.CreateEnrolment(ctx, w.admin, org, "t", "x"+ttl.String()[:2], ttl)
		wantCode(t, err, errs.Invalid)
	}
	_, err = w.CreateEnrolment(ctx, w.admin, org, "t", "nope", 0)
	wantCode(t, err, errs.NotFound)
}

// A token that is used twice at once is good for one key.
func TestEnrolOneKeyWins(t *testing.T) {
	w := newWorld(t)
	org, _ := w.simple(t)
	token := w.newEnrolment(t, org, "t", "d")
	const n = 6
	var wg sync.WaitGroup
	results := make(chan error, n)
	for range n {
		csr := newCSR(t)
		wg.Go(func() {
			_, err := w.Enrol(t.Context(), token, csr, "")
			results <- err
		})
	}
	wg.Wait()
	close(results)
	good := 0
	for err := range results {
		if err == nil {
			good++
		} else if errs.CodeOf(err) != errs.Conflict {
			t.Error(err)
		}
	}
	if good != 1 {
		t.Errorf("%d keys were accepted", good)
	}
}

func TestRenewCertificate(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	old := w.enrolled(t, org)
	chain, err := w.RenewCertificate(ctx, old, newCSR(t))
	check(t, err)
	for _, c := range []*x509.Certificate{old, chain[0]} {
		_, err = w.Verify(ctx, certLogin(org, "t:d", c))
		check(t, err)
	}
	_, err = w.RenewCertificate(ctx, old, []byte("x"))
	wantCode(t, err, errs.Invalid)

	check(t, w.RevokeCertificate(ctx, w.admin, org, "t", "d", serialOf(old)))
	_, err = w.RenewCertificate(ctx, old, newCSR(t))
	wantCode(t, err, errs.Unauthenticated)
	wantCode(t, w.RevokeCertificate(ctx, w.admin, org, "t", "d", serialOf(old)), errs.NotFound)
	check(t, w.SetDeviceDisabled(ctx, w.admin, org, "t", "d", true))
	_, err = w.RenewCertificate(ctx, chain[0], newCSR(t))
	wantCode(t, err, errs.Denied)
	check(t, w.SetDeviceDisabled(ctx, w.admin, org, "t", "d", false))
	w.clock.move(chain[0].NotAfter.Sub(w.clock.now()) + time.Second)
	_, err = w.RenewCertificate(ctx, chain[0], newCSR(t))
	wantCode(t, err, errs.Unauthenticated)
}

func TestCertificatesAreBounded(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	cert := w.enrolled(t, org)
	for range maxCertificates - 1 {
		_, err := w.RenewCertificate(ctx, cert, newCSR(t))
		check(t, err)
	}
	_, err := w.RenewCertificate(ctx, cert, newCSR(t))
	wantCode(t, err, errs.Exhausted)
	live, err := w.Certificates(ctx, w.admin, org, "t", "d")
	check(t, err)
	if len(live) != maxCertificates {
		t.Error(len(live))
	}
	foreign := Actor{Principal: auth.Principal{Org: w.newOrg(t, ProfileIoT2), Kind: auth.Application, ID: "a"}}
	_, err = w.Certificates(ctx, foreign, org, "t", "d")
	wantCode(t, err, errs.NotFound)
	wantCode(t, w.RevokeCertificate(ctx, foreign, org, "t", "d", live[0].Serial), errs.NotFound)
}

// hooked is an authority that something happens to while it issues.
type hooked struct {
	Authority
	before func() error // an error: it does not issue
	after  func(*x509.Certificate)
}

func (h hooked) Issue(ctx context.Context, r ca.Request) (*x509.Certificate, error) {
	if h.before != nil {
		if err := h.before(); err != nil {
			return nil, err
		}
	}
	cert, err := h.Authority.Issue(ctx, r)
	if err == nil && h.after != nil {
		h.after(cert)
	}
	return cert, err
}

// with returns a registry of the same store with another authority.
func (w *world) with(a Authority) *Registry {
	return New(Config{DB: w.db, Ring: w.ring, Issuer: a, Now: w.clock.now, Log: slog.New(slog.NewTextHandler(w.log, nil))})
}

// An authority that is down costs the device nothing but time.
func TestEnrolAgainAfterFailure(t *testing.T) {
	w := newWorld(t)
	org, _ := w.simple(t)
	token, csr := w.newEnrolment(t, org, "t", "d"), newCSR(t)
	r := w.with(hooked{Authority: w.ca, before: func() error { return errDisk }})
	_, err := r.Enrol(t.Context(), token, csr, "")
	wantCode(t, err, errs.Unavailable)
	_, err = w.Enrol(t.Context(), token, newCSR(t), "")
	wantCode(t, err, errs.Conflict) // the token is bound already
	_, err = w.Enrol(t.Context(), token, csr, "")
	check(t, err)
}

// A device that is disabled, deleted or not to be noted while its certificate is
// made does not get it, and the certificate is worthless.
func TestCertificateThatMustNotGetOut(t *testing.T) {
	for name, meanwhile := range map[string]func(w *world, org auth.OrgID) (errs.Code, error){
		"disabled": func(w *world, org auth.OrgID) (errs.Code, error) {
			return errs.Denied, w.SetDeviceDisabled(t.Context(), w.admin, org, "t", "d", true)
		},
		"deleted": func(w *world, org auth.OrgID) (errs.Code, error) {
			return errs.NotFound, w.DeleteDevice(t.Context(), w.admin, org, "t", "d")
		},
		"store fails": func(w *world, _ auth.OrgID) (errs.Code, error) {
			w.db.fail(errDisk)
			return errs.Unavailable, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			org, _ := w.simple(t)
			token := w.newEnrolment(t, org, "t", "d")
			var made *x509.Certificate
			var code errs.Code
			r := w.with(hooked{Authority: w.ca, after: func(c *x509.Certificate) {
				made = c
				var err error
				code, err = meanwhile(w, org)
				check(t, err)
			}})
			_, err := r.Enrol(t.Context(), token, newCSR(t), "")
			w.db.fail(nil)
			wantCode(t, err, code)
			revoked, err := w.ca.Revoked(t.Context(), made.SerialNumber)
			check(t, err)
			if !revoked {
				t.Error("the certificate is not revoked")
			}
			_, err = w.Verify(t.Context(), certLogin(org, "t:d", made))
			wantCode(t, err, errs.Unauthenticated)
		})
	}
}

// What is deleted here is revoked at the authority too.
func TestDeletedDeviceIsRevoked(t *testing.T) {
	w := newWorld(t)
	org, _ := w.simple(t)
	cert := w.enrolled(t, org)
	check(t, w.DeleteDevice(t.Context(), w.admin, org, "t", "d"))
	if revoked, err := w.ca.Revoked(t.Context(), cert.SerialNumber); err != nil || !revoked {
		t.Error(revoked, err)
	}
	// And the other way round: what the authority alone revoked is refused.
	w.newDevice(t, Device{Org: org, Type: "t", ID: "d"})
	cert = w.enrolled(t, org)
	check(t, w.ca.Revoke(t.Context(), cert.SerialNumber, reasonUnspecified))
	_, err := w.Verify(t.Context(), certLogin(org, "t:d", cert))
	wantCode(t, err, errs.Unauthenticated)
	_, err = w.RenewCertificate(t.Context(), cert, newCSR(t))
	wantCode(t, err, errs.Unauthenticated)
}
