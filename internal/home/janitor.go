package home

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/profile"
	"github.com/keepmq/keepmq/internal/topic"
)

// A gone is a provider that was emptied: prefix of its topics, and id.
type gone struct{ prefix, id string }

// all stands for all providers that devices name and that are not there.
var all = gone{}

const (
	retryAfter = 10 * time.Second
	within     = time.Minute // for one organisation
)

// leave has the janitor see to the devices of a provider. It returns at once.
func (k *Keeper) leave(org auth.OrgID, g gone) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left[org] == nil {
		k.left[org] = map[gone]bool{}
		k.order = append(k.order, org)
	}
	k.left[org][g] = true
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// first takes the organisation that waits longest.
func (k *Keeper) first() (auth.OrgID, map[gone]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.order) == 0 {
		return "", nil
	}
	org := k.order[0]
	k.order = k.order[1:]
	g := k.left[org]
	delete(k.left, org)
	return org, g
}

// Run is the janitor. It begins with the providers that an earlier run has left
// behind, and ends with ctx: what it has not seen to then, the next run will.
func (k *Keeper) Run(ctx context.Context) {
	retry := time.NewTimer(0)
	defer retry.Stop()
	known := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-retry.C:
		}
		if !known {
			orgs, err := k.cfg.Orgs(ctx)
			if known = err == nil; !known {
				k.cfg.Log.Error("janitor: homes cannot be listed", "err", err)
				retry.Reset(k.retry)
			}
			for _, org := range orgs {
				k.leave(org, all)
			}
		}
		var again []auth.OrgID
		for {
			org, g := k.first()
			if g == nil {
				break
			}
			err := k.tidy(ctx, org, g)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				k.cfg.Log.Error("janitor: devices of a provider that is gone may seem reachable", "org", org, "err", err)
				again = append(again, org)
			}
		}
		if len(again) > 0 && k.remain(ctx, again) {
			retry.Reset(k.retry)
		}
	}
}

// remain has the janitor see to organisations again, as far as they still exist.
func (k *Keeper) remain(ctx context.Context, orgs []auth.OrgID) bool {
	there, err := k.cfg.Orgs(ctx)
	exists := map[auth.OrgID]bool{}
	for _, org := range there {
		exists[org] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, org := range orgs {
		if err == nil && !exists[org] {
			continue
		}
		if k.left[org] == nil {
			k.left[org] = map[gone]bool{}
			k.order = append(k.order, org)
		}
		k.left[org][all] = true
	}
	return len(k.order) > 0
}

// A device is one that names a provider.
type device struct {
	topic, prefix string
	profile.HomeDevice
}

// tidy says of every device that names one of the providers that it cannot be
// reached.
func (k *Keeper) tidy(ctx context.Context, org auth.OrgID, g map[gone]bool) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var failed []error
	for _, prefix := range []string{"", string(org) + "/"} {
		devices, err := k.devices(ctx, org, prefix, g)
		failed = append(failed, err)
		for _, d := range devices {
			failed = append(failed, k.unreachable(ctx, org, d))
		}
	}
	return errors.Join(failed...)
}

// devices lists the devices that name a provider in g.
func (k *Keeper) devices(ctx context.Context, org auth.OrgID, prefix string, g map[gone]bool) (found []device, err error) {
	f, err := topic.ParseFilter(prefix + "device/+")
	if err != nil {
		return nil, err
	}
	for m, err := range k.cfg.Engine.Retained(ctx, org, f) {
		if err != nil {
			return found, fmt.Errorf("read devices: %w", err)
		}
		d, ok := deviceOf(m, prefix)
		if ok && (g[all] || g[gone{prefix, d.ProviderID}]) {
			found = append(found, d)
		}
	}
	return found, nil
}

// deviceOf reads the metadata of a bridged device. What is not as it must be was
// published by somebody who may publish anything, and is left alone.
func deviceOf(m *engine.Message, prefix string) (device, bool) {
	if m.From.Kind == auth.User && profile.CheckHomeDevice(m.Payload, m.From.ID) != nil {
		return device{}, false
	}
	d, err := profile.ParseHomeDevice(m.Payload)
	return device{m.Topic.String(), prefix, d}, err == nil && d.ProviderID != ""
}

// unreachable says that a device cannot be reached, if it still names the
// provider and the provider is not there.
func (k *Keeper) unreachable(ctx context.Context, org auth.OrgID, d device) error {
	state, err := topic.ParseName(d.prefix + "current/" + d.Root + "/reachable")
	if err != nil {
		return fmt.Errorf("name the state of a device: %w", err)
	}
	free, err := k.take(ctx, org)
	if err != nil {
		return err
	}
	done, err := k.publish(ctx, org, d, state)
	free()
	if err != nil || done == nil {
		return err
	}
	select {
	case err = <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// publish hands "0" to the engine, unless there is no need. It has the turn.
func (k *Keeper) publish(ctx context.Context, org auth.OrgID, d device, state topic.Name) (<-chan error, error) {
	now, err := k.retained(ctx, org, d.topic)
	if err != nil || now == nil {
		return nil, err
	}
	if same, ok := deviceOf(now, d.prefix); !ok || same != d {
		return nil, nil
	}
	if p, err := k.retained(ctx, org, d.prefix+"provider/"+d.ProviderID); err != nil || p != nil {
		return nil, err
	}
	if s, err := k.retained(ctx, org, state.String()); err != nil || s != nil && string(s.Payload) == "0" {
		return nil, err
	}
	done := make(chan error, 1)
	k.cfg.Engine.Publish(ctx, &engine.Message{
		Org: org, Topic: state, Payload: []byte("0"), QoS: 2, Retain: true,
		From: auth.Principal{Org: org, Kind: auth.System, ID: "janitor"},
	}, func(err error) { done <- err })
	return done, nil
}
