package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/note"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

const exportFormat = 1

// exportHead is the first line of an export. The records follow, one a line,
// byte for byte as they were hashed.
type exportHead struct {
	Format     int    `json:"keepmq_audit"`
	Checkpoint string `json:"checkpoint"`
}

// Export writes the whole record and a checkpoint of it, as lines of JSON.
func (l *Log) Export(ctx context.Context, w io.Writer) error {
	signed, err := l.Checkpoint(ctx)
	if err != nil {
		return err
	}
	v, err := note.NewVerifier(l.verifier)
	if err != nil {
		return fmt.Errorf("export audit record: %w", err)
	}
	t, err := openCheckpoint(signed, v)
	if err != nil {
		return fmt.Errorf("export audit record: %w", err)
	}
	out := bufio.NewWriter(w)
	if err := json.NewEncoder(out).Encode(exportHead{Format: exportFormat, Checkpoint: signed}); err != nil {
		return fmt.Errorf("export audit record: %w", err)
	}
	for first := int64(0); first < t.N; first += verifyPage {
		lines, err := l.lines(ctx, first, min(first+verifyPage, t.N))
		if err != nil {
			return fmt.Errorf("export audit record: %w", err)
		}
		// Outside the transaction: w may be slow.
		if _, err := out.Write(lines); err != nil {
			return fmt.Errorf("export audit record: %w", err)
		}
	}
	return out.Flush()
}

func (l *Log) lines(ctx context.Context, first, end int64) (lines []byte, err error) {
	err = l.db.View(ctx, func(tx *store.Tx) error {
		lines = lines[:0]
		return eachRecord(ctx, tx, first, end, func(_ int64, _ auth.OrgID, _ int64, text []byte) error {
			lines = append(append(lines, text...), '\n')
			return nil
		})
	})
	return lines, err
}

// A Verified export is one whose records are all there and unchanged.
type Verified struct {
	Records    int64
	Checkpoint string // its own, to be saved for the next time
}

// VerifyExport checks an export without the database: that its records are
// those of its checkpoint, that the checkpoint was signed with verifierKey, and
// that it continues every checkpoint saved earlier. verifierKey must come from
// elsewhere than the export. It needs little memory however long the export is.
func VerifyExport(r io.Reader, verifierKey string, saved ...string) (Verified, error) {
	in := bufio.NewReaderSize(r, recordLimit+1)
	var head exportHead
	line, err := readLine(in)
	if err != nil || json.Unmarshal(line, &head) != nil || head.Format == 0 {
		return Verified{}, errs.E(errs.Invalid, "not an export of an audit record")
	}
	if head.Format != exportFormat {
		return Verified{}, errs.E(errs.Invalid, "the export has format %d, which this program does not know; use a newer KeepMQ", head.Format)
	}
	c, err := newVerification(verifierKey, append([]string{head.Checkpoint}, saved...))
	if err != nil {
		return Verified{}, fmt.Errorf("verify audit export: %w", err)
	}
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			_, _, err = c.add(line)
		}
		if err != nil {
			return Verified{}, fmt.Errorf("verify audit export: %w", err)
		}
	}
	if err := c.end(); err != nil {
		return Verified{}, fmt.Errorf("verify audit export: %w", err)
	}
	if err := c.endsAt(verifierKey, head.Checkpoint); err != nil {
		return Verified{}, fmt.Errorf("verify audit export: %w", err)
	}
	return Verified{Records: c.tree.size, Checkpoint: head.Checkpoint}, nil
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

// readLine returns the next line without its end. A last line without one was
// cut off.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	switch {
	case err == nil:
		return line[:len(line)-1], nil
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, tampered("a line is longer than a record can be")
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, tampered("the last line is not complete")
	}
	return nil, err
}
