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
// it cannot notice that the end of the record is missing. Of records that are no
// longer kept it checks the hashes, and that the record says why. An error that
// is ErrTampered says what is wrong first.
func (l *Log) Verify(ctx context.Context, saved ...string) error {
	l.reading.RLock()
	defer l.reading.RUnlock()
	c, err := newVerification(l.verifier, saved)
	if err != nil {
		return fmt.Errorf("verify audit record: %w", err)
	}
	var size int64
	var orgs map[auth.OrgID]stored
	err = l.db.View(store.ForAll(ctx), func(tx *store.Tx) (err error) {
		if size, err = verifyCounts(ctx, tx); err != nil {
			return err
		}
		orgs, err = readOrgs(ctx, tx)
		return err
	})
	// What is below size never changes again but by Prune, which waits, so the
	// pages need not be one snapshot, which would keep the write-ahead log from
	// being emptied.
	for err == nil && c.tree.size < size {
		err = l.db.View(store.ForAll(ctx), func(tx *store.Tx) error { return verifyRecords(ctx, tx, c, size, orgs) })
	}
	if err == nil {
		err = c.end()
	}
	if err == nil {
		err = verifyOrgs(c.numbers, orgs)
	}
	if err != nil {
		return fmt.Errorf("verify audit record: %w", err)
	}
	return nil
}

// verifyCounts compares how much there is of everything, and returns how many
// records were appended.
func verifyCounts(ctx context.Context, tx *store.Tx) (size int64, err error) {
	var events, last, hashes, found int64
	err = tx.QueryRowContext(ctx, `SELECT (SELECT size FROM audit_head WHERE id = 1),
		(SELECT COUNT(*) FROM audit_event), (SELECT COALESCE(MAX(seq), -1) FROM audit_event),
		(SELECT COUNT(*) FROM audit_hash), (SELECT COUNT(*) FROM audit_search)`).Scan(&size, &events, &last, &hashes, &found)
	switch {
	case err != nil:
		return 0, err
	case last != size-1: // the last record is never removed
		return 0, tampered("there are records up to number %d, and %d were appended", last, size)
	case hashes != tlog.StoredHashCount(size):
		return 0, tampered("there are %d hashes instead of %d", hashes, tlog.StoredHashCount(size))
	case found != events:
		return 0, tampered("there are %d records, and %d that can be found", events, found)
	}
	return size, nil
}

// stored is what is said of an organisation beside its records.
type stored struct{ size, kept int64 }

func readOrgs(ctx context.Context, tx *store.Tx) (map[auth.OrgID]stored, error) {
	rows, err := tx.QueryContext(ctx, `SELECT org, size, kept FROM audit_org`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := map[auth.OrgID]stored{}
	for rows.Next() {
		var org string
		var s stored
		if err := rows.Scan(&org, &s.size, &s.kept); err != nil {
			return nil, err
		}
		all[auth.OrgID(org)] = s
	}
	return all, rows.Err()
}

// verifyOrgs compares what is said of organisations with their records.
func verifyOrgs(n numbers, orgs map[auth.OrgID]stored) error {
	for org, said := range orgs {
		is := stored{}
		if o := n[org]; o != nil {
			is.size, is.kept = o.size()
		}
		if is != said {
			return tampered("organisation %q has %d records, kept from number %d on, and is said to have %d, kept from number %d on",
				string(org), is.size, is.kept, said.size, said.kept)
		}
	}
	if len(orgs) != len(n) {
		return tampered("there are records of %d organisations instead of %d", len(n), len(orgs))
	}
	return nil
}

// verifyRecords checks the next page of records and the hashes that belong to it.
func verifyRecords(ctx context.Context, tx *store.Tx, c *verification, size int64, orgs map[auth.OrgID]stored) error {
	first := c.tree.size
	end := min(first+verifyPage, size)
	var nodes []tlog.Hash
	var records []Record
	found, err := readPlaces(ctx, tx, first, end, orgs)
	if err != nil {
		return err
	}
	for _, f := range found {
		if f.text == nil {
			leaf, err := hashReader(ctx, tx).ReadHashes([]int64{tlog.StoredHashIndex(0, f.seq)})
			if err != nil {
				return tampered("record %d is missing, and its hash", f.seq)
			}
			n, err := c.addRemoved(leaf[0])
			if err != nil {
				return err
			}
			nodes = append(nodes, n...)
			continue
		}
		r, n, err := c.add(f.text)
		if err != nil {
			return err
		}
		if r.Format == firstFormat {
			r.Number += orgs[f.org].kept
		}
		switch {
		case r.Org != f.org:
			return tampered("record %d was moved to organisation %q", f.seq, string(f.org))
		case r.Number != f.number:
			return tampered("record %d was given the number %d", f.seq, f.number)
		}
		records = append(records, r)
		nodes = append(nodes, n...)
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
		if err != nil || at != r.Time.UnixMicro() || is != terms(r) {
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

// A row is what is stored of a record. One whose text is not there, or not to be
// kept, has neither a text nor an organisation.
type row struct {
	seq    int64
	org    auth.OrgID
	number int64
	text   []byte
}

// readPlaces returns a row for every number from first to before end.
func readPlaces(ctx context.Context, tx *store.Tx, first, end int64, orgs map[auth.OrgID]stored) ([]row, error) {
	all := make([]row, 0, end-first)
	gap := func(until int64) {
		for next := first + int64(len(all)); next < until; next++ {
			all = append(all, row{seq: next})
		}
	}
	err := eachRecord(ctx, tx, first, end, func(seq int64, org auth.OrgID, number int64, text []byte) error {
		gap(seq)
		r := row{seq, org, number, text}
		if number < orgs[org].kept {
			r = row{seq: seq}
		}
		all = append(all, r)
		return nil
	})
	gap(end)
	return all, err
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
