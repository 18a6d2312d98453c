package crash

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/mqtt"
)

// A trial damages one file of a data folder.
type trial struct {
	name   string
	file   string // below the folder; "*" and the like match, the newest is taken
	damage func(b []byte) []byte
	whole  bool // nothing that was synced is damaged: nothing may be lost
	// torn: the store takes the damage for the end of what was written before a
	// crash. It does so with its manifest, too: see "What it does not do" in the
	// engine's package comment.
	torn bool
}

// A data folder with a damaged file is served without loss, or refused, or
// served with an error where something is missing. Nothing changed is delivered,
// and nothing disappears in silence.
func TestDamage(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "data"), seed(t))
	w.castSmall(0)
	w.gather()
	// What one life writes to the log the next moves to tables. A log has to be
	// longer than what cannot be told from a torn end.
	w.live(ending{after: 5 * time.Second, acks: 150})
	w.live(ending{after: 5 * time.Second, acks: 50, term: true, grace: time.Minute})
	w.live(ending{after: 10 * time.Second, acks: 500})
	base := filepath.Join(t.TempDir(), "base")
	run(t, "cp", "-a", w.dir, base)
	for _, x := range w.trials() {
		t.Run(x.name, func(t *testing.T) {
			run(t, "rm", "-r", w.dir)
			run(t, "cp", "-a", base, w.dir)
			w.t = t
			w.try(x)
		})
		w.t = t
	}
	run(t, "rm", "-r", w.dir)
	run(t, "cp", "-a", base, w.dir)
	w.finish() // with the undamaged folder everything is there
	w.report(3)
}

// trials returns what is to be tried.
func (w *world) trials() []trial {
	// flip changes a bit of all but the last bytes.
	flip := func(last int) func([]byte) []byte {
		return func(b []byte) []byte {
			if len(b) <= last {
				w.t.Fatalf("the file has %d bytes only", len(b))
			}
			b[w.rng.IntN(len(b)-last)] ^= 1 << w.rng.IntN(8)
			return b
		}
	}
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(w.rng.Uint32())
		}
		return b
	}
	const log, table = "messages/*.log", "messages/*.sst"
	all := []trial{
		{"log with noise after it", log, func(b []byte) []byte { return append(b, noise(1+w.rng.IntN(5000))...) }, true, true},
		{"log with zeros after it", log, func(b []byte) []byte { return append(b, make([]byte, 1+w.rng.IntN(70000))...) }, true, true},
		{"log with old records after it", log, func(b []byte) []byte { return append(b, b[:len(b)/2]...) }, true, true},
		{"log cut off", log, func(b []byte) []byte { return b[:len(b)-1-w.rng.IntN(min(3000, len(b)/2))] }, false, true},
		{"log with a byte of its end changed", log, func(b []byte) []byte { b[len(b)-1-w.rng.IntN(1000)] ^= 4; return b }, false, true},
		{"log empty", log, func([]byte) []byte { return nil }, false, true},
		{"table cut off", table, func(b []byte) []byte { return b[:len(b)/2] }, false, false},
		{"table empty", table, func([]byte) []byte { return nil }, false, false},
		{"manifest with a byte changed", "messages/MANIFEST-*", flip(0), false, true},
		{"manifest cut off", "messages/MANIFEST-*", func(b []byte) []byte { return b[:len(b)*2/3] }, false, true},
		{"marker with a byte changed", "messages/marker.manifest*", nil, false, false},
		{"master key with a byte changed", "master.key", flip(0), false, false},
		{"database with a byte of its head changed", "keepmq.db", func(b []byte) []byte { b[w.rng.IntN(24)] ^= 64; return b }, false, false},
		{"database cut off", "keepmq.db", func(b []byte) []byte { return b[:len(b)/2] }, false, false},
		{"format", "format", func([]byte) []byte { return []byte("x\n") }, false, false},
	}
	for i := range 8 {
		all = append(all, trial{fmt.Sprintf("table with a byte changed %d", i), table, flip(0), false, false})
	}
	for i := range 5 {
		all = append(all, trial{fmt.Sprintf("log with a byte changed %d", i), log, flip(64 << 10), false, false})
	}
	return all
}

// try starts a server with a damaged file, and looks what it delivers.
func (w *world) try(x trial) {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.dir, x.file))
	if err != nil || len(names) == 0 {
		w.t.Fatalf("no file %s (%v)", x.file, err)
	}
	name := slices.Max(names)
	if x.damage == nil {
		if err := os.Rename(name, name[:len(name)-1]+"9"); err != nil {
			w.t.Fatal(err)
		}
	} else {
		b, err := os.ReadFile(name)
		if err == nil {
			before := bytes.Clone(b)
			if b = x.damage(b); bytes.Equal(b, before) {
				w.t.Fatal("nothing was damaged")
			}
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	p := w.spawn()
	defer p.kill()
	var got []string
	var complaint string
	refusal := p.wait()
	if refusal == nil {
		got, complaint = w.drain("sub-away5")
	}
	lost := w.compare(got)
	w.t.Logf("%d messages of %d missing %s", lost, lost+len(got), complaint)
	if complaint != "" { // it may be ending
		select {
		case <-p.exited:
			refusal = p.err
		case <-time.After(time.Second):
		}
	}
	p.kill()
	log := p.log.String()
	w.t.Logf("%s", p.tail())
	switch {
	case strings.Contains(log, "goroutine "), strings.Contains(log, "stack trace"):
		w.t.Error("it panicked, or shows a stack")
	case x.whole && (refusal != nil || lost > 0):
		w.t.Errorf("a crash may leave such a file: %d messages lost, %v", lost, refusal)
	case refusal != nil && !(strings.Contains(log, w.dir) && (strings.Contains(log, "backup") || strings.Contains(log, "your copy"))):
		w.t.Error("the message does not say where and what to do")
	case lost > 0 && !x.torn && complaint == "" && refusal == nil && !strings.Contains(log, "level=ERROR"):
		w.t.Errorf("%d messages disappeared in silence", lost)
	}
}

// drain gets and acknowledges what a session holds, until nothing is missing.
// complaint is why the server ended that, or "".
func (w *world) drain(client string) (got []string, complaint string) {
	w.t.Helper()
	c, ack, err := w.ask(w.someone(client), mqtt.V5, false, mqtt.SessionNeverExpires)
	if err != nil {
		return nil, err.Error()
	}
	defer c.close()
	if ack == nil || ack.Code != mqtt.Success {
		return nil, fmt.Sprintf("CONNECT was answered by %+v", ack)
	}
	if !ack.SessionPresent {
		return nil, ""
	}
	for {
		var p mqtt.Packet
		if w.compare(got) == 0 {
			return got, ""
		}
		select {
		case p = <-c.packets:
		case <-time.After(3 * time.Second): // there is no more
			return got, ""
		}
		switch p := p.(type) {
		case nil:
			return got, "the connection ended"
		case *mqtt.Disconnect:
			return got, fmt.Sprintf("DISCONNECT %v %s", p.Code, p.Properties.ReasonString.Or(""))
		case *mqtt.Publish:
			got = append(got, string(p.Payload))
			if p.QoS == 1 {
				c.write(&mqtt.Ack{Type: mqtt.PUBACK, PacketID: p.PacketID})
			} else {
				c.write(&mqtt.Ack{Type: mqtt.PUBREC, PacketID: p.PacketID})
			}
		case *mqtt.Ack:
			c.write(&mqtt.Ack{Type: mqtt.PUBCOMP, PacketID: p.PacketID})
		}
	}
}

// compare checks that what was got was sent, and counts what is missing.
func (w *world) compare(got []string) (lost int) {
	w.t.Helper()
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	seen := map[string]bool{}
	for _, payload := range got {
		seen[payload] = true
		if _, _, err := w.h.parse(payload); err != nil {
			w.t.Errorf("delivered what nobody sent: %v", err)
		}
	}
	for _, s := range w.h.streams {
		for i, m := range s.msgs {
			if m.acked != 0 && !seen[text(s, i+1)] {
				lost++
			}
		}
	}
	return lost
}

// Neither payloads nor secrets stand in any file or log, at any time.
func TestNothingInTheClear(t *testing.T) {
	w := newWorld(t, filepath.Join(t.TempDir(), "data"), seed(t))
	w.cast()
	var searched int64
	search := func(when string) {
		t.Helper()
		err := filepath.WalkDir(w.dir, func(name string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(name)
			searched += int64(len(b))
			for _, s := range append([]string{marker}, w.secrets...) {
				if s == "" {
					t.Fatal("an empty secret")
				}
				if bytes.Contains(b, []byte(s)) {
					t.Errorf("%s: %q stands in %s", when, s, name)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		w.live(ending{after: 3 * time.Second, acks: 300})
		search("after a kill")
	}
	w.finish()
	search("after the end")
	for _, p := range w.processes {
		for _, s := range append([]string{marker}, w.secrets...) {
			if strings.Contains(p.log.String(), s) {
				t.Errorf("%q stands in a log", s)
			}
		}
	}
	w.report(3)
	if searched < 100_000 {
		t.Errorf("only %d bytes were searched", searched)
	}
}
