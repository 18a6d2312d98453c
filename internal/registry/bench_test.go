package registry

import (
	"fmt"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
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
