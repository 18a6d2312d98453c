package embedded

import (
	"fmt"
	"maps"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keepmq/keepmq/internal/auth"
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
	retained, totals := map[auth.OrgID]retainedTotals{}, map[auth.OrgID]retainedTotals{}
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
		case keyRetained:
			rec, err := parseSealed(it.Value())
			if err != nil {
				return err
			}
			t := retained[k.org]
			retained[k.org] = retainedTotals{t.count + 1, t.bytes + retainedSize(string(k.rest), rec.sealed)}
		case keyTotals:
			if totals[k.org], err = parseTotals(it.Value()); err != nil {
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
	if !maps.Equal(retained, totals) {
		return fmt.Errorf("retained %v, counted %v", retained, totals)
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

// SessionRecord1 returns a stored session as the first format had it.
func SessionRecord1(record []byte) []byte {
	s, err := parseSession(record)
	if err != nil {
		panic(err)
	}
	s.queueBytes, s.endWhenFull = 0, false
	b := s.append(nil)
	b[0] = 1
	return b[:len(b)-1]
}

// Waiting tells what waits to be committed, or "" if nothing does and nothing is
// counted that does not.
func (e *Engine) Waiting() (found string) {
	l := e.loop
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pool.bytes != 0 || len(l.pool.lines) != 0 {
		return fmt.Sprintf("%d bytes wait, and %d organisations", l.pool.bytes, len(l.pool.lines))
	}
	e.orgs.Range(func(id, v any) bool {
		if ln := v.(*org).line; ln.held != 0 || ln.first != nil || ln.last != nil {
			found = fmt.Sprintf("organisation %s: %+v", id, ln)
		}
		return found == ""
	})
	return found
}
