package servercert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/keepmq/keepmq/internal/audit"
	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// ACME says which authority gives certificates for which names (RFC 8555).
type ACME struct {
	Directory string // its URL, https
	Names     []string
	Email     string         // for notices; may be empty
	Roots     *x509.CertPool // who may have signed the authority's own certificate; nil: the system's
	KeyID     string         // of an account there (external account binding); empty: none is needed
	Key       secret.String  // for KeyID: base64url
}

// How long after a failure the next attempt comes: each time twice as long.
const (
	firstRetry = time.Minute
	lastRetry  = 6 * time.Hour
)

// An authority gets certificates from an ACME authority. A Server's mu guards
// have, problems and retry.
type authority struct {
	config  ACME
	manager *autocert.Manager
	cache   *cache
	log     Config

	have     map[string]*tls.Certificate
	problems map[string]string
	retry    map[string]retry
}

type retry struct {
	next  time.Time
	pause time.Duration
}

func newAuthority(a ACME, c Config) (*authority, error) {
	client := &acme.Client{DirectoryURL: a.Directory, UserAgent: "keepmq"}
	if a.Roots != nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.Roots}
		client.HTTPClient = &http.Client{Transport: t, Timeout: time.Minute}
	}
	kept := &cache{db: c.DB, ring: c.Ring}
	m := &autocert.Manager{Client: client, Prompt: autocert.AcceptTOS, Cache: kept, Email: a.Email, HostPolicy: autocert.HostWhitelist(a.Names...)}
	if a.KeyID != "" {
		key, err := macKey(a.Key)
		if err != nil {
			return nil, err
		}
		m.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: a.KeyID, Key: key}
	}
	return &authority{config: a, manager: m, cache: kept, log: c,
		have: map[string]*tls.Certificate{}, problems: map[string]string{}, retry: map[string]retry{}}, nil
}

// macKey decodes the key of an external account binding.
func macKey(key secret.String) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(key.Reveal())
	if err != nil || len(b) < 32 {
		return nil, errs.E(errs.Invalid, "tls.acme.eab_key_file: must hold at least 32 bytes in base64url, without padding")
	}
	return b, nil
}

// hello is what a client says that gets a certificate for name with an ECDSA key.
func hello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: name, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
}

// load takes what was given before, without asking the authority. What is not
// there, or is damaged, is asked for later.
func (a *authority) load(ctx context.Context) {
	for _, name := range a.config.Names {
		b, err := a.cache.Get(ctx, name)
		if err != nil {
			continue
		}
		// The key stands before the chain, in one file of PEM.
		if pair, err := Pair(b, b, time.Now()); err == nil && pair.Leaf.VerifyHostname(name) == nil {
			a.have[name] = &pair
		}
	}
}

// obtain asks for what is not there yet and whose time has come, takes what the
// manager has renewed by now, and reports whether there is anything new.
func (a *authority) obtain(ctx context.Context, mu *sync.Mutex) (changed bool) {
	for _, name := range a.config.Names {
		mu.Lock()
		due := !time.Now().Before(a.retry[name].next)
		mu.Unlock()
		if due && ctx.Err() == nil && a.get(ctx, mu, name) {
			changed = true
		}
	}
	return changed
}

// get asks the manager for the certificate of a name, and reports whether it is a
// new one.
func (a *authority) get(ctx context.Context, mu *sync.Mutex, name string) bool {
	cert, err := a.manager.GetCertificate(hello(name))
	if err == nil {
		err = leaf(cert)
	}
	if err == nil {
		err = checkLeaf(cert.Leaf, time.Now())
	}
	mu.Lock()
	before := a.have[name]
	if err != nil {
		r := a.retry[name]
		r.pause = min(max(2*r.pause, firstRetry), lastRetry)
		r.next = time.Now().Add(r.pause)
		a.retry[name], a.problems[name] = r, err.Error()
		mu.Unlock()
		if ctx.Err() == nil {
			a.log.Log.Error("the ACME authority gave no certificate", "name", name, "retry", r.pause, "err", err)
		}
		return false
	}
	a.have[name] = cert
	delete(a.retry, name)
	delete(a.problems, name)
	mu.Unlock()
	if before != nil && before.Leaf.Equal(cert.Leaf) {
		return false
	}
	a.log.Log.Info("a certificate of the ACME authority is in use", "name", name, "ends", cert.Leaf.NotAfter)
	if err := a.record(ctx, name, cert.Leaf); err != nil && ctx.Err() == nil {
		a.log.Log.Error("a new certificate of the ACME authority is not on the audit record", "name", name, "err", err)
	}
	return true
}

func (a *authority) record(ctx context.Context, name string, leaf *x509.Certificate) error {
	ctx, cancel := context.WithTimeout(store.ForAll(ctx), 10*time.Second)
	defer cancel()
	return a.cache.db.Update(ctx, func(tx *store.Tx) error {
		return audit.Append(ctx, tx, audit.Event{Actor: auth.Principal{Kind: auth.System, ID: "acme"}, Action: "certificate.acme", Target: name,
			Detail: map[string]any{"serial": leaf.SerialNumber.Text(16), "issuer": leaf.Issuer.String(), "ends": leaf.NotAfter.UTC().Format(time.RFC3339)}})
	})
}

// A cache keeps what an autocert.Manager has to remember: account key,
// certificates with their keys, and the tokens of challenges, which every node
// that shares the store can answer.
type cache struct {
	db   store.DB
	ring Sealer
}

var _ autocert.Cache = (*cache)(nil)

// maxEntry bounds one entry.
const maxEntry = 1 << 20

func cachePurpose(name string) string { return "servercert/acme/" + name }

// Get implements autocert.Cache. An entry that cannot be opened is not there: it
// is asked for again.
func (c *cache) Get(ctx context.Context, name string) ([]byte, error) {
	var sealed []byte
	err := c.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT sealed FROM acme_cache WHERE name = $1`, name).Scan(&sealed)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, autocert.ErrCacheMiss
	}
	if err != nil {
		return nil, fmt.Errorf("read ACME state: %w", err)
	}
	return c.ring.Open(cachePurpose(name), sealed)
}

// Put implements autocert.Cache.
func (c *cache) Put(ctx context.Context, name string, data []byte) error {
	if len(name) > 300 || len(data) > maxEntry {
		return errs.E(errs.Invalid, "the ACME authority gave too much: %d bytes", len(data))
	}
	sealed, err := c.ring.Seal(cachePurpose(name), data)
	if err != nil {
		return err
	}
	err = c.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		const q = `INSERT INTO acme_cache (name, sealed) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed`
		_, err := tx.ExecContext(ctx, q, name, sealed)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep ACME state: %w", err)
	}
	return nil
}

// Delete implements autocert.Cache.
func (c *cache) Delete(ctx context.Context, name string) error {
	err := c.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM acme_cache WHERE name = $1`, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete ACME state: %w", err)
	}
	return nil
}
