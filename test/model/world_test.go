package model

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/broker"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/quota"
)

// The server's limits in these tests.
const (
	maxInflight = 8
	maxAliases  = 3
	maxPacket   = 4096
)

// A reporter is a *rapid.T or a *testing.T.
type reporter interface {
	Helper()
	Log(args ...any)
	Fatal(args ...any)
}

// A world is a broker with its surroundings, and the model of it.
type world struct {
	t       reporter
	fs      *vfs.MemFS
	engine  *embedded.Engine
	broker  *broker.Broker
	ln      *listener
	served  chan error
	dir     *directory
	devices []*device
	conns   []*conn // that are not over yet
	dialed  int
	crashes uint64
	history []string

	// The model.
	sessions map[identity]*session
	retained map[string]versions
	ghosts   []*will // taken back; a power cut may bring them back
	order    int     // of messages
	seq      int     // of entries
	arrivals int
	texts    int
	shaky    bool // connections are ending, in no particular order
	jumbled  bool // messages of several clients come at one moment: which is the last is not known
	racing   bool // nobody waits for anything to settle
}

// seals is the key of every organisation.
type seals struct{ cipher.AEAD }

func (s seals) Seal(dst, plaintext, additional []byte) []byte {
	return s.AEAD.Seal(dst, nil, plaintext, additional)
}

func (s seals) Open(dst, sealed, additional []byte) ([]byte, error) {
	return s.AEAD.Open(dst, nil, sealed, additional)
}

func sealer(context.Context, auth.OrgID) (embedded.Sealer, error) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return seals{aead}, err
}

// pki is the server's certificate, good at the beginning of a bubble's time and
// for as long as a case may last.
var pki = sync.OnceValue(func() (p struct {
	roots  *x509.CertPool
	server tls.Certificate
}) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	p.roots = x509.NewCertPool()
	p.roots.AddCert(cert)
	p.server = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: cert}
	return p
})

func (w *world) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: pki().roots, ServerName: "localhost", CurvePreferences: []tls.CurveID{tls.X25519}, MinVersion: tls.VersionTLS13}
}

func newWorld(t reporter) *world {
	w := &world{t: t, fs: vfs.NewCrashableMem(), dir: newDirectory(), sessions: map[identity]*session{}, retained: map[string]versions{}}
	for _, id := range []identity{
		{"alpha1", "ann", "c1"}, {"alpha1", "ann", "c2"}, {"alpha1", "bob", "c1"}, {"alpha1", "bob", "c3"}, {"beta22", "ann", "c1"}, {"alpha1", "ann", "c4"},
	} {
		w.devices = append(w.devices, &device{id: id})
	}
	w.open()
	return w
}

func (w *world) user(id identity) *user {
	for _, u := range w.dir.users {
		if u.org == id.org && u.name == id.user {
			return u
		}
	}
	panic("no user of " + id.String())
}

// open starts the engine and the broker on what is on the disk.
func (w *world) open() {
	var err error
	w.engine, err = embedded.Open(context.Background(), embedded.Options{
		Dir: "data", FS: w.fs, Sealer: sealer, Log: slog.New(slog.NewTextHandler(historyLog{w}, nil)), Limits: embedded.Limits{Cache: 1 << 20},
	})
	if err != nil {
		w.failf("open the engine: %v", err)
	}
	w.broker, err = broker.New(broker.Config{
		Verifier: w.dir, Engine: w.engine, Log: slog.New(slog.DiscardHandler),
		TLS:          func() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{pki().server}} },
		TopicAliases: maxAliases,
		Limits:       quota.Limits{}.With(quota.ClientInflight, maxInflight).With(quota.ClientPacket, maxPacket),
		// Nobody is cut off for acknowledging late: that is the point.
		WriteTimeout: 1000 * time.Hour, MaxSessionExpiry: 1000 * time.Hour,
	})
	if err != nil {
		w.failf("make the broker: %v", err)
	}
	w.ln, w.served = newListener(), make(chan error, 1)
	b, ln, served := w.broker, w.ln, w.served
	go func() { served <- b.Serve(ln) }()
	synctest.Wait()
}

// stop ends the broker and the engine.
func (w *world) stop() {
	if w.broker == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b, e := w.broker, w.engine
	w.broker, w.engine = nil, nil
	shut := b.Shutdown(ctx)
	served := <-w.served
	if err := errors.Join(shut, served, e.Close()); err != nil {
		w.failf("stop the server: %v", err)
	}
}

// crash cuts the power: what was not synced is gone, or some of it.
func (w *world) crash() {
	for _, c := range w.conns {
		c.raw.freeze()
	}
	cfg := vfs.CrashCloneCfg{RNG: mathrand.New(mathrand.NewPCG(w.crashes, 0))}
	if w.crashes++; w.crashes%2 == 0 {
		cfg.UnsyncedDataPercent = 50
	}
	after := w.fs.CrashClone(cfg)
	w.stop() // changes nothing in what is left after the crash
	w.fs = after
}

// close ends everything, whatever state it is in.
func (w *world) close() {
	for _, c := range w.conns {
		c.raw.Close()
	}
	w.stop()
	for _, c := range w.conns {
		<-c.done
	}
}

// historyLog takes what the engine logs into the history.
type historyLog struct{ w *world }

func (l historyLog) Write(p []byte) (int, error) {
	return len(p), nil
}

func (w *world) logf(format string, args ...any) {
	w.history = append(w.history, fmt.Sprintf(format, args...))
}

// failf reports what is wrong, with what led to it. The failure itself has the
// same words in each run, as rapid needs it to make the case smaller.
func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	all := fmt.Sprintf("the steps:\n%s\n%s", strings.Join(w.history, "\n"), fmt.Sprintf(format, args...))
	firstFailure.CompareAndSwap(nil, &all)
	w.t.Log(all)
	w.t.Fatal(strings.NewReplacer("%v", "…", "%s", "…", "%q", "…", "%d", "…", "%+v", "…").Replace(format))
}

// firstFailure is what rapid does not show if it finds a smaller case, or
// cannot repeat it.
var firstFailure atomic.Pointer[string]

var _ net.Conn = (*wire)(nil)
