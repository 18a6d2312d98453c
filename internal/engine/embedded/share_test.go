package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
)

// commitTime is how long a slow disk takes for one commit, by the clock of a bubble.
const commitTime = time.Second

// A slowDisk takes its time to sync the log: so time counts commits.
type slowDisk struct{ vfs.FS }

func (d slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err == nil && strings.HasSuffix(name, ".log") {
		f = slowFile{f}
	}
	return f, err
}

type slowFile struct{ vfs.File }

func (f slowFile) Sync() error {
	time.Sleep(commitTime)
	return f.File.Sync()
}

func (f slowFile) SyncData() error {
	time.Sleep(commitTime)
	return f.File.SyncData()
}

// slow opens an engine on a slow disk that lets little wait.
func slow(t *testing.T, pending int) *embedded.Engine {
	t.Helper()
	o := options(slowDisk{vfs.NewMem()})
	o.Limits.Queue, o.Limits.QueueBytes, o.Limits.Pending = 1_000_000, 1<<30, pending
	return open(t, o)
}

func claimIn(t *testing.T, e *embedded.Engine, org auth.OrgID, client string) engine.Session {
	t.Helper()
	of := engine.SessionID{Owner: auth.Principal{Org: org, Kind: auth.Device, ID: client}, Client: client}
	c, err := e.Claim(context.Background(), engine.Claim{ID: of, Expiry: time.Hour, Sink: &quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	return c.Session
}

func msgIn(t *testing.T, org auth.OrgID, payload string) *engine.Message {
	t.Helper()
	m := msg(t, "t", payload, 1)
	m.Org = org
	return m
}

// However many of an organisation publish, and however much at a time: who
// publishes a little in another one waits for a few commits, and nothing comes
// out of order.
func TestShare(t *testing.T) {
	tests := []struct {
		floods     int // organisations
		publishers int // of each
		size       int
	}{
		{1, 300, 1000},
		{1, 300, 30_000}, // each more than all that may wait
		{5, 60, 1000},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := slow(t, 20_000)
				defer e.Close()
				ctx, stop := context.WithCancel(context.Background())
				var wait sync.WaitGroup
				var read []engine.Session
				for i := range test.floods {
					org := auth.OrgID(fmt.Sprint("flood", i))
					s := claimIn(t, e, org, "kept")
					subscribe(t, s, "#", 1)
					read = append(read, s)
					for p := range test.publishers {
						wait.Go(func() { flood(ctx, t, e, org, p, test.size) })
					}
				}
				s := claimIn(t, e, "b", "kept")
				subscribe(t, s, "#", 1)
				most := time.Duration(0)
				for i := 0; i < 20 && most <= 4*commitTime; i++ {
					began := time.Now()
					if err := publishWait(e, msgIn(t, "b", fmt.Sprint(i))); err != nil {
						t.Error(err)
						break
					}
					most = max(most, time.Since(began))
				}
				t.Logf("at most %d commits", most/commitTime)
				if most > 4*commitTime {
					t.Errorf("one message waited for %d commits", most/commitTime)
				}
				stop()
				wait.Wait()
				for _, s := range read {
					inOrder(t, payloads(t, s))
				}
				time.Sleep(10 * commitTime)
				synctest.Wait()
				if got := e.Waiting(); got != "" {
					t.Error(got)
				}
			})
		})
	}
}

// flood publishes until ctx ends, as fast as it goes.
func flood(ctx context.Context, t *testing.T, e *embedded.Engine, org auth.OrgID, p, size int) {
	pad := strings.Repeat("x", size)
	var failed atomic.Bool
	for i := 0; ctx.Err() == nil && !failed.Load(); i++ {
		// What is refused because ctx has ended is the last one.
		e.Publish(ctx, msgIn(t, org, fmt.Sprint(p, " ", i, " ", pad)), func(err error) {
			if err != nil && !errors.Is(err, context.Canceled) {
				failed.Store(true)
				t.Errorf("publish: %v", err)
			}
		})
	}
}

// inOrder checks that the messages of each publisher are in order, without gaps.
func inOrder(t *testing.T, all []string) {
	t.Helper()
	next := map[int]int{}
	for _, s := range all {
		var p, i int
		if _, err := fmt.Sscan(s, &p, &i); err != nil {
			t.Fatal(err)
		}
		if i != next[p] {
			t.Fatalf("publisher %d: message %d comes where %d should", p, i, next[p])
		}
		next[p]++
	}
	if len(next) == 0 {
		t.Error("nothing was published")
	}
}

// Organisations that all have more than goes share alike, however many publish in each.
func TestShareAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := slow(t, 100_000)
		defer e.Close()
		ctx, stop := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		orgs := []struct {
			id         auth.OrgID
			publishers int
			size       int
			got        int
		}{{id: "few", publishers: 200, size: 1000}, {id: "many", publishers: 1000, size: 1000}, {id: "large", publishers: 100, size: 10_000}}
		for i := range orgs {
			o := &orgs[i]
			subscribe(t, claimIn(t, e, o.id, "kept"), "#", 1)
			for p := range o.publishers {
				wait.Go(func() { flood(ctx, t, e, o.id, p, o.size) })
			}
		}
		time.Sleep(200 * commitTime)
		stop()
		wait.Wait()
		total := int64(0)
		got := map[auth.OrgID]int64{}
		for _, o := range orgs {
			st, err := e.Stats(context.Background(), o.id)
			if err != nil {
				t.Fatal(err)
			}
			got[o.id] = st.QueuedBytes
			total += st.QueuedBytes
		}
		t.Log(got)
		for id, n := range got {
			if n < total/4 || n > total/2 {
				t.Errorf("%s got %d of %d bytes", id, n, total)
			}
		}
	})
}

// Who stands in line may go away, and is told when the engine is closed.
func TestShareLeave(t *testing.T) {
	for _, closed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := slow(t, 1000)
			subscribe(t, claimIn(t, e, "a", "kept"), "#", 1)
			subscribe(t, claimIn(t, e, "b", "kept"), "#", 1)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var kept, left, refused atomic.Int64
			var wait sync.WaitGroup
			for i := range 60 {
				c := ctx
				if i%3 == 0 {
					c = context.Background()
				}
				m := msgIn(t, []auth.OrgID{"a", "b"}[i%2], strings.Repeat("x", 2000))
				wait.Go(func() {
					e.Publish(c, m, func(err error) {
						switch {
						case err == nil:
							kept.Add(1)
						case errors.Is(err, context.Canceled):
							left.Add(1)
						case errors.Is(err, engine.ErrClosed):
							refused.Add(1)
						default:
							t.Errorf("publish: %v", err)
						}
					})
				})
			}
			synctest.Wait()
			if closed {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			} else {
				cancel()
			}
			wait.Wait()
			time.Sleep(100 * commitTime)
			synctest.Wait()
			k, g, r := kept.Load(), left.Load(), refused.Load()
			t.Logf("%d kept, %d left, %d refused", k, g, r)
			if k+g+r != 60 || closed && (r < 50 || g > 0) || !closed && (k < 20 || g < 30 || r > 0) {
				t.Errorf("%d kept, %d left, %d refused", k, g, r)
			}
			if got := e.Waiting(); got != "" {
				t.Error(got)
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A key that is long in coming holds up nobody but who needs it.
func TestShareKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := options(vfs.NewMem())
		o.Limits.Pending = 1000
		come := make(chan struct{})
		o.Sealer = func(ctx context.Context, org auth.OrgID) (embedded.Sealer, error) {
			if org == "a" {
				<-come
			}
			return sealer(ctx, org)
		}
		e := open(t, o)
		defer e.Close()
		subscribe(t, claimIn(t, e, "a", "kept"), "#", 1)
		subscribe(t, claimIn(t, e, "b", "kept"), "#", 1)
		var wait sync.WaitGroup
		for range 10 {
			wait.Go(func() {
				if err := publishWait(e, msgIn(t, "a", strings.Repeat("x", 1000))); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		got := make(chan error, 1)
		e.Publish(ctx, msgIn(t, "b", "x"), func(err error) { got <- err })
		if err := <-got; err != nil {
			t.Error(err)
		}
		close(come)
		wait.Wait()
	})
}
