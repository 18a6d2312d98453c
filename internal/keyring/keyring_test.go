package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

func openDB(t testing.TB, dir string) store.DB {
	t.Helper()
	return dbtest.Open(t, dir)
}

func openRing(t testing.TB, dir string, db store.DB) *Ring {
	t.Helper()
	r, err := Open(t.Context(), dir, db)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// create makes a data key and returns what seals with it.
func create(t testing.TB, r *Ring, org auth.OrgID) *Sealer {
	t.Helper()
	if err := r.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return r.Create(t.Context(), tx, org) }); err != nil {
		t.Fatal(err)
	}
	return sealer(t, r, org)
}

func sealer(t testing.TB, r *Ring, org auth.OrgID) *Sealer {
	t.Helper()
	s, err := r.Sealer(t.Context(), org)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRing(t testing.TB) *Ring {
	t.Helper()
	dir := t.TempDir()
	return openRing(t, dir, openDB(t, dir))
}

func TestSealOpen(t *testing.T) {
	r := newRing(t)
	s := create(t, r, "abc123")
	for _, text := range []string{"", "x", strings.Repeat("long ", 10000)} {
		sealed := s.Seal([]byte("before"), []byte(text), []byte("ad"))
		sealed, ok := bytes.CutPrefix(sealed, []byte("before"))
		if !ok || len(sealed) != len(text)+Overhead {
			t.Fatalf("%d bytes sealed are %d", len(text), len(sealed))
		}
		if len(text) > 16 && bytes.Contains(sealed, []byte(text[:16])) {
			t.Error("the plaintext is in what was sealed")
		}
		got, err := s.Open([]byte("before"), sealed, []byte("ad"))
		if err != nil || string(got) != "before"+text {
			t.Errorf("opened %q, %v", got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	r := newRing(t)
	s, other := create(t, r, "abc123"), create(t, r, "def456")
	sealed := s.Seal(nil, []byte("payload"), []byte("ad"))
	refused := func(why string, s *Sealer, sealed, ad []byte) {
		t.Helper()
		if got, err := s.Open(nil, sealed, ad); err == nil || got != nil {
			t.Errorf("%s: opened %q", why, got)
		}
	}
	for i := range sealed {
		for bit := range 8 {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d changed", bit, i), s, bad, []byte("ad"))
		}
	}
	for n := range sealed {
		refused(fmt.Sprintf("cut at %d", n), s, sealed[:n], []byte("ad"))
	}
	refused("longer", s, append(bytes.Clone(sealed), 0), []byte("ad"))
	refused("other organisation", other, sealed, []byte("ad"))
	refused("other additional data", s, sealed, []byte("da"))
	refused("no additional data", s, sealed, nil)
	if n := len(*s.others.Load()); n != 0 {
		t.Errorf("%d keys of salts that were never used are remembered", n)
	}
}

func TestNewProcess(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	var old [][]byte
	for i := range maxOthers + 8 { // more starts than keys that are remembered
		r := openRing(t, dir, db)
		var s *Sealer
		if i == 0 {
			s = create(t, r, "abc123")
		} else {
			s = sealer(t, r, "abc123")
		}
		old = append(old, s.Seal(nil, fmt.Append(nil, i), nil))
	}
	s := sealer(t, openRing(t, dir, db), "abc123")
	for range 2 {
		for i, sealed := range old {
			if got, err := s.Open(nil, sealed, nil); err != nil || string(got) != fmt.Sprint(i) {
				t.Errorf("start %d: %q, %v", i, got, err)
			}
		}
	}
	if n := len(*s.others.Load()); n > maxOthers {
		t.Errorf("%d keys are remembered, more than %d", n, maxOthers)
	}
	salts := map[string]bool{}
	for _, sealed := range old {
		salts[string(sealed[1:1+saltSize])] = true
	}
	if len(salts) != len(old) {
		t.Errorf("%d starts have %d salts", len(old), len(salts))
	}
}

func TestNoncesDiffer(t *testing.T) {
	s := create(t, newRing(t), "abc123")
	const workers, each = 8, 500
	heads := make([][]string, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for range each {
				heads[i] = append(heads[i], string(s.Seal(nil, nil, nil)[:headerSize]))
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, h := range heads {
		for _, head := range h {
			seen[head] = true
		}
	}
	if len(seen) != workers*each {
		t.Errorf("%d messages have %d nonces", workers*each, len(seen))
	}
}

func TestOneSealer(t *testing.T) {
	r := newRing(t)
	create(t, r, "abc123")
	r = &Ring{db: r.db, master: r.master, own: r.own, sealers: map[auth.OrgID]*Sealer{}} // nothing remembered
	got := make([]*Sealer, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i], _ = r.Sealer(context.Background(), "abc123") })
	}
	wg.Wait()
	for _, s := range got {
		if s == nil || s != got[0] {
			t.Fatal("an organisation has several sealers")
		}
	}
}

func TestDelete(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	before := openRing(t, dir, db)
	old := create(t, before, "abc123").Seal(nil, []byte("old"), nil)
	r := openRing(t, dir, db)
	s := sealer(t, r, "abc123")
	sealed := s.Seal(nil, []byte("payload"), nil)
	if _, err := s.Open(nil, old, nil); err != nil { // its key is remembered now
		t.Fatal(err)
	}

	undone := errors.New("undone")
	err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return errors.Join(r.Delete(t.Context(), tx, "abc123"), undone)
	})
	if !errors.Is(err, undone) {
		t.Fatal(err)
	}
	if _, err := s.Open(nil, sealed, nil); err != nil {
		t.Fatalf("a deletion that was undone: %v", err)
	}
	remove := func() error {
		return db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return r.Delete(t.Context(), tx, "abc123") })
	}
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{sealed, old} {
		if got, err := s.Open(nil, b, nil); err == nil {
			t.Errorf("opened %q after the key was deleted", got)
		}
	}
	if _, err := r.Sealer(t.Context(), "abc123"); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("Sealer: %v, want not found", err)
	}
	if err := remove(); errs.CodeOf(err) != errs.NotFound {
		t.Errorf("delete again: %v, want not found", err)
	}
	late := s.Seal(nil, []byte("late"), nil) // harmless: nobody can open it
	next := create(t, r, "abc123")
	for _, b := range [][]byte{sealed, old, late} {
		if got, err := next.Open(nil, b, nil); err == nil {
			t.Errorf("a new key opened %q", got)
		}
	}
}

func TestCreateTwice(t *testing.T) {
	r := newRing(t)
	create(t, r, "abc123")
	err := r.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error { return r.Create(t.Context(), tx, "abc123") })
	if errs.CodeOf(err) != errs.Conflict {
		t.Errorf("create again: %v, want a conflict", err)
	}
}

func TestInstallationSecrets(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	r := openRing(t, dir, db)
	sealed, err := r.Seal("purpose", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := r.Seal("purpose", []byte("secret"))
	if err != nil || bytes.Equal(sealed, again) {
		t.Errorf("sealing twice gives the same: %v", err)
	}
	r = openRing(t, dir, db)
	if got, err := r.Open("purpose", sealed); err != nil || string(got) != "secret" {
		t.Errorf("opened %q, %v", got, err)
	}
	if _, err := r.Open("other", sealed); err == nil {
		t.Error("opened for another purpose")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x10
		if _, err := r.Open("purpose", bad); err == nil {
			t.Errorf("opened with byte %d changed", i)
		}
		if _, err := r.Open("purpose", sealed[:i]); err == nil {
			t.Errorf("opened when cut at %d", i)
		}
	}
	if _, err := newRing(t).Open("purpose", sealed); err == nil {
		t.Error("another installation opened it")
	}
}

func TestMAC(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	r := openRing(t, dir, db)
	b := func(s string) []byte { return []byte(s) }
	mac := r.MAC("token", b("salt"), b("token"))
	if len(mac) != 32 || !bytes.Equal(mac, openRing(t, dir, db).MAC("token", b("salt"), b("token"))) {
		t.Error("a MAC is not the same after a restart")
	}
	for why, other := range map[string][]byte{
		"purpose":      r.MAC("other", b("salt"), b("token")),
		"border":       r.MAC("token", b("saltt"), b("oken")),
		"one part":     r.MAC("token", b("salttoken")),
		"empty part":   r.MAC("token", b("salt"), b("token"), nil),
		"installation": newRing(t).MAC("token", b("salt"), b("token")),
	} {
		if bytes.Equal(mac, other) {
			t.Errorf("the MAC does not depend on: %s", why)
		}
	}
}

// TestRows exchanges and changes rows: what is wrapped belongs to its name.
func TestRows(t *testing.T) {
	for name, change := range map[string]string{
		"exchanged": `UPDATE data_key SET wrapped = (SELECT wrapped FROM data_key WHERE name = 'org:def456') WHERE name = 'org:abc123'`,
		"cut":       `UPDATE data_key SET wrapped = ` + dbtest.Blob("00") + ` WHERE name = 'org:abc123'`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := openDB(t, dir)
			r := openRing(t, dir, db)
			create(t, r, "abc123")
			create(t, r, "def456")
			err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
				_, err := tx.ExecContext(t.Context(), change)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openRing(t, dir, db).Sealer(t.Context(), "abc123"); errs.CodeOf(err) != errs.Unavailable {
				t.Errorf("Sealer: %v, want a refusal", err)
			}
		})
	}
}

// TestNothingInTheClear looks for keys in the files of the folder.
func TestNothingInTheClear(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	r := openRing(t, dir, db)
	s := create(t, r, "abc123")
	keys := [][]byte{bytes.Clone(s.key), bytes.Clone(r.own)}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 1 {
		t.Fatal(files, err)
	}
	rows := filepath.Join(dir, "rows") // where the store is not in the folder
	if err := os.WriteFile(rows, dbtest.Dump(t, db), 0o600); err != nil {
		t.Fatal(err)
	}
	files = append(files, rows)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			encoded, _ := json.Marshal(k)
			if bytes.Contains(text, k) || bytes.Contains(text, bytes.Trim(encoded, `"=`)) {
				t.Errorf("%s holds a data key in the clear", f)
			}
		}
	}
}
