package registry

import (
	"encoding/base64"
	"encoding/json"

	"github.com/keepmq/keepmq/internal/errs"
)

// A Page asks for a part of a list. After is what the page before returned as
// next; it is opaque and belongs to the list and filter it came from.
type Page struct {
	Limit int // 1 to 1000; 0 is 100
	After string
}

const (
	defaultLimit = 100
	maxLimit     = 1000
	maxCursor    = 1024 // bytes; ours are far shorter
)

// size returns how many entries p asks for.
func (p Page) size() (int, error) {
	if p.Limit < 0 || p.Limit > maxLimit {
		return 0, errs.E(errs.Invalid, "limit must be between 1 and %d, is %d", maxLimit, p.Limit)
	}
	if p.Limit == 0 {
		return defaultLimit, nil
	}
	return p.Limit, nil
}

// after returns the key that p continues behind: n strings, all empty on the
// first page. list names the list, so that a cursor is not taken for another's.
func (p Page) after(list string, n int) ([]string, error) {
	if p.After == "" {
		return make([]string, n), nil
	}
	key, ok := parseCursor(p.After)
	if !ok || len(key) != n+1 || key[0] != list {
		return nil, errs.E(errs.Invalid, "after is not a position in this list; start again without it")
	}
	return key[1:], nil
}

// parseCursor reads what cursor wrote.
func parseCursor(s string) ([]string, bool) {
	if len(s) > maxCursor {
		return nil, false
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, false
	}
	var key []string
	if json.Unmarshal(b, &key) != nil {
		return nil, false
	}
	return key, true
}

// cursor returns the position behind key in list.
func cursor(list string, key ...string) string {
	b, _ := json.Marshal(append([]string{list}, key...)) // strings always marshal
	return base64.RawURLEncoding.EncodeToString(b)
}

// cut shortens a list that was read with one entry more than asked for, and
// returns the position of the next page, or "" when there is none.
func cut[T any](list []T, size int, pos func(T) string) ([]T, string) {
	if len(list) <= size {
		return list, ""
	}
	list = list[:size]
	return list, pos(list[size-1])
}
