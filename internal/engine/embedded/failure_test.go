package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/topic"
)

// quiet is a sink that counts.
type quiet struct{ delivered, lost atomic.Int64 }

func (q *quiet) Deliver(*engine.Message, engine.Delivery) { q.delivered.Add(1) }
func (q *quiet) Wake()                                    {}
func (q *quiet) Lost(error)                               { q.lost.Add(1) }

func id(client string) engine.SessionID {
	return engine.SessionID{Owner: auth.Principal{Org: "a", Kind: auth.Device, ID: client}, Client: client}
}

func claim(t testing.TB, e *embedded.Engine, client string, expiry time.Duration, sink engine.Sink) engine.Session {
	t.Helper()
	c, err := e.Claim(context.Background(), engine.Claim{ID: id(client), Expiry: expiry, Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	return c.Session
}

func subscribe(t testing.TB, s engine.Session, f string, qos byte) {
	t.Helper()
	filter, err := topic.ParseFilter(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Subscribe(context.Background(), []engine.Subscription{{Filter: filter, QoS: qos}}); err != nil {
		t.Fatal(err)
	}
}

func msg(t testing.TB, name, payload string, qos byte) *engine.Message {
	t.Helper()
	n, err := topic.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return &engine.Message{Org: "a", Topic: n, Payload: []byte(payload), QoS: qos}
}

func publishWait(e *embedded.Engine, m *engine.Message) error {
	got := make(chan error, 1)
	e.Publish(context.Background(), m, func(err error) { got <- err })
	select {
	case err := <-got:
		return err
	case <-time.After(30 * time.Second):
		return errors.New("done is not called")
	}
}

// payloads reads the whole queue of a session.
func payloads(t testing.TB, s engine.Session) (all []string) {
	t.Helper()
	var after engine.Offset
	for {
		got, err := s.Read(context.Background(), after, make([]engine.Entry, 0, 100))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return all
		}
		for _, e := range got {
			all = append(all, string(e.Message.Payload))
			after = e.Offset
		}
	}
}

// Whatever disk error comes, and whenever: nothing that was acknowledged is lost.
func TestDiskErrors(t *testing.T) {
	for seed := range uint64(24) {
		for _, what := range []error{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
			t.Run(fmt.Sprintf("%v/%d", what, seed), func(t *testing.T) {
				diskErrors(t, rand.New(rand.NewPCG(seed, 1)), what)
			})
		}
	}
}

func diskErrors(t *testing.T, r *rand.Rand, what error) {
	mem := vfs.NewCrashableMem()
	var armed atomic.Bool
	var left atomic.Int64
	left.Store(r.Int64N(300))
	failing := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !armed.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite || left.Add(-1) >= 0 {
			return nil
		}
		return what
	})
	e, err := embedded.Open(context.Background(), options(errorfs.Wrap(mem, failing)))
	if err != nil {
		t.Fatal(err)
	}
	kept := claim(t, e, "kept", time.Hour, &quiet{})
	subscribe(t, kept, "t/#", 1)
	if err := kept.Close(context.Background(), engine.Close{Expiry: time.Hour}); err != nil {
		t.Fatal(err)
	}
	live := &quiet{}
	subscribe(t, claim(t, e, "live", 0, live), "#", 0)
	armed.Store(true)

	var mu sync.Mutex
	var acked []string
	var refused error
	var wait sync.WaitGroup
	// Large enough to fill memtables, so that the background meets errors, too.
	pad := strings.Repeat("x", 4000)
	for p := range 4 {
		wait.Go(func() {
			for i := range 200 {
				payload := fmt.Sprint(p, " ", i, " ", pad)
				err := publishWait(e, msg(t, fmt.Sprint("t/", p), payload, 1))
				mu.Lock()
				if err == nil {
					acked = append(acked, payload)
				} else {
					refused = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	if refused == nil {
		t.Fatal("no error was met")
	}
	if !errors.Is(refused, engine.ErrFailed) && !errors.Is(refused, engine.ErrDiskFull) || e.Health() == nil {
		t.Errorf("refused with %v, health %v", refused, e.Health())
	}
	if errors.Is(e.Health(), engine.ErrFailed) {
		checkFailed(t, e, live)
	}
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	armed.Store(false)
	if err := e.Close(); errors.Is(refused, engine.ErrFailed) && !errors.Is(err, engine.ErrFailed) {
		t.Errorf("close: %v", err)
	}
	e, err = embedded.Open(context.Background(), options(after))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	got := map[string]int{}
	for _, p := range payloads(t, claim(t, e, "kept", time.Hour, &quiet{})) {
		got[p]++
	}
	for _, p := range acked {
		if got[p] != 1 {
			t.Errorf("acknowledged message %.8q is there %d times", p, got[p])
		}
	}
}

// checkFailed checks that a failed engine refuses what it cannot keep, and goes
// on with the rest.
func checkFailed(t *testing.T, e *embedded.Engine, live *quiet) {
	t.Helper()
	before := live.delivered.Load()
	if err := publishWait(e, msg(t, "u", "x", 0)); err != nil || live.delivered.Load() != before+1 {
		t.Errorf("a volatile message: %v", err)
	}
	subscribe(t, claim(t, e, "volatile", 0, &quiet{}), "u", 1)
	for _, m := range []*engine.Message{msg(t, "t/x", "x", 1), {Org: "a", Topic: msg(t, "u", "", 0).Topic, Payload: []byte("x"), Retain: true}} {
		if err := publishWait(e, m); !errors.Is(err, engine.ErrFailed) {
			t.Errorf("publish: %v", err)
		}
	}
	if _, err := e.Claim(context.Background(), engine.Claim{ID: id("new"), Expiry: time.Hour, Sink: &quiet{}}); !errors.Is(err, engine.ErrFailed) {
		t.Errorf("claim: %v", err)
	}
	st, err := e.Stats(context.Background(), "")
	if err != nil || !errors.Is(st.Err, engine.ErrFailed) {
		t.Errorf("stats: %+v, %v", st, err)
	}
	// What is revoked goes at once, even if that cannot be kept.
	gone := &quiet{}
	subscribe(t, claim(t, e, "gone", 0, gone), "u", 0)
	if err := e.Drop(context.Background(), id("gone").Owner); !errors.Is(err, engine.ErrFailed) {
		t.Errorf("drop: %v", err)
	}
	if publishWait(e, msg(t, "u", "x", 0)); gone.delivered.Load() != 0 || gone.lost.Load() != 1 {
		t.Error("a dropped session goes on")
	}
}

// A disk that is almost full refuses what needs room, and recovers.
func TestDiskFull(t *testing.T) {
	mem := vfs.NewCrashableMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 40, TotalBytes: 1 << 41})
	e, err := embedded.Open(context.Background(), options(mem))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	kept := claim(t, e, "kept", time.Hour, &quiet{})
	subscribe(t, kept, "t", 1)
	retained := msg(t, "r", "before", 1)
	retained.Retain = true
	for _, m := range []*engine.Message{msg(t, "t", "before", 1), retained} {
		if err := publishWait(e, m); err != nil {
			t.Fatal(err)
		}
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 1 << 41})
	until(t, func() bool { return errors.Is(publishWait(e, msg(t, "t", "more", 1)), engine.ErrDiskFull) })
	if !errors.Is(e.Health(), engine.ErrDiskFull) {
		t.Errorf("health %v", e.Health())
	}
	if _, err := e.Claim(context.Background(), engine.Claim{ID: id("new"), Expiry: time.Hour, Sink: &quiet{}}); !errors.Is(err, engine.ErrDiskFull) {
		t.Errorf("claim of a new session: %v", err)
	}
	f, _ := topic.ParseFilter("u")
	if _, err := kept.Subscribe(context.Background(), []engine.Subscription{{Filter: f}}); !errors.Is(err, engine.ErrDiskFull) {
		t.Errorf("subscribe: %v", err)
	}
	// What makes room goes on.
	kept = claim(t, e, "kept", time.Hour, &quiet{})
	got, err := kept.Read(context.Background(), 0, make([]engine.Entry, 0, 100))
	if err != nil || len(got) == 0 || string(got[0].Message.Payload) != "before" {
		t.Fatalf("read %v, %v", got, err)
	}
	kept.Ack(1)
	if err := publishWait(e, retained); !errors.Is(err, engine.ErrDiskFull) {
		t.Errorf("publish a retained message: %v", err)
	}
	if retained.Payload = nil; publishWait(e, retained) != nil {
		t.Error("a retained message is not removed")
	}
	if st, err := e.Stats(context.Background(), "a"); err != nil || st.Retained != 0 {
		t.Errorf("stats %+v, %v", st, err)
	}
	if err := kept.Close(context.Background(), engine.Close{Expiry: time.Hour}); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := e.Drop(context.Background(), id("nobody").Owner); err != nil {
		t.Errorf("drop: %v", err)
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 40, TotalBytes: 1 << 41})
	until(t, func() bool { return publishWait(e, msg(t, "t", "after", 1)) == nil })
	if e.Health() != nil {
		t.Errorf("health %v", e.Health())
	}
}

// until asks until it is so.
func until(t *testing.T, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !so(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("it does not happen")
		}
	}
}

// Publishers wait when too much is waiting for the disk, as long as they like to.
func TestBackPressure(t *testing.T) {
	mem := vfs.NewCrashableMem()
	hang := make(chan struct{})
	var slow atomic.Bool
	o := options(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slow.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			<-hang
		}
		return nil
	})))
	o.Limits.Pending = 10_000
	e, err := embedded.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	subscribe(t, claim(t, e, "kept", time.Hour, &quiet{}), "t", 1)
	slow.Store(true)
	results := make(chan error, 100)
	m := msg(t, "t", strings.Repeat("x", 1000), 1)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	accepted := 0
	var refused error
	for refused == nil && accepted < 50 {
		e.Publish(ctx, m, func(err error) { results <- err })
		select {
		case refused = <-results:
		default:
			accepted++
		}
	}
	if !errors.Is(refused, context.DeadlineExceeded) || accepted < 5 || accepted > 15 {
		t.Errorf("accepted %d, then %v", accepted, refused)
	}
	slow.Store(false)
	close(hang)
	for range accepted {
		if err := <-results; err != nil {
			t.Errorf("accepted, then %v", err)
		}
	}
	if n := len(payloads(t, claim(t, e, "kept", time.Hour, &quiet{}))); n != accepted {
		t.Errorf("%d kept, %d accepted", n, accepted)
	}
}

// A disk that hangs holds up who waits for it, and nobody else.
func TestSlowDisk(t *testing.T) {
	mem := vfs.NewCrashableMem()
	hang := make(chan struct{})
	var slow atomic.Bool
	e, err := embedded.Open(context.Background(), options(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if slow.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			<-hang
		}
		return nil
	}))))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	subscribe(t, claim(t, e, "kept", time.Hour, &quiet{}), "t", 1)
	slow.Store(true)
	done := make(chan error, 1)
	e.Publish(context.Background(), msg(t, "t", "m", 1), func(err error) { done <- err })
	live := &quiet{}
	s := claim(t, e, "live", 0, live)
	subscribe(t, s, "u", 0)
	if err := publishWait(e, msg(t, "u", "m", 1)); err != nil || live.delivered.Load() != 1 {
		t.Errorf("publish: %v", err)
	}
	if err := s.Close(context.Background(), engine.Close{}); err != nil {
		t.Errorf("close: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Claim(ctx, engine.Claim{ID: id("kept2"), Expiry: time.Hour, Sink: &quiet{}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("claim: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("done before it was durable: %v", err)
	default:
	}
	slow.Store(false)
	close(hang)
	if err := <-done; err != nil {
		t.Errorf("publish: %v", err)
	}
	// The claim that was given up does not hold the session.
	until(t, func() bool {
		st, err := e.Stats(context.Background(), "")
		return err == nil && st.Held == 1
	})
}
