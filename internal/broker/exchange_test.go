package broker

import (
	"context"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// A talk is an exchange with the directory. Its method says how it goes:
//
//	asking   the client says who it is, is asked for its password, and gives it
//	slow     the same, and the last step takes until the directory's held is closed
//	endless  the client is asked for more, for ever
type talk struct {
	d      *directory
	c      auth.Credentials
	method string
	user   string
}

func (d *directory) Begin(_ context.Context, c auth.Credentials, method string) (auth.Exchange, error) {
	switch method {
	case "asking", "slow", "endless":
		return &talk{d: d, c: c, method: method}, nil
	}
	return nil, auth.ErrMethod
}

func (x *talk) Step(ctx context.Context, data []byte) ([]byte, *auth.Grant, error) {
	if x.method == "endless" {
		return []byte("more"), nil, nil
	}
	if x.user == "" {
		x.user = string(data)
		return []byte("password of " + x.user), nil, nil
	}
	x.d.mu.Lock()
	held := x.d.held
	x.d.mu.Unlock()
	if x.method == "slow" && held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}
	x.d.mu.Lock()
	defer x.d.mu.Unlock()
	u := x.d.users[x.user]
	if u == nil || u.password != string(data) {
		return nil, nil, errs.E(errs.Unauthenticated, "not accepted")
	}
	g, err := x.d.grant(u, x.c.ClientID)
	return []byte("welcome"), g, err
}

// hold has the last step of slow exchanges wait for release.
func (d *directory) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = make(chan struct{})
}

func (d *directory) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.held)
	d.held = nil
}
