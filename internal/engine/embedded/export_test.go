package embedded

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// CheckStore checks what must be true of the store in a folder whenever its
// engine ends, by whatever end.
func CheckStore(fs vfs.FS, dir string) error {
	db, err := pebble.Open(dir, &pebble.Options{FS: fs, FormatMajorVersion: pebbleFormat, ErrorIfNotExists: true, Logger: pebbleLogger{}})
	if err != nil {
		return err
	}
	defer db.Close()
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	defer it.Close()
	sessions := map[uint64]bool{}
	garbage := map[uint64]bool{}
	cursors := map[uint64]cursor{}
	entries := map[uint64]cursor{} // counted
	stored, counted := map[uint64]bool{}, map[uint64]uint64{}
	needed := map[uint64]uint64{}
	for it.First(); it.Valid(); it.Next() {
		if it.Key()[1] == keyMeta || it.Key()[1] == keyExpiry {
			continue
		}
		k, err := parseKey(it.Key())
		if err != nil {
			return err
		}
		switch k.kind {
		case keySession:
			sessions[k.number] = true
		case keyGarbage:
			garbage[k.number] = true
		case keyCursor:
			if cursors[k.number], err = parseCursor(it.Value()); err != nil {
				return err
			}
		case keyMessage:
			stored[k.number] = true
		case keyRefs:
			if counted[k.number], err = parseNumber(it.Value()); err != nil {
				return err
			}
		case keyQueue:
			o, e, err := parseQueued(it)
			if err != nil {
				return err
			}
			if !e.inline && !e.released {
				needed[e.message]++
			}
			c := entries[k.number]
			c.count++
			c.bytes += e.size
			c.next = o + 1
			if c.low == 0 {
				c.low = o
			}
			entries[k.number] = c
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	for n, c := range entries {
		if !sessions[n] {
			if !garbage[n] {
				return fmt.Errorf("session %x is not there and its queue is: %+v", n, c)
			}
			continue
		}
		w := cursors[n]
		if w.count != c.count || w.bytes != c.bytes || w.next < c.next || w.low > c.low {
			return fmt.Errorf("session %x: cursor %+v, entries %+v", n, w, c)
		}
	}
	for n, c := range cursors {
		if entries[n].count != c.count || !sessions[n] {
			return fmt.Errorf("session %x: cursor %+v, entries %+v", n, c, entries[n])
		}
	}
	for n, c := range needed {
		if !stored[n] || counted[n] != c {
			return fmt.Errorf("message %x: stored %v, counted %d, needed by %d", n, stored[n], counted[n], c)
		}
	}
	for n := range stored {
		if needed[n] == 0 {
			return fmt.Errorf("message %x: nobody needs it", n)
		}
	}
	for n := range counted {
		if needed[n] == 0 {
			return fmt.Errorf("message %x: counted, and nobody needs it", n)
		}
	}
	return nil
}
