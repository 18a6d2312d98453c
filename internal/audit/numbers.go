package audit

import (
	"encoding/json"

	"github.com/keepmq/keepmq/internal/auth"
)

// pruned is the action of the record that says that texts were removed: those
// of its organisation with a smaller number than its detail "kept".
const pruned = "audit.prune"

// numbers checks that of each organisation all records are there, but for those
// at the beginning whose removal is itself on the record.
type numbers map[auth.OrgID]*numbering

// A numbering is what is known of the records of one organisation.
type numbering struct {
	old   int64 // records of the first format, which do not say their number
	known bool  // one came that says it
	first int64 // the number of the first record that is there
	next  int64 // the number that the next one must have
	kept  int64 // which one is the first, by what the record says
}

// add checks the next record, and gives one of the first format its number as
// if nothing before it was removed.
func (n numbers) add(r *Record) error {
	o := n[r.Org]
	if o == nil {
		o = &numbering{}
		n[r.Org] = o
	}
	switch {
	case r.Format == firstFormat && o.known:
		return tampered("record %d is of an older format than those before it", r.Seq)
	case r.Format == firstFormat:
		r.Number = o.old
		o.old++
		return nil
	case !o.known && r.Number < o.old:
		return tampered("record %d is number %d of organisation %q, and there are %d before it", r.Seq, r.Number, string(r.Org), o.old)
	case !o.known:
		o.known, o.first = true, r.Number-o.old
	case r.Number != o.next:
		return tampered("record %d is number %d of organisation %q instead of %d", r.Seq, r.Number, string(r.Org), o.next)
	}
	o.next = r.Number + 1
	if r.Action != pruned {
		return nil
	}
	kept, _ := r.Detail["kept"].(json.Number)
	k, err := kept.Int64()
	if err != nil || k < o.kept || k > r.Number {
		return tampered("record %d does not say which records are kept", r.Seq)
	}
	o.kept = k
	return nil
}

// size returns how many records an organisation had, and how many of them are
// not kept any more.
func (o *numbering) size() (size, removed int64) {
	if !o.known {
		return o.old, 0
	}
	return o.next, o.first
}

// end checks that nothing was removed but what the record says, and returns how
// much that is.
func (n numbers) end() (removed int64, err error) {
	for org, o := range n {
		if o.first != o.kept {
			return 0, tampered("the first record of organisation %q is number %d, and by the record those from number %d on are kept",
				string(org), o.first, o.kept)
		}
		removed += o.first
	}
	return removed, nil
}
