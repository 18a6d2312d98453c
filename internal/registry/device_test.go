package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// walk lists devices page by page and returns their "type:id".
func walk(t *testing.T, w *world, org auth.OrgID, f DeviceFilter, limit int) []string {
	t.Helper()
	var all []string
	p := Page{Limit: limit}
	for range 100 {
		list, next, err := w.Devices(t.Context(), w.admin, org, f, p)
		check(t, err)
		if len(list) > limit || next != "" && len(list) != limit {
			t.Fatalf("page of %d with limit %d, next %q", len(list), limit, next)
		}
		for _, d := range list {
			all = append(all, d.Type+":"+d.ID)
		}
		if p.After = next; next == "" {
			return all
		}
	}
	t.Fatalf("the pages do not end: %q", all[:10])
	return nil
}

func TestDevicesByPageAndFilter(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org, other := w.newOrg(t, ProfileIoT2), w.newOrg(t, ProfileIoT2)
	w.newType(t, org, "g", ClassGateway)
	w.newDevice(t, Device{Org: org, Type: "g", ID: "gw"})
	w.newType(t, other, "a", ClassDevice)
	w.newDevice(t, Device{Org: other, Type: "a", ID: "p-9"})
	yes, no := true, false
	want := map[string][]string{}
	note := func(key, name string) { want[key] = append(want[key], name) }
	for _, typ := range []string{"a", "b"} {
		w.newType(t, org, typ, ClassDevice)
		for i := range 12 {
			id, gateway := fmt.Sprintf("%s-%d", []string{"p", "q", "p"}[i%3], i), ""
			if i%4 == 0 {
				gateway = "g:gw"
				note("gateway", typ+":"+id)
			}
			w.newDevice(t, Device{Org: org, Type: typ, ID: id, Gateway: gateway})
			note("all", typ+":"+id)
			note("type "+typ, typ+":"+id)
			if strings.HasPrefix(id, "p-") {
				note("prefix", typ+":"+id)
				if typ == "a" {
					note("a p-", typ+":"+id)
				}
				if typ == "a" && gateway != "" && i%2 == 0 {
					note("gateway a p-", typ+":"+id)
				}
			}
			if i%2 == 0 {
				check(t, w.SetDeviceDisabled(ctx, w.admin, org, typ, id, true))
				note("disabled", typ+":"+id)
			} else if strings.HasPrefix(id, "p-") {
				note("enabled p-", typ+":"+id)
			}
		}
	}
	note("all", "g:gw")
	for name, f := range map[string]DeviceFilter{
		"all": {}, "type a": {Type: "a"}, "type b": {Type: "b"}, "prefix": {Prefix: "p-"}, "disabled": {Disabled: &yes},
		"enabled p-": {Disabled: &no, Prefix: "p-"}, "gateway": {Gateway: "g:gw"},
		"gateway a p-": {Gateway: "g:gw", Type: "a", Prefix: "p-", Disabled: &yes}, "a p-": {Type: "a", Prefix: "p-"}, "none": {Prefix: "zz"},
	} {
		slices.Sort(want[name])
		for _, limit := range []int{1, 3, 1000} {
			got := walk(t, w, org, f, limit)
			slices.Sort(got)
			if !slices.Equal(got, want[name]) {
				t.Errorf("%s by %d: %q, want %q", name, limit, got, want[name])
			}
		}
	}
	for _, f := range []DeviceFilter{{Type: "a b"}, {Prefix: "%"}, {Gateway: "x"}} {
		_, _, err := w.Devices(ctx, w.admin, org, f, Page{})
		wantCode(t, err, errs.Invalid)
	}
	_, _, err := w.Devices(ctx, w.admin, "nope00", DeviceFilter{}, Page{})
	wantCode(t, err, errs.NotFound)
}

// Every way to list devices is one range of an index, from the position on, in
// its order: then a page costs the same however many devices there are.
func TestDeviceListsUseAnIndex(t *testing.T) {
	w := newWorld(t)
	org := w.newOrg(t, ProfileIoT2)
	w.newType(t, org, "t", ClassDevice)
	if dbtest.OnPostgres() { // which decides by what is in the table
		check(t, w.db.Update(forOrg(t.Context(), org), func(tx *store.Tx) error {
			const q = `INSERT INTO device (org, type, id, uid, class, token_hash, token_version, created_at)
				SELECT $1::text, 't', 'd' || i, 'd' || i, 'Device', '', 1, 1 FROM generate_series(1, 5000) i`
			_, err := tx.ExecContext(t.Context(), q, org)
			return err
		}))
	}
	yes := true
	for name, tc := range map[string]struct {
		f         DeviceFilter
		first, on string // what of the index is searched, on the first page and on later ones
	}{
		"all":              {DeviceFilter{}, "org=? AND (type,id)>(?,?)", ""},
		"type":             {DeviceFilter{Type: "t"}, "org=? AND type=? AND id>?", ""},
		"prefix":           {DeviceFilter{Prefix: "d"}, "org=? AND id>? AND id<?", "org=? AND (id,type)>(?,?) AND id<?"},
		"type, prefix":     {DeviceFilter{Type: "t", Prefix: "d"}, "org=? AND type=? AND id>? AND id<?", ""},
		"disabled":         {DeviceFilter{Disabled: &yes}, "org=? AND disabled=? AND (type,id)>(?,?)", ""},
		"disabled, type":   {DeviceFilter{Disabled: &yes, Type: "t"}, "org=? AND disabled=? AND type=? AND id>?", ""},
		"disabled, prefix": {DeviceFilter{Disabled: &yes, Prefix: "d"}, "org=? AND disabled=? AND id>? AND id<?", "org=? AND disabled=? AND (id,type)>(?,?) AND id<?"},
		"all three":        {DeviceFilter{Disabled: &yes, Type: "t", Prefix: "d"}, "org=? AND disabled=? AND type=? AND id>? AND id<?", ""},
		"gateway":          {DeviceFilter{Gateway: "g:g"}, "org=? AND gateway_type=? AND gateway_id=? AND (type,id)>(?,?)", ""},
		"gateway, type":    {DeviceFilter{Gateway: "g:g", Type: "t"}, "org=? AND gateway_type=? AND gateway_id=? AND (type,id)>(?,?)", ""},
		"gateway, rest":    {DeviceFilter{Gateway: "g:g", Prefix: "d", Disabled: &yes}, "org=? AND gateway_type=? AND gateway_id=? AND (type,id)>(?,?)", ""},
	} {
		if tc.on == "" {
			tc.on = tc.first
		}
		for _, page := range []struct{ typ, id, want string }{{"", "", tc.first}, {"t", "d1", tc.on}} {
			q, args := tc.f.query(org, page.typ, page.id, 10)
			plan := w.plan(t, q, args)
			if dbtest.OnPostgres() {
				if text := strings.Join(plan, "\n"); !strings.Contains(text, "Index Scan using") || strings.Contains(text, "Sort ") || strings.Contains(text, "Seq Scan") {
					t.Errorf("%s: %s is read as\n%s", name, q, text)
				}
				continue
			}
			if len(plan) != 1 || !strings.Contains(plan[0], "SEARCH device USING INDEX") || !strings.HasSuffix(plan[0], "("+page.want+")") {
				t.Errorf("%s: %s is read as %q, want %s", name, q, plan, page.want)
			}
		}
	}
}

// plan returns how the store runs a query.
func (w *world) plan(t *testing.T, q string, args []any) []string {
	t.Helper()
	var plan []string
	check(t, w.db.View(forOrg(t.Context(), args[0].(auth.OrgID)), func(tx *store.Tx) error {
		explain := "EXPLAIN QUERY PLAN "
		if dbtest.OnPostgres() {
			explain = "EXPLAIN "
		}
		rows, err := tx.QueryContext(t.Context(), explain+q, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var id, parent, unused int
			var detail string
			into := []any{&id, &parent, &unused, &detail}
			if dbtest.OnPostgres() {
				into = into[3:]
			}
			if err := rows.Scan(into...); err != nil {
				return err
			}
			plan = append(plan, detail)
		}
		return rows.Err()
	}))
	return plan
}

func TestDeviceRoundTrip(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	org := w.newOrg(t, ProfileIoT2)
	w.newType(t, org, "g", ClassGateway)
	w.newType(t, org, "t", ClassDevice)
	w.newDevice(t, Device{Org: org, Type: "g", ID: "gw"})
	made, token, err := w.CreateDevice(ctx, w.admin, Device{Org: org, Type: "t", ID: "d", Gateway: "g:gw", Class: "ignored", Disabled: true})
	check(t, err)
	got, err := w.Device(ctx, w.admin, org, "t", "d")
	check(t, err)
	if got != made || got.Class != ClassDevice || got.Disabled || got.TokenVersion != 1 || len(token.Reveal()) != tokenLength {
		t.Errorf("%+v, made %+v", got, made)
	}
	second, err := w.RotateToken(ctx, w.admin, auth.Principal{Org: org, Kind: auth.Device, ID: "t:d"}, Rotation{})
	check(t, err)
	if got, _ := w.Device(ctx, w.admin, org, "t", "d"); got.TokenVersion != 2 || second.Equal(token) {
		t.Errorf("%+v", got)
	}
	check(t, w.DeleteDevice(ctx, w.admin, org, "g", "gw"))
	if got, _ := w.Device(ctx, w.admin, org, "t", "d"); got.Gateway != "" {
		t.Errorf("attached to a deleted gateway: %+v", got)
	}
}
