// Package audit keeps the verifiable record of every change.
//
// An event is appended in the transaction that makes the change, so there is
// neither without the other. The records are the leaves of a Merkle tree
// (RFC 6962); a checkpoint is the signed hash of the whole tree at one moment.
// Whoever keeps a checkpoint elsewhere can prove later that nothing up to it was
// changed, removed, inserted or put in another order, also by somebody who can
// write to the database.
//
// An export of one organisation's records proves itself without anybody else's,
// and shows what is missing. The texts of old records may be removed; their
// hashes stay, and what was removed is itself on the record, so that nothing else
// can be.
//
// It does not decide who may read the record, and it holds no secrets. What was
// appended after the newest checkpoint that somebody else keeps is protected
// against mistakes and damage only, not against who can write to the database.
package audit

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

// An Event is what happened.
type Event struct {
	Org       auth.OrgID     // whose record it is in; "" is the installation's
	Actor     auth.Principal // who did it
	Action    string         // "device.create"
	Target    string         // what it was done to
	Detail    map[string]any // strings, numbers, booleans, times, and lists and maps of them; never a secret
	Address   string         // where the request came from, or ""
	RequestID string
}

// Append puts e at the end of the record, in the caller's transaction, and gives
// it the time and its number. It refuses an event whose detail could hold a
// secret; the change then does not happen either.
func Append(ctx context.Context, tx *store.Tx, e Event) error {
	if e.Action == pruned {
		return errs.E(errs.Invalid, "only Prune says that texts were removed")
	}
	if err := appendEvent(ctx, tx, e, time.Now(), rand.Text()); err != nil {
		return fmt.Errorf("append audit event: %w", err)
	}
	return nil
}

func appendEvent(ctx context.Context, tx *store.Tx, e Event, now time.Time, salt string) error {
	if err := e.check(); err != nil {
		return err
	}
	// First of all, because this row orders the writers of a database that has
	// several: PostgreSQL holds the second one here until the first has committed.
	var size, indexed, number int64
	err := tx.QueryRowContext(ctx, `UPDATE audit_head SET size = size + 1, indexed = indexed + 1 WHERE id = 1
		RETURNING size, indexed`).Scan(&size, &indexed)
	if err != nil {
		return fmt.Errorf("take number: %w", err)
	}
	if indexed != size { // the number within the organisation would be wrong for ever
		return errs.E(errs.Unavailable, "the audit record is not open yet")
	}
	const count = `INSERT INTO audit_org (org, size) VALUES ($1, 1) ON CONFLICT (org) DO UPDATE SET size = audit_org.size + 1 RETURNING size`
	if err := tx.QueryRowContext(ctx, count, string(e.Org)).Scan(&number); err != nil {
		return fmt.Errorf("take number in organisation: %w", err)
	}
	r := e.record(size-1, number-1, now, salt)
	text, err := r.text()
	if err != nil {
		return err
	}
	hashes, err := tlog.StoredHashes(r.Seq, text, hashReader(ctx, tx))
	if err != nil {
		return fmt.Errorf("hash record: %w", err)
	}
	const event = `INSERT INTO audit_event (seq, org, number, record) VALUES ($1, $2, $3, $4)`
	if _, err := tx.ExecContext(ctx, event, r.Seq, string(r.Org), r.Number, string(text)); err != nil {
		return fmt.Errorf("store record: %w", err)
	}
	if err := index(ctx, tx, r); err != nil {
		return err
	}
	first := tlog.StoredHashIndex(0, r.Seq)
	for i, h := range hashes {
		const node = `INSERT INTO audit_hash (idx, hash) VALUES ($1, $2)`
		if _, err := tx.ExecContext(ctx, node, first+int64(i), h[:]); err != nil {
			return fmt.Errorf("store hash: %w", err)
		}
	}
	return nil
}

// hashReader reads nodes of the tree. It is asked for a few at a time: one per
// level of the tree.
func hashReader(ctx context.Context, tx *store.Tx) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, idx := range indexes {
			var b []byte
			if err := tx.QueryRowContext(ctx, `SELECT hash FROM audit_hash WHERE idx = $1`, idx).Scan(&b); err != nil {
				return nil, fmt.Errorf("node %d: %w", idx, err)
			}
			if len(b) != tlog.HashSize {
				return nil, tampered("node %d is not a hash", idx)
			}
			out[i] = tlog.Hash(b)
		}
		return out, nil
	})
}

func (e Event) check() error {
	if e.Action == "" || strings.ContainsAny(e.Action, " \n") {
		return errs.E(errs.Invalid, "audit event must name its action")
	}
	if e.Actor.Kind == auth.AnyKind {
		return errs.E(errs.Invalid, "audit event must name who acted")
	}
	return checkDetail(e.Detail)
}
