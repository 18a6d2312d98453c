package audit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store"
)

const (
	signerPurpose = "audit signer"
	pageDefault   = 100
	pageLimit     = 1000
)

// ErrTampered is in every error that says that the record is not what it was.
var ErrTampered = errors.New("the audit record was tampered with")

// tampered says what was found. It is not a refusal of a request but a finding
// about the data, so the message may be shown.
func tampered(format string, args ...any) error {
	return errs.Wrap(errs.Internal, ErrTampered, fmt.Sprintf(format, args...))
}

// A Log reads, signs and verifies the record.
type Log struct {
	db       store.DB
	signer   note.Signer
	verifier string
}

// Open returns the log in db. The first time it makes the key that signs
// checkpoints; ring seals it.
func Open(ctx context.Context, db store.DB, ring *keyring.Ring) (*Log, error) {
	l := &Log{db: db}
	var key string
	err := db.Update(ctx, func(tx *store.Tx) error {
		var sealed []byte
		err := tx.QueryRowContext(ctx, `SELECT verifier, sealed_key FROM audit_signer WHERE id = 1`).Scan(&l.verifier, &sealed)
		if errors.Is(err, sql.ErrNoRows) {
			key, l.verifier, err = makeSigner(ctx, tx, ring)
			return err
		}
		if err != nil {
			return err
		}
		b, err := ring.Open(signerPurpose, sealed)
		key = string(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open audit record: signing key: %w", err)
	}
	if l.signer, err = note.NewSigner(key); err != nil {
		return nil, errors.New("open audit record: the signing key is damaged; restore a backup") // the cause could quote it
	}
	return l, nil
}

func makeSigner(ctx context.Context, tx *store.Tx, ring *keyring.Ring) (key, verifier string, err error) {
	// The name tells installations apart, and is the origin of the checkpoints.
	key, verifier, err = note.GenerateKey(rand.Reader, "keepmq-audit/"+rand.Text())
	if err != nil {
		return "", "", err
	}
	sealed, err := ring.Seal(signerPurpose, []byte(key))
	if err != nil {
		return "", "", err
	}
	const q = `INSERT INTO audit_signer (id, verifier, sealed_key) VALUES (1, $1, $2)`
	_, err = tx.ExecContext(ctx, q, verifier, sealed)
	return key, verifier, err
}

// VerifierKey returns the public key of the checkpoints as text. Who is to
// verify an export later keeps it, beside a checkpoint.
func (l *Log) VerifierKey() string { return l.verifier }

// Checkpoint returns the signed hash of the whole record as it is now, as a C2SP
// checkpoint: text that can be stored or printed anywhere.
func (l *Log) Checkpoint(ctx context.Context) (string, error) {
	var tree tlog.Tree
	err := l.db.View(ctx, func(tx *store.Tx) (err error) {
		if err := tx.QueryRowContext(ctx, `SELECT size FROM audit_head WHERE id = 1`).Scan(&tree.N); err != nil {
			return err
		}
		if tree.N > 0 {
			tree.Hash, err = tlog.TreeHash(tree.N, hashReader(ctx, tx))
		} else {
			tree.Hash = emptyHash()
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make checkpoint: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: formatTree(l.signer.Name(), tree)}, l.signer)
	if err != nil {
		return "", fmt.Errorf("sign checkpoint: %w", err)
	}
	return string(signed), nil
}

// A Page asks for a part of the record, newest first.
type Page struct {
	Limit int    // 1 to 1000; 0: 100
	After string // what the call before returned as next; "": the beginning
}

// Events returns the records of one organisation, or with org "" those that
// belong to none, newest first. next is "" after the last.
func (l *Log) Events(ctx context.Context, org auth.OrgID, p Page) (records []Record, next string, err error) {
	return l.page(ctx, p, `SELECT seq, record FROM audit_event WHERE org = $3 AND seq < $1 ORDER BY seq DESC LIMIT $2`, string(org))
}

// AllEvents returns the records of every organisation, for the administrator of
// the installation.
func (l *Log) AllEvents(ctx context.Context, p Page) (records []Record, next string, err error) {
	return l.page(ctx, p, `SELECT seq, record FROM audit_event WHERE seq < $1 ORDER BY seq DESC LIMIT $2`)
}

func (l *Log) page(ctx context.Context, p Page, query string, more ...any) ([]Record, string, error) {
	limit, before := p.Limit, int64(1)<<62
	if limit == 0 {
		limit = pageDefault
	}
	if limit < 1 || limit > pageLimit {
		return nil, "", errs.E(errs.Invalid, "limit must be 1 to %d", pageLimit)
	}
	if p.After != "" {
		n, err := strconv.ParseInt(p.After, 10, 64)
		if err != nil || n < 0 {
			return nil, "", errs.E(errs.Invalid, "the page does not exist; begin again without a cursor")
		}
		before = n
	}
	var records []Record
	err := l.db.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, query, append([]any{before, limit + 1}, more...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var seq int64
			var text []byte
			if err := rows.Scan(&seq, &text); err != nil {
				return err
			}
			r, err := parseRecord(text, seq)
			if err != nil {
				return err
			}
			records = append(records, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, "", fmt.Errorf("read audit record: %w", err)
	}
	next := ""
	if len(records) > limit {
		records = records[:limit]
		next = strconv.FormatInt(records[limit-1].Seq, 10)
	}
	return records, next, nil
}
