package main

import (
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// watchEvery is the time between two lines of a profile.
const watchEvery = 100 * time.Millisecond

// A watcher notes what the operating system says about a broker during a
// round. A nil one only waits.
type watcher struct{ file string }

// watch returns the watcher of one round, nil if no profile is wanted.
func (b *bench) watch(row string, broker *Broker, n int) *watcher {
	if b.profile == "" {
		return nil
	}
	return &watcher{filepath.Join(b.profile, fmt.Sprintf("%s-%s-%d.csv", row, broker.Peer.Name(), n+1))}
}

// during waits for d, and writes a line at a time about the broker if there is
// somewhere to write.
func (w *watcher) during(ctx context.Context, b *Broker, d time.Duration) error {
	if w == nil {
		return pause(ctx, d)
	}
	f, err := os.Create(w.file)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer f.Close()
	out := csv.NewWriter(f)
	_ = out.Write([]string{"ms", "user_ms", "system_ms", "resident_kib", "threads", "minor_faults"}) // Error tells
	for start := time.Now(); ; {
		u, err := b.Usage()
		if err != nil {
			return err
		}
		var line []string
		for _, v := range []int64{time.Since(start).Milliseconds(), u.User.Milliseconds(), u.System.Milliseconds(),
			u.Resident >> 10, int64(u.Threads), u.MinorFaults} {
			line = append(line, strconv.FormatInt(v, 10))
		}
		_ = out.Write(line)
		left := d - time.Since(start)
		if left <= 0 {
			break
		}
		if err := pause(ctx, min(left, watchEvery)); err != nil {
			return err
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	return nil
}
