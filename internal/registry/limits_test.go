package registry

import (
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/quota"
	"github.com/keepmq/keepmq/internal/store"
)

func TestLimitsAreLaidOverEachOther(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, token := w.simple(t)
	base := quota.Defaults().With(quota.ClientQueue, 100)
	queue := func() int64 {
		g, err := w.Verify(ctx, deviceLogin(org, "t:d", token))
		check(t, err)
		l := g.Limits(base)
		return l.Get(quota.ClientQueue)
	}
	for _, s := range []struct {
		typ   string
		value any
		want  int64
	}{
		{"", nil, 100},
		{"", 500, 500},    // an administrator may raise
		{"t", 600, 500},   // a type may not
		{"t", 50, 50},     // but lower
		{"", 20, 20},      // what is set for the type is above now
		{"", nil, 50},     // and below again
		{"t", "50", 50},   // no number: nothing changes
		{"t", 0, 50},      // out of range
		{"t", nil, 100},   // unset
		{"t", 100.0, 100}, // as JSON has it
	} {
		change := map[string]any{"client.queue": s.value}
		var l Limits
		var err error
		if s.typ == "" {
			l, err = w.SetOrgLimits(ctx, w.admin, org, change)
		} else {
			l, err = w.SetTypeLimits(ctx, w.admin, org, s.typ, change)
		}
		if s.value == "50" || s.value == 0 {
			wantCode(t, err, errs.Invalid)
			if m := errs.Message(err); !strings.Contains(m, "client.queue") {
				t.Errorf("%q does not name the limit", m)
			}
		} else {
			check(t, err)
			e := l.Effective(base)
			if got := e.Get(quota.ClientQueue); s.typ != "" && got != s.want {
				t.Errorf("%q set to %v: said to be %d, want %d", s.typ, s.value, got, s.want)
			}
		}
		if got := queue(); got != s.want {
			t.Errorf("%q set to %v: %d, want %d", s.typ, s.value, got, s.want)
		}
		again, err := w.TypeLimits(ctx, w.admin, org, "t")
		check(t, err)
		e := again.Effective(base)
		if got := e.Get(quota.ClientQueue); got != s.want {
			t.Errorf("%q set to %v: shown as %d, want %d", s.typ, s.value, got, s.want)
		}
	}
}

func TestLimitsRefused(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	p, _ := w.newApplication(t, org)
	own := Actor{Principal: p.Principal()}
	for name, tc := range map[string]struct {
		err  error
		code errs.Code
		says string
	}{
		"of an organisation, for a type": {second(w.SetTypeLimits(ctx, own, org, "t", map[string]any{"org.connections": 5})), errs.Invalid, "org.connections"},
		"unset of an organisation":       {second(w.SetTypeLimits(ctx, own, org, "t", map[string]any{"org.connections": nil})), errs.Invalid, "org.connections"},
		"by the organisation itself":     {second(w.SetOrgLimits(ctx, own, org, map[string]any{"client.queue": 5})), errs.Denied, "administrator"},
		"unknown":                        {second(w.SetOrgLimits(ctx, w.admin, org, map[string]any{"client.hats": 5})), errs.Invalid, "client.hats"},
		"unknown unset":                  {second(w.SetOrgLimits(ctx, w.admin, org, map[string]any{"client.hats": nil})), errs.Invalid, "client.hats"},
		"range":                          {second(w.SetOrgLimits(ctx, w.admin, org, map[string]any{"client.queue": 99_000_000})), errs.Invalid, "1 and 10000000"},
		"type unknown":                   {second(w.SetTypeLimits(ctx, own, org, "nope", map[string]any{"client.queue": 5})), errs.NotFound, "nope"},
		"type without a name":            {second(w.SetTypeLimits(ctx, own, org, "", map[string]any{"client.queue": 5})), errs.NotFound, ""},
		"org unknown":                    {second(w.SetOrgLimits(ctx, w.admin, "nope00", map[string]any{"client.queue": 5})), errs.NotFound, "nope00"},
		"show type unknown":              {second(w.TypeLimits(ctx, own, org, "nope")), errs.NotFound, "nope"},
		"show org unknown":               {second(w.OrgLimits(ctx, w.admin, "nope00")), errs.NotFound, "nope00"},
	} {
		t.Run(name, func(t *testing.T) {
			wantCode(t, tc.err, tc.code)
			if m := errs.Message(tc.err); !strings.Contains(m, tc.says) {
				t.Errorf("%q does not say %q", m, tc.says)
			}
		})
	}
	l, err := w.OrgLimits(ctx, own, org)
	check(t, err)
	if l != (Limits{}) {
		t.Errorf("a refusal has set %v", l)
	}
}

func second[T any](_ T, err error) error { return err }

// What a newer version has set is not taken for nothing.
func TestUnknownLimitsInTheStore(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, token := w.simple(t)
	_, err := w.Verify(ctx, deviceLogin(org, "t:d", token))
	check(t, err)
	for _, q := range []string{`UPDATE org SET limits = $1 WHERE id = $2`, `UPDATE device_type SET limits = $1 WHERE org = $2`} {
		set := func(text string) {
			check(t, w.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
				_, err := tx.ExecContext(ctx, q, text, org)
				return err
			}))
			w.limits.clear()
		}
		for _, text := range []string{`{"client.hats":3}`, `{"client.queue":0}`, `{`} {
			set(text)
			_, err := w.Verify(ctx, deviceLogin(org, "t:d", token))
			wantCode(t, err, errs.Unavailable)
			_, err = w.TypeLimits(ctx, w.admin, org, "t")
			wantCode(t, err, errs.Unavailable)
		}
		set("")
		_, err := w.Verify(ctx, deviceLogin(org, "t:d", token))
		check(t, err)
	}
}

// A device type that is made again has nothing of the one before.
func TestLimitsGoWithTheirType(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfileIoT2)
	for range 2 {
		w.newType(t, org, "t", ClassDevice)
		l, err := w.Limits(ctx, org, "t")
		check(t, err)
		if l != (quota.Limits{}) {
			t.Fatalf("a new type has %v", l.Map())
		}
		_, err = w.SetTypeLimits(ctx, w.admin, org, "t", map[string]any{"client.queue": 5, "client.queue_full": "end_session"})
		check(t, err)
		l, err = w.Limits(ctx, org, "t")
		check(t, err)
		if l.Get(quota.ClientQueue) != 5 || l.Get(quota.ClientQueueFull) != quota.EndSession {
			t.Fatalf("set %v", l.Map())
		}
		check(t, w.DeleteDeviceType(ctx, w.admin, org, "t"))
	}
}
