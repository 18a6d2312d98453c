package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
)

// A Verified export is one whose records are unchanged and, unless it is a part,
// all there.
type Verified struct {
	Records    int64      // with their texts
	Removed    int64      // no longer kept, as the record itself says
	Org        auth.OrgID // of which organisation it is; "": of the whole record, or of a part of it
	Part       bool       // chosen by a filter: that others are missing is no surprise
	Checkpoint string     // its own, to be saved for the next time
}

// VerifyExport checks an export of either kind without the database: that its
// records are those of its checkpoint, that the checkpoint was signed with
// verifierKey, that none is missing but for those whose removal is on the record
// or that a filter left out, and that it continues every checkpoint saved
// earlier. verifierKey must come from elsewhere than the export. It needs little
// memory however long the export is.
func VerifyExport(r io.Reader, verifierKey string, saved ...string) (Verified, error) {
	in, err := newLineReader(r)
	if err != nil {
		return Verified{}, errs.E(errs.Invalid, "not an export of an audit record")
	}
	head, err := readHead(in)
	if err != nil {
		return Verified{}, err
	}
	verify := verifyWhole
	if !head.whole() {
		verify = verifyProven
	}
	v, err := verify(in, head, verifierKey, saved)
	if err != nil {
		return Verified{}, fmt.Errorf("verify audit export: %w", err)
	}
	v.Checkpoint = head.Checkpoint
	return v, nil
}

func readHead(in *lineReader) (exportHead, error) {
	var head exportHead
	text, beside, err := in.next()
	if err != nil || json.Unmarshal(text, &head) != nil || head.Format == 0 {
		return head, errs.E(errs.Invalid, "not an export of an audit record")
	}
	if head.Format != firstExport && head.Format != exportFormat {
		return head, errs.E(errs.Invalid, "the export has format %d, which this program does not know; use a newer KeepMQ", head.Format)
	}
	if again, err := head.text(); head.Format != firstExport && (err != nil || !bytes.Equal(again, text)) {
		return head, errs.E(errs.Invalid, "not an export of an audit record as it was written")
	}
	return head, checkBeside(beside, nil)
}

// each calls fn with every line that is left.
func (l *lineReader) each(fn func(text []byte) (*Record, error)) error {
	for {
		text, beside, err := l.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r, err := fn(text)
		if err != nil {
			return err
		}
		if r != nil && r.Format == firstFormat {
			r.Number = 0 // it does not say it
		}
		if err := checkBeside(beside, r); err != nil {
			return err
		}
	}
}

// verifyWhole checks an export of everything: its tree is computed anew.
func verifyWhole(in *lineReader, head exportHead, key string, saved []string) (Verified, error) {
	c, err := newVerification(key, append([]string{head.Checkpoint}, saved...))
	if err != nil {
		return Verified{}, err
	}
	err = in.each(func(text []byte) (*Record, error) {
		if leaf, ok := parseRemoval(text); ok && head.Format != firstExport {
			_, err := c.addRemoved(leaf)
			return nil, err
		}
		r, _, err := c.add(text)
		return &r, err
	})
	if err == nil {
		err = c.end()
	}
	if err == nil {
		err = c.endsAt(key, head.Checkpoint)
	}
	return Verified{Records: c.tree.size - c.removed, Removed: c.removed}, err
}

// parseRemoval reads what stands for a record that is not kept any more.
func parseRemoval(text []byte) (tlog.Hash, bool) {
	if !bytes.HasPrefix(text, []byte(`{"removed":`)) {
		return tlog.Hash{}, false
	}
	var r removal
	err := json.Unmarshal(text, &r)
	again, e := json.Marshal(r)
	return r.Removed, err == nil && e == nil && bytes.Equal(again, text)
}

// endsAt reports records after the checkpoint, which nobody has signed.
func (c *verification) endsAt(verifierKey, signed string) error {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return err
	}
	t, err := openCheckpoint(signed, v)
	if err != nil {
		return err
	}
	if c.tree.size != t.N {
		return tampered("there are %d records, and the checkpoint was made of %d", c.tree.size, t.N)
	}
	return nil
}

// A proving checks the lines of an export that leaves out others' records.
type proving struct {
	head    exportHead
	tree    tlog.Tree
	last    int64 // the last record's place
	numbers numbers
	records int64
}

func verifyProven(in *lineReader, head exportHead, key string, saved []string) (Verified, error) {
	c, err := newVerification(key, append([]string{head.Checkpoint}, saved...)) // to check the signatures
	if err != nil {
		return Verified{}, err
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		return Verified{}, err
	}
	p := proving{head: head, last: -1, numbers: numbers{}}
	if p.tree, err = openCheckpoint(head.Checkpoint, v); err != nil {
		return Verified{}, err
	}
	for n, h := range c.saved {
		if err := p.goesOn(n, h); err != nil {
			return Verified{}, err
		}
	}
	if err := in.each(p.add); err != nil {
		return Verified{}, err
	}
	result := Verified{Records: p.records, Org: head.Org, Part: head.Part != nil}
	if !result.Part {
		result.Removed, err = p.end(v)
	}
	return result, err
}

// goesOn checks that the record begins with what a checkpoint was made of.
func (p *proving) goesOn(n int64, h tlog.Hash) error {
	switch {
	case n == 0, n == p.tree.N: // newVerification has compared the one, and saved has one hash for the other
		return nil
	case n > p.tree.N:
		return tampered("there are %d records, and a checkpoint was made of %d: the end is missing", p.tree.N, n)
	}
	for _, c := range p.head.Continues {
		if c.Size != n {
			continue
		}
		if tlog.CheckTree(c.Proof, p.tree.N, p.tree.Hash, n, h) != nil {
			return tampered("the first %d records are not those of the checkpoint", n)
		}
		return nil
	}
	return errs.E(errs.Invalid, "the export does not prove that it goes on from a checkpoint of %d records; export it with that checkpoint, or the whole record", n)
}

// add checks one record: that it is what stands at its place in the tree.
func (p *proving) add(text []byte) (*Record, error) {
	var l exportLine
	err := json.Unmarshal(text, &l)
	if again, e := l.text(); err != nil || e != nil || !bytes.Equal(again, text) { // nor can it be read in two ways
		return nil, tampered("the line after record %d cannot be read", p.last)
	}
	if l.Leaf <= p.last || l.Leaf >= p.tree.N {
		return nil, tampered("record %d stands behind record %d of %d", l.Leaf, p.last, p.tree.N)
	}
	if tlog.CheckRecord(l.Proof, p.tree.N, p.tree.Hash, l.Leaf, tlog.RecordHash(l.Record)) != nil {
		return nil, tampered("record %d is not that of the checkpoint", l.Leaf)
	}
	p.last = l.Leaf
	r, err := parseRecord(l.Record, l.Leaf)
	switch {
	case err != nil:
		return nil, err
	case p.head.Org != "" && r.Org != p.head.Org:
		return nil, tampered("record %d is not of organisation %q", l.Leaf, string(p.head.Org))
	case p.head.Part != nil && !p.head.Part.match(r):
		return nil, tampered("record %d does not belong to what the export was chosen by", l.Leaf)
	}
	p.records++
	if p.head.Part != nil {
		return &r, nil
	}
	return &r, p.numbers.add(&r)
}

// end checks that no record of the organisation is missing.
func (p *proving) end(v note.Verifier) (removed int64, err error) {
	count, err := openCount(p.head.Count, v)
	if err != nil {
		return 0, err
	}
	if count.org != p.head.Org || count.tree != p.tree.N {
		return 0, tampered("how many records organisation %q has was said of another or at another time", string(p.head.Org))
	}
	o := p.numbers[p.head.Org]
	if o == nil {
		o = &numbering{}
	}
	if size, _ := o.size(); size != count.size {
		return 0, tampered("there are %d records of organisation %q, and it had %d: some are missing", size, string(p.head.Org), count.size)
	}
	return p.numbers.end()
}

// An orgCount says how many records an organisation had when the whole record
// had tree. It is signed, as a checkpoint is.
type orgCount struct {
	org  auth.OrgID
	size int64
	tree int64
}

// text is never taken for a checkpoint: its first line is not the same.
func (c orgCount) text(origin string) string {
	return fmt.Sprintf("%s/org\n%s\n%d\n%d\n", origin, c.org, c.size, c.tree)
}

func openCount(signed string, v note.Verifier) (orgCount, error) {
	invalid := errs.E(errs.Invalid, "the number of records was not signed by this installation")
	if len(signed) > checkpointLimit {
		return orgCount{}, invalid
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return orgCount{}, invalid
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 5 {
		return orgCount{}, invalid
	}
	size, err1 := strconv.ParseInt(lines[2], 10, 64)
	tree, err2 := strconv.ParseInt(lines[3], 10, 64)
	c := orgCount{auth.OrgID(lines[1]), size, tree}
	if err1 != nil || err2 != nil || size < 0 || c.text(v.Name()) != n.Text {
		return orgCount{}, invalid
	}
	return c, nil
}
