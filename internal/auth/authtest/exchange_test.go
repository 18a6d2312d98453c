package authtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/auth/sasl"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/secret"
)

// A dialogue is an exchange with memory.
type dialogue struct {
	m     *memory
	c     auth.Credentials
	s     *sasl.Scram
	p     auth.Principal
	asked bool
	over  bool
}

func (m *memory) Begin(_ context.Context, c auth.Credentials, method string) (auth.Exchange, error) {
	if method != auth.MethodSCRAM && m.fault != "any method" {
		return nil, auth.ErrMethod
	}
	return &dialogue{m: m, c: c}, nil
}

func (d *dialogue) Step(ctx context.Context, data []byte) ([]byte, *auth.Grant, error) {
	switch {
	case d.over:
		return nil, nil, errNo
	case len(data) == 0 && !d.asked:
		d.asked = true
		return nil, nil, nil
	case d.s == nil:
		return d.first(ctx, data)
	}
	d.over = d.m.fault != "an exchange is never over"
	return d.final(data)
}

func (d *dialogue) first(ctx context.Context, data []byte) (_ []byte, _ *auth.Grant, err error) {
	d.over = true
	if d.s, err = sasl.ParseScram(data); err != nil {
		return nil, nil, errNo
	}
	c := d.c
	if c.HasUsername && c.Username != d.s.Username && d.m.fault != "CONNECT may contradict" ||
		d.s.Authzid != "" && d.s.Authzid != d.s.Username || c.HasPassword {
		return nil, nil, errNo
	}
	c.Username, c.HasUsername, c.Password = d.s.Username, true, secret.New("proved")
	var ok bool
	if d.p, ok = d.m.claim(c); !ok {
		return nil, nil, errNo
	}
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	a := d.m.clients[d.p]
	if a == nil && d.m.fault == "unknown names end early" {
		return nil, nil, errNo
	}
	d.over = false
	return d.s.Challenge(d.salt(a)), nil, nil
}

func (d *dialogue) salt(a *account) []byte {
	name := d.p.String()
	switch {
	case a == nil && d.m.fault == "an unknown name's salt changes":
		name = fmt.Sprintf("%p", d)
	case a != nil && d.m.fault == "the salt tells of a new token":
		name += fmt.Sprint(a.version)
	case d.m.fault == "one salt for all":
		name = ""
	}
	sum := sha256.Sum256([]byte(name))
	return sum[:16]
}

func (d *dialogue) final(data []byte) ([]byte, *auth.Grant, error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	p, err := d.s.Final(data)
	if err != nil {
		return nil, nil, errNo
	}
	if d.m.failing {
		return nil, nil, errors.New("the store is broken")
	}
	a := d.m.clients[d.p]
	if a == nil {
		if d.m.fault == "the last step tells unknown names" {
			return nil, nil, errs.E(errs.Unauthenticated, "no such client")
		}
		return nil, nil, errNo
	}
	k, err := sasl.NewKeys(a.token, d.salt(a))
	if err != nil || !p.Check(k) && d.m.fault != "any proof" || (a.disabled && d.m.fault != "disabled meanwhile") {
		return nil, nil, errNo
	}
	last := p.Success(k)
	if d.m.fault == "the server proves nothing" {
		last = nil
	}
	return last, auth.NewGrant(auth.Spec{Ref: auth.Ref{Principal: d.p, Client: d.c.ClientID, Credential: fmt.Sprint("token:", a.version)}}), nil
}
