package embedded_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/engine"
	"github.com/keepmq/keepmq/internal/engine/embedded"
)

func onDisk(dir string) embedded.Options {
	o := options(nil)
	o.Dir = dir
	return o
}

func TestNewerFormat(t *testing.T) {
	mem := vfs.NewMem()
	e, err := embedded.Open(context.Background(), options(mem))
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
	if err := db.Set([]byte("\x01aformat"), binary.BigEndian.AppendUint64(nil, 3), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = embedded.Open(context.Background(), options(mem))
	if err == nil || !strings.Contains(err.Error(), "restore a backup") {
		t.Fatalf("a folder of a newer version: %v", err)
	}
}

func TestOpenTwice(t *testing.T) {
	dir := t.TempDir()
	e, err := embedded.Open(context.Background(), onDisk(dir))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.Open(context.Background(), onDisk(dir)); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("opened twice: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// What is on the disk does not show what was in the messages.
func TestSealed(t *testing.T) {
	dir := t.TempDir()
	e, err := embedded.Open(context.Background(), onDisk(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"1", "2"} {
		subscribe(t, claim(t, e, c, time.Hour, &quiet{}), "t", 1)
	}
	subscribe(t, claim(t, e, "3", time.Hour, &quiet{}), "u", 1)
	m := msg(t, "t", "very secret payload", 1)
	m.Retain = true
	if err := publishWait(e, m); err != nil {
		t.Fatal(err)
	}
	if err := publishWait(e, msg(t, "u", "very secret payload", 1)); err != nil {
		t.Fatal(err)
	}
	_, err = e.Claim(context.Background(), engine.Claim{ID: id("will"), Expiry: time.Hour, Sink: &quiet{}, Will: &engine.Will{Message: *m}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	err = filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
		if err != nil || i.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		if bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s shows a payload", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Without the key of an organisation nothing is kept or shown.
func TestNoKey(t *testing.T) {
	mem := vfs.NewMem()
	o := options(mem)
	e, err := embedded.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	subscribe(t, claim(t, e, "c", time.Hour, &quiet{}), "t", 1)
	if err := publishWait(e, msg(t, "t", "m", 1)); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	shredded := errors.New("the key was shredded")
	o.Sealer = func(context.Context, auth.OrgID) (embedded.Sealer, error) { return nil, shredded }
	if e, err = embedded.Open(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := claim(t, e, "c", time.Hour, &quiet{})
	if _, err := s.Read(context.Background(), 0, make([]engine.Entry, 0, 1)); !errors.Is(err, shredded) {
		t.Errorf("read: %v", err)
	}
	if err := publishWait(e, msg(t, "t", "m", 1)); !errors.Is(err, shredded) {
		t.Errorf("publish: %v", err)
	}
	if err := publishWait(e, msg(t, "t", "m", 0)); err != nil {
		t.Errorf("publish what is not kept: %v", err)
	}
}

// A log cut off anywhere opens to what was whole: a prefix of what was written.
func TestTornLog(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e, err := embedded.Open(context.Background(), options(mem))
	if err != nil {
		t.Fatal(err)
	}
	kept := claim(t, e, "kept", time.Hour, &quiet{})
	subscribe(t, kept, "t", 1)
	for i := range 50 {
		if err := publishWait(e, msg(t, "t", string(rune('a'+i%26)), 1)); err != nil {
			t.Fatal(err)
		}
	}
	var last string
	names, err := mem.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasSuffix(n, ".log") && n > last {
			last = n
		}
	}
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := crashed.Open("data/" + last)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	before := -1
	for cut := len(whole); cut > 0; cut -= len(whole)/40 + 1 {
		torn := crashed.CrashClone(vfs.CrashCloneCfg{})
		w, err := torn.Create("data/"+last, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Clone(whole[:cut])); err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		e, err := embedded.Open(context.Background(), options(torn))
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
		n := len(payloads(t, claim(t, e, "kept", time.Hour, &quiet{})))
		if before >= 0 && n > before {
			t.Errorf("cut at %d: %d entries, more than the %d of a longer log", cut, n, before)
		}
		before = n
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
