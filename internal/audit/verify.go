package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/store"
)

const verifyPage = 500

// Verify computes every hash of the record anew and compares it with what is
// stored, and with checkpoints that were saved elsewhere. Without one of those
// it cannot notice that the end of the record is missing. An error that is
// ErrTampered says what is wrong first.
func (l *Log) Verify(ctx context.Context, saved ...string) error {
	c, err := newVerification(l.verifier, saved)
	if err != nil {
		return fmt.Errorf("verify audit record: %w", err)
	}
	var size int64
	err = l.db.View(ctx, func(tx *store.Tx) error {
		var events, last, hashes, found int64
		err := tx.QueryRowContext(ctx, `SELECT (SELECT size FROM audit_head WHERE id = 1),
			(SELECT COUNT(*) FROM audit_event), (SELECT COALESCE(MAX(seq), -1) FROM audit_event),
			(SELECT COUNT(*) FROM audit_hash), (SELECT COUNT(*) FROM audit_search)`).Scan(&size, &events, &last, &hashes, &found)
		switch {
		case err != nil:
			return err
		case events != size || last != size-1:
			return tampered("there are %d records up to number %d, and %d were appended", events, last, size)
		case hashes != tlog.StoredHashCount(size):
			return tampered("there are %d hashes instead of %d", hashes, tlog.StoredHashCount(size))
		case found != events:
			return tampered("there are %d records, and %d that can be found", events, found)
		}
		return nil
	})
	// What is below size never changes again, so the pages need not be one
	// snapshot, which would keep the write-ahead log from being emptied.
	for err == nil && c.tree.size < size {
		err = l.db.View(ctx, func(tx *store.Tx) error { return verifyRecords(ctx, tx, c, size) })
	}
	if err == nil {
		err = c.end()
	}
	if err != nil {
		return fmt.Errorf("verify audit record: %w", err)
	}
	return nil
}

// verifyRecords checks the next page of records and the hashes that belong to it.
func verifyRecords(ctx context.Context, tx *store.Tx, c *verification, size int64) error {
	first := c.tree.size
	end := min(first+verifyPage, size)
	var nodes []tlog.Hash
	var records []Record
	err := eachRecord(ctx, tx, first, end, func(seq int64, org auth.OrgID, number int64, text []byte) error {
		if seq != c.tree.size {
			return tampered("record %d is missing", c.tree.size)
		}
		r, n, err := c.add(text)
		if err != nil {
			return err
		}
		if r.Org != org {
			return tampered("record %d was moved to organisation %q", seq, org)
		}
		if r.Number != number {
			return tampered("record %d was given the number %d", seq, number)
		}
		records = append(records, r)
		nodes = append(nodes, n...)
		return nil
	})
	if err != nil {
		return err
	}
	if c.tree.size != end {
		return tampered("record %d is missing", c.tree.size)
	}
	if err := verifyIndex(ctx, tx, records); err != nil {
		return err
	}
	return verifyHashes(ctx, tx, tlog.StoredHashCount(first), nodes)
}

// verifyIndex checks that records are found by what they say, and by nothing else.
func verifyIndex(ctx context.Context, tx *store.Tx, records []Record) error {
	const q = `SELECT at, actor, noun, action, target, address, request FROM audit_search WHERE org = $1 AND seq = $2`
	for _, r := range records {
		var at int64
		var is [6]string
		err := tx.QueryRowContext(ctx, q, string(r.Org), r.Seq).Scan(&at, &is[0], &is[1], &is[2], &is[3], &is[4], &is[5])
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err != nil || at != r.Time.UnixMicro() || is != [6]string{r.Actor, noun(r.Action), r.Action, r.Target, r.Address, r.RequestID} {
			return tampered("record %d is not found by what it says", r.Seq)
		}
	}
	return nil
}

// eachRecord calls fn for the records from first to before end that are there.
func eachRecord(ctx context.Context, tx *store.Tx, first, end int64, fn rowFunc) error {
	return eachRow(ctx, tx, fn, `SELECT seq, org, number, record FROM audit_event WHERE seq >= $1 AND seq < $2 ORDER BY seq`, first, end)
}

type rowFunc func(seq int64, org auth.OrgID, number int64, text []byte) error

func eachRow(ctx context.Context, tx *store.Tx, fn rowFunc, query string, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var seq, number int64
		var org string
		var text []byte
		if err := rows.Scan(&seq, &org, &number, &text); err != nil {
			return err
		}
		if err := fn(seq, auth.OrgID(org), number, text); err != nil {
			return err
		}
	}
	return rows.Err()
}

// eachPlace calls fn for every number from first to before end: with the text of
// the record or, if it is not there or not to be kept, with nil.
func eachPlace(ctx context.Context, tx *store.Tx, first, end int64, kept map[auth.OrgID]int64, fn rowFunc) error {
	next := first
	gap := func(until int64) error {
		for ; next < until; next++ {
			if err := fn(next, "", 0, nil); err != nil {
				return err
			}
		}
		return nil
	}
	err := eachRecord(ctx, tx, first, end, func(seq int64, org auth.OrgID, number int64, text []byte) error {
		if err := gap(seq); err != nil {
			return err
		}
		if number < kept[org] {
			text = nil
		}
		next = seq + 1
		return fn(seq, org, number, text)
	})
	if err != nil {
		return err
	}
	return gap(end)
}

// verifyHashes compares the stored hashes from first on with want.
func verifyHashes(ctx context.Context, tx *store.Tx, first int64, want []tlog.Hash) error {
	const q = `SELECT idx, hash FROM audit_hash WHERE idx >= $1 AND idx < $2 ORDER BY idx`
	rows, err := tx.QueryContext(ctx, q, first, first+int64(len(want)))
	if err != nil {
		return err
	}
	defer rows.Close()
	n := int64(0)
	for ; rows.Next(); n++ {
		var idx int64
		var h []byte
		if err := rows.Scan(&idx, &h); err != nil {
			return err
		}
		if idx != first+n || string(h) != string(want[n][:]) {
			_, record := tlog.SplitStoredHashIndex(first + n)
			return tampered("hash %d, above record %d, does not fit the records", first+n, record)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if n != int64(len(want)) {
		return tampered("hash %d is missing", first+n)
	}
	return nil
}
