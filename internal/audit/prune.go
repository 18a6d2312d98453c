package audit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keepmq/keepmq/internal/auth"
	"github.com/keepmq/keepmq/internal/errs"
	"github.com/keepmq/keepmq/internal/store"
)

// For how many days texts are kept at least and at most. At least, so that
// nobody who got hold of an administrator's rights removes what they just did.
const (
	MinDays = 30
	MaxDays = 36500
)

// CheckDays checks for how many days texts are to be kept; 0 is for ever.
func CheckDays(days int) error {
	if days != 0 && (days < MinDays || days > MaxDays) {
		return errs.E(errs.Invalid, "days must be 0, for ever, or %d to %d, is %d", MinDays, MaxDays, days)
	}
	return nil
}

// SetDays sets for how many days texts are kept; nil: as it is configured.
func SetDays(ctx context.Context, tx *store.Tx, days *int) error {
	if days == nil {
		_, err := tx.ExecContext(ctx, `DELETE FROM audit_retention WHERE id = 1`)
		return err
	}
	if err := CheckDays(*days); err != nil {
		return err
	}
	const q = `INSERT INTO audit_retention (id, days) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET days = excluded.days`
	_, err := tx.ExecContext(ctx, q, *days)
	return err
}

// Days returns what SetDays has set; nil: nothing.
func Days(ctx context.Context, tx *store.Tx) (*int, error) {
	var days int
	err := tx.QueryRowContext(ctx, `SELECT days FROM audit_retention WHERE id = 1`).Scan(&days)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &days, err
}

// prunePage is how many texts one transaction removes: others write meanwhile.
const prunePage = 500

// ErrReading says that texts could not be removed now: somebody reads them.
var ErrReading = errors.New("the audit record is being exported or verified")

// Prune removes the texts of records that are older than the days that were set
// or, if none were, configured. Their hashes stay, so that checkpoints and proofs
// are as good as before. Of each organisation it removes the oldest records up to
// the first that is not old enough, and says so on the organisation's record
// first. It goes on where it was interrupted.
func (l *Log) Prune(ctx context.Context, configured int) (removed int64, err error) {
	return l.prune(ctx, configured, time.Now())
}

func (l *Log) prune(ctx context.Context, days int, now time.Time) (removed int64, err error) {
	l.pruning.Lock()
	defer l.pruning.Unlock()
	var orgs map[auth.OrgID]stored
	err = l.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
		set, err := Days(ctx, tx)
		if err != nil {
			return err
		}
		if set != nil {
			days = *set
		}
		orgs, err = readOrgs(ctx, tx)
		return err
	})
	for org, o := range orgs {
		if err == nil {
			var n int64
			n, err = l.pruneOrg(ctx, org, o, days, now)
			removed += n
		}
	}
	if err != nil {
		return removed, fmt.Errorf("remove old audit texts: %w", err)
	}
	return removed, nil
}

func (l *Log) pruneOrg(ctx context.Context, org auth.OrgID, o stored, days int, now time.Time) (removed int64, err error) {
	// What the record says is removed already, and may be there yet.
	if removed, err = l.remove(ctx, org, o.kept); err != nil || days == 0 {
		return removed, err
	}
	before := now.Add(-time.Duration(days) * 24 * time.Hour)
	old, err := l.countOld(ctx, org, before)
	if err != nil || old == 0 {
		return removed, err
	}
	kept := o.kept + old
	err = l.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE audit_org SET kept = $2 WHERE org = $1 AND kept = $3`, string(org), kept, o.kept)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return fmt.Errorf("organisation %q has changed: %w", string(org), err)
		}
		return appendEvent(ctx, tx, Event{
			Org: org, Actor: auth.Principal{Kind: auth.System, ID: "audit"}, Action: pruned, Target: string(org),
			Detail: map[string]any{"kept": kept, "removed": old, "before": before.UTC(), "days": days},
		}, now, rand.Text())
	})
	if err != nil {
		return removed, err
	}
	// Commit point: from here on the texts count as removed.
	n, err := l.remove(ctx, org, kept)
	return removed + n, err
}

// countOld returns how many records an organisation has before the first that is
// not older than before. Where there is nothing but that others were removed,
// it is none: else each removal would be the reason of another.
func (l *Log) countOld(ctx context.Context, org auth.OrgID, before time.Time) (old int64, err error) {
	worth, done := false, false
	for last := int64(-1); err == nil && !done; {
		err = l.db.View(store.ForAll(ctx), func(tx *store.Tx) error {
			const q = `SELECT seq, at, action FROM audit_search WHERE org = $1 AND seq > $2 ORDER BY seq LIMIT $3`
			rows, err := tx.QueryContext(ctx, q, string(org), last, prunePage)
			if err != nil {
				return err
			}
			defer rows.Close()
			n := 0
			for ; rows.Next() && !done; n++ {
				var at int64
				var action string
				if err := rows.Scan(&last, &at, &action); err != nil {
					return err
				}
				if at >= before.UnixMicro() {
					done = true
					break
				}
				old++
				worth = worth || action != pruned
			}
			done = done || n < prunePage
			return rows.Err()
		})
	}
	if !worth {
		old = 0
	}
	return old, err
}

// remove removes the texts of an organisation before number kept, a page at a time.
func (l *Log) remove(ctx context.Context, org auth.OrgID, kept int64) (removed int64, err error) {
	for more := kept > 0; more; {
		if !l.reading.TryLock() {
			return removed, errs.Wrap(errs.Conflict, ErrReading, ErrReading.Error())
		}
		var n int64
		n, more, err = l.removePage(ctx, org, kept)
		l.reading.Unlock()
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

func (l *Log) removePage(ctx context.Context, org auth.OrgID, kept int64) (n int64, more bool, err error) {
	err = l.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		last := int64(-1)
		n = 0
		const q = `SELECT seq, org, number, '' FROM audit_event WHERE org = $1 ORDER BY seq LIMIT $2`
		err := eachRow(ctx, tx, func(seq int64, _ auth.OrgID, number int64, _ []byte) error {
			if number < kept {
				last = seq
				n++
			}
			return nil
		}, q, string(org), prunePage)
		more = n == prunePage
		if err != nil || n == 0 {
			return err
		}
		for _, table := range []string{"audit_event", "audit_search"} {
			if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE org = $1 AND seq <= $2`, string(org), last); err != nil {
				return err
			}
		}
		return nil
	})
	return n, more, err
}
