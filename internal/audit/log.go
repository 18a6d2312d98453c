package audit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/keyring"
	"github.com/keepmq/keepmq/internal/store"
)

const signerPurpose = "audit signer"

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

	pruning sync.Mutex   // held by who removes texts, before reading
	reading sync.RWMutex // held by who needs all texts to stay for more than one transaction
}

// Open returns the log in db. The first time it makes the key that signs
// checkpoints; ring seals it.
func Open(ctx context.Context, db store.DB, ring *keyring.Ring) (*Log, error) {
	l := &Log{db: db}
	var key string
	err := db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
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
	if err := l.indexOld(ctx); err != nil {
		return nil, fmt.Errorf("open audit record: %w", err)
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
	err := l.db.View(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		tree, err = readTree(ctx, tx)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("make checkpoint: %w", err)
	}
	return l.sign(formatTree(l.signer.Name(), tree))
}

// readTree returns the size and the hash of the whole record.
func readTree(ctx context.Context, tx *store.Tx) (tree tlog.Tree, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT size FROM audit_head WHERE id = 1`).Scan(&tree.N); err != nil {
		return tree, err
	}
	tree.Hash = emptyHash()
	if tree.N > 0 {
		tree.Hash, err = tlog.TreeHash(tree.N, hashReader(ctx, tx))
	}
	return tree, err
}
