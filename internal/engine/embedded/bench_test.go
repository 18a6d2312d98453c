package embedded_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
	"github.com/keepmq/keepmq/internal/topic"
)

// publishers is how many publishers wait for their acknowledgement at a time.
const publishers = 512

// together has b.N things done by publishers that each wait for one before the next.
func together(b *testing.B, do func(p int, done func())) {
	b.Helper()
	b.ResetTimer()
	left := make(chan struct{}, b.N)
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	var wait sync.WaitGroup
	for p := range publishers {
		wait.Go(func() {
			ready := make(chan struct{}, 1)
			for range left {
				do(p, func() { ready <- struct{}{} })
				<-ready
			}
		})
	}
	wait.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func benchEngine(b *testing.B) *embedded.Engine {
	b.Helper()
	o := onDisk(b.TempDir())
	o.Limits.Queue, o.Limits.QueueBytes = 1<<30, 1<<40
	e, err := embedded.Open(context.Background(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	return e
}

// QoS 1 to a persistent session that is away.
func BenchmarkKeep(b *testing.B) {
	for _, size := range []int{100, 256, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			e := benchEngine(b)
			s := claim(b, e, "kept", time.Hour, &quiet{})
			subscribe(b, s, "t/#", 1)
			if err := s.Close(context.Background(), engine.Close{Expiry: time.Hour}); err != nil {
				b.Fatal(err)
			}
			var senders []engine.Session
			m := make([]*engine.Message, publishers)
			for p := range publishers {
				senders = append(senders, claim(b, e, fmt.Sprint("pub", p), 0, &quiet{}))
				m[p] = msg(b, fmt.Sprint("t/", p), "", 1)
				m[p].Payload = make([]byte, size)
			}
			b.ReportAllocs()
			before := processorTime(b)
			together(b, func(p int, done func()) {
				senders[p].Publish(context.Background(), m[p], 0, func(err error) {
					if err != nil {
						b.Error(err)
					}
					done()
				})
			})
			reportProcessorTime(b, before)
		})
	}
}

// QoS 1 of one organisation, when more would wait than may.
func BenchmarkKeepCrowded(b *testing.B) {
	for _, pending := range []int{8 << 10, 64 << 10} {
		b.Run(fmt.Sprint(pending), func(b *testing.B) {
			o := onDisk(b.TempDir())
			o.Limits.Queue, o.Limits.QueueBytes, o.Limits.Pending = 1<<30, 1<<40, pending
			e := open(b, o)
			s := claim(b, e, "kept", time.Hour, &quiet{})
			subscribe(b, s, "t/#", 1)
			if err := s.Close(context.Background(), engine.Close{Expiry: time.Hour}); err != nil {
				b.Fatal(err)
			}
			m := msg(b, "t/x", "", 1)
			m.Payload = make([]byte, 100)
			b.ReportAllocs()
			together(b, func(_ int, done func()) {
				e.Publish(context.Background(), m, func(err error) {
					if err != nil {
						b.Error(err)
					}
					done()
				})
			})
			b.StopTimer()
			if err := e.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}

// The floor: the same batching into a file that is only appended to.
func BenchmarkAppendOnly(b *testing.B) {
	for _, size := range []int{100, 256, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f, err := os.Create(filepath.Join(b.TempDir(), "log"))
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			a := &appender{wake: make(chan struct{}, 1)}
			stop := make(chan struct{})
			var wait sync.WaitGroup
			wait.Go(func() { a.run(b, f, stop) })
			payload := make([]byte, size)
			before := processorTime(b)
			together(b, func(_ int, done func()) { a.add(payload, done) })
			reportProcessorTime(b, before)
			close(stop)
			wait.Wait()
		})
	}
}

// An appender writes what is waiting and syncs it, as one.
type appender struct {
	mu      sync.Mutex // guards what follows
	waiting []func()
	bytes   []byte
	wake    chan struct{}
}

func (a *appender) add(p []byte, done func()) {
	a.mu.Lock()
	a.bytes = append(a.bytes, p...)
	a.waiting = append(a.waiting, done)
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *appender) run(b *testing.B, f *os.File, stop <-chan struct{}) {
	var waiting []func()
	var bytes []byte
	for {
		select {
		case <-stop:
			return
		case <-a.wake:
		}
		a.mu.Lock()
		a.waiting, waiting = waiting[:0], a.waiting
		a.bytes, bytes = bytes[:0], a.bytes
		a.mu.Unlock()
		if _, err := f.Write(bytes); err != nil {
			b.Error(err)
		}
		if err := f.Sync(); err != nil {
			b.Error(err)
		}
		for _, done := range waiting {
			done()
		}
	}
}

// QoS 1 all the way: published, delivered to a session that keeps up, acknowledged.
func BenchmarkKeepUp(b *testing.B) {
	e := benchEngine(b)
	sink := &reader{wake: make(chan struct{}, 1)}
	s := claim(b, e, "kept", time.Hour, sink)
	subscribe(b, s, "t/#", 1)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		var after engine.Offset
		buf := make([]engine.Entry, 0, 256)
		for {
			select {
			case <-stop:
				return
			case <-sink.wake:
			}
			for {
				got, err := s.Read(context.Background(), after, buf[:0])
				if err != nil {
					b.Error(err)
				}
				if len(got) == 0 {
					break
				}
				for i := range got {
					after = got[i].Offset
					s.Ack(after)
				}
			}
		}
	})
	m := msg(b, "t/x", "", 1)
	m.Payload = make([]byte, 100)
	b.ReportAllocs()
	together(b, func(_ int, done func()) {
		e.Publish(context.Background(), m, func(err error) {
			if err != nil {
				b.Error(err)
			}
			done()
		})
	})
	close(stop)
	wait.Wait()
}

type reader struct {
	quiet
	wake chan struct{}
}

func (r *reader) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// QoS 0 from many to one, in memory only.
func BenchmarkFanIn(b *testing.B) {
	e := benchEngine(b)
	sink := &quiet{}
	subscribe(b, claim(b, e, "sub", 0, sink), "t/#", 0)
	s := claim(b, e, "pub", 0, &quiet{})
	m := msg(b, "t/x/y/z", "payload", 0)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		s.Publish(ctx, m, 0, nil)
	}
	if sink.delivered.Load() == 0 {
		b.Error("nothing was delivered")
	}
}

// QoS 0 from one to many.
func BenchmarkFanOut(b *testing.B) {
	e := benchEngine(b)
	for i := range 1000 {
		subscribe(b, claim(b, e, fmt.Sprint(i), 0, &quiet{}), "t", 0)
	}
	s := claim(b, e, "pub", 0, &quiet{})
	m := msg(b, "t", "payload", 0)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		s.Publish(ctx, m, 0, nil)
	}
}

// What is not kept costs no allocation.
func TestPublishAllocates(t *testing.T) {
	e, err := embedded.Open(context.Background(), onDisk(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range 3 {
		subscribe(t, claim(t, e, fmt.Sprint("sub", i), time.Duration(i%2)*time.Hour, &quiet{}), "t/#", byte(i%2))
	}
	s := claim(t, e, "pub", 0, &quiet{})
	ctx := context.Background()
	var ms []*engine.Message
	for i := range 8 {
		ms = append(ms, msg(t, fmt.Sprint("t/", i), "payload", 0))
	}
	all := func() {
		for _, m := range ms {
			s.Publish(ctx, m, 0, nil)
		}
	}
	all()
	if n := testing.AllocsPerRun(100, all); n > 0 {
		t.Errorf("%v allocations for %d messages", n, len(ms))
	}
}

// What is kept costs no allocation but those of the store. The whole process is
// counted: the loop and the writer are part of it. A race detector makes
// allocations of its own.
func TestKeptPublishAllocates(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	o := onDisk(t.TempDir())
	o.Limits.Queue = 100_000
	e := open(t, o)
	s := claim(t, e, "kept", time.Hour, &quiet{})
	subscribe(t, s, "t/#", 1)
	if err := s.Close(context.Background(), engine.Close{Expiry: time.Hour}); err != nil {
		t.Fatal(err)
	}
	const together = 200
	pub := claim(t, e, "pub", 0, &quiet{})
	m := msg(t, "t/x", string(make([]byte, 256)), 1)
	done := make(chan error, together)
	tell := func(err error) { done <- err }
	ctx := context.Background()
	all := func() {
		for range together {
			pub.Publish(ctx, m, 0, tell)
		}
		for range together {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 10 {
		all()
	}
	if n := testing.AllocsPerRun(20, all) / together; n > 0.5 {
		t.Errorf("%.2f allocations for each kept message", n)
	}
}

// A subscription takes no more memory than this, with its part of the session and
// of the tree. The sessions are not persistent, so that what the store keeps of
// its latest writes is not counted.
func TestSubscriptionAllocates(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	const sessions, each, most = 300, 100, 200
	e := open(t, onDisk(t.TempDir()))
	before := heapInUse()
	for i := range sessions {
		s := claim(t, e, fmt.Sprint("session", i), 0, &quiet{})
		var subs []engine.Subscription
		for k := range each {
			f, err := topic.ParseFilter(fmt.Sprintf("site/%d/+/%d/#", i, k))
			if err != nil {
				t.Fatal(err)
			}
			subs = append(subs, engine.Subscription{Filter: f, QoS: 1})
		}
		if _, err := s.Subscribe(context.Background(), subs); err != nil {
			t.Fatal(err)
		}
	}
	if n := (heapInUse() - before) / (sessions * each); n > most {
		t.Errorf("a subscription takes %d bytes, more than %d", n, most)
	} else {
		t.Logf("a subscription takes %d bytes", n)
	}
}

func heapInUse() int64 {
	for range 3 { // the later ones empty pools
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// processorTime is what the process has used.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportProcessorTime(b *testing.B, before time.Duration) {
	b.ReportMetric(float64((processorTime(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
}
