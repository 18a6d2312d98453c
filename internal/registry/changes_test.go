package registry

import (
	"context"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
)

func TestChangesAreHeardFromTheCallOn(t *testing.T) {
	w := newWorld(t)
	org, _ := w.simple(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	changes := w.Changes(ctx)
	check(t, w.SetDeviceDisabled(ctx, w.admin, org, "t", "d", true))
	for p, err := range changes {
		check(t, err)
		if p != (auth.Change{Principal: auth.Principal{Org: org, Kind: auth.Device, ID: "t:d"}}) {
			t.Fatal(p)
		}
		return
	}
	t.Fatal("no change was heard")
}

func TestSlowReaderIsTold(t *testing.T) {
	var r Registry
	slow := r.Changes(t.Context())
	fast := r.changes.subscribe()
	p := auth.Principal{Org: "abc123", Kind: auth.Device, ID: "t:d"}
	for range changeBuffer + 1 {
		r.changes.tell([]auth.Principal{p})
		<-fast.ch
	}
	heard := 0
	for _, err := range slow {
		if err == nil {
			heard++
			continue
		}
		if heard != changeBuffer {
			t.Fatalf("heard %d before the error", heard)
		}
		if len(r.changes.readers) != 1 {
			t.Fatal("the slow reader is still kept, or the fast one is not")
		}
		return
	}
	t.Fatal("the loop ended without an error")
}

func TestChangesEndWithTheContext(t *testing.T) {
	var r Registry
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	changes := r.Changes(ctx)
	go func() {
		defer close(ended)
		for range changes {
		}
	}()
	cancel()
	<-ended
	for deadline := time.Now().Add(5 * time.Second); ; {
		r.changes.mu.Lock()
		n := len(r.changes.readers)
		r.changes.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the reader is still kept")
		}
	}
}

func TestEveryoneIsToldByAnError(t *testing.T) {
	var r Registry
	changes := r.Changes(t.Context())
	r.announce(effect{everyone: true})
	for _, err := range changes {
		if err == nil {
			t.Fatal("want an error")
		}
		return
	}
}
