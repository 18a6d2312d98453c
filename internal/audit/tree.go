package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/errs"
)

const checkpointLimit = 4 << 10

// A tree hashes records one after the other in little memory: it keeps the
// roots of the complete subtrees, the largest first.
type tree struct {
	size  int64
	roots []tlog.Hash
}

// add puts a record at the end and returns the nodes that it completes, in the
// order in which the log stores them.
func (t *tree) add(text []byte) []tlog.Hash { return t.addLeaf(tlog.RecordHash(text)) }

// addLeaf is add for a record of which only the hash is left.
func (t *tree) addLeaf(h tlog.Hash) []tlog.Hash {
	nodes := []tlog.Hash{h}
	for n := t.size; n&1 == 1; n >>= 1 { // each 1 is a complete subtree on the left
		last := len(t.roots) - 1
		h = tlog.NodeHash(t.roots[last], h)
		t.roots = t.roots[:last]
		nodes = append(nodes, h)
	}
	t.roots = append(t.roots, h)
	t.size++
	return nodes
}

// hash returns the hash of the whole tree.
func (t *tree) hash() tlog.Hash {
	if len(t.roots) == 0 {
		return emptyHash()
	}
	h := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.roots[i], h)
	}
	return h
}

// emptyHash is the hash of a tree without records (RFC 6962, section 2.1).
func emptyHash() tlog.Hash { return sha256.Sum256(nil) }

// formatTree returns the text of a C2SP checkpoint.
func formatTree(origin string, t tlog.Tree) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, t.N, t.Hash)
}

// openCheckpoint checks the signature of a checkpoint and reads it.
func openCheckpoint(signed string, v note.Verifier) (tlog.Tree, error) {
	invalid := errs.E(errs.Invalid, "not a checkpoint of this audit record")
	if len(signed) > checkpointLimit {
		return tlog.Tree{}, invalid
	}
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return tlog.Tree{}, errs.Wrap(errs.Invalid, err, "the checkpoint was not signed by this installation")
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != v.Name() {
		return tlog.Tree{}, invalid
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tlog.Tree{}, invalid
	}
	h, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(h) != tlog.HashSize {
		return tlog.Tree{}, invalid
	}
	return tlog.Tree{N: size, Hash: tlog.Hash(h)}, nil
}

// A verification compares records with checkpoints while they go by.
type verification struct {
	tree    tree
	saved   map[int64]tlog.Hash
	numbers numbers
	removed int64
}

// newVerification checks the signatures of the saved checkpoints.
func newVerification(verifierKey string, saved []string) (*verification, error) {
	v, err := note.NewVerifier(verifierKey)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "not a verifier key of an audit record")
	}
	c := &verification{saved: map[int64]tlog.Hash{}, numbers: numbers{}}
	for _, s := range saved {
		t, err := openCheckpoint(s, v)
		if err != nil {
			return nil, err
		}
		if h, ok := c.saved[t.N]; ok && h != t.Hash {
			return nil, tampered("two checkpoints of %d records differ", t.N)
		}
		c.saved[t.N] = t.Hash
	}
	return c, c.compare()
}

// add checks the next record, and gives one of the first format its number.
func (c *verification) add(text []byte) (Record, []tlog.Hash, error) {
	r, err := parseRecord(text, c.tree.size)
	if err != nil {
		return Record{}, nil, err
	}
	if err := c.numbers.add(&r); err != nil {
		return Record{}, nil, err
	}
	nodes := c.tree.add(text)
	return r, nodes, c.compare()
}

// addRemoved goes past a record of which only the hash is left.
func (c *verification) addRemoved(leaf tlog.Hash) ([]tlog.Hash, error) {
	c.removed++
	return c.tree.addLeaf(leaf), c.compare()
}

func (c *verification) compare() error {
	h, ok := c.saved[c.tree.size]
	if !ok {
		return nil
	}
	if h != c.tree.hash() {
		return tampered("the first %d records are not those of the checkpoint", c.tree.size)
	}
	return nil
}

// end reports checkpoints of more records than there are, and records that are
// not there without a reason.
func (c *verification) end() error {
	for n := range c.saved {
		if n > c.tree.size {
			return tampered("there are %d records, and a checkpoint was made of %d: the end is missing", c.tree.size, n)
		}
	}
	removed, err := c.numbers.end()
	if err == nil && removed != c.removed {
		err = tampered("the texts of %d records are not there, and by the record %d were removed", c.removed, removed)
	}
	return err
}
