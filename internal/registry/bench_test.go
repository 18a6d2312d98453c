package registry

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/store"
)

func BenchmarkVerify(b *testing.B) {
	s := newScene(b)
	for _, tc := range []struct {
		name  string
		c     auth.Credentials
		cold  bool
		allow bool
	}{
		{"device remembered", deviceLogin(s.iot, "t:d", s.device), false, true},
		{"device from store", deviceLogin(s.iot, "t:d", s.device), true, true},
		{"wrong token", deviceLogin(s.iot, "t:d", s.twinDevice), false, false},
		{"unknown device", deviceLogin(s.iot, "t:nope", s.device), false, false},
		{"application remembered", applicationLogin(s.application, s.applicationToken), false, true},
		{"certificate", certLogin(s.iot, "t:d", s.certificate), false, true},
		{"person", login("a:"+string(s.iot)+":x", userAccessToken, s.session), false, true},
	} {
		b.Run(tc.name, func(b *testing.B) {
			for b.Loop() {
				if tc.cold {
					s.known.clear()
				}
				if _, err := s.Verify(b.Context(), tc.c); (err == nil) != tc.allow {
					b.Fatal(err)
				}
			}
		})
	}
}

// A page of devices costs the same at the beginning and at the end of many.
func BenchmarkDevices(b *testing.B) {
	w := newWorld(b)
	org := w.newOrg(b, ProfileIoT2)
	w.newType(b, org, "t", ClassDevice)
	const n = 3000
	for i := range n {
		w.newDevice(b, Device{Org: org, Type: "t", ID: fmt.Sprintf("d%05d", i)})
	}
	for _, at := range []string{"d00000", "d02500"} {
		b.Run(at, func(b *testing.B) {
			for b.Loop() {
				list, _, err := w.Devices(b.Context(), w.admin, org, DeviceFilter{Prefix: "d"}, Page{Limit: 50, After: cursor("device", "t", at)})
				if err != nil || len(list) != 50 {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}

// What is done with one device, or with one member, costs the same in an
// organisation of a thousand devices and of a million.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) { benchmarkFleet(b, n) })
	}
}

func benchmarkFleet(b *testing.B, n int) {
	w := newWorld(b)
	ctx := b.Context()
	org := w.newOrg(b, ProfileIoT2)
	w.newType(b, org, "t", ClassDevice)
	check(b, w.db.DB.Update(forOrg(ctx, org), func(tx *store.Tx) error {
		const q = `INSERT INTO device (org, type, id, uid, class, token_hash, token_version, created_at) VALUES ($1, 't', $2, $2, 'Device', $3, 1, 1)`
		for i := range n {
			if _, err := tx.ExecContext(ctx, q, org, fmt.Sprintf("d%07d", i), make([]byte, storedLength)); err != nil {
				return err
			}
		}
		return nil
	}))
	id := fmt.Sprintf("real-in-%d", n)
	token := w.newDevice(b, Device{Org: org, Type: "t", ID: id})
	w.newPerson(b, "ann")
	w.join(b, org, "ann", "auditor")
	middle := cursor("device", "t", fmt.Sprintf("d%07d", n/2))
	roles := []string{"auditor", "member"}
	for name, do := range map[string]func(i int) error{
		"page": func(int) error {
			return third(w.Devices(ctx, w.admin, org, DeviceFilter{}, Page{Limit: 100, After: middle}))
		},
		"prefix": func(int) error {
			return third(w.Devices(ctx, w.admin, org, DeviceFilter{Prefix: "d0000"}, Page{Limit: 100}))
		},
		"lookup": func(int) error { return second(w.Device(ctx, w.admin, org, "t", id)) },
		"connect": func(int) error {
			w.known.clear()
			return second(w.Verify(ctx, deviceLogin(org, "t:"+id, token)))
		},
		"role": func(i int) error {
			return second(w.SetMember(ctx, w.admin, org, "ann", MemberChange{Role: &roles[i%2]}))
		},
	} {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				i++
				check(b, do(i))
			}
		})
	}
}
