package audit

import (
	"context"
	"fmt"
	"strings"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/store"
)

// index makes r be found by what it says.
func index(ctx context.Context, tx *store.Tx, r Record) error {
	const q = `INSERT INTO audit_search (org, seq, at, actor, noun, action, target, address, request)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	c := terms(r)
	_, err := tx.ExecContext(ctx, q, string(r.Org), r.Seq, r.Time.UnixMicro(), c[0], c[1], c[2], c[3], c[4], c[5])
	if err != nil {
		return fmt.Errorf("index record: %w", err)
	}
	return nil
}

// terms returns what r is found by, from actor to request. PostgreSQL keeps no
// NUL in a text, and nobody can search for one.
func terms(r Record) [6]string {
	c := [6]string{r.Actor, noun(r.Action), r.Action, r.Target, r.Address, r.RequestID}
	for i, s := range c {
		c[i] = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return c
}

// noun returns what an action is about: "device" of "device.create".
func noun(action string) string {
	n, _, _ := strings.Cut(action, ".")
	return n
}

// indexOld indexes the records that were there before there was an index, and
// numbers them. It goes on where it was interrupted.
func (l *Log) indexOld(ctx context.Context) error {
	for more := true; more; {
		err := l.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
			var size, indexed int64
			if err := tx.QueryRowContext(ctx, `SELECT size, indexed FROM audit_head WHERE id = 1`).Scan(&size, &indexed); err != nil {
				return err
			}
			end := min(indexed+verifyPage, size)
			more = end < size
			if end == indexed {
				return nil
			}
			return indexPage(ctx, tx, indexed, end)
		})
		if err != nil {
			return fmt.Errorf("index records: %w", err)
		}
	}
	return nil
}

func indexPage(ctx context.Context, tx *store.Tx, first, end int64) error {
	var records []Record
	err := eachRecord(ctx, tx, first, end, func(seq int64, org auth.OrgID, _ int64, text []byte) error {
		r, err := parseRecord(text, seq)
		r.Org = org // where it is looked for; whether that is right is for Verify to say
		records = append(records, r)
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range records {
		const count = `INSERT INTO audit_org (org, size) VALUES ($1, 1) ON CONFLICT (org) DO UPDATE SET size = audit_org.size + 1 RETURNING size`
		var size int64
		if err := tx.QueryRowContext(ctx, count, string(r.Org)).Scan(&size); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE audit_event SET number = $2 WHERE seq = $1`, r.Seq, size-1); err != nil {
			return err
		}
		if err := index(ctx, tx, r); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE audit_head SET indexed = $1 WHERE id = 1`, end)
	return err
}
