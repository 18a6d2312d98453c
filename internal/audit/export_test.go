package audit

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

func exported(t testing.TB, l *Log, e Export) string {
	t.Helper()
	var b bytes.Buffer
	if err := l.Export(t.Context(), &b, e); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func lines(text string) []string { return strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n") }

// joined makes a text of lines, each of which has its end.
func joined(l []string) string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(strings.TrimSuffix(s, "\n") + "\n")
	}
	return b.String()
}

// An organisation's export verifies by itself and shows nothing of others.
func TestOrgExport(t *testing.T) {
	for _, n := range []int{0, 1, 2, 9, 2*verifyPage + 31} {
		l := newLog(t, 0)
		addVaried(t, l, n)
		for _, kind := range []string{JSONLines, CSV} {
			all := 0
			for _, org := range []auth.OrgID{"abc123", "def456", "nobody"} {
				text := exported(t, l, Export{Scope: Scope{Org: org}, Kind: kind})
				v, err := VerifyExport(strings.NewReader(text), l.VerifierKey())
				if err != nil || v.Org != org || v.Part || v.Removed != 0 || v.Checkpoint != checkpoint(t, l) {
					t.Fatalf("%d records, %s as %s: %+v, %v", n, org, kind, v, err)
				}
				all += int(v.Records)
				if org != "def456" && strings.Contains(text, "def456") {
					t.Errorf("the export of %s shows def456", org)
				}
			}
			if all != n {
				t.Errorf("%d records in all exports, want %d", all, n)
			}
			v, err := VerifyExport(strings.NewReader(exported(t, l, Export{Scope: Scope{All: true}, Kind: kind})), l.VerifierKey(), checkpoint(t, l))
			if err != nil || v.Records != int64(n) {
				t.Errorf("all %d as %s: %+v, %v", n, kind, v, err)
			}
		}
	}
}

func TestOrgExportOfOldRecords(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	addVaried(t, l, 30)
	makeOld(t, l)
	l = openLog(t, dir)
	for _, more := range []int{0, 7} {
		add(t, l, 0, more)
		for _, kind := range []string{JSONLines, CSV} {
			text := exported(t, l, Export{Scope: Scope{Org: "abc123"}, Kind: kind})
			v, err := VerifyExport(strings.NewReader(text), l.VerifierKey())
			if err != nil || v.Records != int64(15+(more+1)/2) {
				t.Fatalf("%+v, %v", v, err)
			}
			all := lines(text)
			for i := 1; i < len(all); i++ {
				if _, err := VerifyExport(strings.NewReader(joined(append(all[:i:i], all[i+1:]...))), l.VerifierKey()); err == nil {
					t.Errorf("%s: without line %d it is verified", kind, i)
				}
			}
		}
	}
}

// TestOrgExportTampering changes an organisation's export in every way that is
// easy, and with what else the attacker may have: others' and earlier exports.
func TestOrgExportTampering(t *testing.T) {
	l := newLog(t, 0)
	addVaried(t, l, 20)
	early := exported(t, l, Export{Scope: Scope{Org: "abc123"}, Kind: JSONLines})
	addVaried(t, l, 20)
	for _, kind := range []string{JSONLines, CSV} {
		text := exported(t, l, Export{Scope: Scope{Org: "abc123"}, Kind: kind})
		other := exported(t, l, Export{Scope: Scope{Org: "def456"}, Kind: kind})
		all, others := lines(text), lines(other)
		head := 1
		if kind == CSV {
			head = 2
		}
		changed := map[string]string{
			"other organisation's record": joined(append(append(append([]string{}, all[:9]...), others[8]), all[9:]...)),
			"other organisation's head":   joined(append(append([]string{}, others[:head]...), all[head:]...)),
			"other organisation named":    strings.ReplaceAll(text, "abc123", "def456"),
			"another target":              strings.Replace(text, "t3", "t4", 1),
			"in two parts":                text + text,
			"cut":                         text[:len(text)-1],
			"only the head":               joined(all[:head]),
			"records only":                joined(all[head:]),
			"a space more":                strings.Replace(text, "leaf", " leaf", 1),
			"a proof less":                strings.Replace(text, "proof", "prove", 1),
		}
		for i := head; i < len(all); i++ {
			changed[fmt.Sprint("without line ", i)] = joined(append(all[:i:i], all[i+1:]...))
			changed[fmt.Sprint("line twice ", i)] = joined(append(all[:i+1:i+1], all[i:]...))
			if i > head {
				swapped := append([]string{}, all...)
				swapped[i], swapped[i-1] = swapped[i-1], swapped[i]
				changed[fmt.Sprint("reordered ", i)] = joined(swapped)
			}
		}
		if kind == JSONLines {
			changed["earlier head"] = joined(append(lines(early)[:1], all[1:]...))
			changed["earlier records"] = joined(append(all[:1:1], lines(early)[1:]...))
			changed["earlier count"] = swapField(t, all, lines(early)[0], "count")
			changed["other organisation's count"] = swapField(t, all, others[0], "count")
			changed["no count"] = swapField(t, all, `{"count":""}`, "count")
			changed["earlier checkpoint"] = swapField(t, all, lines(early)[0], "checkpoint")
			changed["a record with two meanings"] = strings.Replace(text, `"record":`, `"record":{},"record":`, 1)
			changed["more beside"] = strings.Replace(text, `"record":`, `"note":1,"record":`, 1)
		} else {
			changed["another actor beside"] = strings.Replace(text, `"application:abc123:key1","`, `"application:abc123:key2","`, 1)
			changed["another time beside"] = strings.Replace(text, `T22:`, `T23:`, 1)
			changed["a cell more"] = strings.Replace(text, `"","","`, `"","","","`, 1)
			changed["other columns"] = strings.Replace(text, `"target"`, `"tarjet"`, 1)
			changed["beside the head"] = strings.Replace(text, `"","",`, `"","x",`, 1)
		}
		for name, s := range changed {
			if s == text {
				t.Fatalf("%s, %s: nothing was changed", kind, name)
			}
			if v, err := VerifyExport(strings.NewReader(s), l.VerifierKey()); err == nil || v != (Verified{}) {
				t.Errorf("%s, %s: verified %+v", kind, name, v)
			} else if errs.Message(err) == "" {
				t.Errorf("%s, %s: %v says nothing", kind, name, err)
			}
		}
		// What was made a part is verified as a part only.
		filter := `"checkpoint"`
		if kind == CSV {
			filter = `""checkpoint""`
		}
		if v, err := VerifyExport(strings.NewReader(strings.Replace(text, filter, strings.Replace(filter, "checkpoint", "part", 1)+":{},"+filter, 1)), l.VerifierKey()); err == nil && !v.Part {
			t.Errorf("%s: %+v", kind, v)
		}
	}
	if _, err := VerifyExport(strings.NewReader(early), newLog(t, 20).VerifierKey()); errs.CodeOf(err) != errs.Invalid {
		t.Errorf("another installation's key: %v", err)
	}
	if _, err := VerifyExport(strings.NewReader(early), l.VerifierKey(), checkpoint(t, l)); !errors.Is(err, ErrTampered) {
		t.Errorf("an export that ends before a saved checkpoint: %v", err)
	}
}

// An organisation's export proves that it goes on from earlier checkpoints.
func TestOrgExportGoesOn(t *testing.T) {
	l := newLog(t, 0)
	var saved []string
	var sizes []int64
	for n := range 19 {
		saved, sizes = append(saved, checkpoint(t, l)), append(sizes, int64(n))
		addVaried(t, l, 1)
	}
	saved, sizes = append(saved, checkpoint(t, l)), append(sizes, 19)
	forged := newLog(t, 0) // another record, signed with the same key
	forged.signer, forged.verifier = l.signer, l.verifier
	addVaried(t, forged, 7)
	forgery := checkpoint(t, forged)
	for _, f := range []Filter{{}, {Action: "device."}} {
		for _, kind := range []string{JSONLines, CSV} {
			e := Export{Scope: Scope{Org: "abc123"}, Filter: f, Kind: kind}
			without := exported(t, l, e)
			e.Sizes = sizes
			text := exported(t, l, e)
			if _, err := VerifyExport(strings.NewReader(text), l.VerifierKey(), saved...); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if _, err := VerifyExport(strings.NewReader(text), l.VerifierKey(), forgery); !errors.Is(err, ErrTampered) {
				t.Errorf("%s goes on from another record: %v", kind, err)
			}
			if _, err := VerifyExport(strings.NewReader(without), l.VerifierKey(), saved[5]); errs.CodeOf(err) != errs.Invalid {
				t.Errorf("%s without a proof: %v", kind, err)
			}
			if kind == CSV {
				continue
			}
			if _, err := VerifyExport(strings.NewReader(strings.Replace(text, `"size":6,`, `"size":7,`, 1)), l.VerifierKey(), saved[7]); !errors.Is(err, ErrTampered) {
				t.Errorf("with a proof of another size: %v", err)
			}
		}
	}
	for _, bad := range [][]int64{{-1}, {20}, make([]int64, 21)} {
		var b bytes.Buffer
		if err := l.Export(t.Context(), &b, Export{Scope: Scope{Org: "abc123"}, Kind: CSV, Sizes: bad}); errs.CodeOf(err) != errs.Invalid || b.Len() > 0 {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// swapField replaces a field of the first of all by that of another head.
func swapField(t *testing.T, all []string, from, field string) string {
	t.Helper()
	var head, other map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal([]byte(all[0]), &head), json.Unmarshal([]byte(from), &other)); err != nil {
		t.Fatal(err)
	}
	return joined(append([]string{strings.Replace(all[0], string(head[field]), string(other[field]), 1)}, all[1:]...))
}

// A part proves what is in it, and says that it is a part.
func TestPartialExport(t *testing.T) {
	l := newLog(t, 0)
	addVaried(t, l, 60)
	for _, s := range []Scope{{Org: "abc123"}, {All: true}} {
		for _, kind := range []string{JSONLines, CSV} {
			f := Filter{Action: "device.", From: time.Unix(1_700_000_010, 0)}
			text := exported(t, l, Export{Scope: s, Filter: f, Kind: kind})
			v, err := VerifyExport(strings.NewReader(text), l.VerifierKey())
			if want := len(searchAll(t, l, s, f, 100)); err != nil || !v.Part || v.Org != s.Org || v.Records != int64(want) || want < 10 {
				t.Errorf("%+v, %v, want %d records", v, err, want)
			}
			for name, s := range map[string]string{
				"changed":                      strings.Replace(text, "t3", "t4", 1),
				"chosen by another filter":     strings.Replace(text, "device.", "signin.", 1),
				"said to be the whole of it":   strings.Replace(strings.Replace(text, `,"part":{"action":"device.","from":"2023-11-14T22:13:30Z"}`, "", 1), `,""part"":{""action"":""device."",""from"":""2023-11-14T22:13:30Z""}`, "", 1),
				"the last two in wrong order":  joined(append(lines(text)[:len(lines(text))-2], lines(text)[len(lines(text))-1], lines(text)[len(lines(text))-2])),
				"one that was not chosen, too": text + lines(exported(t, l, Export{Scope: s, Filter: Filter{Action: "signin"}, Kind: kind}))[len(lines(text))/8],
			} {
				if s == text {
					t.Fatalf("%s: nothing was changed", name)
				}
				if v, err := VerifyExport(strings.NewReader(s), l.VerifierKey()); err == nil {
					t.Errorf("%s %s: verified %+v", kind, name, v)
				}
			}
		}
	}
	for _, e := range []Export{{Kind: "xml"}, {Kind: CSV, Filter: Filter{Action: "."}}} {
		var b bytes.Buffer
		if err := l.Export(t.Context(), &b, e); errs.CodeOf(err) != errs.Invalid || b.Len() > 0 {
			t.Errorf("%+v: %v", e, err)
		}
	}
}

// hostile is what does something in a spreadsheet or on a terminal.
var hostile = []string{
	`=1+1`, `+1`, `-1`, `@SUM(A1)`, "\t=1", "\r=1", "\n=1", ` =1`, `'=1`, "\u3000=1", "\uff1d1", `=cmd|' /C calc'!A0`, `";=1;"`, `a";"=1`, `a,=1`, "a;=1", "a\t=1",
	"\x1b[2J", "\u009b31m", "\x07", "\u202e", "\x00", "a\r\nb", "\ufeff=1", `<script>alert(1)</script>`, "\u2028",
}

// No cell of a CSV export begins a formula, however its lines are taken apart,
// and no line of any export does anything on a terminal.
func TestExportIsHarmless(t *testing.T) {
	l := newLog(t, 0)
	err := l.db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		for _, s := range hostile {
			e := event(0)
			e.Actor.ID, e.Action, e.Target, e.Address, e.RequestID = s, strings.NewReplacer(" ", "", "\n", "").Replace(s), s, s, s
			e.Detail = map[string]any{s: s}
			if err := Append(t.Context(), tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []Scope{{Org: "abc123"}, {All: true}} {
		for _, kind := range []string{JSONLines, CSV} {
			text := exported(t, l, Export{Scope: s, Kind: kind})
			if v, err := VerifyExport(strings.NewReader(text), l.VerifierKey()); err != nil || v.Records != int64(len(hostile)) {
				t.Errorf("%s: %+v, %v", kind, v, err)
			}
			if i := strings.IndexFunc(text, func(c rune) bool { return c != '\n' && !unicode.IsPrint(c) }); i >= 0 {
				t.Errorf("%s: %q", kind, text[i:min(len(text), i+20)])
			}
			if kind == JSONLines {
				continue
			}
			for _, comma := range ",;\t" {
				c := csv.NewReader(strings.NewReader(text))
				c.Comma, c.LazyQuotes, c.FieldsPerRecord = comma, true, -1
				rows, err := c.ReadAll()
				if err != nil || len(rows) < len(hostile)+2 {
					t.Fatalf("%d rows, %v", len(rows), err)
				}
				for _, row := range rows {
					for _, cell := range row {
						if cell = strings.TrimLeft(cell, " \u3000"); cell != "" && strings.ContainsRune("=+-@\t\r\uff1d\uff0b\uff0d\uff20", []rune(cell)[0]) {
							t.Errorf("separated by %q: a cell is %q", comma, cell)
						}
					}
				}
			}
		}
	}
}

// FuzzVerifyOrgExport: nothing verifies but what was exported.
func FuzzVerifyOrgExport(f *testing.F) {
	l := newLog(f, 0)
	l.signer, l.verifier = fixedSigner(f)
	addVaried(f, l, 6)
	var texts []string
	for _, kind := range []string{JSONLines, CSV} {
		texts = append(texts, exported(f, l, Export{Scope: Scope{Org: "abc123"}, Kind: kind}))
	}
	for _, s := range texts {
		f.Add([]byte(s))
		f.Add([]byte(s[:len(s)/2]))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := VerifyExport(bytes.NewReader(text), l.VerifierKey())
		if err != nil {
			return
		}
		if v.Records != 3 && !v.Part || v.Org != "abc123" {
			t.Fatalf("verified %+v: %s", v, text)
		}
	})
}
