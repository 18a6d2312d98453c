package keyring

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keepmq/keepmq/internal/store"
)

// The keys of TLS session tickets are named after the period in which they seal:
// every process with this database finds, or makes, the same ones. Each opens
// what it has sealed for two periods more, and is then deleted.
const (
	ticketPeriod = 12 * time.Hour
	ticketOpens  = 2 // periods for which a key still opens after it has sealed
	ticketPrefix = "ticket:"
)

func ticketName(period int64) string { return ticketPrefix + strconv.FormatInt(period, 10) }

// TicketKeys returns the keys of TLS session tickets for one purpose, such as one
// port: first the one that seals at now, then those that open. Among these is the
// next one, for another node's clock may be ahead. Keys whose time is over are
// deleted.
//
// Who has such a key can make a ticket in the name of any client certificate, so
// they are kept like the keys of the authorities.
func (r *Ring) TicketKeys(ctx context.Context, purpose string, now time.Time) ([][32]byte, error) {
	current := now.Unix() / int64(ticketPeriod/time.Second)
	var keys [][32]byte
	err := r.db.Update(store.ForAll(ctx), func(tx *store.Tx) error {
		keys = nil // a transaction may be tried again
		if err := forgetTickets(ctx, tx, current); err != nil {
			return err
		}
		for _, period := range []int64{current, current + 1, current - 1, current - ticketOpens} {
			key, err := r.unwrap(ctx, tx, ticketName(period))
			if errors.Is(err, sql.ErrNoRows) && period >= current {
				if err = r.create(ctx, tx, ticketName(period)); err == nil {
					key, err = r.unwrap(ctx, tx, ticketName(period))
				}
			}
			if errors.Is(err, sql.ErrNoRows) { // nothing was sealed then
				continue
			}
			if err != nil {
				return err
			}
			derived, err := hkdf.Key(sha256.New, key, nil, "keepmq ticket 1\x00"+purpose, keySize)
			clear(key)
			if err != nil {
				return err
			}
			keys = append(keys, [32]byte(derived))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("session ticket keys: %w", err)
	}
	return keys, nil
}

// forgetTickets deletes the keys that are not of this time.
func forgetTickets(ctx context.Context, tx *store.Tx, current int64) error {
	rows, err := tx.QueryContext(ctx, `SELECT name FROM data_key WHERE name LIKE 'ticket:%'`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var old []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		period, err := strconv.ParseInt(strings.TrimPrefix(name, ticketPrefix), 10, 64)
		if err != nil || period < current-ticketOpens || period > current+1 {
			old = append(old, name)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, name := range old {
		if _, err := tx.ExecContext(ctx, `DELETE FROM data_key WHERE name = $1`, name); err != nil {
			return err
		}
	}
	return nil
}
