package broker

import (
	"context"
	"errors"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// A talk is an exchange with the directory. Its method says how it goes:
//
//	asking   the client says who it is, is asked for its password, and gives it
//	slow     the same, and the last step takes until the directory's held is closed
//	late     the same, but its answer is what was true before it had to wait
//	endless  the client is asked for more, for ever
type talk struct {
	d      *directory
	c      auth.Credentials
	method string
	user   string
}

func (d *directory) Begin(_ context.Context, c auth.Credentials, method string) (auth.Exchange, error) {
	switch method {
	case "asking", "slow", "late", "endless":
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
	if x.method == "slow" {
		if err := x.d.wasHeld(ctx); err != nil {
			return nil, nil, err
		}
	}
	g, err := x.answer(string(data))
	if x.method == "late" {
		if err := x.d.wasHeld(ctx); err != nil {
			return nil, nil, err
		}
	}
	return []byte("welcome"), g, err
}

func (x *talk) answer(password string) (*auth.Grant, error) {
	x.d.mu.Lock()
	defer x.d.mu.Unlock()
	u := x.d.users[x.user]
	if u == nil || u.password != password {
		return nil, errs.E(errs.Unauthenticated, "not accepted")
	}
	return x.d.grant(u, x.c.ClientID)
}

// wasHeld waits until the directory's held is closed, if there is one.
func (d *directory) wasHeld(ctx context.Context) error {
	d.mu.Lock()
	held := d.held
	d.mu.Unlock()
	if held == nil {
		return nil
	}
	d.waiting.Add(1)
	defer d.waiting.Add(-1)
	select {
	case <-held:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
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

// quietly changes a user of testOrg and tells nobody.
func (d *directory) quietly(name string, f func(*user)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d.users[string(testOrg)+"/"+name])
}

// fail tells the broker that changes may have been missed.
func (d *directory) fail() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for r := range d.readers {
		r <- change{err: errors.New("lost count")}
	}
}
