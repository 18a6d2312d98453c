package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/refusal"
	"github.com/keepmq/keepmq/internal/secret"
	"github.com/keepmq/keepmq/internal/store"
)

// A recorded refusal is one as it is on the audit record.
type recordedRefusal struct {
	Org, Actor, Action, Target, Address string
	Detail                              struct {
		Count       int64
		First, Last time.Time
	}
}

// refused returns the refusals on the audit record.
func (w *world) refused(t *testing.T) (all []recordedRefusal) {
	t.Helper()
	check(t, w.db.DB.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		rows, err := tx.QueryContext(t.Context(), `SELECT e.record FROM audit_search s JOIN audit_event e ON e.seq = s.seq WHERE s.noun = 'refuse' ORDER BY e.seq`)
		if err != nil {
			return err
		}
		return each(rows, func() error {
			var text string
			var r recordedRefusal
			err := rows.Scan(&text)
			all = append(all, r)
			return errors.Join(err, json.Unmarshal([]byte(text), &all[len(all)-1]))
		})
	}))
	return all
}

// Every way to be refused leaves a record in whose organisation it was, with how
// often, and in no other's.
func TestEveryRefusalIsRecorded(t *testing.T) {
	h := newHeld(t)
	ctx := t.Context()
	other := h.newOrg(t, ProfileIoT2)
	token, err := h.RotateToken(ctx, h.admin, auth.Principal{Org: h.org, Kind: auth.Device, ID: "t:d"}, Rotation{})
	check(t, err)
	h.newPerson(t, "bob")
	bob := Actor{Principal: auth.Principal{Kind: auth.Person, ID: "bob"}, Address: "192.0.2.7"}
	login := func(id string, token secret.String) auth.Credentials {
		c := deviceLogin(h.org, id, token)
		c.Remote = netip.MustParseAddrPort("192.0.2.9:1234")
		return c
	}
	verify := func(c auth.Credentials) error { _, err := h.Verify(ctx, c); return err }
	for _, tc := range []struct {
		org    auth.OrgID
		class  RefusalClass
		who    string
		times  int64
		refuse func() error
	}{
		{h.org, RefusedCredential, "device:" + string(h.org) + ":t:d", 3, func() error { return verify(login("t:d", secret.New("wrong"))) }},
		{h.org, RefusedMalformed, "d:" + string(h.org) + ":t:d", 2, func() error {
			c := login("t:d", token)
			c.HasUsername, c.Username = true, "somebody"
			return verify(c)
		}},
		{h.org, RefusedDisabled, "device:" + string(h.org) + ":t:d", 2, func() error {
			check(t, h.SetDeviceDisabled(ctx, h.admin, h.org, "t", "d", true))
			err := verify(login("t:d", token))
			check(t, h.SetDeviceDisabled(ctx, h.admin, h.org, "t", "d", false))
			return err
		}},
		{h.org, RefusedRule, "device:" + string(h.org) + ":t:d", 1, func() error {
			l, err := h.CreateLock(ctx, h.admin, Lock{Org: h.org, Kind: LockAddress, Target: "192.0.2.9", Reason: "x"})
			check(t, err)
			err = verify(login("t:d", token))
			check(t, h.DeleteLock(ctx, h.admin, h.org, l.ID))
			return err
		}},
		{h.org, RefusedUnchecked, "device:" + string(h.org) + ":t:other", 1, func() error {
			h.db.fail(errors.New("broken"))
			defer h.db.fail(nil)
			return verify(login("t:other", token))
		}},
		{"", RefusedSession, "", 2, func() error { _, err := h.Session(ctx, secret.New("x"), "192.0.2.8"); return err }},
		{"", RefusedEnrolment, "", 1, func() error { _, err := h.Enrol(ctx, secret.New("x"), newCSR(t), "192.0.2.8"); return err }},
		{"", RefusedOrg, "person::bob", 2, func() error { _, err := h.Org(ctx, bob, h.org); return err }},
		{other, RefusedOrg, "application:" + string(other) + ":a", 1, func() error {
			_, err := h.Org(ctx, Actor{Principal: auth.Principal{Org: other, Kind: auth.Application, ID: "a"}}, h.org)
			return err
		}},
		{h.org, RefusedPublish, "user:x:y", 5, func() error {
			h.Refusals.Note(refusal.Refusal{Org: string(h.org), Principal: "user:x:y", Action: auth.Publish.String(), Topic: "t"})
			return errRefused
		}},
		{h.org, RefusedReceive, "user:x:y", 1, func() error {
			h.Refusals.Note(refusal.Refusal{Org: string(h.org), Principal: "user:x:y", Action: auth.Receive.String(), Topic: "t"})
			return errRefused
		}},
	} {
		check(t, h.RecordRefusals(ctx, true))
		before := h.refused(t)
		for range tc.times {
			if err := tc.refuse(); err == nil {
				t.Fatalf("%s: not refused", tc.class)
			}
		}
		check(t, h.RecordRefusals(ctx, true))
		all := h.refused(t)[len(before):]
		if len(all) != 1 {
			t.Errorf("%s: %d records: %+v", tc.class, len(all), all)
			continue
		}
		r := all[0]
		if r.Org != string(tc.org) || r.Action != "refuse."+string(tc.class) || r.Detail.Count != tc.times || r.Actor != "system::refusals" ||
			!strings.HasPrefix(r.Target, tc.who) || r.Detail.First.After(r.Detail.Last) || time.Since(r.Detail.First).Abs() > time.Minute {
			t.Errorf("%s: %+v", tc.class, r)
		}
		if tc.class == RefusedCredential && r.Address != "192.0.2.9" {
			t.Errorf("%s: from %q", tc.class, r.Address)
		}
	}
	check(t, h.RecordRefusals(ctx, true)) // nothing is left
	if a, b := len(h.refused(t)), len(h.refused(t)); a != b {
		t.Errorf("%d, then %d records", a, b)
	}
}

// However often a stranger is refused, the record grows ever less, and counts all.
func TestRefusalsDoNotFillTheRecord(t *testing.T) {
	w := newWorld(t)
	org := w.newOrg(t, ProfileIoT2)
	minutes := 3 * 24 * 60
	for range minutes {
		for range 100 {
			w.NoteRefusal(NotedRefusal{Org: org, Class: RefusedCredential, Who: "x"})
		}
		w.clock.move(time.Minute)
		check(t, w.RecordRefusals(t.Context(), false))
	}
	check(t, w.RecordRefusals(t.Context(), true))
	all := w.refused(t)
	sum := int64(0)
	for i, r := range all {
		sum += r.Detail.Count
		if i > 0 && r.Detail.First.Before(all[i-1].Detail.Last) {
			t.Errorf("record %d begins before the one before has ended", i)
		}
	}
	if sum != int64(100*minutes) || len(all) > 15 || len(all) < 8 {
		t.Errorf("%d refusals in %d records", sum, len(all))
	}
	if first := all[0].Detail; first.Count != 100 {
		t.Errorf("the first record is of %d refusals, not of the first minute", first.Count)
	}
	// After a quiet time the next one is told at once.
	w.clock.move(3 * tallyMost)
	check(t, w.RecordRefusals(t.Context(), false))
	w.NoteRefusal(NotedRefusal{Org: org, Class: RefusedCredential, Who: "y"})
	check(t, w.RecordRefusals(t.Context(), false))
	if got := w.refused(t); len(got) != len(all)+1 || got[len(all)].Target != "y" || got[len(all)].Detail.Count != 1 {
		t.Errorf("%d records after a quiet time: %+v", len(got), got[len(all):])
	}
}

// Names of organisations that a stranger makes up get no record, and take none
// away from others.
func TestRefusalsOfMadeUpOrganisations(t *testing.T) {
	w := newWorld(t)
	org := w.newOrg(t, ProfileIoT2)
	note := func(org auth.OrgID) {
		w.NoteRefusal(NotedRefusal{Org: org, Class: RefusedCredential, Who: string(org)})
	}
	note(org)
	check(t, w.RecordRefusals(t.Context(), false))
	for i := range 10 * maxTallies {
		note(auth.OrgID(fmt.Sprint("made up ", i)))
		if i%100 == 0 {
			note(org)
		}
	}
	if n := len(w.tallied.all); n > maxUnknown+10 {
		t.Errorf("%d are remembered", n)
	}
	w.clock.move(time.Hour)
	check(t, w.RecordRefusals(t.Context(), false))
	count := map[string]int64{}
	for _, r := range w.refused(t) {
		count[r.Org] += r.Detail.Count
	}
	if len(count) != 2 || count[string(org)] != 1+10*maxTallies/100 || count[""] != 10*maxTallies {
		t.Errorf("%v", count)
	}
	if n := len(w.refused(t)); n != 3 {
		t.Errorf("%d records", n)
	}
	if w.tallied.unknown != 0 {
		t.Errorf("%d are unknown", w.tallied.unknown)
	}
}

// What cannot be recorded now stays counted.
func TestRefusalsSurviveAFailure(t *testing.T) {
	w := newWorld(t)
	org := w.newOrg(t, ProfileIoT2)
	for i := range 2*talliesInTx + 10 {
		w.NoteRefusal(NotedRefusal{Org: org, Class: RefusalClass(fmt.Sprint("class", i)), Who: "\x1b[2J" + strings.Repeat("x", 5000)})
	}
	w.db.fail(errors.New("broken"))
	wantCode(t, w.RecordRefusals(t.Context(), true), errs.Unavailable)
	w.db.fail(nil)
	if n := len(w.refused(t)); n != 0 {
		t.Fatalf("%d records", n)
	}
	check(t, w.RecordRefusals(t.Context(), true))
	all := w.refused(t)
	if len(all) != 2*talliesInTx+10 {
		t.Errorf("%d records", len(all))
	}
	for _, r := range all {
		if r.Detail.Count != 1 || len(r.Target) > 200 || strings.Contains(r.Target, "\x1b") {
			t.Fatalf("%+v", r)
		}
	}
}

// What was refused before a stop is on the record after it.
func TestKeepRefusalsAtAStop(t *testing.T) {
	w := newWorld(t)
	org := w.newOrg(t, ProfileIoT2)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.KeepRefusals(ctx) }()
	w.NoteRefusal(NotedRefusal{Org: org, Class: RefusedCredential, Who: "x"})
	stop()
	<-ended
	if all := w.refused(t); len(all) != 1 || all[0].Org != string(org) || all[0].Detail.Count != 1 {
		t.Errorf("%+v", all)
	}
}
