package edge

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keepmq/keepmq/internal/client"
)

// TestUplinkPauses: while there is no connection the uplink tries again and
// again, with pauses that double up to a minute, and says so once for each
// reason. A new certificate ends a pause, and so does the end of the agent.
func TestUplinkPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &safeBuffer{}
		why := errors.New("no route")
		var tried []time.Time
		renewed := make(chan struct{})
		s, p := openTestSpool(t, newMemDisk(), 1<<20)
		defer s.close()
		u := newUplink(s, p, uplink{
			dial: func(context.Context) (*client.Client, error) {
				tried = append(tried, time.Now())
				return nil, why
			},
			renewed: renewed, log: slog.New(slog.NewTextHandler(log, nil)), backoff: backoff{least: leastWait, most: mostWait},
		})
		ctx, cancel := context.WithCancel(context.Background())
		var done sync.WaitGroup
		done.Go(func() { u.run(ctx) })
		time.Sleep(time.Hour)
		synctest.Wait()
		limit := leastWait
		for i := 1; i < len(tried); i++ {
			if d := tried[i].Sub(tried[i-1]); d < limit/2 || d > limit {
				t.Errorf("pause %d is %v, want %v to %v", i, d, limit/2, limit)
			}
			limit = min(2*limit, mostWait)
		}
		if n := len(tried); n < 60 || n > 130 {
			t.Errorf("tried %d times in an hour", n)
		}
		if n := strings.Count(log.String(), "no route"); n != 1 {
			t.Errorf("said %d times", n)
		}
		why = errors.New("certificate has expired")
		n := len(tried)
		renewed <- struct{}{}
		synctest.Wait()
		if len(tried) != n+1 || time.Since(tried[n]) != 0 {
			t.Error("a new certificate does not end the pause")
		}
		if n := strings.Count(log.String(), "has expired"); n != 1 {
			t.Errorf("another reason is said %d times", n)
		}
		begun := time.Now()
		cancel()
		done.Wait()
		if d := time.Since(begun); d != 0 {
			t.Errorf("the end takes %v", d)
		}
	})
}
