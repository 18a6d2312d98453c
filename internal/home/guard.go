// Package home keeps the order of organisations with the home profile that no
// rule can keep: whose a device or a provider is follows from what is published,
// and a provider that is gone takes its devices with it.
//
// It promises that device/<id> and provider/<id> belong to whoever published them
// first, for as long as they are there: across reconnects, and after a crash,
// because the retained message itself says who that was. It promises that after a
// provider/<id> was emptied, by whomever and however, every device that named it
// is said to be unreachable, if not now, then after the next start.
//
// It does not decide who may publish on which topic, which the profile does, and
// holds no connection.
package home

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/topic"
)

// turns is how many organisations may have a turn at one time.
const turns = 64

// A Config is what a Keeper works with. All fields are required.
type Config struct {
	Engine engine.Engine
	Log    *slog.Logger
	// Orgs returns the organisations with the home profile.
	Orgs func(context.Context) ([]auth.OrgID, error)
}

// A Keeper is the guard of the homes of an engine, and their janitor. Its methods
// may be called from any goroutine.
type Keeper struct {
	cfg  Config
	seed maphash.Seed
	// After retry the janitor tries again what it could not do.
	retry time.Duration
	// A turn is for looking at what is retained and then changing it: one message
	// of an organisation at a time. It is not a lock, because it waits for the disk.
	turn [turns]chan struct{}

	mu    sync.Mutex                   // guards the fields below
	left  map[auth.OrgID]map[gone]bool // what the janitor has to see to
	order []auth.OrgID                 // of those, who came first
	wake  chan struct{}                // has room for one
}

// New returns a Keeper.
func New(c Config) *Keeper {
	k := &Keeper{cfg: c, seed: maphash.MakeSeed(), retry: retryAfter, left: map[auth.OrgID]map[gone]bool{}, wake: make(chan struct{}, 1)}
	for i := range k.turn {
		k.turn[i] = make(chan struct{}, 1)
	}
	return k
}

// Check reports whether m may be published as things are. It is asked where
// permission is; by the time of publication the answer may be another.
func (k *Keeper) Check(ctx context.Context, m *engine.Message) error {
	_, err := k.check(ctx, m)
	return err
}

// Admit is Check when m is published at once. Until handed is called, which must
// be when the engine has been given m or is not to get it, nobody else of the
// organisation is admitted, so that what was true stays so.
func (k *Keeper) Admit(ctx context.Context, m *engine.Message) (handed func(), err error) {
	free, err := k.take(ctx, m.Org)
	if err != nil {
		return nil, err
	}
	t, err := k.check(ctx, m)
	if err != nil {
		free()
		return nil, err
	}
	emptied := t.Kind == "provider" && len(m.Payload) == 0
	org := m.Org
	return func() {
		free()
		if emptied {
			k.leave(org, gone{t.Prefix, t.ID})
		}
	}, nil
}

// take waits for the organisation's turn.
func (k *Keeper) take(ctx context.Context, org auth.OrgID) (free func(), err error) {
	turn := k.turn[maphash.String(k.seed, string(org))%turns]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, errs.Wrap(errs.Unavailable, ctx.Err(), "the message could not be looked at in time")
	}
}

func (k *Keeper) check(ctx context.Context, m *engine.Message) (profile.HomeTopic, error) {
	t, err := profile.ParseHomeTopic(m.Org, m.Topic)
	if err != nil {
		return t, err
	}
	if err := says(t, m); err != nil {
		return t, errs.E(errs.Denied, "%s", errs.Message(err)) // it is the message, not its topic's name
	}
	if t.Kind == "device" || t.Kind == "provider" {
		err = k.owned(ctx, t, m)
	}
	return t, err
}

// says checks what m says of itself. Who acts for the organisation may say anything.
func says(t profile.HomeTopic, m *engine.Message) error {
	user := m.From.Kind == auth.User
	switch {
	case t.Kind == "leave":
		if m.Retain {
			return errs.E(errs.Denied, "who leaves must not be retained")
		}
		return profile.CheckLeave(m.Payload, m.From.ID)
	case t.Kind != "announce" && !m.Retain:
		return errs.E(errs.Denied, "devices and providers must be retained")
	case len(m.Payload) == 0:
		return nil
	case t.Kind == "announce":
		return profile.CheckAnnounce(m.Payload, m.From.ID)
	case t.Kind == "device" && user:
		return profile.CheckHomeDevice(m.Payload, m.From.ID)
	}
	return nil
}

// owned checks that what m is about belongs to its publisher, or to nobody. Who
// acts for the organisation may take away what is anybody's.
func (k *Keeper) owned(ctx context.Context, t profile.HomeTopic, m *engine.Message) error {
	before, err := k.retained(ctx, m.Org, m.Topic.String())
	switch {
	case err != nil:
		return err
	case before != nil && before.From == m.From:
		return nil
	case len(m.Payload) == 0 && (before == nil || m.From.Kind != auth.User):
		return nil
	case before != nil:
		return errs.E(errs.Denied, "this %s belongs to another", t.Kind)
	}
	// It is new. No device may have the id of a provider, nor the other way round.
	other := "device/"
	if t.Kind == "device" {
		other = "provider/"
	}
	taken, err := k.retained(ctx, m.Org, t.Prefix+other+t.ID)
	if err == nil && taken != nil {
		err = errs.E(errs.Denied, "a device and a provider cannot have the same id")
	}
	return err
}

// retained returns the retained message of a topic, or nil.
func (k *Keeper) retained(ctx context.Context, org auth.OrgID, name string) (found *engine.Message, err error) {
	f, err := topic.ParseFilter(name)
	if err != nil {
		return nil, errs.Wrap(errs.Denied, err, "this is no topic of a device or provider")
	}
	for m, err := range k.cfg.Engine.Retained(ctx, org, f) {
		if err != nil {
			return nil, errs.Wrap(errs.Unavailable, fmt.Errorf("read retained message: %w", err), "the message could not be looked at now; try again")
		}
		found = m
	}
	return found, nil
}
