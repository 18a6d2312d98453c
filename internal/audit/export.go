package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

// The formats of exports. In the first, which is not written any more, every
// line but the head is a record.
const (
	firstExport  = 1
	exportFormat = 2
)

// exportHead is the first line of an export. One of the whole record goes on
// with all records, byte for byte as they were hashed, and removals, one a line.
// Any other goes on with exportLines.
type exportHead struct {
	Format     int        `json:"keepmq_audit"`
	Checkpoint string     `json:"checkpoint"`
	Org        auth.OrgID `json:"org,omitempty"`   // all records are of it
	Count      string     `json:"count,omitempty"` // how many it has: a signed orgCount
	Part       *Filter    `json:"part,omitempty"`  // what the records were chosen by; absent: it is all of them
	// Continues proves that the checkpoint goes on from earlier ones. An export of
	// the whole record needs no such proof.
	Continues []continuation `json:"continues,omitempty"`
}

// A continuation proves that the record begins with what it was when it had size.
type continuation struct {
	Size  int64       `json:"size"`
	Proof []tlog.Hash `json:"proof"`
}

// maxContinues is from how many earlier checkpoints an export proves to go on.
const maxContinues = 20

// whole reports whether the export is of everything, so that it needs no proofs.
func (h exportHead) whole() bool { return h.Org == "" && h.Part == nil }

// A removal stands in a whole export for a record that is not kept any more.
type removal struct {
	Removed tlog.Hash `json:"removed"`
}

// An exportLine is a record of an export that leaves out others, with the proof
// that it stands at Leaf of the tree of the checkpoint.
type exportLine struct {
	Leaf   int64           `json:"leaf"`
	Proof  []tlog.Hash     `json:"proof"`
	Record json.RawMessage `json:"record"`
}

// text returns the line. The record goes in byte for byte: the encoder would
// change its escapes.
func (l exportLine) text() ([]byte, error) {
	record := l.Record
	l.Record = json.RawMessage("null")
	b, err := json.Marshal(l)
	if err != nil {
		return nil, err
	}
	return append(append(b[:len(b)-len(`null}`)], record...), '}'), nil
}

// text returns the first line.
func (h exportHead) text() ([]byte, error) {
	b, err := json.Marshal(h)
	return []byte(tame(string(b))), err
}

// Kinds of exports.
const (
	JSONLines = "jsonl" // a head, then one record a line
	CSV       = "csv"   // the same lines in the last column, beside what they say
)

// An Export says what to export.
type Export struct {
	Scope  Scope
	Filter Filter // without one it can be proven that nothing is missing
	Kind   string // JSONLines or CSV

	// Sizes are of checkpoints that were kept earlier: how many records they were
	// made of. What leaves out records can be compared with these only.
	Sizes []int64
}

// Export writes records, a signed checkpoint, and what proves that they are
// those of the checkpoint. What an organisation's export shows of others is the
// hashes of their records.
func (l *Log) Export(ctx context.Context, w io.Writer, e Export) error {
	if err := e.Filter.Check(); err != nil {
		return err
	}
	l.reading.RLock()
	defer l.reading.RUnlock()
	s, err := l.snapshot(ctx, e.Scope)
	if err != nil {
		return fmt.Errorf("export audit record: %w", err)
	}
	if e.Filter != (Filter{}) {
		s.head.Part = &e.Filter
	}
	if err := s.goOn(ctx, e.Sizes); err != nil {
		return err
	}
	if err := s.write(ctx, w, e.Kind); err != nil {
		return fmt.Errorf("export audit record: %w", err)
	}
	return nil
}

// A snapshot is the state that an export is of.
type snapshot struct {
	log  *Log
	all  bool
	head exportHead
	tree tlog.Tree
	orgs map[auth.OrgID]stored

	removed int64 // texts that were not there
	proofs  map[int64]tlog.Hash
	out     lineWriter
}

func (l *Log) snapshot(ctx context.Context, s Scope) (*snapshot, error) {
	x := &snapshot{log: l, all: s.All, head: exportHead{Format: exportFormat, Org: s.Org}}
	err := l.db.View(scoped(ctx, s), func(tx *store.Tx) (err error) {
		if x.tree, err = readTree(ctx, tx); err != nil {
			return err
		}
		x.orgs, err = readOrgs(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if x.head.Checkpoint, err = l.sign(formatTree(l.signer.Name(), x.tree)); err != nil || s.All {
		return x, err
	}
	x.head.Count, err = l.sign(orgCount{s.Org, x.orgs[s.Org].size, x.tree.N}.text(l.signer.Name()))
	return x, err
}

// goOn proves that the record goes on from earlier checkpoints.
func (s *snapshot) goOn(ctx context.Context, sizes []int64) error {
	if len(sizes) > maxContinues {
		return errs.E(errs.Invalid, "an export goes on from at most %d checkpoints, not from %d", maxContinues, len(sizes))
	}
	for _, n := range sizes {
		if n < 0 || n > s.tree.N {
			return errs.E(errs.Invalid, "there are %d records, so that there is no checkpoint of %d", s.tree.N, n)
		}
		if s.head.whole() || n == 0 || n == s.tree.N {
			continue
		}
		err := s.log.db.View(scoped(ctx, Scope{Org: s.head.Org, All: s.all}), func(tx *store.Tx) error {
			proof, err := tlog.ProveTree(s.tree.N, n, hashReader(ctx, tx))
			if err == nil {
				s.head.Continues = append(s.head.Continues, continuation{n, proof})
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("prove that the record goes on from %d: %w", n, err)
		}
	}
	return nil
}

func (s *snapshot) write(ctx context.Context, w io.Writer, kind string) error {
	buffered := bufio.NewWriter(w)
	switch kind {
	case JSONLines:
		s.out = jsonWriter{buffered}
	case CSV:
		s.out = csvWriter{buffered}
	default:
		return errs.E(errs.Invalid, "an export is %q or %q", JSONLines, CSV)
	}
	head, err := s.head.text()
	if err != nil {
		return err
	}
	if err := s.out.line(nil, head); err != nil {
		return err
	}
	for next := int64(0); next < s.tree.N; {
		// The lines are written outside of the transaction: w may be slow.
		var lines []line
		if lines, next, err = s.page(ctx, next); err != nil {
			return err
		}
		for _, l := range lines {
			if err := s.out.line(l.record, l.text); err != nil {
				return err
			}
		}
	}
	if s.head.whole() {
		for _, o := range s.orgs {
			s.removed -= o.kept
		}
		if s.removed != 0 {
			return tampered("the texts of %d records are missing", s.removed)
		}
	}
	return buffered.Flush()
}

// A line of an export, and the record that it is of; nil: none.
type line struct {
	record *Record
	text   []byte
}

// page returns the lines of a page from record first on, and where the next one
// begins.
func (s *snapshot) page(ctx context.Context, first int64) (lines []line, next int64, err error) {
	removed := s.removed
	err = s.log.db.View(scoped(ctx, Scope{Org: s.head.Org, All: s.all}), func(tx *store.Tx) error {
		lines, s.removed = nil, removed
		var found []row
		var err error
		if found, next, err = s.rows(ctx, tx, first); err != nil {
			return err
		}
		for _, r := range found {
			make := s.proven
			if s.head.whole() {
				make = s.plain
			}
			l, err := make(ctx, tx, r)
			if err != nil {
				return err
			}
			if l.text != nil {
				lines = append(lines, l)
			}
		}
		return nil
	})
	return lines, next, err
}

// rows reads a page of what the export is of: everything that is there, or also
// what is not there any more.
func (s *snapshot) rows(ctx context.Context, tx *store.Tx, first int64) (found []row, next int64, err error) {
	if s.head.whole() {
		next = min(first+verifyPage, s.tree.N)
		found, err = readPlaces(ctx, tx, first, next, s.orgs)
		return found, next, err
	}
	q := `SELECT seq, org, number, record FROM audit_event WHERE seq >= $1 AND seq < $2 ORDER BY seq LIMIT $3`
	args := []any{first, s.tree.N, verifyPage}
	if !s.all {
		q = `SELECT seq, org, number, record FROM audit_event WHERE org = $4 AND seq >= $1 AND seq < $2 ORDER BY seq LIMIT $3`
		args = append(args, string(s.head.Org))
	}
	looked := 0
	next = s.tree.N
	err = eachRow(ctx, tx, func(seq int64, org auth.OrgID, number int64, text []byte) error {
		if looked++; looked == verifyPage {
			next = seq + 1
		}
		if number >= s.orgs[org].kept {
			found = append(found, row{seq, org, number, text})
		}
		return nil
	}, q, args...)
	return found, next, err
}

// plain returns the line of a record in an export of everything.
func (s *snapshot) plain(ctx context.Context, tx *store.Tx, r row) (line, error) {
	if r.text != nil {
		record, err := parseRecord(r.text, r.seq)
		return line{&record, r.text}, err
	}
	s.removed++
	h, err := hashReader(ctx, tx).ReadHashes([]int64{tlog.StoredHashIndex(0, r.seq)})
	if err != nil {
		return line{}, err
	}
	removed, err := json.Marshal(removal{h[0]})
	return line{nil, removed}, err
}

// proven returns the line of a record with its proof, or none if the record is
// not chosen.
func (s *snapshot) proven(ctx context.Context, tx *store.Tx, r row) (line, error) {
	record, err := parseRecord(r.text, r.seq)
	if err != nil || s.head.Part != nil && !s.head.Part.match(record) {
		return line{}, err
	}
	proof, err := tlog.ProveRecord(s.tree.N, r.seq, s.nodes(hashReader(ctx, tx)))
	if err != nil {
		return line{}, fmt.Errorf("prove record %d: %w", r.seq, err)
	}
	if proof == nil {
		proof = tlog.RecordProof{} // of a tree of one
	}
	text, err := exportLine{Leaf: r.seq, Proof: proof, Record: r.text}.text()
	return line{&record, text}, err
}

// nodeCache is how many nodes of the tree an export remembers: neighbours have
// nearly all of their proofs in common.
const nodeCache = 1 << 14

// nodes returns a reader that remembers. The nodes of a tree never change.
func (s *snapshot) nodes(from tlog.HashReader) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		if len(s.proofs) > nodeCache || s.proofs == nil {
			s.proofs = map[int64]tlog.Hash{}
		}
		out := make([]tlog.Hash, len(indexes))
		for i, idx := range indexes {
			h, ok := s.proofs[idx]
			if !ok {
				read, err := from.ReadHashes(indexes[i : i+1])
				if err != nil {
					return nil, err
				}
				h = read[0]
				s.proofs[idx] = h
			}
			out[i] = h
		}
		return out, nil
	})
}

func (l *Log) sign(text string) (string, error) {
	signed, err := note.Sign(&note.Note{Text: text}, l.signer)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return string(signed), nil
}
