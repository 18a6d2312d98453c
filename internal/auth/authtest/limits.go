package authtest

import (
	"context"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/quota"
)

// limits checks that grants carry what is set for their organisation and their
// device type from then on, that it is told, and that nobody else's do.
func limits(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		twin, err := w.Add(ctx, c.Principal.Kind, 1, "twin")
		if err != nil {
			return err
		}
		typ := ""
		if c.Principal.Kind != auth.Application {
			typ, _ = c.Principal.TypeAndID()
		}
		var none quota.Limits
		five, seven, three := none.With(quota.ClientQueue, 5), none.With(quota.ClientQueue, 7), none.With(quota.ClientQueue, 3)
		type step struct {
			typ  string
			set  quota.Limits
			want int64
		}
		steps := []step{{"", five, 5}, {"", none, 0}, {"", five, 5}}
		if typ != "" {
			// A type's limits are below those of its organisation, never above.
			steps = append(steps, step{typ, three, 3}, step{typ, seven, 5})
		}
		for _, s := range steps {
			if err := setLimits(ctx, w, c, twin, s.typ, s.set, s.want); err != nil {
				return fmt.Errorf("%v with %v for %q: %w", c.Principal, s.set.Map(), s.typ, err)
			}
		}
		if typ != "" {
			if err := w.SetLimits(ctx, 0, typ, none); err != nil {
				return err
			}
		}
		return w.SetLimits(ctx, 0, "", none)
	})
}

// setLimits sets limits, and checks that c has the queue that it is to have, and
// the twin in the other organisation what everybody has.
func setLimits(ctx context.Context, w World, c, twin Client, typ string, set quota.Limits, want int64) error {
	before, err := verified(ctx, w, c)
	if err != nil {
		return err
	}
	l := listen(ctx, w.Verifier)
	defer l.close()
	if err := w.SetLimits(ctx, 0, typ, set); err != nil {
		return err
	}
	base := quota.Defaults()
	if want == 0 {
		want = base.Get(quota.ClientQueue)
	}
	for who, wants := range map[*Client]int64{&c: want, &twin: base.Get(quota.ClientQueue)} {
		g, err := verified(ctx, w, *who)
		if err != nil {
			return err
		}
		if who == &c {
			if g, err = w.Verifier.Renew(ctx, before.Ref()); err != nil {
				return fmt.Errorf("renew: %w", err)
			}
		}
		has := g.Limits(base)
		if got := has.Get(quota.ClientQueue); got != wants {
			return fmt.Errorf("%v has %d, want %d", who.Principal, got, wants)
		}
		told, err := w.Verifier.Limits(ctx, who.Principal.Org, typ)
		if err != nil {
			return err
		}
		if who == &c && told != set || who == &twin && told != (quota.Limits{}) {
			return fmt.Errorf("%v of %q is told %v", who.Principal.Org, typ, told.Map())
		}
	}
	return l.hearLimits(c.Principal.Org, typ)
}

// hearLimits waits until a change of limits is heard of. An error is news of everybody.
func (l *listener) hearLimits(org auth.OrgID, typ string) error {
	late := time.NewTimer(soon)
	defer late.Stop()
	for {
		select {
		case e, ok := <-l.heard:
			switch {
			case !ok:
				return fmt.Errorf("the changes ended")
			case e.err != nil || e.change == auth.Change{Principal: auth.Principal{Org: org}, Limits: true, Type: typ}:
				return nil
			}
		case <-late.C:
			return fmt.Errorf("the change of limits was not heard within %v", soon)
		}
	}
}
