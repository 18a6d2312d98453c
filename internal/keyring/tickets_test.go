package keyring

import (
	"slices"
	"testing"
	"time"

	"github.com/keepmq/keepmq/internal/store"
)

func ticketKeys(t *testing.T, r *Ring, purpose string, now time.Time) [][32]byte {
	t.Helper()
	keys, err := r.TicketKeys(t.Context(), purpose, now)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// What seals now opens for two periods more, and in a process whose clock is
// one behind; then it is gone from the database too.
func TestTicketKeysRotate(t *testing.T) {
	r := newRing(t)
	began := time.Unix(1_800_000_000, 0).Truncate(ticketPeriod)
	first := ticketKeys(t, r, "mqtt", began)
	if len(first) != 2 {
		t.Fatalf("%d keys at first, want the present and the next", len(first))
	}
	seals := first[0]
	if early := ticketKeys(t, r, "mqtt", began.Add(-time.Second)); early[0] == seals || !slices.Contains(early, seals) {
		t.Error("a clock that is behind does not open what is sealed now")
	}
	for _, test := range []struct {
		after        time.Duration
		seals, opens bool
	}{
		{ticketPeriod - time.Second, true, true},
		{ticketPeriod, false, true},
		{3*ticketPeriod - time.Second, false, true},
		{3 * ticketPeriod, false, false},
	} {
		keys := ticketKeys(t, r, "mqtt", began.Add(test.after))
		if got := keys[0] == seals; got != test.seals {
			t.Errorf("after %v it seals: %v", test.after, got)
		}
		if got := slices.Contains(keys, seals); got != test.opens {
			t.Errorf("after %v it opens: %v", test.after, got)
		}
	}
	if keys := ticketKeys(t, r, "mqtt", began.Add(3*ticketPeriod)); keys[1] == keys[0] || len(keys) != 4 {
		t.Errorf("%d keys in the middle of a life, want 4", len(keys))
	}
	// The clock was far ahead and is put right: its keys go, other keys stay.
	create(t, r, "abc123")
	ticketKeys(t, r, "mqtt", began.Add(1000*time.Hour))
	ticketKeys(t, r, "mqtt", began)
	var n, others int
	err := r.db.View(store.ForAll(t.Context()), func(tx *store.Tx) error {
		const q = `SELECT COUNT(*), COUNT(CASE WHEN name NOT LIKE 'ticket:%' THEN 1 END) FROM data_key`
		return tx.QueryRowContext(t.Context(), q).Scan(&n, &others)
	})
	if err != nil || n != 4 || others != 2 {
		t.Errorf("%d keys are kept, %d of them others, %v; want 2 of tickets, one of an organisation, one of the installation", n, others, err)
	}
}

// Keys outlive the process, are another one for each port, and cannot be
// opened, or exchanged, without the master key.
func TestTicketKeysAreKept(t *testing.T) {
	dir := t.TempDir()
	db := openDB(t, dir)
	now := time.Unix(1_800_000_000, 0)
	r := openRing(t, dir, db)
	mqtt := ticketKeys(t, r, "mqtt", now)
	if again := ticketKeys(t, openRing(t, dir, db), "mqtt", now); !slices.Equal(mqtt, again) {
		t.Error("after a restart the keys are others")
	}
	for _, k := range ticketKeys(t, r, "https", now) {
		if slices.Contains(mqtt, k) {
			t.Error("two ports have a key in common")
		}
	}
	err := db.Update(store.ForAll(t.Context()), func(tx *store.Tx) error {
		_, err := tx.ExecContext(t.Context(), `UPDATE data_key SET wrapped = (SELECT wrapped FROM data_key WHERE name = 'installation') WHERE name LIKE 'ticket:%'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := r.TicketKeys(t.Context(), "mqtt", now); err == nil {
		t.Errorf("%d keys from rows that were exchanged", len(keys))
	}
}
