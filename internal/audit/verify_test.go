package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store"
	"github.com/keepmq/keepmq/internal/store/dbtest"
)

// rebuild computes every number and hash anew from the records that are there,
// as somebody would do who may write to the database.
func rebuild(t *testing.T, l *Log) {
	t.Helper()
	var tr tree
	sizes := map[auth.OrgID]int64{}
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		var all []Record
		err := eachRecord(t.Context(), tx, 0, 1<<40, func(_ int64, org auth.OrgID, _ int64, text []byte) error {
			var r Record
			err := json.Unmarshal(text, &r)
			r.Seq, r.Org, r.Number = int64(len(all)), org, sizes[org]
			sizes[org]++
			all = append(all, r)
			return err
		})
		if err != nil {
			return err
		}
		exec := func(q string, args ...any) {
			if err == nil {
				_, err = tx.ExecContext(t.Context(), q, args...)
			}
		}
		for _, q := range []string{`audit_event`, `audit_search`, `audit_org`, `audit_hash`} {
			exec(`DELETE FROM ` + q)
		}
		idx := 0
		for _, r := range all {
			text, e := r.text()
			err = errors.Join(err, e)
			exec(`INSERT INTO audit_event (seq, org, number, record) VALUES ($1, $2, $3, $4)`, r.Seq, r.Org, r.Number, string(text))
			err = errors.Join(err, index(t.Context(), tx, r))
			for _, h := range tr.add(text) {
				exec(`INSERT INTO audit_hash (idx, hash) VALUES ($1, $2)`, idx, h[:])
				idx++
			}
		}
		for org, n := range sizes {
			exec(`INSERT INTO audit_org (org, size) VALUES ($1, $2)`, org, n)
		}
		exec(`UPDATE audit_head SET size = $1, indexed = $1`, len(all))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

const (
	swap = `UPDATE audit_event SET record = (SELECT record FROM audit_event o WHERE o.seq = 11 - audit_event.seq),
		org = (SELECT org FROM audit_event o WHERE o.seq = 11 - audit_event.seq) WHERE seq IN (5, 6)`
	swapNumbers = `UPDATE audit_event SET record = replace(record, '"seq":' || (11 - seq), '"seq":' || seq) WHERE seq IN (5, 6)`
	shift       = `UPDATE audit_event SET seq = seq + 1000 WHERE seq > 5`
	unshift     = `UPDATE audit_event SET seq = seq - 999, record = replace(record, '"seq":' || (seq - 1000) || ',', '"seq":' || (seq - 999) || ',') WHERE seq > 900`
	insert      = `INSERT INTO audit_event (seq, org, number, record) SELECT 6, org, number, replace(record, '"seq":5,', '"seq":6,') FROM audit_event WHERE seq = 5`
	rewrite     = `UPDATE audit_event SET record = replace(record, 'device 5', 'device 9') WHERE seq = 5`
	closeGap    = `UPDATE audit_event SET seq = seq - 1, record = replace(record, '"seq":' || seq || ',', '"seq":' || (seq - 1) || ',') WHERE seq > 5`
)

// TestTampering changes what is stored. Each change must be found; those whose
// author computes all hashes anew as well are found by a checkpoint that was
// saved before.
func TestTampering(t *testing.T) {
	tests := []struct {
		name    string
		do      []string
		rebuild bool // needs the checkpoint
	}{
		{name: "changed record", do: []string{rewrite}},
		{name: "changed byte", do: []string{`UPDATE audit_event SET record = record || ' ' WHERE seq = 5`}},
		{name: "not JSON", do: []string{`UPDATE audit_event SET record = 'x' WHERE seq = 5`}},
		{name: "moved to another organisation", do: []string{`UPDATE audit_event SET org = 'def456' WHERE seq = 4`}},
		{name: "removed record", do: []string{`DELETE FROM audit_event WHERE seq = 5`}},
		{name: "removed first", do: []string{`DELETE FROM audit_event WHERE seq = 0`}},
		{name: "removed last", do: []string{`DELETE FROM audit_event WHERE seq = 19`}},
		{name: "removed last, fewer said", do: []string{`DELETE FROM audit_event WHERE seq = 19`, `UPDATE audit_head SET size = 19`}},
		{name: "removed and closed up", do: []string{`DELETE FROM audit_event WHERE seq = 5`, closeGap, `UPDATE audit_head SET size = 19`}},
		{name: "reordered", do: []string{swap}},
		{name: "reordered and numbered", do: []string{swap, swapNumbers}},
		{name: "inserted", do: []string{shift, insert, unshift, `UPDATE audit_head SET size = 21`}},
		{name: "inserted at the end", do: []string{`INSERT INTO audit_event (seq, org, record) SELECT 20, org, replace(record, '"seq":19', '"seq":20') FROM audit_event WHERE seq = 19`, `UPDATE audit_head SET size = 21`}},
		{name: "changed hash of a record", do: []string{`UPDATE audit_hash SET hash = (SELECT hash FROM audit_hash WHERE idx = 1) WHERE idx = 0`}},
		{name: "changed hash above", do: []string{`UPDATE audit_hash SET hash = ` + dbtest.Blob(zeros) + ` WHERE idx = 6`}},
		{name: "short hash", do: []string{`UPDATE audit_hash SET hash = ` + dbtest.Blob("00") + ` WHERE idx = 6`}},
		{name: "removed hash", do: []string{`DELETE FROM audit_hash WHERE idx = 9`}},
		{name: "removed last hash", do: []string{`DELETE FROM audit_hash WHERE idx = (SELECT MAX(idx) FROM audit_hash)`}},
		{name: "more hashes", do: []string{`INSERT INTO audit_hash (idx, hash) VALUES (1000, ` + dbtest.Blob(zeros) + `)`}},
		{name: "changed size", do: []string{`UPDATE audit_head SET size = 21`}},
		{name: "said not to be kept", do: []string{`UPDATE audit_org SET kept = 3 WHERE org = 'abc123'`}},
		{name: "said to be more", do: []string{`UPDATE audit_org SET size = size + 1 WHERE org = 'abc123'`}},
		{name: "said of nobody", do: []string{`INSERT INTO audit_org (org, size) VALUES ('x', 0)`}},
		{name: "not said", do: []string{`DELETE FROM audit_org WHERE org = 'abc123'`}},
		{name: "removed first, said not to be kept", do: []string{`DELETE FROM audit_event WHERE seq = 0`, `DELETE FROM audit_search WHERE seq = 0`, `UPDATE audit_org SET kept = 1 WHERE org = 'abc123'`}},
		{name: "removed first of all", do: []string{`DELETE FROM audit_event WHERE seq < 2`, `DELETE FROM audit_search WHERE seq < 2`, `UPDATE audit_org SET kept = 1`}},
		{name: "renumbered", do: []string{`UPDATE audit_event SET number = 7 WHERE seq = 5`}},
		{name: "not to be found", do: []string{`DELETE FROM audit_search WHERE seq = 5`}},
		{name: "found instead", do: []string{`UPDATE audit_search SET seq = 1000 WHERE seq = 5`}},
		{name: "found by another actor", do: []string{`UPDATE audit_search SET actor = 'x' WHERE seq = 5`}},
		{name: "found at another time", do: []string{`UPDATE audit_search SET at = at + 1 WHERE seq = 5`}},
		{name: "found more", do: []string{`INSERT INTO audit_search (org, seq, at, actor, noun, action, target, address, request) SELECT org, 99, at, actor, noun, action, target, address, request FROM audit_search WHERE seq = 5`}},
		{name: "all removed", do: []string{`DELETE FROM audit_event`}},

		{name: "changed, all hashes anew", do: []string{rewrite}, rebuild: true},
		{name: "removed, all hashes anew", do: []string{`DELETE FROM audit_event WHERE seq = 5`, closeGap}, rebuild: true},
		{name: "reordered, all hashes anew", do: []string{swap, swapNumbers}, rebuild: true},
		{name: "inserted, all hashes anew", do: []string{shift, insert, unshift}, rebuild: true},
		{name: "truncated, all hashes anew", do: []string{`DELETE FROM audit_event WHERE seq > 12`}, rebuild: true},
		{name: "emptied, all hashes anew", do: []string{`DELETE FROM audit_event`}, rebuild: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLog(t, 20)
			saved := checkpoint(t, l)
			run(t, l, test.do...)
			if test.rebuild {
				rebuild(t, l)
				if err := l.Verify(t.Context()); err != nil { // the test is about the checkpoint
					t.Fatalf("without the checkpoint: %v", err)
				}
				add(t, l, 20, 40) // it also is not enough to go on
			}
			err := l.Verify(t.Context(), saved)
			if !errors.Is(err, ErrTampered) || errs.Message(err) == "" {
				t.Errorf("verify: %v, want tampering", err)
			}
		})
	}
}

func TestForeignCheckpoint(t *testing.T) {
	l, other := newLog(t, 5), newLog(t, 5)
	good := checkpoint(t, l)
	for name, c := range map[string]string{
		"other installation": checkpoint(t, other),
		"changed size":       strings.Replace(good, "\n5\n", "\n4\n", 1),
		"unsigned":           good[:strings.Index(good, "\n\n")+2],
		"empty":              "",
		"long":               strings.Repeat("x", checkpointLimit+1),
	} {
		if err := l.Verify(t.Context(), c); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if err := l.Verify(t.Context(), good); err != nil {
		t.Error(err)
	}
}

func TestSigningKeyIsSealed(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	ring, err := keyring.Open(t.Context(), dir, l.db)
	if err != nil {
		t.Fatal(err)
	}
	var sealed []byte
	err = l.db.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT sealed_key FROM audit_signer`).Scan(&sealed)
	})
	if err != nil || bytes.Contains(sealed, []byte("PRIVATE")) {
		t.Errorf("the signing key is in the clear: %v", err)
	}
	sealed[50] ^= 1
	err = l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE audit_signer SET sealed_key = $1`, sealed)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), l.db, ring); err == nil {
		t.Error("opened with a damaged key")
	}
}

// TestTree compares with tlog, which is not ours.
func TestTree(t *testing.T) {
	var tr tree
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(idx []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range idx {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range int64(200) {
		text := fmt.Appendf(nil, "record %d", n)
		want, err := tlog.StoredHashes(n, text, reader)
		if err != nil {
			t.Fatal(err)
		}
		got := tr.add(text)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("record %d: other hashes", n)
		}
		stored = append(stored, want...)
		root, err := tlog.TreeHash(n+1, reader)
		if err != nil || root != tr.hash() {
			t.Fatalf("%d records: other root, %v", n+1, err)
		}
	}
}

func export(t testing.TB, l *Log) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := l.Export(t.Context(), &b, Export{Scope: Scope{All: true}, Kind: JSONLines}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExport(t *testing.T) {
	for _, n := range []int{0, 1, 7, verifyPage + 3} {
		l := newLog(t, n)
		earlier := checkpoint(t, l)
		add(t, l, n, n+2)
		got, err := VerifyExport(bytes.NewReader(export(t, l)), l.VerifierKey(), earlier)
		if err != nil || got.Records != int64(n+2) {
			t.Errorf("%d events: %+v, %v", n, got, err)
		}
		if got.Checkpoint != checkpoint(t, l) {
			t.Errorf("%d events: another checkpoint", n)
		}
	}
}

func TestExportRefused(t *testing.T) {
	l := newLog(t, 9)
	text := string(export(t, l))
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	join := func(l ...string) string { return strings.Join(l, "") }
	with := func(i int, s string) string {
		c := append([]string{}, lines...)
		c[i] = s
		return join(c...)
	}
	add(t, l, 9, 12)
	later := checkpoint(t, l)

	for name, text := range map[string]string{
		"empty":          "",
		"not an export":  "{}\n",
		"not JSON":       "hello\n",
		"other format":   strings.Replace(text, `"keepmq_audit":2`, `"keepmq_audit":3`, 1),
		"changed record": strings.Replace(text, "device 5", "device 6", 1),
		"changed space":  with(3, strings.TrimSuffix(lines[3], "\n")+" \n"),
		"removed":        with(3, ""),
		"removed last":   with(9, ""),
		"only the head":  lines[0],
		"reordered":      join(lines[0], lines[2], lines[1], join(lines[3:]...)),
		"inserted":       with(3, lines[3]+lines[3]),
		"one more":       text + strings.Replace(lines[9], `"seq":8`, `"seq":9`, 1),
		"cut":            text[:len(text)-1],
		"long line":      text + strings.Repeat("x", lineLimit+2) + "\n",
		"checkpoint":     strings.Replace(text, `\n9\n`, `\n8\n`, 1),
	} {
		if text == join(lines...) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if got, err := VerifyExport(strings.NewReader(text), l.VerifierKey()); err == nil || got != (Verified{}) {
			t.Errorf("%s: verified %+v", name, got)
		}
	}
	if _, err := VerifyExport(strings.NewReader(text), l.VerifierKey(), later); !errors.Is(err, ErrTampered) {
		t.Errorf("an export that ends before a saved checkpoint: %v", err)
	}
	_, stranger, err := note.GenerateKey(rand.Reader, "keepmq-audit/x")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{stranger, "", "x"} {
		if _, err := VerifyExport(strings.NewReader(text), key); errs.CodeOf(err) != errs.Invalid {
			t.Errorf("key %q: %v, want a refusal", key, err)
		}
	}
	if _, err := VerifyExport(strings.NewReader(text), l.VerifierKey()); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// fixedSigner is the same in every process that fuzzes.
func fixedSigner(t testing.TB) (note.Signer, string) {
	t.Helper()
	key, verifier, err := note.GenerateKey(bytes.NewReader(make([]byte, 64)), "keepmq-audit/fuzz")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier
}

// fixedExport is an export that is the same in every process that fuzzes.
func fixedExport(t testing.TB) (text, verifier string) {
	t.Helper()
	signer, verifier := fixedSigner(t)
	var tr tree
	var records string
	for i := range 5 {
		line, err := event(i).record(int64(i), int64(i/2), time.Unix(int64(i), 0), "salt").text()
		if err != nil {
			t.Fatal(err)
		}
		tr.add(line)
		records += string(line) + "\n"
	}
	signed, err := note.Sign(&note.Note{Text: formatTree("keepmq-audit/fuzz", tlog.Tree{N: tr.size, Hash: tr.hash()})}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("{\"keepmq_audit\":1,\"checkpoint\":%q}\n%s", signed, records), verifier
}

// FuzzVerifyExport: nothing but the export itself verifies.
func FuzzVerifyExport(f *testing.F) {
	good, verifier := fixedExport(f)
	if got, err := VerifyExport(strings.NewReader(good), verifier); err != nil || got.Records != 5 {
		f.Fatal(got, err)
	}
	f.Add([]byte(good))
	f.Add([]byte(good[:len(good)/2]))
	_, body, _ := strings.Cut(good, "\n")
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := VerifyExport(bytes.NewReader(text), verifier)
		if err != nil {
			return
		}
		if _, b, _ := strings.Cut(string(text), "\n"); b != body || got.Records != 5 {
			t.Fatalf("verified %+v: %s", got, text)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	good, err := event(1).record(1, 0, time.Unix(1, 0), "salt").text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, int64(1))
	f.Add([]byte(`{"v":1,"seq":2}`), int64(2))
	f.Fuzz(func(t *testing.T, text []byte, seq int64) {
		if r, err := parseRecord(text, seq); err == nil && (r.Seq != seq || r.Format != firstFormat && r.Format != recordFormat) {
			t.Fatalf("record %d: %+v", seq, r)
		}
	})
}
