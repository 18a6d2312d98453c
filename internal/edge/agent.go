// Package edge is the agent on a device. It enrols the device, reads its
// sensors, and brings the readings to the server.
//
// What it promises: the device's key is made on the device and never leaves
// it. A reading that was kept on disk reaches the server once, in order and
// with its original time, however often the connection, the process or the
// power fails; what could not be kept is counted, and the count is reported as
// a reading of the source "dropped". There is no connection without TLS.
package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keepmq/keepmq/internal/client"
	"github.com/keepmq/keepmq/internal/edge/sources"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// DefaultSpool is how many bytes of readings are kept while the server is away.
const DefaultSpool = 256 << 20

const (
	minSpool  = 1 << 20
	keepAlive = 30 * time.Second
	leastWait = time.Second
	mostWait  = time.Minute
)

// Config says how to run the agent. Server, Broker and CA are needed at the
// first start; later they replace what the folder remembers.
type Config struct {
	Dir    string // the agent's folder: key, certificate, readings
	Server string // https://host:port of the API
	Broker string // host:port for MQTT; "": the server's host and port 8883
	CA     []byte // PEM: the only authorities that are trusted
	// Token is asked for when the device has no valid certificate; it returns
	// the zero String if there is none.
	Token    func() (secret.String, error)
	Interval time.Duration // between two readings of a source
	Spool    int64         // bytes; 0: DefaultSpool
	Sources  []sources.Source
	Log      *slog.Logger
	// Enrolled is told who the device is, before it first connects; may be nil.
	Enrolled func(Identity)
}

func (c Config) validate() error {
	var bad []error
	if c.Dir == "" {
		bad = append(bad, errors.New("the agent's folder is missing: give it with --dir"))
	}
	if c.Interval < 100*time.Millisecond || c.Interval > 24*time.Hour {
		bad = append(bad, fmt.Errorf("the interval is %v and must be between 100ms and 24h", c.Interval))
	}
	if c.Spool < minSpool {
		bad = append(bad, fmt.Errorf("the spool has %d bytes and needs %d at least", c.Spool, minSpool))
	}
	if err := errors.Join(bad...); err != nil {
		return errs.Wrap(errs.Invalid, err, "the agent cannot start")
	}
	return nil
}

// Run enrols the device if it has no certificate, and then reads its sensors
// and publishes the readings until ctx ends. It returns an error only if it
// cannot start: once started, it goes on whatever fails.
func Run(ctx context.Context, c Config) error {
	if c.Spool == 0 {
		c.Spool = DefaultSpool
	}
	if err := c.validate(); err != nil {
		return err
	}
	home, err := openFolder(c.Dir)
	if err != nil {
		return fmt.Errorf("open the agent's folder: %w", err)
	}
	defer home.Close() //nolint:errcheck // files are synced one by one
	lock, err := home.lock()
	if err != nil {
		return err
	}
	defer lock.Close() //nolint:errcheck // ends with the process anyway
	d, err := prepare(ctx, home, c)
	if err != nil {
		return err
	}
	if c.Enrolled != nil {
		c.Enrolled(d.identity)
	}
	return d.run(ctx, c)
}

// A device is an agent that is enrolled.
type device struct {
	home     *folder
	settings settings
	roots    *x509.CertPool
	server   *server
	identity Identity
	current  atomic.Pointer[tls.Certificate]
}

// prepare makes sure that there is a certificate.
func prepare(ctx context.Context, home *folder, c Config) (*device, error) {
	kept, err := loadSettings(home)
	if err != nil {
		return nil, err
	}
	d := &device{home: home, settings: kept.with(c)}
	if d.roots, err = d.settings.check(); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "the agent cannot start")
	}
	d.server = &server{url: d.settings.Server, roots: d.roots, now: time.Now}
	key, err := openKey(home)
	if err != nil {
		return nil, err
	}
	cert, err := d.certificate(ctx, key, c)
	if err != nil {
		return nil, err
	}
	if d.identity, err = identityOf(cert.Leaf); err != nil {
		return nil, err
	}
	if was := d.settings.Client; was != "" && was != d.identity.ClientID() {
		return nil, &Problem{fmt.Sprintf("this folder belongs to %s, and the certificate is for %s", was, d.identity.ClientID()),
			"give the other device a folder of its own with --dir", nil}
	}
	d.settings.Client = d.identity.ClientID()
	d.current.Store(cert)
	if d.settings != kept {
		return d, d.settings.save(home)
	}
	return d, nil
}

// certificate returns the one that is kept, or enrols.
func (d *device) certificate(ctx context.Context, key *ecdsa.PrivateKey, c Config) (*tls.Certificate, error) {
	cert, err := loadCertificate(d.home, key)
	now := time.Now()
	if err != nil || cert != nil && !now.After(cert.Leaf.NotAfter) {
		return cert, err
	}
	token, err := c.Token()
	if err != nil {
		return nil, err
	}
	switch {
	case token.Reveal() != "":
		c.Log.Info("enrolling", "server", d.settings.Server)
		return enrol(ctx, d.home, d.server, key, token, d.settings.Client)
	case cert != nil:
		return nil, &Problem{fmt.Sprintf("the device's certificate expired at %s, and an expired one cannot be renewed", cert.Leaf.NotAfter.UTC().Format(time.RFC3339)),
			"check this device's clock; if it is right, " + askForToken + " and start the agent with it", nil}
	}
	return nil, &Problem{"this device is not enrolled, and there is no enrolment token", askForToken + " and pipe it in with --token-stdin", nil}
}

// run joins the sampler, the uplink and the renewer until ctx ends.
func (d *device) run(ctx context.Context, c Config) error {
	store, err := openFolder(filepath.Join(c.Dir, "spool"))
	if err != nil {
		return fmt.Errorf("open spool: %w", err)
	}
	defer store.Close() //nolint:errcheck // files are synced one by one
	s, p, err := openSpool(store, c.Spool, c.Log)
	if err != nil {
		return err
	}
	defer s.close()
	renewed := make(chan struct{}, 1)
	log := c.Log.With("org", d.identity.Org, "device", d.identity.Type+":"+d.identity.ID)
	sample := &sampler{sources: c.Sources, interval: c.Interval, keep: s.append, log: log}
	if sample.sources == nil {
		sample.sources = sources.Host()
	}
	up := newUplink(s, p, uplink{
		dial: d.dial, topic: d.identity.topic, renewed: renewed, log: log, backoff: backoff{least: leastWait, most: mostWait},
	})
	fresh := &renewer{current: &d.current, renewed: renewed, log: log, renew: func(ctx context.Context, old *tls.Certificate) (*tls.Certificate, error) {
		return renew(ctx, d.home, d.server, old)
	}}
	var all sync.WaitGroup
	all.Go(func() { sample.run(ctx) })
	all.Go(func() { up.run(ctx) })
	all.Go(func() { fresh.run(ctx) })
	all.Wait()
	return nil
}

// dial connects with mutual TLS, as who the certificate says we are, to the
// session that has no end.
func (d *device) dial(ctx context.Context) (*client.Client, error) {
	cert := d.current.Load()
	c, err := client.Dial(ctx, client.Config{
		Address: d.settings.Broker, ClientID: d.identity.ClientID(),
		TLS:           &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: d.roots, Certificates: []tls.Certificate{*cert}},
		SessionExpiry: client.Never, KeepAlive: keepAlive,
	})
	if err == nil {
		return c, nil
	}
	if time.Now().After(cert.Leaf.NotAfter) {
		return nil, &Problem{"the device's certificate has expired", askForToken, err}
	}
	if no := new(client.Refusal); errors.As(err, &no) {
		return nil, err
	}
	return nil, unreachable(d.settings.Broker, err, time.Now())
}
