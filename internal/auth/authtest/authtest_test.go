package authtest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/secret"
)

// memory is a small Verifier. With a fault it is a wrong one.
type memory struct {
	fault string

	mu        sync.Mutex // guards all below
	failing   bool
	orgs      map[auth.OrgID]bool // whether it is enabled
	clients   map[auth.Principal]*account
	limits    map[string]quota.Limits // by "organisation/type"
	listeners map[chan event]struct{}
}

type account struct {
	token    string
	version  int
	disabled bool
	certs    map[*x509.Certificate]bool
}

var orgs = [2]auth.OrgID{"abc123", "xyz789"}

func newMemory(fault string) *memory {
	return &memory{fault: fault, orgs: map[auth.OrgID]bool{orgs[0]: true, orgs[1]: true},
		clients: map[auth.Principal]*account{}, limits: map[string]quota.Limits{}, listeners: map[chan event]struct{}{}}
}

var errNo = errs.E(errs.Unauthenticated, "not accepted")

// claim returns who the credentials say it is.
func (m *memory) claim(c auth.Credentials) (auth.Principal, bool) {
	parts := strings.Split(c.ClientID, ":")
	for _, p := range parts {
		if auth.CheckName("part", p) != nil {
			return auth.Principal{}, false
		}
	}
	if len(parts) < 3 {
		return auth.Principal{}, false
	}
	p := auth.Principal{Org: auth.OrgID(parts[1])}
	switch {
	case parts[0] == "a" && len(parts) == 3 && strings.HasPrefix(c.Username, "a-"+parts[1]+"-"):
		p.Kind, p.ID = auth.Application, c.Username
	case len(parts) != 4 || c.Password.Reveal() != "" && c.Username != "use-token-auth" && m.fault != "any user name":
		return p, false
	case parts[0] == "d":
		p.Kind, p.ID = auth.Device, parts[2]+":"+parts[3]
	case parts[0] == "g":
		p.Kind, p.ID = auth.Gateway, parts[2]+":"+parts[3]
	default:
		return p, false
	}
	if sni, _, ok := strings.Cut(c.ServerName, ".messaging."); ok && sni != parts[1] && m.fault != "any server name" {
		return p, false
	}
	return p, true
}

func (m *memory) Verify(_ context.Context, c auth.Credentials) (*auth.Grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.claim(c)
	if !ok {
		return nil, errNo
	}
	if m.failing && m.fault != "a failed check is wrong credentials" {
		return nil, errors.New("the store is broken")
	}
	a := m.clients[p]
	if m.failing || a == nil || (a.disabled || !m.orgs[p.Org]) && m.fault != "the disabled are accepted" {
		if m.fault == "unknown names are told" {
			return nil, errs.E(errs.Unauthenticated, "no such client")
		}
		return nil, errNo
	}
	ref := auth.Ref{Principal: p, Client: c.ClientID, Credential: fmt.Sprint("token:", a.version)}
	if c.HasPassword && !(c.Password.Reveal() == a.token || m.fault == "prefix of a token" && strings.HasPrefix(a.token, c.Password.Reveal())) {
		return nil, errNo
	}
	if c.Certificate != nil {
		if !a.certs[c.Certificate] && m.fault != "any certificate" {
			return nil, errNo
		}
		ref.Credential, ref.Expires = "cert:1", c.Certificate.NotAfter
	} else if !c.HasPassword {
		return nil, errNo
	}
	return m.grant(ref), nil
}

func (m *memory) Renew(_ context.Context, r auth.Ref) (*auth.Grant, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return nil, errors.New("the store is broken")
	}
	enabled, ok := m.orgs[r.Principal.Org]
	a := m.clients[r.Principal]
	switch {
	case m.fault == "everyone is renewed":
		return auth.NewGrant(auth.Spec{Ref: r}), nil
	case !ok || r.Principal.Kind != auth.AnyKind && a == nil:
		if m.fault == "the gone are not told" {
			return nil, errNo
		}
		return nil, errs.E(errs.NotFound, "gone")
	case a == nil || a.disabled || !enabled || !r.Expires.IsZero() && r.Expires.Before(time.Now()):
		if m.fault == "the disabled are gone" {
			return nil, errs.E(errs.NotFound, "gone")
		}
		return nil, errNo
	case r.Credential != fmt.Sprint("token:", a.version) && r.Credential != "cert:1":
		return nil, errNo
	}
	return m.grant(r), nil
}

func (m *memory) grant(r auth.Ref) *auth.Grant {
	s := auth.Spec{Ref: r, OrgLimits: m.limits[string(r.Principal.Org)+"/"]}
	if typ, _ := r.Principal.TypeAndID(); typ != r.Principal.ID {
		s.TypeLimits = m.limits[string(r.Principal.Org)+"/"+typ]
	}
	return auth.NewGrant(s)
}

func (m *memory) Limits(_ context.Context, org auth.OrgID, typ string) (quota.Limits, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return quota.Limits{}, errors.New("the store is broken")
	}
	return m.limits[string(org)+"/"+typ], nil
}

func (m *memory) setLimits(_ context.Context, org int, typ string, l quota.Limits) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limits[string(orgs[org])+"/"+typ] = l
	if m.fault == "limits of both organisations" {
		m.limits[string(orgs[1-org])+"/"+typ] = l
	}
	if m.fault != "limits are not told" {
		m.tell(event{change: auth.Change{Principal: auth.Principal{Org: orgs[org]}, Limits: m.fault != "limits are any change", Type: typ}})
	}
	return nil
}

func (m *memory) Changes(ctx context.Context) iter.Seq2[auth.Change, error] {
	ch := make(chan event, 200)
	listen := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.listeners[ch] = struct{}{}
	}
	if m.fault != "deaf before the loop" {
		listen()
	}
	return func(yield func(auth.Change, error) bool) {
		if m.fault == "deaf before the loop" {
			listen()
		}
		for {
			done := ctx.Done()
			if m.fault == "changes do not end" {
				done = nil
			}
			select {
			case <-done:
				return
			case e := <-ch:
				if !yield(e.change, e.err) || e.err != nil {
					return
				}
			}
		}
	}
}

// tell must be called with mu held.
func (m *memory) tell(e event) {
	for ch := range m.listeners {
		if m.fault == "silent" || m.fault == "missed changes are not told" && e.err != nil {
			continue
		}
		ch <- e
		if m.fault == "one is told" {
			return
		}
	}
}

func (m *memory) change(p auth.Principal, fn func(*account)) func(context.Context) error {
	return func(context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		fn(m.clients[p])
		m.tell(event{change: auth.Change{Principal: p}})
		return nil
	}
}

func (m *memory) add(_ context.Context, kind auth.Kind, org int, name string) (Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := auth.Principal{Org: orgs[org], Kind: kind, ID: "type-" + kind.String() + ":" + name}
	id, user := kind.String()[:1]+":"+string(p.Org)+":"+p.ID, "use-token-auth"
	if kind == auth.Application {
		p.ID = "a-" + string(p.Org) + "-" + name + "0000000"
		id, user = "a:"+string(p.Org)+":"+name, p.ID
	}
	a := &account{token: "Token-of-" + p.String(), certs: map[*x509.Certificate]bool{}}
	m.clients[p] = a
	c := Client{
		Principal:   p,
		Credentials: auth.Credentials{ClientID: id, HasUsername: true, Username: user, HasPassword: true, Password: secret.New(a.token)},
		Disable:     m.change(p, func(a *account) { a.disabled = true }),
		Rotate: m.change(p, func(a *account) {
			a.token += "2"
			a.version++
		}),
		Delete: m.change(p, func(*account) { delete(m.clients, p) }),
	}
	if kind != auth.Application {
		c.Certificate = func(context.Context) (*x509.Certificate, error) {
			cert := &x509.Certificate{NotAfter: time.Now().Add(time.Hour)}
			m.mu.Lock()
			defer m.mu.Unlock()
			a.certs[cert] = true
			return cert, nil
		}
	}
	return c, nil
}

func (m *memory) world() World {
	org := func(fn func(auth.OrgID)) func(context.Context, int) error {
		return func(_ context.Context, i int) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			fn(orgs[i])
			m.tell(event{change: auth.Change{Principal: auth.Principal{Org: orgs[i]}}})
			return nil
		}
	}
	return World{
		Verifier:   m,
		Kinds:      []auth.Kind{auth.Device, auth.Gateway, auth.Application},
		Add:        m.add,
		DisableOrg: org(func(o auth.OrgID) { m.orgs[o] = false }),
		DeleteOrg:  org(func(o auth.OrgID) { delete(m.orgs, o) }),
		SetLimits:  m.setLimits,
		Break: func() func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.failing = true
			m.tell(event{err: errors.New("changes were missed")})
			return func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.failing = false
			}
		},
	}
}

func TestRun(t *testing.T) {
	Run(t, func(*testing.T) World { return newMemory("").world() })
}

// TestFaults checks that the contract finds each of these faults.
func TestFaults(t *testing.T) {
	for fault, where := range map[string]string{
		"any user name":                       "wrong user name",
		"any server name":                     "server name",
		"any certificate":                     "certificate",
		"prefix of a token":                   "wrong token",
		"unknown names are told":              "refusals are alike",
		"the disabled are accepted":           "disable",
		"everyone is renewed":                 "rotate",
		"the gone are not told":               "delete",
		"the disabled are gone":               "disable organisation",
		"silent":                              "delete organisation",
		"one is told":                         "several listeners",
		"deaf before the loop":                "no change is lost",
		"changes do not end":                  "changes end",
		"missed changes are not told":         "broken",
		"a failed check is wrong credentials": "broken",
		"any method":                          "unknown method",
		"the server proves nothing":           "password is proved",
		"an exchange is never over":           "password is proved",
		"unknown names end early":             "unknown name runs on",
		"an unknown name's salt changes":      "unknown name runs on",
		"the salt tells of a new token":       "unknown name runs on",
		"one salt for all":                    "unknown name runs on",
		"the last step tells unknown names":   "unknown name runs on",
		"any proof":                           "bad proofs",
		"CONNECT may contradict":              "bad proofs",
		"disabled meanwhile":                  "changed during an exchange",
		"limits are not told":                 "limits",
		"limits are any change":               "limits",
		"limits of both organisations":        "limits",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			found := false
			for _, c := range clauses {
				if c.name == where {
					found = c.check(t.Context(), newMemory(fault).world()) != nil
				}
			}
			if !found {
				t.Errorf("clause %q does not find it", where)
			}
		})
	}
}
