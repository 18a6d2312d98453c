// Package servercert chooses the certificate that the server shows: the one for
// the name that a client asks for, from a file, from an ACME authority or of an
// organisation, and else the one of our own authority.
//
// It renews what it can before it ends, takes a changed file into use without a
// restart, and staples OCSP responses. Keys that it keeps are sealed by the
// keyring. It listens nowhere: an ACME authority proves the name with a
// handshake on a port that is open anyway (RFC 8737).
package servercert

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/keepmq/keepmq/internal/store"
)

// Where a certificate comes from.
const (
	SourceOwn  = "own"  // our own authority
	SourceFile = "file" // a file of the operator
	SourceACME = "acme" // an ACME authority
	SourceOrg  = "organisation"
)

// How often is looked for changed files, and for what has to be renewed.
const (
	filesEvery = 10 * time.Second
	workEvery  = 10 * time.Minute
)

// A Config says what certificates there are beside our own.
type Config struct {
	CertificateFile string // PEM, the server's first; empty: none
	KeyFile         string // PEM
	ACME            *ACME  // nil: none

	// Organisations returns the certificates of organisations. It is asked again
	// after Changed.
	Organisations func(context.Context) ([]OfOrg, error)

	DB   store.DB
	Ring Sealer
	Log  *slog.Logger
}

// A Sealer is the part of keyring.Ring that keeps keys.
type Sealer interface {
	Seal(purpose string, plaintext []byte) ([]byte, error)
	Open(purpose string, sealed []byte) ([]byte, error)
}

// OfOrg is the certificate of an organisation, and the names that it is for.
type OfOrg struct {
	Org         string
	Names       []string
	Certificate tls.Certificate
}

// A Source is a certificate in use, as people see it.
type Source struct {
	From    string
	Org     string
	Names   []string // empty: every name that no other has
	Serial  string   // hexadecimal; empty: there is none yet
	Issuer  string
	Ends    time.Time
	Stapled bool
	Problem string // why the next one is not there
	life    time.Duration
}

// A Server chooses certificates. It may be used from any goroutine.
type Server struct {
	config Config
	acme   *authority
	web    *http.Client
	chosen atomic.Pointer[choice]

	mu      sync.Mutex // guards the fields below
	own     *tls.Certificate
	file    *tls.Certificate
	fileID  string // of the files that file was read from
	problem string // with the files
	orgs    []OfOrg
	staples map[string]staple // by serial and issuer
}

// A choice is what is shown for which name. It is immutable.
type choice struct {
	own      *tls.Certificate
	fallback *tls.Certificate            // for clients that name nothing
	named    map[string]*tls.Certificate // by name, also "*.example.org"
}

// Open reads the files, and what an ACME authority gave before. It asks nobody
// for anything yet.
func Open(ctx context.Context, c Config) (*Server, error) {
	s := &Server{config: c, web: &http.Client{Timeout: 30 * time.Second}, staples: map[string]staple{}}
	if c.CertificateFile != "" {
		if err := s.readFiles(); err != nil {
			return nil, err
		}
	}
	if c.ACME != nil {
		a, err := newAuthority(*c.ACME, c)
		if err != nil {
			return nil, err
		}
		s.acme = a
		s.acme.load(ctx)
	}
	if err := s.readOrgs(ctx); err != nil {
		return nil, err
	}
	s.choose()
	return s, nil
}

// SetOwn gives the certificate of our own authority.
func (s *Server) SetOwn(c *tls.Certificate) {
	s.mu.Lock()
	s.own = c
	s.mu.Unlock()
	s.choose()
}

// Changed says that certificates of organisations have changed. It returns when
// the new ones are in use.
func (s *Server) Changed(ctx context.Context) error {
	if err := s.readOrgs(ctx); err != nil {
		return err
	}
	s.choose()
	return nil
}

func (s *Server) readOrgs(ctx context.Context) error {
	if s.config.Organisations == nil {
		return nil
	}
	all, err := s.config.Organisations(ctx)
	if err != nil {
		return fmt.Errorf("certificates of organisations: %w", err)
	}
	s.mu.Lock()
	s.orgs = all
	s.mu.Unlock()
	return nil
}

// Get is a tls.Config's GetCertificate.
func (s *Server) Get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.acme != nil && slices.Equal(h.SupportedProtos, []string{acme.ALPNProto}) {
		return s.acme.manager.GetCertificate(h)
	}
	now := s.chosen.Load()
	c := now.fallback
	if h.ServerName != "" {
		c = now.of(h.ServerName)
	}
	if c == nil || c != now.own && h.SupportsCertificate(c) != nil {
		c = now.own
	}
	if c == nil {
		return nil, errors.New("there is no server certificate")
	}
	return c, nil
}

// of returns what is shown for a name, or nil.
func (c *choice) of(name string) *tls.Certificate {
	if len(c.named) == 0 {
		return nil
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if found := c.named[name]; found != nil {
		return found
	}
	_, rest, _ := strings.Cut(name, ".")
	return c.named["*."+rest]
}

// Protocols returns the application protocols of the port where names are proved,
// beside those it speaks.
func (s *Server) Protocols(spoken ...string) []string {
	if s.acme != nil {
		spoken = append(spoken, acme.ALPNProto)
	}
	return spoken
}

// choose puts what there is into use. Whose name it is goes first: the operator's
// file, then ACME, then organisations, which have only names that are theirs.
func (s *Server) choose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &choice{own: s.own, named: map[string]*tls.Certificate{}}
	add := func(names []string, cert *tls.Certificate) {
		for _, n := range names {
			n = strings.ToLower(n)
			if c.named[n] == nil {
				c.named[n] = s.stapled(cert)
			}
		}
		if c.fallback == nil && len(names) > 0 {
			c.fallback = s.stapled(cert)
		}
	}
	if s.file != nil {
		add(s.file.Leaf.DNSNames, s.file)
	}
	if s.acme != nil {
		for _, name := range s.acme.config.Names {
			if cert := s.acme.have[name]; cert != nil {
				add([]string{name}, cert)
			}
		}
	}
	fallback := c.fallback
	for i := range s.orgs {
		add(s.orgs[i].Names, &s.orgs[i].Certificate)
	}
	c.fallback = cmp.Or(fallback, c.own) // what an organisation has is for its names only
	s.chosen.Store(c)
}

// Run keeps certificates until ctx ends.
func (s *Server) Run(ctx context.Context) {
	var parts sync.WaitGroup
	defer parts.Wait()
	if s.acme != nil {
		parts.Go(func() { // by itself, because an authority may take its time
			every(ctx, filesEvery, func() {
				if s.acme.obtain(ctx, &s.mu) {
					s.work(ctx)
				}
			})
		})
	}
	parts.Go(func() { every(ctx, workEvery, func() { s.work(ctx) }) })
	every(ctx, filesEvery, s.watchFiles)
}

// every calls do at once and then after each pause, until ctx ends.
func every(ctx context.Context, pause time.Duration, do func()) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// work takes what others have changed, renews what is stapled, and says what was
// not renewed.
func (s *Server) work(ctx context.Context) {
	if err := s.readOrgs(ctx); err != nil && ctx.Err() == nil {
		s.config.Log.Error("the former certificates of organisations stay in use", "err", err)
	}
	s.staple(ctx)
	s.choose()
	for _, x := range s.Sources() {
		if x.From != SourceOwn && !x.Ends.IsZero() && time.Until(x.Ends) < min(soon, x.life/6) {
			s.config.Log.Error("a server certificate ends soon and was not renewed", "from", x.From, "org", x.Org,
				"names", x.Names, "ends", x.Ends, "problem", x.Problem)
		}
	}
}

// soon is how long before the end of a certificate it is worth an error in the
// log; of one with a short life, the last sixth is.
const soon = 7 * 24 * time.Hour

// Sources returns the certificates in use, and those that should be.
func (s *Server) Sources() []Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Source
	add := func(x Source, c *tls.Certificate) {
		if c != nil {
			x.Serial, x.Issuer, x.Ends = c.Leaf.SerialNumber.Text(16), c.Leaf.Issuer.String(), c.Leaf.NotAfter
			x.life = c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)
			_, x.Stapled = s.staples[stapleKey(c.Leaf)]
		}
		all = append(all, x)
	}
	add(Source{From: SourceOwn}, s.own)
	if s.config.CertificateFile != "" {
		add(Source{From: SourceFile, Names: slices.Clone(s.file.Leaf.DNSNames), Problem: s.problem}, s.file)
	}
	if s.acme != nil {
		for _, name := range s.acme.config.Names {
			add(Source{From: SourceACME, Names: []string{name}, Problem: s.acme.problems[name]}, s.acme.have[name])
		}
	}
	for i := range s.orgs {
		add(Source{From: SourceOrg, Org: s.orgs[i].Org, Names: slices.Clone(s.orgs[i].Names)}, &s.orgs[i].Certificate)
	}
	return all
}

// inUse returns what may be stapled to: not what organisations have, whose
// authorities we do not ask.
func (s *Server) inUse() []*tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*tls.Certificate
	if s.file != nil {
		all = append(all, s.file)
	}
	if s.acme != nil {
		all = slices.AppendSeq(all, maps.Values(s.acme.have))
	}
	return all
}

// leaf fills in the parsed certificate.
func leaf(c *tls.Certificate) error {
	if c.Leaf != nil {
		return nil
	}
	if len(c.Certificate) == 0 {
		return errors.New("it is empty")
	}
	var err error
	c.Leaf, err = x509.ParseCertificate(c.Certificate[0])
	return err
}
