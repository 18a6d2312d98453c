package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store/dbtest"
	"github.com/keepmq/keepmq/internal/store/sqlite"
)

func TestMasterFile(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	openRing(t, dir, db)
	path := filepath.Join(dir, masterName)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	openRing(t, dir, db)
	again, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(text, again) {
		t.Error("opening again changed the master key")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, leftover+"*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestMasterRefused(t *testing.T) {
	other := t.TempDir()
	openRing(t, other, openDB(t, other))
	foreign, err := os.ReadFile(filepath.Join(other, masterName))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(foreign), `"value":"`)
	value, _, ok := strings.Cut(rest, `"`)
	if !ok || len(value) < 40 {
		t.Fatal("the master key file has no value")
	}
	write := func(text []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, text, 0o600) }
	}
	tests := []struct {
		name string
		do   func(path string) error
		want string // in the message, which says what to do
	}{
		{"missing", os.Remove, "put back"},
		{"group can read", func(p string) error { return os.Chmod(p, 0o640) }, "chmod 600"},
		{"all can read", func(p string) error { return os.Chmod(p, 0o604) }, "chmod 600"},
		{"group can write", func(p string) error { return os.Chmod(p, 0o620) }, "chmod 600"},
		{"another key", write(foreign), "put back the file or the database"},
		{"empty", write(nil), "damaged"},
		{"cut", write(foreign[:len(foreign)/2]), "damaged"},
		{"no keyset", write([]byte(`{"format":"keepmq master key 1","keyset":{}}`)), "damaged"},
		{"other format", write(bytes.Replace(foreign, []byte("key 1"), []byte("key 2"), 1)), "damaged"},
		{"huge", write(bytes.Repeat([]byte(" "), masterLimit+1)), "damaged"},
		{"folder", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "is not a file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			db := openDB(t, dir)
			sealed, err := openRing(t, dir, db).Seal("p", []byte("kept"))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, masterName)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.do(path); err != nil {
				t.Fatal(err)
			}
			_, err = Open(t.Context(), dir, db)
			if errs.CodeOf(err) != errs.Unavailable || !strings.Contains(errs.Message(err), test.want) {
				t.Errorf("open: %v, want a refusal with %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), value) {
				t.Errorf("the error quotes the key: %v", err)
			}
			// Nothing was lost: with the right file it goes on.
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := openRing(t, dir, db).Open("p", sealed); err != nil || string(got) != "kept" {
				t.Errorf("with the right file again: %q, %v", got, err)
			}
		})
	}
}

// Whatever bit of the master key is another one, the refusal names the file and
// says what to do; or the file still holds the same key.
func TestMasterEveryBit(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	sealed, err := openRing(t, dir, db).Seal("p", []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, masterName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		ring, err := Open(t.Context(), dir, db)
		if err == nil {
			if got, err := ring.Open("p", sealed); err != nil || string(got) != "kept" {
				t.Errorf("bit %d: another key was taken: %q, %v", i, got, err)
			}
			continue
		}
		if m := errs.Message(err); !strings.Contains(m, path) || !strings.Contains(m, "your copy") {
			t.Errorf("bit %d: the message does not say where and what to do: %s", i, m)
		}
	}
}

func TestMasterNoFolder(t *testing.T) {
	db := openDB(t, t.TempDir())
	_, err := Open(t.Context(), filepath.Join(t.TempDir(), "missing"), db)
	if errs.CodeOf(err) != errs.Unavailable || !strings.Contains(err.Error(), "folder exists") {
		t.Errorf("open: %v", err)
	}
}

// TestMasterLeftover starts where a crash stopped the creation before the link.
func TestMasterLeftover(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, leftover+"X")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	db := openDB(t, dir)
	openRing(t, dir, db)
	openRing(t, dir, db)
	if exists(left) {
		t.Error("what a crash left over is still there")
	}
}

func TestMasterInterruptedBeforeWrap(t *testing.T) {
	dir := t.TempDir()
	if err := createMaster(dir); err != nil { // and the process ends
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, masterName))
	if err != nil {
		t.Fatal(err)
	}
	db := openDB(t, dir)
	openRing(t, dir, db)
	if again, err := os.ReadFile(filepath.Join(dir, masterName)); err != nil || !bytes.Equal(text, again) {
		t.Errorf("the master key was made again: %v", err)
	}
}

const asProcess = "KEEPMQ_KEYRING_TEST_FOLDER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asProcess); dir != "" {
		if err := openAndPrint(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(dbtest.Main(m))
}

// openAndPrint prints something that only this ring computes.
func openAndPrint(dir string) error {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "keepmq.db"))
	if err != nil {
		return err
	}
	r, err := Open(ctx, dir, db)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%x", r.MAC("test"))
	return errors.Join(err, db.Close())
}

func process(ctx context.Context, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), asProcess+"="+dir)
	return cmd
}

func TestTwoProcesses(t *testing.T) {
	dbtest.OnlySQLite(t, "one process holds a PostgreSQL database")
	for range 3 {
		dir := t.TempDir()
		var got [4]string
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() {
				out, err := process(t.Context(), dir).Output()
				if exit := new(exec.ExitError); errors.As(err, &exit) {
					t.Errorf("%v: %s", err, exit.Stderr)
				}
				got[i] = string(out)
			})
		}
		wg.Wait()
		for _, s := range got {
			if s == "" || s != got[0] {
				t.Fatalf("processes have different keys: %q", got)
			}
		}
	}
}

func TestKilled(t *testing.T) {
	dbtest.OnlySQLite(t, "one process holds a PostgreSQL database")
	dir := t.TempDir()
	for i := range 20 { // each one lives a little longer
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*4)*time.Millisecond)
		_ = process(ctx, dir).Run()
		cancel()
	}
	first, err := process(t.Context(), dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	second, err := process(t.Context(), dir).Output()
	if err != nil || !bytes.Equal(first, second) || len(first) == 0 {
		t.Errorf("%s, then %s, %v", first, second, err)
	}
}
