package registry

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/permission"
)

// Where clients may connect from, as a new connection and as one that goes on.
func TestNetworks(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	s.country = func(a netip.Addr) (string, error) {
		switch {
		case netip.MustParsePrefix("192.0.2.0/24").Contains(a):
			return "SE", nil
		case netip.MustParsePrefix("198.51.100.0/24").Contains(a):
			return "NO", nil
		case netip.MustParsePrefix("203.0.113.0/24").Contains(a):
			return "", errors.New("the file is gone")
		}
		return "", nil
	}
	device := s.good()["device"].c
	may := func(address string) bool {
		t.Helper()
		g, err := s.Verify(ctx, from(device, address))
		if err == nil {
			if _, err := s.Renew(ctx, g.Ref()); err != nil {
				t.Errorf("%s may connect and not stay: %v", address, err)
			}
		} else if code := errs.CodeOf(err); code != errs.Denied && code != errs.Unavailable {
			t.Errorf("%s: %v", address, err)
		}
		return err == nil
	}
	places := []string{"192.0.2.7:1", "198.51.100.7:1", "203.0.113.7:1", "[2001:db8::1]:1", "[::ffff:192.0.2.7]:1", "10.0.0.1:1", "100.64.0.1:1"}
	for _, tt := range []struct {
		n    Network
		want []bool // for the places
	}{
		{Network{Mode: NetworkOff}, []bool{true, true, true, true, true, true, true}},
		{Network{Mode: NetworkAllow, Ranges: []string{"192.0.2.0/28", "2001:db8::/64"}}, []bool{true, false, false, true, true, false, false}},
		{Network{Mode: NetworkDeny, Ranges: []string{"192.0.2.7"}}, []bool{false, true, true, true, false, true, true}},
		{Network{Mode: NetworkAllow, Countries: []string{"SE"}}, []bool{true, false, false, false, true, false, false}},
		{Network{Mode: NetworkDeny, Countries: []string{"SE"}}, []bool{false, true, false, false, false, true, false}}, // of no known country: in doubt, no
		{Network{Mode: NetworkAllow, Ranges: []string{"203.0.113.0/24"}, Countries: []string{"NO"}}, []bool{false, true, true, false, false, false, false}},
	} {
		set, err := s.SetNetwork(ctx, s.admin, s.iot, tt.n)
		check(t, err)
		got, err := s.Network(ctx, s.admin, s.iot)
		if check(t, err); !slices.Equal(got.Ranges, set.Ranges) || got.Mode != tt.n.Mode || !slices.Equal(got.Countries, tt.n.Countries) {
			t.Errorf("set %+v, read %+v", set, got)
		}
		for i, p := range places {
			if may(p) != tt.want[i] {
				t.Errorf("%+v: from %s: %v", tt.n, p, !tt.want[i])
			}
		}
	}
	// One that is connected is asked for again, and sent away.
	_, err := s.SetNetwork(ctx, s.admin, s.iot, Network{Mode: NetworkOff})
	check(t, err)
	g, err := s.Verify(ctx, from(device, "198.51.100.7:1"))
	check(t, err)
	rd := s.changes.subscribe()
	_, err = s.SetNetwork(ctx, s.admin, s.iot, Network{Mode: NetworkAllow, Ranges: []string{"192.0.2.0/24"}})
	check(t, err)
	if p := <-rd.ch; p.Principal != (auth.Principal{Org: s.iot}) {
		t.Errorf("told %v", p)
	}
	_, err = s.Renew(ctx, g.Ref())
	wantCode(t, err, errs.Denied)
	if _, err := s.Device(ctx, Actor{Principal: s.application.Principal(), Address: "198.51.100.7"}, s.iot, "t", "d"); err != nil {
		t.Errorf("network rules are for the API too: %v", err)
	}
	s.gates.clear()
	s.db.fail(errDisk)
	_, err = s.Renew(ctx, g.Ref())
	wantCode(t, err, errs.Unavailable)
	s.db.fail(nil)
}

func TestNetworksRefused(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, _ := w.simple(t)
	for name, tc := range map[string]struct {
		n    Network
		says string
	}{
		"mode":       {Network{Mode: "maybe"}, "mode must be"},
		"range":      {Network{Mode: NetworkDeny, Ranges: []string{"a.example.com"}}, "a.example.com"},
		"mapped":     {Network{Mode: NetworkDeny, Ranges: []string{"::ffff:192.0.2.0/120"}}, "must be an IP address"},
		"allow none": {Network{Mode: NetworkAllow}, "at least one"},
		"country":    {Network{Mode: NetworkDeny, Countries: []string{"Sweden"}}, "two capital letters"},
		"no file":    {Network{Mode: NetworkDeny, Countries: []string{"SE"}}, "country_database"},
		"many":       {Network{Mode: NetworkDeny, Ranges: manyRanges(maxRanges + 1)}, "at most 1000"},
	} {
		_, err := w.SetNetwork(ctx, w.admin, org, tc.n)
		if errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.newPerson(t, "reader")
	reader := w.join(t, org, "reader", permission.Reader)
	wantCode(t, second(w.Network(ctx, reader, org)), errs.Denied)
	wantCode(t, second(w.Policies(ctx, reader, org)), errs.Denied)
	wantCode(t, second(w.Compliance(ctx, reader, org, Policies{})), errs.Denied)
	wantCode(t, third(w.NonCompliant(ctx, reader, org, Page{})), errs.Denied)
	wantCode(t, second(w.Network(ctx, w.admin, "nope00")), errs.NotFound)
}

func manyRanges(n int) (all []string) {
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String())
	}
	return all
}

// What devices must present, by the policy of their type or their organisation.
func TestPolicies(t *testing.T) {
	s := newScene(t)
	ctx := t.Context()
	good := s.good()
	withBoth := with(good["device"].c, func(c *auth.Credentials) { c.Certificate = s.certificate })
	with := map[string]auth.Credentials{"token": good["device"].c, "certificate": certLogin(s.iot, "t:d", s.certificate), "both": withBoth}
	refs := map[string]auth.Ref{}
	for what, c := range with {
		g, err := s.Verify(ctx, c)
		check(t, err)
		refs[what] = g.Ref()
	}
	for _, tt := range []struct {
		p    Policies
		want string // what suffices
	}{
		{Policies{Default: PolicyToken}, "both token"},
		{Policies{Default: PolicyCertificate}, "both certificate"},
		{Policies{Default: PolicyBoth}, "both"},
		{Policies{Default: PolicyEither}, "both certificate token"},
		{Policies{Types: map[string]string{"t": PolicyBoth}}, "both"},
		{Policies{Default: PolicyCertificate, Types: map[string]string{"t": PolicyToken}}, "both token"},
		{Policies{Types: map[string]string{"t": ""}}, "both certificate"},
		{Policies{Types: map[string]string{"g": PolicyBoth}}, "both certificate"},
	} {
		_, err := s.SetPolicies(ctx, s.admin, s.iot, tt.p)
		check(t, err)
		for what := range with {
			want := slices.Contains(strings.Fields(tt.want), what)
			_, fresh := s.Verify(ctx, with[what])
			_, live := s.Renew(ctx, refs[what])
			for _, err := range []error{fresh, live} {
				if (err == nil) != want || err != nil && (errs.CodeOf(err) != errs.Denied || !strings.Contains(errs.Message(err), "asks for a")) {
					t.Errorf("%+v: with %s: %v", tt.p, what, err)
				}
			}
		}
		if _, err := s.Verify(ctx, good["application"].c); err != nil {
			t.Errorf("%+v: an application: %v", tt.p, err)
		}
		if _, err := s.Verify(ctx, good["same id in another"].c); err != nil {
			t.Errorf("%+v: another organisation: %v", tt.p, err)
		}
	}
	for bad, says := range map[string]string{"tls-optional": "TLS and nothing else", "x": "must be"} {
		_, err := s.SetPolicies(ctx, s.admin, s.iot, Policies{Default: bad})
		if errs.CodeOf(err) != errs.Invalid || !strings.Contains(errs.Message(err), says) {
			t.Errorf("%s: %v", bad, err)
		}
		_, err = s.Compliance(ctx, s.admin, s.iot, Policies{Types: map[string]string{"t": bad}})
		wantCode(t, err, errs.Invalid)
	}
	wantCode(t, second(s.SetPolicies(ctx, s.admin, s.iot, Policies{Types: map[string]string{"nope": PolicyBoth}})), errs.NotFound)
}

// The preview counts who could not connect, and the report names them.
func TestCompliance(t *testing.T) {
	s := newScene(t) // of type t: d with a certificate and behind without; of type g: g with one
	ctx := t.Context()
	without := func(p Policies) map[string]int64 {
		all, err := s.Compliance(ctx, s.admin, s.iot, p)
		check(t, err)
		m := map[string]int64{}
		for _, c := range all {
			m[c.Type+" "+c.Policy] = c.Without
		}
		return m
	}
	check2 := func(got, want map[string]int64) {
		t.Helper()
		if len(got) != len(want) {
			t.Errorf("%v, want %v", got, want)
		}
		for k, n := range want {
			if v, ok := got[k]; !ok || v != n {
				t.Errorf("%v, want %v", got, want)
			}
		}
	}
	check2(without(Policies{}), map[string]int64{"t either": 0, "g either": 0})
	check2(without(Policies{Default: PolicyCertificate}), map[string]int64{"t certificate": 1, "g certificate": 0})
	check2(without(Policies{Default: PolicyBoth, Types: map[string]string{"t": PolicyToken}}), map[string]int64{"t token": 0, "g both": 0})
	all, _, err := s.NonCompliant(ctx, s.admin, s.iot, Page{})
	if check(t, err); len(all) != 0 {
		t.Errorf("%v", all)
	}
	_, err = s.SetPolicies(ctx, s.admin, s.iot, Policies{Types: map[string]string{"t": PolicyCertificate}})
	check(t, err)
	all, _, err = s.NonCompliant(ctx, s.admin, s.iot, Page{})
	if check(t, err); !slices.Equal(all, []DeviceName{{"t", "behind"}}) {
		t.Errorf("%v", all)
	}
	s.clock.move(s.certificate.NotAfter.Sub(s.clock.now()))
	all, next, err := s.NonCompliant(ctx, s.admin, s.iot, Page{Limit: 1})
	if check(t, err); len(all) != 1 || next == "" {
		t.Errorf("%v %q", all, next)
	}
	rest, next, err := s.NonCompliant(ctx, s.admin, s.iot, Page{Limit: 1, After: next})
	if check(t, err); len(rest) != 1 || rest[0] == all[0] || next != "" {
		t.Errorf("%v %q", rest, next)
	}
}
