package model

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/topic"
)

// A user is somebody the directory knows.
type user struct {
	org     auth.OrgID
	name    string
	uid     int
	rights  int // index into rights
	retain  bool
	refused bool // for now
	gone    bool // there is no such user
}

// rights are what a user may have. A change of rights picks another one.
var rights = [...][]auth.Rule{
	{allow(auth.Publish, "#"), allow(auth.Subscribe, "#"), allow(auth.Receive, "#"), allow(auth.Publish, "$z/#"), allow(auth.Subscribe, "$z/#"), allow(auth.Receive, "$z/#")},
	{allow(auth.Publish, "a/#"), allow(auth.Subscribe, "a/#"), allow(auth.Receive, "a/#")},
	{allow(auth.Publish, "#"), allow(auth.Subscribe, "#"), allow(auth.Receive, "#"), deny(auth.Receive, "a/x"), deny(auth.Publish, "a/y")},
	{allow(auth.Publish, "b"), allow(auth.Subscribe, "b"), allow(auth.Receive, "#")},
	{},
}

func allow(a auth.Action, f string) auth.Rule { return auth.Rule{Action: a, Filter: filter(f)} }

func deny(a auth.Action, f string) auth.Rule {
	return auth.Rule{Action: a, Filter: filter(f), Deny: true}
}

func filter(s string) topic.Filter {
	f, err := topic.ParseFilter(s)
	if err != nil {
		panic(err)
	}
	return f
}

func name(s string) topic.Name {
	n, err := topic.ParseName(s)
	if err != nil {
		panic(err)
	}
	return n
}

func (u *user) login() string    { return string(u.org) + "/" + u.name }
func (u *user) password() string { return "secret of " + u.login() }
func (u *user) principal() auth.Principal {
	return auth.Principal{Org: u.org, Kind: auth.User, ID: u.name}
}
func (u *user) allows(n string) bool        { return u.grant("").Allow(auth.Publish, name(n)) == nil }
func (u *user) receives(n string) bool      { return u.grant("").Receives(name(n)) }
func (u *user) mayHold(f topic.Filter) bool { return u.grant("").AllowFilter(f) == nil }

// grant is what the user may do now.
func (u *user) grant(client string) *auth.Grant {
	return auth.NewGrant(auth.Spec{
		Ref:   auth.Ref{Principal: u.principal(), Client: client, UID: fmt.Sprint(u.uid), Credential: "password:1"},
		Rules: rights[u.rights], Retain: u.retain,
	})
}

// directory is the Verifier: a table of users that can change.
type directory struct {
	mu      sync.Mutex // guards what follows
	users   []*user
	readers map[chan auth.Principal]struct{}
}

func newDirectory() *directory {
	return &directory{
		users: []*user{
			{org: "alpha1", name: "ann", retain: true},
			{org: "alpha1", name: "bob", retain: true},
			{org: "beta22", name: "ann", retain: true},
			{org: "alpha1", name: "eve"},
			{org: "beta22", name: "eve"},
		},
		readers: map[chan auth.Principal]struct{}{},
	}
}

// set changes a user and tells the broker.
func (d *directory) set(u *user, change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
	for r := range d.readers {
		r <- u.principal()
	}
}

func (d *directory) find(login string) *user {
	for _, u := range d.users {
		if u.login() == login && !u.gone {
			return u
		}
	}
	return nil
}

// Verify is part of auth.Verifier.
func (d *directory) Verify(_ context.Context, c auth.Credentials) (*auth.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.find(c.Username)
	if u == nil || c.Password.Reveal() != u.password() || u.refused {
		return nil, errs.E(errs.Unauthenticated, "not accepted")
	}
	return u.grant(c.ClientID), nil
}

// Begin is part of auth.Verifier: there is no method.
func (d *directory) Begin(context.Context, auth.Credentials, string) (auth.Exchange, error) {
	return nil, auth.ErrMethod
}

// Renew is part of auth.Verifier.
func (d *directory) Renew(_ context.Context, r auth.Ref) (*auth.Grant, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	u := d.find(string(r.Principal.Org) + "/" + r.Principal.ID)
	switch {
	case u == nil || r.UID != "" && r.UID != fmt.Sprint(u.uid):
		return nil, errs.E(errs.NotFound, "no such user")
	case u.refused || r.UID == "":
		return nil, errs.E(errs.Unauthenticated, "not accepted")
	}
	return u.grant(r.Client), nil
}

// Limits is part of auth.Verifier: nobody has any of their own.
func (d *directory) Limits(context.Context, auth.OrgID, string) (quota.Limits, error) {
	return quota.Limits{}, nil
}

// Changes is part of auth.Verifier.
func (d *directory) Changes(ctx context.Context) iter.Seq2[auth.Change, error] {
	ch := make(chan auth.Principal, 100)
	d.mu.Lock()
	d.readers[ch] = struct{}{}
	d.mu.Unlock()
	return func(yield func(auth.Change, error) bool) {
		defer func() {
			d.mu.Lock()
			delete(d.readers, ch)
			d.mu.Unlock()
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case p := <-ch:
				if !yield(auth.Change{Principal: p}, nil) {
					return
				}
			}
		}
	}
}
