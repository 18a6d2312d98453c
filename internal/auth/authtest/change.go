package authtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// An event is what a Verifier yielded.
type event struct {
	change auth.Change
	err    error
}

// A listener hears what a Verifier yields.
type listener struct {
	heard chan event // closed when the sequence has ended
	stop  context.CancelFunc
}

// listen returns a listener for what v yields from now on.
func listen(ctx context.Context, v auth.Verifier) *listener {
	ctx, cancel := context.WithCancel(ctx)
	l := &listener{heard: make(chan event), stop: cancel}
	seq := v.Changes(ctx)
	go func() { // close waits for it
		defer close(l.heard)
		for ch, err := range seq {
			select {
			case l.heard <- event{ch, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return l
}

// close ends the listener and waits for that, but no longer than it may take.
func (l *listener) close() {
	l.stop()
	late := time.NewTimer(soon)
	defer late.Stop()
	for {
		select {
		case _, ok := <-l.heard:
			if !ok {
				return
			}
		case <-late.C:
			return
		}
	}
}

// hear waits until p is heard of. An error is news of everybody.
func (l *listener) hear(p auth.Principal) error {
	late := time.NewTimer(soon)
	defer late.Stop()
	for {
		select {
		case e, ok := <-l.heard:
			switch {
			case !ok:
				return errors.New("the changes ended")
			case e.err != nil || !e.change.Limits && e.change.Covers(p):
				return nil
			}
		case <-late.C:
			return fmt.Errorf("the change of %v was not heard within %v", p, soon)
		}
	}
}

// untilError waits for an error, after which the changes must end.
func (l *listener) untilError() error {
	late := time.NewTimer(soon)
	defer late.Stop()
	failed := false
	for {
		select {
		case e, ok := <-l.heard:
			switch {
			case !ok && failed:
				return nil
			case !ok:
				return errors.New("the changes ended without an error")
			case failed:
				return errors.New("changes go on after an error")
			}
			failed = e.err != nil
		case <-late.C:
			return errors.New("changes were missed, and no error tells")
		}
	}
}

// changed makes a change of a verified client and checks that from then on it is
// refused. codes are what Renew may answer.
func changed(ctx context.Context, w World, c Client, change func(context.Context) error, withCertificate bool, codes ...errs.Code) error {
	g, err := verified(ctx, w, c)
	if err != nil {
		return err
	}
	refs, credentials := []auth.Ref{g.Ref()}, []auth.Credentials{c.Credentials}
	if c.Certificate != nil && withCertificate {
		cert, err := c.Certificate(ctx)
		if err != nil {
			return fmt.Errorf("make a certificate: %w", err)
		}
		cr := auth.Credentials{ClientID: c.Credentials.ClientID, Certificate: cert, Remote: c.Credentials.Remote}
		g, err := good(ctx, w, c, cr)
		if err != nil {
			return err
		}
		refs, credentials = append(refs, g.Ref()), append(credentials, cr)
	}
	l := listen(ctx, w.Verifier)
	defer l.close()
	if err := change(ctx); err != nil {
		return fmt.Errorf("change: %w", err)
	}
	for _, ref := range refs {
		g, err := w.Verifier.Renew(ctx, ref)
		if err := isRefusal(g, err, "renew "+ref.Credential+" after the change", codes...); err != nil {
			return err
		}
	}
	for _, cr := range credentials {
		if err := refused(ctx, w, cr, "the client after the change"); err != nil {
			return err
		}
	}
	return l.hear(c.Principal)
}

func disable(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		if err := changed(ctx, w, c, c.Disable, true, errs.Unauthenticated, errs.Denied); err != nil {
			return err
		}
		return exists(ctx, w, c.Principal, true)
	})
}

func rotate(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		if err := changed(ctx, w, c, c.Rotate, false, errs.Unauthenticated, errs.Denied); err != nil {
			return err
		}
		return exists(ctx, w, c.Principal, true)
	})
}

func remove(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		if err := changed(ctx, w, c, c.Delete, true, errs.NotFound); err != nil {
			return err
		}
		return exists(ctx, w, c.Principal, false)
	})
}

// exists checks what Renew says about a principal alone.
func exists(ctx context.Context, w World, p auth.Principal, want bool) error {
	g, err := w.Verifier.Renew(ctx, auth.Ref{Principal: p})
	if want {
		return isRefusal(g, err, fmt.Sprintf("%v, which exists, without a credential", p), errs.Unauthenticated, errs.Denied)
	}
	return isRefusal(g, err, fmt.Sprintf("%v, which is gone", p), errs.NotFound)
}

func disableOrg(ctx context.Context, w World) error {
	return changedOrg(ctx, w, w.DisableOrg, true, errs.Unauthenticated, errs.Denied)
}

func deleteOrg(ctx context.Context, w World) error {
	return changedOrg(ctx, w, w.DeleteOrg, false, errs.NotFound)
}

// changedOrg changes an organisation: all its clients are refused, and nobody
// of the other one.
func changedOrg(ctx context.Context, w World, change func(context.Context, int) error, stays bool, codes ...errs.Code) error {
	var last Client
	var refs []auth.Ref
	var others []Client
	err := each(ctx, w, func(c Client) error {
		g, err := verified(ctx, w, c)
		if err != nil {
			return err
		}
		last, refs = c, append(refs, g.Ref())
		other, err := w.Add(ctx, c.Principal.Kind, 1, "one")
		others = append(others, other)
		return err
	})
	if err != nil {
		return err
	}
	first := func(ctx context.Context) error { return change(ctx, 0) }
	if err := changed(ctx, w, last, first, true, codes...); err != nil {
		return err
	}
	for _, ref := range refs {
		g, err := w.Verifier.Renew(ctx, ref)
		if err := isRefusal(g, err, fmt.Sprintf("%v after the change", ref.Principal), codes...); err != nil {
			return err
		}
	}
	for _, other := range others {
		if _, err := verified(ctx, w, other); err != nil {
			return fmt.Errorf("after a change of another organisation: %w", err)
		}
	}
	if err := exists(ctx, w, auth.Principal{Org: others[0].Principal.Org}, true); err != nil {
		return err
	}
	return exists(ctx, w, auth.Principal{Org: last.Principal.Org}, stays)
}

// invented checks that a reference is worth nothing when it was not made by Verify.
func invented(ctx context.Context, w World) error {
	return each(ctx, w, func(c Client) error {
		g, err := verified(ctx, w, c)
		if err != nil {
			return err
		}
		credential, unknown, org, ended := g.Ref(), g.Ref(), g.Ref(), g.Ref()
		credential.Credential += "9"
		unknown.Principal.ID += "9"
		org.Principal.Org = "zzzzz0"
		ended.Expires = time.Now().Add(-time.Hour)
		for why, ref := range map[string]auth.Ref{
			"another credential": credential, "an unknown principal": unknown, "an unknown organisation": org, "an ended credential": ended, "nothing": {},
		} {
			g, err := w.Verifier.Renew(ctx, ref)
			if err := isRefusal(g, err, "a reference with "+why, errs.Unauthenticated, errs.Denied, errs.NotFound); err != nil {
				return err
			}
		}
		return exists(ctx, w, unknown.Principal, false)
	})
}

// noneLost makes many changes while the listener does not listen.
func noneLost(ctx context.Context, w World) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const many = 100
	seq := w.Verifier.Changes(ctx)
	missing := map[auth.Principal]bool{}
	for i := range many {
		c, err := w.Add(ctx, w.Kinds[0], i%2, fmt.Sprintf("many-%d", i))
		if err != nil {
			return err
		}
		if err := c.Disable(ctx); err != nil {
			return err
		}
		missing[c.Principal] = true
	}
	late := time.AfterFunc(soon, cancel)
	defer late.Stop()
	for p, err := range seq {
		if err != nil {
			return nil // they were missed, and it says so
		}
		for q := range missing {
			if p.Covers(q) {
				delete(missing, q)
			}
		}
		if len(missing) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d of %d changes were lost", len(missing), many)
}

// several checks that each listener hears everything, and one that stopped
// listening stops nobody.
func several(ctx context.Context, w World) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.Verifier.Changes(ctx) // nobody loops over it
	one, two := listen(ctx, w.Verifier), listen(ctx, w.Verifier)
	defer one.close()
	defer two.close()
	return each(ctx, w, func(c Client) error {
		if err := c.Disable(ctx); err != nil {
			return err
		}
		if err := one.hear(c.Principal); err != nil {
			return err
		}
		return two.hear(c.Principal)
	})
}

func changesEnd(ctx context.Context, w World) error {
	ctx, cancel := context.WithCancel(ctx)
	seq := w.Verifier.Changes(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range seq {
		}
	}()
	cancel()
	late := time.NewTimer(soon)
	defer late.Stop()
	select {
	case <-ended:
		return nil
	case <-late.C:
		return fmt.Errorf("the changes did not end within %v of their context", soon)
	}
}

// broken checks that what cannot be checked is refused, and not called wrong,
// and that listeners are told.
func broken(ctx context.Context, w World) error {
	if w.Break == nil {
		return nil
	}
	return each(ctx, w, func(c Client) error {
		g, err := verified(ctx, w, c)
		if err != nil {
			return err
		}
		fresh, err := w.Add(ctx, c.Principal.Kind, 0, "fresh") // nothing about it can be remembered
		if err != nil {
			return err
		}
		l := listen(ctx, w.Verifier)
		defer l.close()
		repair := w.Break()
		failed, err := w.Verifier.Verify(ctx, fresh.Credentials)
		if err := isRefusal(failed, err, "a client that cannot be checked", errs.Internal, errs.Unavailable); err != nil {
			repair()
			return err
		}
		// What is still known may be used. What is not must not be called gone.
		if _, err := w.Verifier.Renew(ctx, g.Ref()); err != nil && errs.CodeOf(err) == errs.NotFound {
			repair()
			return errors.New("a client that cannot be checked is called gone")
		}
		repair()
		if err := l.untilError(); err != nil {
			return err
		}
		_, err = verified(ctx, w, fresh)
		return err
	})
}
