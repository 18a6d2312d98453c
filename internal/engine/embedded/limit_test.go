package embedded_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/quota"
)

func open(t testing.TB, o embedded.Options) *embedded.Engine {
	t.Helper()
	e, err := embedded.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The owner of a full queue sees that it is, however often publishers meet it.
func TestQueueFullSeen(t *testing.T) {
	o := options(vfs.NewMem())
	o.LimitLog = quota.NewLog(nil)
	e := open(t, o)
	for i, k := range []engine.Claim{{Queue: 1}, {Queue: 10, QueueBytes: 100}} {
		k.ID, k.Expiry, k.Sink = id(fmt.Sprint("s", i)), time.Hour, &quiet{}
		c, err := e.Claim(context.Background(), k)
		if err != nil {
			t.Fatal(err)
		}
		topic := fmt.Sprint("t/", i)
		subscribe(t, c.Session, topic, 1)
		if err := publishWait(e, msg(t, topic, "fits", 1)); err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				for range 250 {
					if err := publishWait(e, msg(t, topic, "more", 1)); !errors.Is(err, engine.ErrQueueFull) {
						t.Errorf("publish: %v", err)
					}
				}
			})
		}
		wait.Wait()
		if err := c.Session.Close(context.Background(), engine.Close{Expiry: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	got := o.LimitLog.Events("a")
	want := map[string]quota.Event{
		"s0": {Limit: quota.ClientQueue, Value: 1},
		"s1": {Limit: quota.ClientQueueBytes, Value: 100},
	}
	for _, ev := range got {
		w := want[ev.Client]
		if ev.Limit != w.Limit || ev.Value != w.Value || ev.Outcome != quota.Refused || ev.Count != 1000 || ev.Principal != id(ev.Client).Owner.String() {
			t.Errorf("event %+v, want %+v", ev, w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d events", len(got))
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// A folder of the first format has sessions without a limit in bytes, and
// retained messages that nobody has counted.
func TestFormat1(t *testing.T) {
	mem := vfs.NewMem()
	o := options(mem)
	e := open(t, o)
	subscribe(t, claim(t, e, "c", time.Hour, &quiet{}), "t", 1)
	for i := range 5 {
		m := msg(t, fmt.Sprint("r/", i), strings.Repeat("x", i), 1)
		m.Retain = true
		if err := publishWait(e, m); err != nil {
			t.Fatal(err)
		}
	}
	want, err := e.Stats(context.Background(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open("data", &pebble.Options{FS: mem})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte("\x01p"), UpperBound: []byte("\x01q")})
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		v := embedded.SessionRecord1(it.Value())
		if err := db.Set(it.Key(), v, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(it.Close(), db.DeleteRange([]byte("\x01t"), []byte("\x01u"), pebble.Sync),
		db.Set([]byte("\x01aformat"), binary.BigEndian.AppendUint64(nil, 1), pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	o.Limits.QueueBytes = 200
	e = open(t, o)
	got, err := e.Stats(context.Background(), "a")
	if want.Held = 0; err != nil || got != want {
		t.Errorf("stats %+v, %v, want %+v", got, err, want)
	}
	if err := publishWait(e, msg(t, "t", strings.Repeat("x", 200), 1)); !errors.Is(err, engine.ErrQueueFull) {
		t.Errorf("publish: %v", err)
	}
	if err := publishWait(e, msg(t, "t", "x", 1)); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := embedded.CheckStore(mem, "data"); err != nil {
		t.Error(err)
	}
}
