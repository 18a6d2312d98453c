package edge

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 7e6, time.UTC)

// batchOf makes n readings that are numbered from first.
func batchOf(first, n int) []reading {
	var out []reading
	for i := range n {
		out = append(out, reading{"cpu", fmt.Appendf(nil, `{"n":%d}`, first+i)})
	}
	return out
}

func put(t *testing.T, s *spool, rs []reading) {
	t.Helper()
	if err := s.append(noon, rs); err != nil {
		t.Fatal(err)
	}
}

// numbers returns what the readings of a spool hold, losses as "-count reason".
func numbers(t *testing.T, s *spool) []string {
	t.Helper()
	var out []string
	for from := uint64(1); ; {
		rs, err := s.read(from, math.MaxUint64, 7)
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) == 0 {
			return out
		}
		for _, r := range rs {
			if r.seq < from {
				t.Fatalf("reading %d after %d", r.seq, from-1)
			}
			from = r.seq + 1
			out = append(out, content(t, r.payload))
		}
	}
}

func content(t *testing.T, payload []byte) string {
	t.Helper()
	var v struct {
		N      *int
		Count  uint64
		Reason string
	}
	if err := json.Unmarshal(payload, &v); err != nil {
		t.Fatal(err)
	}
	if v.N == nil {
		return fmt.Sprintf("-%d %s", v.Count, v.Reason)
	}
	return fmt.Sprint(*v.N)
}

func count(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprint(i))
	}
	return out
}

func wantNumbers(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("the spool holds %v, want %v", got, want)
	}
}

func TestSpoolOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	for i := range 3 {
		f, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := openTestSpool(t, f, 1<<20)
		put(t, s, batchOf(10*i, 10))
		wantNumbers(t, numbers(t, s), count(0, 10*i+9))
		s.close()
		f.Close()
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("folder is %v %v", fi.Mode(), err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("files are %v", names)
	}
	if fi, err := os.Stat(names[0]); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("segment is %v %v", fi.Mode(), err)
	}
}

// TestTornTail: cut at any byte of the last record, the others are all there,
// and the numbers of the torn one are not used again.
func TestTornTail(t *testing.T) {
	whole := newMemDisk()
	s, _ := openTestSpool(t, whole, 1<<20)
	put(t, s, batchOf(1, 3))
	g := s.segments[0]
	last := len(appendRecord(nil, record{3, "cpu", []byte(`{"n":3}`)}))
	data := whole.live[g.name()].data
	for cutAt := len(data) - last; cutAt < len(data); cutAt++ {
		for _, garbage := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
			if garbage == "" && cutAt == len(data)-last {
				continue // nothing is torn
			}
			d := newMemDisk()
			torn := append(slices.Clone(data[:cutAt]), garbage...)
			d.live[g.name()] = &memFile{data: torn, kept: torn}
			s, _ := openTestSpool(t, d, 1<<20)
			put(t, s, batchOf(9, 1))
			wantNumbers(t, numbers(t, s), []string{"1", "2", "9"})
			if s.next <= 3+window {
				t.Errorf("cut at %d: number %d follows", cutAt, s.next)
			}
			again, _ := openTestSpool(t, d, 1<<20)
			wantNumbers(t, numbers(t, again), []string{"1", "2", "9"})
		}
	}
}

// TestCrashAnywhere kills the process at every operation on the disk: what was
// kept before is there after it, in order, and nothing is there twice.
func TestCrashAnywhere(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for kill := 1; ; kill++ {
		d := newMemDisk()
		d.fail = func(op int, _ string) error {
			if op >= kill {
				return errKilled
			}
			return nil
		}
		kept, done, finished := workUntilKilled(d)
		d = d.crash(r)
		s, p := openTestSpool(t, d, 4096)
		if p.Completed < done {
			t.Fatalf("killed at %d: position %d was saved and %d is there", kill, done, p.Completed)
		}
		got := numbers(t, s)
		if i := slices.Index(got, fmt.Sprint(int(p.Completed)+1)); i >= 0 {
			got = got[i:] // what is done with may still be in the segment
		}
		want := count(int(p.Completed)+1, kept)
		if len(want) > 0 && (len(got) < len(want) || !slices.Equal(got[:len(want)], want)) {
			t.Fatalf("killed at %d: holds %v, want %v", kill, got, want)
		}
		if !slices.IsSortedFunc(got, func(a, b string) int { return len(a) - len(b) }) {
			t.Fatalf("killed at %d: out of order: %v", kill, got)
		}
		put(t, s, batchOf(1000, 1))
		if finished {
			break
		}
	}
}

// workUntilKilled appends 40 batches of two and completes some. It returns the
// last reading and position that were durable.
func workUntilKilled(d *memDisk) (kept int, done uint64, finished bool) {
	s, _, err := openSpool(d, 4096, quiet())
	if err != nil {
		return 0, 0, false
	}
	for i := range 40 {
		if s.append(noon, batchOf(2*i+1, 2)) != nil {
			return kept, done, false
		}
		kept = 2*i + 2
		if i%5 == 4 {
			if s.savePosition(position{Completed: uint64(kept - 3)}) != nil {
				return kept, done, false
			}
			done = uint64(kept - 3)
		}
	}
	return kept, done, true
}

// TestDiskErrorAnywhere lets single operations fail: the spool goes on, and
// what it could not keep is counted.
func TestDiskErrorAnywhere(t *testing.T) {
	for bad := 2; bad < 60; bad++ { // 1 is opening the position
		d := newMemDisk()
		s, _ := openTestSpool(t, d, 1<<20)
		start := d.ops
		d.fail = func(op int, _ string) error {
			if op-start == bad {
				return syscall.EIO
			}
			return nil
		}
		failed := 0
		for i := range 20 {
			if err := s.append(noon, batchOf(i, 1)); err != nil {
				failed++
			}
		}
		d.fail = nil
		put(t, s, batchOf(20, 1))
		for _, s := range []*spool{s, reopen(t, d)} {
			got, lost := numbers(t, s), 0
			for _, v := range got {
				if strings.HasPrefix(v, "-") {
					fmt.Sscanf(v, "-%d", &lost)
				}
			}
			if lost != failed || len(got) != 21-failed+min(failed, 1) {
				t.Fatalf("failure at %d: %d failed, %d reported, holds %v", bad, failed, lost, got)
			}
		}
	}
}

func reopen(t *testing.T, d *memDisk) *spool {
	s, _ := openTestSpool(t, d, 1<<20)
	return s
}

func TestFullDisk(t *testing.T) {
	d := newMemDisk()
	s, _ := openTestSpool(t, d, 1<<20)
	put(t, s, batchOf(0, 10))
	d.limit = d.used() + 5
	for i := range 3 {
		if err := s.append(noon, batchOf(10+i, 1)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("got %v", err)
		}
	}
	if err := s.savePosition(position{Completed: 3}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("position: %v", err)
	}
	wantNumbers(t, numbers(t, s), count(0, 9))
	d.limit = 0
	put(t, s, batchOf(13, 1))
	wantNumbers(t, numbers(t, s), append(count(0, 9), "-3 disk error", "13"))
	wantNumbers(t, numbers(t, reopen(t, d)), append(count(0, 9), "-3 disk error", "13"))
}

// TestFullSpool: the oldest readings go, but for those that may be under way,
// and the numbers of lost readings add up.
func TestFullSpool(t *testing.T) {
	const limit, n = 64 << 10, 20000
	d := newMemDisk()
	s, _ := openTestSpool(t, d, limit)
	for i := 0; i < n; i += 10 {
		put(t, s, batchOf(i, 10))
		if s.bytes() > limit+limit/segmentsAtLeast {
			t.Fatalf("the spool has %d bytes", s.bytes())
		}
	}
	if d.used() > limit+2*limit/segmentsAtLeast {
		t.Errorf("the disk holds %d bytes", d.used())
	}
	for _, s := range []*spool{s, reopen(t, d)} {
		kept, lost := 0, 0
		all := numbers(t, s)
		for _, v := range all {
			var k int
			if _, err := fmt.Sscanf(v, "-%d spool full", &k); err == nil {
				lost += k
			} else {
				kept++
			}
		}
		if kept+lost != n || kept < 500 {
			t.Errorf("%d kept and %d reported lost of %d", kept, lost, n)
		}
		if !slices.Equal(all[:window], count(0, window-1)) {
			t.Errorf("of the window are left: %v", all[:window])
		}
	}
}

// TestSpoolDamage: a record that the disk has spoiled costs the rest of its
// segment, which is counted, and nothing else.
func TestSpoolDamage(t *testing.T) {
	for _, while := range []string{"running", "stopped"} {
		d := newMemDisk()
		s, _ := openTestSpool(t, d, 16<<10)
		for i := 1; i <= 120; i++ {
			put(t, s, batchOf(i, 1))
		}
		if len(s.segments) < 3 {
			t.Fatal("too few segments")
		}
		g := s.segments[1]
		d.live[g.name()].data[100] ^= 1
		if while == "stopped" {
			s, _ = openTestSpool(t, d, 16<<10)
		}
		got := numbers(t, s)
		put(t, s, batchOf(121, 1))
		after := numbers(t, s)
		lost := 0
		for _, v := range after {
			fmt.Sscanf(v, "-%d spool damaged", &lost)
		}
		if lost == 0 || len(got)+lost != 120 || len(after) != len(got)+2 {
			t.Errorf("%s: %d left, %d reported lost of 120", while, len(got), lost)
		}
	}
}

func TestNewerSpool(t *testing.T) {
	d := newMemDisk()
	s, _ := openTestSpool(t, d, 1<<20)
	put(t, s, batchOf(1, 1))
	d.live[s.segments[0].name()].data[6] = '2'
	if _, _, err := openSpool(d, 1<<20, quiet()); !errors.Is(err, errVersion) {
		t.Errorf("got %v", err)
	}
}

func TestPosition(t *testing.T) {
	p := position{Completed: 7, Received: []uint64{9, 12}}
	b, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	d := newMemDisk()
	if got, err := loadPosition(d); err != nil || got.Completed != 0 {
		t.Errorf("no file: %+v %v", got, err)
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		d.live[positionFile] = &memFile{data: bad}
		if _, err := loadPosition(d); errs.CodeOf(err) != errs.Internal || !strings.Contains(err.Error(), "damaged") {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	for _, bad := range []position{{Completed: 5, Received: []uint64{5}}, {Received: []uint64{window + 1}}} {
		b, err := bad.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodePosition(b); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, record{1, "cpu", []byte(`{}`)}))
	f.Add(appendRecord(nil, record{math.MaxUint64, "x", nil}))
	f.Add([]byte{0, 0, 0, 10, 1, 2, 3, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, n, err := decodeRecord(b)
		if err != nil {
			return
		}
		if got := appendRecord(nil, r); !slices.Equal(got, b[:n]) {
			t.Errorf("%x decodes to %+v, which encodes to %x", b[:n], r, got)
		}
	})
}

func FuzzSegment(f *testing.F) {
	f.Add(appendRecord([]byte(segmentMagic), record{1, "cpu", []byte(`{}`)}))
	f.Add(appendRecord([]byte(segmentMagic), record{5, sourceDropped, []byte(`{"count":3}`)}))
	f.Add([]byte("KMQSPL"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newMemDisk()
		d.live[segment{first: 1}.name()] = &memFile{data: b}
		s, _, err := openSpool(d, 1<<20, quiet())
		if err != nil {
			return
		}
		before, err := s.read(1, math.MaxUint64, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.append(noon, batchOf(1, 1)); err != nil {
			t.Fatal(err)
		}
		after, err := s.read(1, math.MaxUint64, 2000)
		for err == nil && len(after) <= len(before) {
			var more []record
			if more, err = s.read(after[len(after)-1].seq+1, math.MaxUint64, 1000); len(more) == 0 {
				break
			}
			after = append(after, more...)
		}
		if err != nil || len(after) != len(before)+1 {
			t.Errorf("%d readings became %d: %v", len(before), len(after), err)
		}
	})
}

func FuzzPosition(f *testing.F) {
	b, err := position{Completed: 7, Received: []uint64{9}}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePosition(b)
		if err != nil {
			return
		}
		again, err := p.encode()
		if err != nil {
			t.Fatal(err)
		}
		if q, err := decodePosition(again); err != nil || q.Completed != p.Completed || !slices.Equal(q.Received, p.Received) {
			t.Errorf("%+v became %+v: %v", p, q, err)
		}
	})
}
