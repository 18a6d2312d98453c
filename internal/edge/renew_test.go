package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func certificateFrom(from time.Time, life time.Duration) *tls.Certificate {
	return &tls.Certificate{Leaf: &x509.Certificate{NotBefore: from, NotAfter: from.Add(life)}}
}

func TestRenewAt(t *testing.T) {
	from := time.Unix(0, 0)
	c := certificateFrom(from, 30*time.Hour).Leaf
	for chance, want := range map[float64]time.Duration{0: 18*time.Hour + 30*time.Minute, 0.5: 20 * time.Hour, 1: 21*time.Hour + 30*time.Minute} {
		if got := renewAt(c, chance).Sub(from).Round(time.Second); got != want {
			t.Errorf("chance %v: after %v, want %v", chance, got, want)
		}
	}
}

// runRenewer renews with do until the time is over, and returns when it asked.
func runRenewer(t *testing.T, first *tls.Certificate, during time.Duration, do func() (*tls.Certificate, error)) (asked []time.Duration, told int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		first.Leaf.NotBefore, first.Leaf.NotAfter = began, began.Add(first.Leaf.NotAfter.Sub(first.Leaf.NotBefore))
		var current atomic.Pointer[tls.Certificate]
		current.Store(first)
		renewed := make(chan struct{}, 1)
		r := &renewer{current: &current, renewed: renewed, log: quiet(), renew: func(context.Context, *tls.Certificate) (*tls.Certificate, error) {
			asked = append(asked, time.Since(began))
			return do()
		}}
		ctx, cancel := context.WithTimeout(context.Background(), during)
		defer cancel()
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		for {
			select {
			case <-renewed:
				told++
			case <-done:
				return
			}
		}
	})
	return asked, told
}

func TestRenewOnTime(t *testing.T) {
	const life = 24 * time.Hour
	asked, told := runRenewer(t, certificateFrom(time.Time{}, life), 72*time.Hour, func() (*tls.Certificate, error) {
		return certificateFrom(time.Now(), life), nil
	})
	if n := len(asked); n < 4 || n > 5 || told != n {
		t.Fatalf("asked %v, told %d times", asked, told)
	}
	before := time.Duration(0)
	for _, at := range asked {
		if gap := at - before; gap < life*61/100 || gap > life*73/100 {
			t.Errorf("renewed after %v of %v", gap, life)
		}
		before = at
	}
}

// TestRenewRetries: failures are retried, sooner as the end comes nearer, and
// not at all when it has come.
func TestRenewRetries(t *testing.T) {
	const life = 24 * time.Hour
	asked, told := runRenewer(t, certificateFrom(time.Time{}, life), 48*time.Hour, func() (*tls.Certificate, error) {
		return nil, errors.New("away")
	})
	if len(asked) < 8 || told != 0 || asked[0] < life/2 {
		t.Errorf("asked at %v", asked)
	}
	if last := slices.Max(asked); last > life || last < life-time.Hour {
		t.Errorf("asked last at %v", last)
	}
	failures := 3
	asked, told = runRenewer(t, certificateFrom(time.Time{}, life), life, func() (*tls.Certificate, error) {
		if failures--; failures >= 0 {
			return nil, errors.New("away")
		}
		return certificateFrom(time.Now(), life), nil
	})
	if len(asked) != 4 || told != 1 {
		t.Errorf("asked at %v, told %d times", asked, told)
	}
}

func TestRenewSwapsTheCertificate(t *testing.T) {
	a := newAuthority(t)
	f := testFolder(t, t.TempDir())
	old, err := enrolIn(t, f, a.server(), "good")
	if err != nil {
		t.Fatal(err)
	}
	next, err := renew(context.Background(), f, a.server(), old)
	if err != nil {
		t.Fatal(err)
	}
	key, err := openKey(f)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := loadCertificate(f, key)
	if err != nil || !kept.Leaf.Equal(next.Leaf) || next.Leaf.Equal(old.Leaf) {
		t.Errorf("kept serial %v, renewed %v, had %v: %v", kept.Leaf.SerialNumber, next.Leaf.SerialNumber, old.Leaf.SerialNumber, err)
	}
	a.set(func() { a.answer = func(c *x509.Certificate) { c.Subject.CommonName = "d:sensor:other" } })
	if _, err := renew(context.Background(), f, a.server(), next); err == nil {
		t.Error("took a certificate for another device")
	}
	a.set(func() { a.fail = 401 })
	if _, err := renew(context.Background(), f, a.server(), next); status(err) != 401 {
		t.Errorf("refused: %v", err)
	}
	if kept, err := loadCertificate(f, key); err != nil || !kept.Leaf.Equal(next.Leaf) {
		t.Errorf("a refusal changed what is kept: %v", err)
	}
}
